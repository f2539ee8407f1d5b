/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stable storage. One fdatasync runs at a time; whoever needs one and finds none running leads it
 * for everybody who appended before it began, the others wait. The journal's own thread leads one
 * at most sync_interval_ms after an append, sleeps while there is nothing to do, and makes the next
 * segment ahead so that an append rarely waits for a disk. A segment whose sync failed is never
 * synced again: the kernel has dropped its dirty pages, and a second fdatasync would claim what is
 * not so.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/thread.h"
#include "core/journal/internal.h"

static uint64_t end_of(const struct segment *s)
{
	return atomic_load(&s->end);
}

static bool needs_sync(const struct segment *s)
{
	return !s->sync_error && !s->releasing && s->synced < end_of(s);
}

/* The first segment numbered from..to that needs a sync, or NULL. Lock held. */
static struct segment *first_unsynced(const struct journal *j, uint64_t from, uint64_t to)
{
	size_t i;

	if (from < j->unsynced)
		from = j->unsynced;
	i = segment_find(j->segments, j->segment_count, from);
	for (; i < j->segment_count && j->segments[i]->number <= to; i++)
		if (needs_sync(j->segments[i]))
			return j->segments[i];
	return NULL;
}

/* Segments that are neither appended to any more nor need a sync need not be looked at again. */
static void pass_settled(struct journal *j)
{
	size_t i = segment_find(j->segments, j->segment_count, j->unsynced);

	while (i < j->segment_count && j->segments[i] != j->current && !needs_sync(j->segments[i]))
		i++;
	j->unsynced = i < j->segment_count ? j->segments[i]->number : j->next_number;
	if (j->current && j->unsynced > j->current->number)
		j->unsynced = j->current->number;
}

static void note_failure(struct journal *j, struct segment *s, int error)
{
	atomic_store(&s->sync_error, error);
	atomic_fetch_add(&j->sync_errors, 1);
	log_error("journal_sync_failed", NULL,
		  "%s: segment %" PRIu64 " from byte %" PRIu64
		  " on may not be on the disk: %s; appending goes on in a new segment; check the "
		  "disk",
		  j->path, s->number, s->synced, strerror(error));
}

/* Lock held, and given up while the disk works. */
static void sync_segment(struct journal *j, struct segment *s)
{
	uint64_t number = s->number, end = end_of(s);
	int fd = s->fd, opened = -1, error = 0;

	j->sync_running = true;
	s->syncing = true;
	pthread_mutex_unlock(&j->lock);

	/* A segment of an earlier run: fdatasync is about the file, whoever wrote it. */
	if (fd < 0)
		fd = opened = segment_open(j->directory.fd, number, O_WRONLY);
	if (fd < 0)
		error = -fd;
	else if (fdatasync(fd) != 0)
		error = errno;
	if (opened >= 0)
		close(opened);

	pthread_mutex_lock(&j->lock);
	s->syncing = false;
	if (s->dropped) {
		segment_free(s);
	} else {
		if (!error)
			s->synced = end;
		else if (!s->releasing) /* else its file may be gone, and nobody needs it */
			note_failure(j, s, error);
		if (s != j->current && s->fd >= 0 && !needs_sync(s)) {
			close(s->fd);
			s->fd = -1;
		}
	}
	pass_settled(j);
	j->sync_running = false;
	pthread_cond_broadcast(&j->settled);
}

/* Sync the first segment numbered from..to that needs it, or wait until somebody else's sync has
 * ended. Returns the number it synced, 0 if it waited, UINT64_MAX if nothing needs it. Lock held.
 */
static uint64_t sync_step(struct journal *j, uint64_t from, uint64_t to)
{
	struct segment *s;
	uint64_t number;

	if (j->sync_running) {
		pthread_cond_wait(&j->settled, &j->lock);
		return 0;
	}
	s = first_unsynced(j, from, to);
	if (!s)
		return UINT64_MAX;
	number = s->number;
	sync_segment(j, s);
	return number;
}

/* Each segment that is dirty now, once: appending may go on for ever. Lock held. */
static void sync_everything(struct journal *j)
{
	uint64_t from = 0, to = journal_end_locked(j).segment;

	while (from <= to) {
		uint64_t done = sync_step(j, from, to);

		if (done == UINT64_MAX)
			return;
		if (done)
			from = done + 1;
	}
}

/* --- For callers --- */

/* What is known of the records before pos: 0 they are safe, -errno they are not, 1 a sync will
 * tell. */
static int sync_verdict(const struct journal *j, struct journal_position pos)
{
	size_t i = segment_find(j->segments, j->segment_count, pos.segment);
	const struct segment *s = i < j->segment_count ? j->segments[i] : NULL;

	if (journal_position_compare(pos, journal_end_locked(j)) > 0)
		return -EINVAL;
	if (journal_position_compare(pos, j->released) <= 0)
		return 0;
	if (s && s->number == pos.segment && s->synced < pos.offset) {
		if (s->sync_error)
			return -s->sync_error;
		if (needs_sync(s))
			return 1;
	}
	return pos.segment > 0 && first_unsynced(j, j->first_of_run, pos.segment - 1) ? 1 : 0;
}

int journal_sync(struct journal *j, struct journal_position pos)
{
	uint64_t from = pos.segment < j->first_of_run ? pos.segment : j->first_of_run;
	int rc;

	pthread_mutex_lock(&j->lock);
	while ((rc = sync_verdict(j, pos)) > 0)
		sync_step(j, from, pos.segment);
	pthread_mutex_unlock(&j->lock);
	return rc;
}

int journal_sync_former(struct journal *j)
{
	int rc = 0;

	pthread_mutex_lock(&j->lock);
	while (sync_step(j, 0, j->first_of_run - 1) != UINT64_MAX)
		;
	for (size_t i = 0; rc == 0 && i < j->segment_count; i++)
		if (j->segments[i]->number < j->first_of_run)
			rc = -j->segments[i]->sync_error;
	pthread_mutex_unlock(&j->lock);
	return rc;
}

/* How far s is safe: on stable storage, or stored elsewhere. */
static uint64_t safe_in(const struct journal *j, const struct segment *s)
{
	if (s->number < j->released.segment)
		return end_of(s);
	if (s->number == j->released.segment && j->released.offset > s->synced)
		return j->released.offset;
	return s->synced;
}

struct journal_position journal_durable(const struct journal *j)
{
	struct journal *unlocked = (struct journal *)j;
	struct journal_position durable;

	pthread_mutex_lock(&unlocked->lock);
	durable = journal_end_locked(j);
	for (size_t i = 0; i < j->segment_count; i++) {
		const struct segment *s = j->segments[i];
		uint64_t safe = safe_in(j, s);

		if (safe < end_of(s)) {
			durable = (struct journal_position){s->number, safe};
			break;
		}
	}
	pthread_mutex_unlock(&unlocked->lock);
	return durable;
}

/* --- The thread --- */

static void make_spare(struct journal *j)
{
	struct segment *s = NULL;
	uint64_t number;
	int rc;

	j->spare_wanted = false;
	if (j->spare)
		return;
	number = j->next_number++;
	j->spare_in_making = true;
	pthread_mutex_unlock(&j->lock);

	rc = segment_create(j->directory.fd, j->directory.id, number, &s);
	if (rc)
		log_debug("journal_spare", NULL, "%s: cannot make a segment ahead: %s", j->path,
			  strerror(-rc));

	pthread_mutex_lock(&j->lock);
	j->spare = s;
	j->spare_in_making = false;
	pthread_cond_broadcast(&j->settled);
}

static struct timespec after_ms(unsigned ms)
{
	int64_t t = clock_monotonic_us() + (int64_t)ms * US_PER_MS;

	return (struct timespec){.tv_sec = (time_t)(t / US_PER_S),
				 .tv_nsec = (long)(t % US_PER_S) * 1000};
}

static bool is_dirty(const struct journal *j)
{
	return first_unsynced(j, 0, UINT64_MAX) != NULL;
}

/* Sleep until something is appended, or there is something else to do. The flag is set before
 * looking again, and an append looks at the flag after it moved the end: one of the two sees the
 * other. */
static void sleep_while_clean(struct journal *j)
{
	atomic_fetch_or(&j->sleepers, SLEEPER_SYNC);
	if (!is_dirty(j))
		pthread_cond_wait(&j->wake, &j->lock);
	atomic_fetch_and(&j->sleepers, ~(unsigned)SLEEPER_SYNC);
}

/* Let more appends come to share the sync. Making a spare meanwhile does not put the sync off. */
static void gather(struct journal *j)
{
	struct timespec deadline = after_ms(j->sync_interval_ms);
	int rc = 0;

	while (!j->stop && rc != ETIMEDOUT) {
		if (j->spare_wanted)
			make_spare(j);
		else
			rc = pthread_cond_timedwait(&j->wake, &j->lock, &deadline);
	}
}

static void *sync_main(void *arg)
{
	struct journal *j = arg;

	pthread_mutex_lock(&j->lock);
	while (!j->stop) {
		if (j->spare_wanted) {
			make_spare(j);
		} else if (!is_dirty(j)) {
			sleep_while_clean(j);
		} else {
			gather(j);
			sync_everything(j);
		}
	}
	pthread_mutex_unlock(&j->lock);
	return NULL;
}

void journal_sync_wake(struct journal *j)
{
	pthread_mutex_lock(&j->lock);
	atomic_fetch_and(&j->sleepers, ~(unsigned)SLEEPER_SYNC);
	pthread_cond_signal(&j->wake);
	pthread_mutex_unlock(&j->lock);
}

void journal_spare_ask(struct journal *j)
{
	pthread_mutex_lock(&j->lock);
	j->spare_wanted = true;
	pthread_cond_signal(&j->wake);
	pthread_mutex_unlock(&j->lock);
}

int journal_sync_start(struct journal *j)
{
	int rc = thread_start(&j->thread, "journal-sync", sync_main, j);

	j->thread_started = rc == 0;
	return rc;
}

void journal_sync_stop(struct journal *j)
{
	if (!j->thread_started)
		return;
	pthread_mutex_lock(&j->lock);
	j->stop = true;
	pthread_cond_signal(&j->wake);
	pthread_mutex_unlock(&j->lock);
	pthread_join(j->thread, NULL);
	j->thread_started = false;

	pthread_mutex_lock(&j->lock);
	sync_everything(j);
	pthread_mutex_unlock(&j->lock);
}
