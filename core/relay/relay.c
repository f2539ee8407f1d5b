/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread that follows the journal. It sleeps in one place, relay_wait, for whatever there is to
 * wait for; before it does, the position goes into the file and to the journal.
 */
#include "core/relay/relay.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/thread.h"
#include "core/relay/internal.h"

#define ARENA_CHUNK (64 * 1024)
#define ARENA_ROOM  (4 * 1024 * 1024) /* for what rules make, besides the decoded message */
#define ARENA_RATIO 64		      /* a decoded document is at most this many times its text */

#define KEEP_EVERY_RECORDS 256
#define KEEP_EVERY_US	   (100 * US_PER_MS)
#define RETRY_MS	   1000 /* a journal that cannot be read, a file that cannot be written */
#define GATHER_MS	   2	/* for others, by the record that comes alone */
#define READY_MS	   100	/* to look whether the registry is there */

#define STATUS_EVERY_S 60

/* --- The position --- */

static void write_position(struct relay *r, struct journal_position pos)
{
	int rc = position_write(&r->file, pos);

	if (rc != 0 && !r->unwritable)
		log_warn("relay_position", NULL,
			 "%s cannot be written: %s; after a restart messages are published again",
			 r->o.position_path, strerror(-rc));
	else if (rc == 0 && r->unwritable)
		log_info("relay_position", NULL, "%s can be written again", r->o.position_path);
	r->unwritable = rc != 0;
	if (rc == 0)
		r->kept = pos;
}

/* The file first: what the journal may delete is not to be asked for any more. */
static void keep_position(struct relay *r)
{
	struct journal_position pos = relay_settled(r);

	r->records = 0;
	r->kept_at_us = clock_monotonic_us();
	if (journal_position_compare(pos, r->kept) == 0)
		return;
	write_position(r, pos);
	journal_keep(r->reader, pos);
}

static void keep_position_now_and_then(struct relay *r)
{
	if (++r->records < KEEP_EVERY_RECORDS)
		return;
	r->records = 0;
	if (clock_monotonic_us() - r->kept_at_us >= KEEP_EVERY_US)
		keep_position(r);
}

/* --- What a person sees --- */

static void say_missed(struct relay *r)
{
	uint64_t missed = journal_missed(r->reader);

	if (missed == r->missed_said)
		return;
	r->missed_said = missed;
	pthread_mutex_lock(&r->mutex);
	r->stats.missed = missed;
	pthread_mutex_unlock(&r->mutex);
	log_warn("relay_missed", NULL,
		 "the journal could not keep all that is to be published and run through rules "
		 "(%" PRIu64 " times so far): what was passed over is stored, but not published; "
		 "is the broker reachable? (journal.follower_max_bytes)",
		 missed);
}

static void say_status(struct relay *r, int64_t now)
{
	struct relay_stats st;

	if (now - r->status_at_us < r->o.status_interval_s * US_PER_S)
		return;
	r->status_at_us = now;
	relay_stats(r, &st);
	if (st.published == r->published_said && st.lag_bytes == 0)
		return;
	r->published_said = st.published;
	log_info("relay_status", NULL,
		 "published=%" PRIu64 " refused=%" PRIu64 " missed=%" PRIu64 " in_flight=%" PRIu64
		 " lag_bytes=%" PRIu64,
		 st.published, st.refused, st.missed, r->ticket - r->first_ticket - st.published,
		 st.lag_bytes);
}

void relay_stats(const struct relay *cr, struct relay_stats *out)
{
	struct relay *r = (struct relay *)(uintptr_t)cr;
	struct journal_position read_to;

	pthread_mutex_lock(&r->mutex);
	*out = r->stats;
	read_to = r->stats_read_to;
	pthread_mutex_unlock(&r->mutex);
	out->lag_bytes = journal_behind(r->journal, read_to);
}

/* --- Sleeping --- */

static int timeout_ms(const struct relay *r, int64_t now, enum relay_for what)
{
	int64_t left = r->status_at_us + r->o.status_interval_s * US_PER_S - now;
	int64_t ms = left <= 0 ? 0 : left / US_PER_MS + 1;

	if (what == RELAY_FOR_MORE && ms > GATHER_MS)
		ms = GATHER_MS;
	if ((r->unreadable || r->unwritable) && ms > RETRY_MS)
		ms = RETRY_MS;
	if (!rules_ready(r->rules) && ms > READY_MS)
		ms = READY_MS;
	return (int)ms;
}

void relay_wait(struct relay *r, enum relay_for what)
{
	const struct bus *bus = r->o.bus;
	struct pollfd fds[4] = {
		{.fd = r->stop_fd, .events = POLLIN},
		{.fd = r->queue_fd, .events = POLLIN},
		{.fd = bus ? bus->wake_fd(bus->arg) : -1, .events = POLLIN},
		{.fd = what == RELAY_FOR_RECORDS ? journal_wakeup_fd(r->reader) : -1,
		 .events = POLLIN},
	};
	int64_t now;
	eventfd_t ignored;

	keep_position(r);
	say_missed(r);
	now = clock_monotonic_us();
	say_status(r, now);
	if (poll(fds, 4, timeout_ms(r, now, what)) <= 0)
		return;
	/* Emptied before anything is asked again: what changes from here on wakes once more. */
	if (fds[1].revents)
		(void)eventfd_read(r->queue_fd, &ignored);
	if (fds[2].revents)
		(void)eventfd_read(fds[2].fd, &ignored);
}

/* --- The loop --- */

/* 1: a record; 0: none, and the reader is armed, unless it was busy a moment ago: under load nobody
 * is woken for each record; -errno: not now. */
static int next_record(struct relay *r, struct journal_record *record,
		       struct journal_position *next)
{
	int rc;

	if (!rules_ready(r->rules))
		return -EAGAIN;
	rc = journal_read(r->reader, record, next);
	if (rc == 0 && !r->was_busy) {
		journal_arm(r->reader);
		rc = journal_read(r->reader, record, next);
	}
	r->unreadable = rc < 0;
	return rc;
}

static void *run(void *arg)
{
	struct relay *r = arg;
	struct journal_record record;
	struct journal_position next;

	while (!atomic_load(&r->stop)) {
		int rc;

		relay_send_queued(r);
		rc = next_record(r, &record, &next);
		if (rc != 1) {
			enum relay_for what = r->was_busy ? RELAY_FOR_MORE : RELAY_FOR_RECORDS;

			r->was_busy = false;
			relay_wait(r, rc == 0 ? what : RELAY_FOR_ROOM);
			continue;
		}
		r->was_busy = true;
		rc = relay_record(r, &record);
		r->record_in_flight = false;
		if (rc == 0)
			r->read_to = next;
		keep_position_now_and_then(r);
	}
	keep_position(r);
	return NULL;
}

/* --- Starting and stopping --- */

/* Where to begin, from the file. */
static struct journal_position choose_position(struct relay *r, enum position_found found,
					       struct journal_position pos)
{
	const char *path = r->o.position_path;

	switch (found) {
	case POSITION_FOUND:
		if (journal_position_compare(pos, journal_end(r->journal)) <= 0)
			return pos;
		/* Nor may it stay in the file: the journal grows past it. */
		log_error(
			"relay_position", NULL,
			"%s is ahead of the journal, which was brought back from an old copy: all "
			"that it holds is published again",
			path);
		break;
	case POSITION_NONE:
		return journal_end(r->journal);
	case POSITION_FOREIGN:
		log_warn("relay_position", NULL,
			 "%s is of another journal: all that this one holds is published", path);
		break;
	case POSITION_DAMAGED:
		log_error("relay_position", NULL,
			  "%s is damaged: all that the journal holds is published again", path);
		break;
	}
	return (struct journal_position){0, 0};
}

static int begin(struct relay *r)
{
	struct journal_position pos = {0, 0};
	enum position_found found;
	int rc = position_open(&r->file, r->o.position_path, journal_id(r->journal), &found, &pos);

	if (rc != 0)
		return rc;
	r->read_to = choose_position(r, found, pos);
	journal_keep(r->reader, r->read_to);
	journal_seek(r->reader, r->read_to);
	/* Before anything is appended: a start without a file begins at the end. A full disk keeps
	 * nobody from starting. */
	write_position(r, r->read_to);
	rc = r->unwritable ? 0 : position_sync(&r->file, r->o.position_path);
	if (rc != 0)
		log_warn("relay_position", NULL, "%s cannot be synced: %s", r->o.position_path,
			 strerror(-rc));
	return 0;
}

static void release(struct relay *r)
{
	journal_reader_close(r->reader);
	position_close(&r->file);
	rule_set_release(r->set);
	relay_free_queue(r);
	arena_free(&r->arena);
	free(r->in_flight);
	if (r->stop_fd >= 0)
		close(r->stop_fd);
	if (r->queue_fd >= 0)
		close(r->queue_fd);
	free((char *)(uintptr_t)r->o.position_path);
	free((char *)(uintptr_t)r->o.source);
	pthread_mutex_destroy(&r->mutex);
	free(r);
}

static int prepare(struct relay *r, const struct relay_options *o)
{
	int rc;

	r->o = *o;
	r->o.position_path = strdup(o->position_path);
	r->o.source = strdup(o->source);
	r->o.telemetry = o->telemetry && o->bus && !o->bus->is_broker;
	if (o->status_interval_s <= 0)
		r->o.status_interval_s = STATUS_EVERY_S;
	r->ticket = r->first_ticket = o->bus ? o->bus->settled(o->bus->arg) : 0;
	r->status_at_us = clock_monotonic_us();
	arena_init(&r->arena, ARENA_CHUNK, ARENA_ROOM + o->limits.max_bytes * ARENA_RATIO);
	r->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->queue_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->stop_fd < 0 || r->queue_fd < 0)
		return -errno;
	if (!r->o.position_path || !r->o.source)
		return -ENOMEM;
	rc = journal_reader_open(&r->reader, r->journal);
	if (rc == 0)
		rc = begin(r);
	r->stats_read_to = r->read_to;
	return rc;
}

int relay_start(struct relay **out, const struct relay_options *o, struct journal *j,
		struct rules *rules, char *err, size_t err_len)
{
	struct relay *r = calloc(1, sizeof(*r));
	int rc;

	*out = NULL;
	if (!r) {
		snprintf(err, err_len, "%s: out of memory", o->position_path);
		return -ENOMEM;
	}
	r->journal = j;
	r->rules = rules;
	r->stop_fd = r->queue_fd = r->file.fd = -1;
	r->queue_end = &r->queue;
	pthread_mutex_init(&r->mutex, NULL);
	rc = prepare(r, o);
	if (rc == 0)
		rc = thread_start(&r->thread, "fg-relay", run, r);
	if (rc != 0) {
		snprintf(err, err_len, "%s: cannot start the relay: %s", o->position_path,
			 strerror(-rc));
		release(r);
		return rc;
	}
	*out = r;
	return 0;
}

void relay_stop(struct relay *r)
{
	if (!r)
		return;
	atomic_store(&r->stop, true);
	(void)eventfd_write(r->stop_fd, 1);
	pthread_join(r->thread, NULL);
	release(r);
}
