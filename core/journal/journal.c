/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Appending. An append is one write at the end that is known, and then that end is
 * moved: what a failed write leaves behind it does not exist for anybody. README.md has the
 * protocol.
 */
#include "core/journal/journal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/journal/internal.h"

#define FULL_LOG_EVERY_US (10 * US_PER_S)

struct journal_position journal_end(const struct journal *j)
{
	struct journal *unlocked = (struct journal *)j;
	struct journal_position end;

	pthread_mutex_lock(&unlocked->lock);
	end = journal_end_locked(j);
	pthread_mutex_unlock(&unlocked->lock);
	return end;
}

const uint8_t *journal_id(const struct journal *j)
{
	return j->directory.id;
}

/* --- Beginning a segment --- */

/* Room for one more in the list, so that nothing can fail once a file is made. */
static int reserve_slot(struct journal *j)
{
	size_t room = j->segment_room ? j->segment_room * 2 : 16;
	struct segment **p;

	if (j->segment_count < j->segment_room)
		return 0;
	p = realloc(j->segments, room * sizeof(struct segment *));
	if (!p)
		return -ENOMEM;
	j->segments = p;
	j->segment_room = room;
	return 0;
}

static void close_if_settled(struct segment *s)
{
	if (s->syncing || s->fd < 0)
		return;
	if (s->synced < atomic_load(&s->end) && !s->sync_error)
		return;
	close(s->fd);
	s->fd = -1;
}

/* From here on the segment before is complete. Lock held. */
static void make_current(struct journal *j, struct segment *s)
{
	struct segment *old = j->current;

	if (old)
		atomic_fetch_add(&j->bytes_others, atomic_load(&old->end));
	j->segments[j->segment_count++] = s;
	j->current = s;
	j->spare_asked = false;
	if (old)
		close_if_settled(old);
}

/* The spare, if there is one or about to be one. Lock held. */
static struct segment *take_spare(struct journal *j)
{
	struct segment *s;

	while (j->spare_in_making)
		pthread_cond_wait(&j->settled, &j->lock);
	s = j->spare;
	j->spare = NULL;
	j->spare_wanted = false;
	return s;
}

int journal_begin_segment(struct journal *j)
{
	struct segment *s = NULL;
	uint64_t number = 0;
	int rc;

	pthread_mutex_lock(&j->lock);
	rc = reserve_slot(j);
	if (!rc)
		s = take_spare(j);
	if (!rc && !s)
		number = j->next_number++;
	pthread_mutex_unlock(&j->lock);
	if (rc)
		return rc;
	if (!s)
		rc = segment_create(j->directory.fd, j->directory.id, number, &s);
	if (rc)
		return rc;
	pthread_mutex_lock(&j->lock);
	make_current(j, s);
	pthread_mutex_unlock(&j->lock);
	return 0;
}

/* --- Appending --- */

static bool needs_segment(const struct journal *j, size_t size)
{
	const struct segment *s = j->current;
	uint64_t end;

	if (!s || s->releasing || atomic_load_explicit(&s->sync_error, memory_order_relaxed))
		return true;
	end = atomic_load_explicit(&s->end, memory_order_relaxed);
	return end > SEGMENT_HEADER && end + size > j->segment_bytes;
}

/* One thread counts: no need for an atomic addition. */
static void count(_Atomic uint64_t *counter)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

static int refuse_full(struct journal *j)
{
	int64_t now = clock_monotonic_us();

	if (!atomic_load(&j->full) &&
	    (j->full_logged_us == 0 || now - j->full_logged_us >= FULL_LOG_EVERY_US)) {
		j->full_logged_us = now;
		log_warn("journal_full", NULL,
			 "%s has reached journal.max_bytes (%" PRIu64
			 "): messages are refused and devices keep them until the database takes "
			 "what is waiting",
			 j->path, j->max_bytes);
	}
	return -ENOBUFS;
}

static int refuse_failed(struct journal *j, int rc)
{
	if (!j->write_failing)
		log_error("journal_append_failed", NULL,
			  "%s: cannot append: %s; messages are refused until it works again",
			  j->path, strerror(-rc));
	j->write_failing = true;
	return rc;
}

static void accepted(struct journal *j)
{
	if (j->write_failing)
		log_info("journal_append_works", NULL, "%s: appending works again", j->path);
	j->write_failing = false;
	if (atomic_load_explicit(&j->full, memory_order_relaxed))
		atomic_store(&j->full, false);
	count(&j->appended);
}

/* One write at the end. What a failed one leaves there is cut off, and would be neither found valid
 * nor be in the way: the next append begins at the same place. */
static int write_record(struct journal *j, const struct journal_record *r, size_t size)
{
	struct segment *s = j->current;
	uint64_t end = atomic_load_explicit(&s->end, memory_order_relaxed);
	struct record_image *im = &j->image;
	ssize_t n;
	int rc;

	record_encode(im, r, size, s->seed, end);
	if (im->part_count == 1)
		n = pwrite(s->fd, im->copy, size, (off_t)end);
	else
		n = pwritev(s->fd, im->parts, im->part_count, (off_t)end);
	if (n == (ssize_t)size) {
		/* The record is complete before the end is seen to move, and the end is moved
		 * before the sleepers are looked at. */
		atomic_store(&s->end, end + size);
		return 0;
	}
	rc = n < 0 ? -errno : -ENOSPC; /* the only reason for a short write to a file */
	if (ftruncate(s->fd, (off_t)end) != 0)
		log_debug("journal_cut", NULL, "%s: cannot cut a failed append: %s", j->path,
			  strerror(errno));
	return rc;
}

static void wake_sleepers(struct journal *j, unsigned sleepers)
{
	if (sleepers & SLEEPER_SYNC)
		journal_sync_wake(j);
	if (sleepers & SLEEPER_READER)
		journal_wake_readers(j);
}

static int append_here(struct journal *j, const struct journal_record *r, size_t size)
{
	int rc = 0;

	if (needs_segment(j, size))
		rc = journal_begin_segment(j);
	return rc ? rc : write_record(j, r, size);
}

static int try_append(struct journal *j, const struct journal_record *r, uint64_t bound)
{
	size_t size = record_size(r);
	int rc;

	/* Half the bound: then a record always fits once the store has taken everything, for the
	 * segment that is being appended to is never larger and is all that must remain. */
	if (size == 0 || SEGMENT_HEADER + size > j->max_bytes / 2)
		return -EMSGSIZE;
	if (!journal_fits(j, size, bound) && !journal_make_room(j, size, bound))
		return refuse_full(j);
	do {
		rc = append_here(j, r, size);
	} while ((rc == -ENOSPC || rc == -EDQUOT) && journal_give_back(j));
	return rc ? refuse_failed(j, rc) : 0;
}

static int append(struct journal *j, const struct journal_record *r, struct journal_position *end,
		  uint64_t bound)
{
	int rc = try_append(j, r, bound);
	struct journal_position behind;
	unsigned sleepers;

	if (rc) {
		atomic_store(&j->full, rc == -ENOBUFS);
		count(&j->refused);
		return rc;
	}
	accepted(j);
	behind.segment = j->current->number;
	behind.offset = atomic_load_explicit(&j->current->end, memory_order_relaxed);
	sleepers = atomic_load(&j->sleepers);
	if (sleepers)
		wake_sleepers(j, sleepers);
	if (behind.offset > j->segment_bytes / 2 && !j->spare_asked) {
		j->spare_asked = true;
		journal_spare_ask(j);
	}
	if (end)
		*end = behind;
	return 0;
}

int journal_append(struct journal *j, const struct journal_record *r, struct journal_position *end)
{
	return append(j, r, end, j->max_bytes);
}

int journal_append_reserved(struct journal *j, const struct journal_record *r,
			    struct journal_position *end)
{
	return append(j, r, end, j->max_bytes + j->segment_bytes);
}

/* --- Statistics --- */

static uint64_t behind(const struct journal *j, struct journal_position pos)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < j->segment_count; i++) {
		const struct segment *s = j->segments[i];
		uint64_t from = SEGMENT_HEADER, end = atomic_load(&s->end);

		if (s->number < pos.segment)
			continue;
		if (s->number == pos.segment && pos.offset > from)
			from = pos.offset;
		bytes += end > from ? end - from : 0;
	}
	return bytes;
}

uint64_t journal_behind(const struct journal *j, struct journal_position pos)
{
	struct journal *unlocked = (struct journal *)j;
	uint64_t bytes;

	pthread_mutex_lock(&unlocked->lock);
	bytes = behind(j, pos);
	pthread_mutex_unlock(&unlocked->lock);
	return bytes;
}

void journal_stats(const struct journal *j, struct journal_stats *out)
{
	struct journal *unlocked = (struct journal *)j;

	pthread_mutex_lock(&unlocked->lock);
	*out = (struct journal_stats){
		.bytes = atomic_load(&j->bytes_others) +
			 (j->current ? atomic_load(&j->current->end) : 0) +
			 (j->spare ? SEGMENT_HEADER : 0),
		.backlog_bytes = behind(j, j->released),
		.appended = atomic_load(&j->appended),
		.refused = atomic_load(&j->refused),
		.skipped_bytes = atomic_load(&j->skipped_bytes),
		.sync_errors = atomic_load(&j->sync_errors),
		.full = atomic_load(&j->full),
	};
	pthread_mutex_unlock(&unlocked->lock);
}
