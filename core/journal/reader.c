/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader: follows the appending thread from record to record and from segment to segment. It
 * reads only up to a segment's `end`, which is moved after the record is complete. The lock is
 * taken when the reader has come to the end that it knew, never for a record.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/journal/internal.h"

static void close_segment(struct reader *rd)
{
	if (rd->scan.fd >= 0)
		close(rd->scan.fd);
	rd->scan.fd = -1;
}

void journal_reader_close(struct journal *j)
{
	close_segment(&j->reader);
	scan_free(&j->reader.scan);
}

void journal_seek(struct journal *j, struct journal_position pos)
{
	struct journal_position end = journal_end(j);
	struct reader *rd = &j->reader;

	if (journal_position_compare(pos, end) > 0) {
		log_error("journal_position", NULL,
			  "%s ends at %" PRIu64 "/%" PRIu64
			  ", before the committed position %" PRIu64 "/%" PRIu64
			  ": was it brought back from an old copy? All of it is read again",
			  j->path, end.segment, end.offset, pos.segment, pos.offset);
		pos = (struct journal_position){0, 0};
	}
	close_segment(rd);
	rd->segment = pos.segment;
	rd->skip_to = pos.offset;
}

bool journal_reached(const struct journal *j, struct journal_position pos)
{
	return pos.segment < j->first_of_run ||
	       journal_position_compare(pos, j->reader.furthest) <= 0;
}

/* --- Damage --- */

static void count_damage(struct journal *j, uint64_t from, uint64_t to)
{
	struct reader *rd = &j->reader;
	struct journal_position end = {rd->segment, to};

	/* After a seek back the same place is met again. */
	if (rd->counted.segment == rd->segment && from < rd->counted.offset)
		from = rd->counted.offset;
	if (from >= to || journal_position_compare(end, rd->counted) <= 0)
		return;
	rd->counted = end;
	atomic_fetch_add(&j->skipped_bytes, to - from);
	log_error("journal_damaged", NULL,
		  "%s: segment %" PRIu64 ", bytes %" PRIu64 " to %" PRIu64
		  " are damaged or missing and were skipped; check the disk",
		  j->path, rd->segment, from, to);
}

/* --- From segment to segment --- */

enum where {
	AT_MORE, /* the segment has grown */
	AT_LAST, /* nothing new, and no later segment */
	AT_NEXT, /* complete; *next is the one that follows */
};

/* A later segment is put into the list after the end of the one before was moved for the last time.
 * So when one is there, the end read under the same lock is final. */
static enum where look_ahead(struct journal *j, uint64_t *next)
{
	struct reader *rd = &j->reader;
	enum where where = AT_LAST;
	size_t i;

	pthread_mutex_lock(&j->lock);
	i = segment_find(j->segments, j->segment_count, rd->segment);
	if (i < j->segment_count && j->segments[i]->number == rd->segment) {
		uint64_t end = atomic_load(&j->segments[i]->end);

		if (end > rd->scan.limit) {
			rd->scan.limit = end;
			where = AT_MORE;
		}
		i++;
	}
	if (where == AT_LAST && i < j->segment_count) {
		*next = j->segments[i]->number;
		where = AT_NEXT;
	}
	pthread_mutex_unlock(&j->lock);
	return where;
}

/* Open the first segment from rd->segment on. 1; 0: there is none; -ENOENT: its file is gone, try
 * the next one; -errno. */
static int open_segment(struct journal *j)
{
	struct reader *rd = &j->reader;
	uint64_t end = 0, offset = SEGMENT_HEADER;
	uint32_t seed = 0;
	size_t i;
	int fd;

	pthread_mutex_lock(&j->lock);
	i = segment_find(j->segments, j->segment_count, rd->segment);
	if (i < j->segment_count) {
		if (j->segments[i]->number != rd->segment)
			rd->skip_to = 0;
		rd->segment = j->segments[i]->number;
		seed = j->segments[i]->seed;
		end = atomic_load(&j->segments[i]->end);
	}
	pthread_mutex_unlock(&j->lock);
	if (end == 0)
		return 0;

	/* The end of a segment is the end of a record: no need to go there step by step. */
	if (rd->skip_to >= end && end > SEGMENT_HEADER)
		offset = end;
	fd = segment_open(j->directory.fd, rd->segment, O_RDONLY);
	if (fd == -ENOENT) {
		/* Somebody deleted it under us. What it held cannot come back. */
		count_damage(j, offset, end);
		rd->segment++;
		rd->skip_to = 0;
		return -ENOENT;
	}
	if (fd < 0)
		return fd;
	scan_start(&rd->scan, fd, seed, offset, end);
	rd->intact = offset;
	return 1;
}

/* Nothing is left before the limit. 1: there is more now; 0: not yet. */
static int go_on(struct journal *j)
{
	struct reader *rd = &j->reader;
	uint64_t next;

	switch (look_ahead(j, &next)) {
	case AT_MORE:
		return 1;
	case AT_LAST:
		return 0;
	case AT_NEXT:
		break;
	}
	count_damage(j, rd->intact, rd->scan.limit);
	close_segment(rd);
	rd->segment = next;
	return 1;
}

/* --- Reading --- */

static int skip_to_position(struct reader *rd)
{
	int rc = rd->skip_to ? scan_skip(&rd->scan, rd->skip_to) : 0;

	if (!rc && rd->skip_to) {
		rd->intact = rd->scan.offset;
		rd->skip_to = 0;
	}
	return rc;
}

static int next_record(struct journal *j, struct journal_record *r)
{
	struct reader *rd = &j->reader;
	int rc;

	do {
		if (rd->scan.fd < 0) {
			while ((rc = open_segment(j)) == -ENOENT)
				;
			if (rc <= 0)
				return rc;
		}
		rc = skip_to_position(rd);
		if (!rc)
			rc = scan_next(&rd->scan, r);
		if (rc)
			return rc;
	} while (go_on(j));
	return 0;
}

int journal_read(struct journal *j, struct journal_record *r, struct journal_position *next)
{
	struct reader *rd = &j->reader;
	int rc = next_record(j, r);

	if (rc < 0) {
		if (!rd->failing)
			log_error("journal_read_failed", NULL,
				  "%s: cannot read segment %" PRIu64 " at byte %" PRIu64
				  ": %s; it is tried again",
				  j->path, rd->segment, rd->scan.offset, strerror(-rc));
		rd->failing = true;
		return rc;
	}
	rd->failing = false;
	if (rc == 0)
		return 0;
	count_damage(j, rd->intact, rd->scan.record);
	rd->intact = rd->scan.offset;
	*next = (struct journal_position){rd->segment, rd->scan.offset};
	if (journal_position_compare(*next, rd->furthest) > 0)
		rd->furthest = *next;
	return 1;
}

/* --- Waking the reader --- */

int journal_wakeup_fd(const struct journal *j)
{
	return j->wakeup_fd;
}

void journal_arm(struct journal *j)
{
	eventfd_t ignored;

	/* Empties it of a wake-up that was meant for an earlier sleep; EAGAIN when there was none.
	 */
	(void)eventfd_read(j->wakeup_fd, &ignored);
	atomic_fetch_or(&j->sleepers, SLEEPER_READER);
}
