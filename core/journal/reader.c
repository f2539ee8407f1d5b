/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reader: follows the appending thread from record to record and from segment to segment. It
 * reads only up to a segment's `end`, which is moved after the record is complete. The lock is
 * taken when the reader has come to the end that it knew, never for a record.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/journal/internal.h"

static void close_segment(struct journal_reader *r)
{
	if (r->scan.fd >= 0)
		close(r->scan.fd);
	r->scan.fd = -1;
}

int journal_reader_open(struct journal_reader **out, struct journal *j)
{
	struct journal_reader *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->journal = j;
	r->scan.fd = -1;
	r->wakeup_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->wakeup_fd < 0) {
		int rc = -errno;

		free(r);
		return rc;
	}
	pthread_mutex_lock(&j->lock);
	r->next = j->readers;
	r->furthest = j->furthest;
	j->readers = r;
	pthread_mutex_unlock(&j->lock);
	*out = r;
	return 0;
}

void journal_reader_close(struct journal_reader *r)
{
	struct journal_reader **p;

	if (!r)
		return;
	pthread_mutex_lock(&r->journal->lock);
	for (p = &r->journal->readers; *p != r; p = &(*p)->next)
		;
	*p = r->next;
	if (journal_position_compare(r->furthest, r->journal->furthest) > 0)
		r->journal->furthest = r->furthest;
	pthread_mutex_unlock(&r->journal->lock);
	close_segment(r);
	scan_free(&r->scan);
	close(r->wakeup_fd);
	free(r);
}

/* The next segment to read is this one or a later one. Lock held. */
static void go_to(struct journal_reader *r, uint64_t segment)
{
	r->segment = segment;
	r->reading = false;
	r->deleted_end = 0;
}

void journal_seek(struct journal_reader *r, struct journal_position pos)
{
	struct journal *j = r->journal;
	struct journal_position end = journal_end(j);

	if (journal_position_compare(pos, end) > 0) {
		log_error("journal_position", NULL,
			  "%s ends at %" PRIu64 "/%" PRIu64
			  ", before the committed position %" PRIu64 "/%" PRIu64
			  ": was it brought back from an old copy? All of it is read again",
			  j->path, end.segment, end.offset, pos.segment, pos.offset);
		pos = (struct journal_position){0, 0};
	}
	close_segment(r);
	pthread_mutex_lock(&j->lock);
	go_to(r, pos.segment);
	r->lost = false;
	r->skip_to = pos.offset;
	pthread_mutex_unlock(&j->lock);
}

bool journal_reached(const struct journal_reader *r, struct journal_position pos)
{
	return journal_of_former_run(r->journal, pos) ||
	       journal_position_compare(pos, r->furthest) <= 0;
}

bool journal_of_former_run(const struct journal *j, struct journal_position pos)
{
	return pos.segment < j->first_of_run;
}

uint64_t journal_missed(const struct journal_reader *r)
{
	uint64_t missed;

	pthread_mutex_lock(&r->journal->lock);
	missed = r->missed;
	pthread_mutex_unlock(&r->journal->lock);
	return missed;
}

/* --- Damage --- */

/* Each place is met again by every reader, and after a seek back. Where it was not met before, or
 * `to`. */
static uint64_t first_met(struct journal *j, uint64_t segment, uint64_t from, uint64_t to)
{
	struct segment *s;
	size_t i;

	pthread_mutex_lock(&j->lock);
	i = segment_find(j->segments, j->segment_count, segment);
	s = i < j->segment_count && j->segments[i]->number == segment ? j->segments[i] : NULL;
	if (!s) {
		from = to; /* deleted: nobody needs it */
	} else {
		if (from < s->damage_counted)
			from = s->damage_counted < to ? s->damage_counted : to;
		if (from < to)
			s->damage_counted = to;
	}
	pthread_mutex_unlock(&j->lock);
	return from;
}

static void count_damage(struct journal_reader *r, uint64_t from, uint64_t to)
{
	struct journal *j = r->journal;

	if (from < to)
		from = first_met(j, r->segment, from, to);
	if (from >= to)
		return;
	atomic_fetch_add(&j->skipped_bytes, to - from);
	log_error("journal_damaged", NULL,
		  "%s: segment %" PRIu64 ", bytes %" PRIu64 " to %" PRIu64
		  " are damaged or missing and were skipped; check the disk",
		  j->path, r->segment, from, to);
}

/* The segment was deleted; what lies behind `from` was not read. Lock held. */
static void miss(struct journal_reader *r, uint64_t from)
{
	if (from >= r->deleted_end || r->lost)
		return;
	r->lost = true;
	r->missed++;
}

/* --- From segment to segment --- */

enum where {
	AT_MORE, /* the segment has grown */
	AT_LAST, /* nothing new, and no later segment */
	AT_NEXT, /* complete; *next is the one that follows */
};

/* The first segment from i on that is not about to go, or NULL. Lock held. */
static const struct segment *first_readable(const struct journal *j, size_t i)
{
	while (i < j->segment_count && j->segments[i]->releasing)
		i++;
	return i < j->segment_count ? j->segments[i] : NULL;
}

/* A later segment is put into the list after the end of the one before was moved for the last time.
 * So when one is there, the end read under the same lock is final. Lock held. */
static enum where look_ahead(struct journal_reader *r, uint64_t *next)
{
	const struct journal *j = r->journal;
	uint64_t end = r->deleted_end;
	const struct segment *later;
	size_t i = segment_find(j->segments, j->segment_count, r->segment);

	if (i < j->segment_count && j->segments[i]->number == r->segment) {
		if (end == 0)
			end = atomic_load(&j->segments[i]->end);
		i++;
	}
	if (end > r->scan.limit) {
		r->scan.limit = end;
		return AT_MORE;
	}
	later = first_readable(j, i);
	if (!later)
		return AT_LAST;
	*next = later->number;
	return AT_NEXT;
}

/* Choose the first segment from r->segment on. False: there is none. */
static bool choose_segment(struct journal_reader *r, uint32_t *seed, uint64_t *end)
{
	struct journal *j = r->journal;
	const struct segment *s;

	pthread_mutex_lock(&j->lock);
	s = first_readable(j, segment_find(j->segments, j->segment_count, r->segment));
	if (s) {
		if (s->number != r->segment)
			r->skip_to = 0;
		go_to(r, s->number);
		r->reading = true;
		r->lost = false;
		*seed = s->seed;
		*end = atomic_load(&s->end);
	}
	pthread_mutex_unlock(&j->lock);
	return s != NULL;
}

/* Its file is gone. We may have deleted it, after it was chosen; if somebody else did, what it held
 * cannot come back either. */
static void pass_missing(struct journal_reader *r, uint64_t offset, uint64_t end)
{
	struct journal *j = r->journal;
	bool deleted;

	pthread_mutex_lock(&j->lock);
	deleted = r->deleted_end > 0;
	if (deleted)
		miss(r, offset);
	pthread_mutex_unlock(&j->lock);
	if (!deleted)
		count_damage(r, offset, end);
	pthread_mutex_lock(&j->lock);
	go_to(r, r->segment + 1);
	r->skip_to = 0;
	pthread_mutex_unlock(&j->lock);
}

/* Open the first segment from r->segment on. 1; 0: there is none; -ENOENT: its file is gone, try
 * the next one; -errno. */
static int open_segment(struct journal_reader *r)
{
	uint64_t end, offset = SEGMENT_HEADER;
	uint32_t seed;
	int fd;

	if (!choose_segment(r, &seed, &end))
		return 0;
	/* The end of a segment is the end of a record: no need to go there step by step. */
	if (r->skip_to >= end && end > SEGMENT_HEADER)
		offset = end;
	fd = segment_open(r->journal->directory.fd, r->segment, O_RDONLY);
	if (fd == -ENOENT)
		pass_missing(r, offset, end);
	if (fd < 0)
		return fd;
	scan_start(&r->scan, fd, seed, offset, end);
	r->intact = offset;
	return 1;
}

/* Nothing is left before the limit. 1: there is more now; 0: not yet. */
static int go_on(struct journal_reader *r)
{
	struct journal *j = r->journal;
	enum where where;
	bool deleted;
	uint64_t next;

	pthread_mutex_lock(&j->lock);
	where = look_ahead(r, &next);
	deleted = r->deleted_end > 0;
	if (deleted && where != AT_MORE)
		miss(r, r->intact);
	pthread_mutex_unlock(&j->lock);
	if (where != AT_NEXT)
		return where == AT_MORE;

	if (!deleted)
		count_damage(r, r->intact, r->scan.limit);
	close_segment(r);
	pthread_mutex_lock(&j->lock);
	go_to(r, next);
	pthread_mutex_unlock(&j->lock);
	return 1;
}

/* --- Reading --- */

static int skip_to_position(struct journal_reader *r)
{
	int rc = r->skip_to ? scan_skip(&r->scan, r->skip_to) : 0;

	if (!rc && r->skip_to) {
		r->intact = r->scan.offset;
		r->skip_to = 0;
	}
	return rc;
}

static int next_record(struct journal_reader *r, struct journal_record *record)
{
	int rc;

	do {
		if (r->scan.fd < 0) {
			while ((rc = open_segment(r)) == -ENOENT)
				;
			if (rc <= 0)
				return rc;
		}
		rc = skip_to_position(r);
		if (!rc)
			rc = scan_next(&r->scan, record);
		if (rc)
			return rc;
	} while (go_on(r));
	return 0;
}

int journal_read(struct journal_reader *r, struct journal_record *record,
		 struct journal_position *next)
{
	int rc = next_record(r, record);

	if (rc < 0) {
		if (!r->failing)
			log_error("journal_read_failed", NULL,
				  "%s: cannot read segment %" PRIu64 " at byte %" PRIu64
				  ": %s; it is tried again",
				  r->journal->path, r->segment, r->scan.offset, strerror(-rc));
		r->failing = true;
		return rc;
	}
	r->failing = false;
	if (rc == 0)
		return 0;
	count_damage(r, r->intact, r->scan.record);
	r->intact = r->scan.offset;
	*next = (struct journal_position){r->segment, r->scan.offset};
	if (journal_position_compare(*next, r->furthest) > 0)
		r->furthest = *next;
	return 1;
}

/* --- Waking the readers --- */

int journal_wakeup_fd(const struct journal_reader *r)
{
	return r->wakeup_fd;
}

/* The reader's own flag first, then the one that makes an append look: whoever sees the second sees
 * the first. */
void journal_arm(struct journal_reader *r)
{
	eventfd_t ignored;

	/* Empties it of a wake-up that was meant for an earlier sleep; EAGAIN when there was none.
	 */
	(void)eventfd_read(r->wakeup_fd, &ignored);
	atomic_store(&r->armed, true);
	atomic_fetch_or(&r->journal->sleepers, SLEEPER_READER);
}

/* The flag for all goes before the readers' own are looked at: a reader that lies down meanwhile
 * sets it again. */
void journal_wake_readers(struct journal *j)
{
	atomic_fetch_and(&j->sleepers, ~(unsigned)SLEEPER_READER);
	pthread_mutex_lock(&j->lock);
	for (struct journal_reader *r = j->readers; r; r = r->next)
		if (atomic_exchange(&r->armed, false))
			(void)eventfd_write(r->wakeup_fd, 1);
	pthread_mutex_unlock(&j->lock);
}
