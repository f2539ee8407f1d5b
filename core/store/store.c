/* SPDX-License-Identifier: Apache-2.0 */
/* Starting and stopping the writer thread, and the counters that other threads may read. */
#include "core/store/store.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/pgconn.h"
#include "core/base/thread.h"
#include "core/store/writer.h"

#define DEAD_LETTERS_INTERVAL_US (10 * US_PER_S)

struct store {
	struct writer w;
	pthread_t thread;
	pthread_mutex_t mutex; /* what follows */
	struct store_stats stats;
	struct journal_position committed;
	int64_t oldest_us;
	int64_t idle_at_us; /* when the journal was last seen empty */
};

/* When the oldest message that is not committed was received; 0: none is known. */
static int64_t oldest_message(const struct writer *w)
{
	if (w->flight_count > 0)
		return w->flights[0].load.first_received_us;
	if (w->open.load.records > 0)
		return w->open.load.first_received_us;
	return w->held.there ? w->held.r.received_at_us : 0;
}

static void publish(struct writer *w)
{
	struct store *s = w->owner;

	pthread_mutex_lock(&s->mutex);
	s->stats = w->stats;
	s->stats.connected = w->sender.conn != NULL;
	s->oldest_us = oldest_message(w);
	s->committed = w->committed;
	if (s->oldest_us == 0 && w->open.drained)
		s->idle_at_us = clock_realtime_us();
	pthread_mutex_unlock(&s->mutex);
}

void store_stats(const struct store *cs, struct store_stats *out)
{
	struct store *s = (struct store *)(uintptr_t)cs;
	struct journal_position end = journal_end(s->w.journal);
	int64_t since_us;

	pthread_mutex_lock(&s->mutex);
	*out = s->stats;
	since_us = s->oldest_us;
	/* Appended, but not read yet: it cannot be older than this. */
	if (since_us == 0 && journal_position_compare(end, s->committed) > 0)
		since_us = s->idle_at_us;
	pthread_mutex_unlock(&s->mutex);
	out->lag_us = since_us == 0 ? 0 : clock_realtime_us() - since_us;
	if (out->lag_us < 0)
		out->lag_us = 0;
}

static void say_dead_letters(struct writer *w, int64_t now)
{
	uint64_t since = w->stats.dead_letters - w->dead_letters_said;

	if (since == 0 ||
	    (w->dead_letters_at_us != 0 && now - w->dead_letters_at_us < DEAD_LETTERS_INTERVAL_US))
		return;
	log_warn("store_dead_letters", NULL,
		 "%" PRIu64
		 " messages could not be decoded or stored since the last such line; they "
		 "are in fieldgate.dead_letter with the reason",
		 since);
	w->dead_letters_said = w->stats.dead_letters;
	w->dead_letters_at_us = now;
}

void writer_status(struct writer *w, bool force)
{
	int64_t now = clock_monotonic_us();
	struct journal_stats js;
	struct store_stats st;

	say_dead_letters(w, now);
	if (!force && now - w->status_at_us < w->o.status_interval_s * US_PER_S)
		return;
	w->status_at_us = now;
	w->publish(w);
	journal_stats(w->journal, &js);
	store_stats(w->owner, &st);
	log_info("store_status", NULL,
		 "connected=%s stored=%" PRIu64 " rows=%" PRIu64 " dead_letters=%" PRIu64
		 " dropped=%" PRIu64 " batches=%" PRIu64 " backlog_bytes=%" PRIu64 " lag_s=%.3f",
		 st.connected ? "yes" : "no", st.messages, st.rows, st.dead_letters, st.dropped,
		 st.batches, js.backlog_bytes, (double)st.lag_us / (double)US_PER_S);
}

static void *run(void *arg)
{
	struct store *s = arg;

	writer_run(&s->w);
	return NULL;
}

static void release(struct store *s)
{
	writer_free(&s->w);
	if (s->w.stop_fd >= 0)
		close(s->w.stop_fd);
	free((char *)(uintptr_t)s->w.o.database_url);
	free((char *)(uintptr_t)s->w.o.source);
	pthread_mutex_destroy(&s->mutex);
	free(s);
}

static int prepare(struct store *s, const struct store_options *o, struct journal *j)
{
	s->w.o = *o;
	s->w.o.database_url = strdup(o->database_url);
	s->w.o.source = strdup(o->source);
	if (s->w.o.batch_rows == 0)
		s->w.o.batch_rows = 1;
	s->w.journal = j;
	s->w.publish = publish;
	s->w.owner = s;
	s->idle_at_us = clock_realtime_us();
	s->w.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->w.stop_fd < 0)
		return -errno;
	if (!s->w.o.database_url || !s->w.o.source)
		return -ENOMEM;
	return writer_init(&s->w);
}

int store_start(struct store **out, const struct store_options *o, struct journal *j, char *err,
		size_t err_len)
{
	struct store *s;
	int rc = pgconn_check_url(o->database_url, err, err_len);

	*out = NULL;
	if (rc != 0)
		return rc;
	s = calloc(1, sizeof(*s));
	if (!s) {
		snprintf(err, err_len, "out of memory");
		return -ENOMEM;
	}
	pthread_mutex_init(&s->mutex, NULL);
	rc = prepare(s, o, j);
	if (rc == 0)
		rc = thread_start(&s->thread, "fg-store", run, s);
	if (rc != 0) {
		snprintf(err, err_len, "cannot start the store: %s", strerror(-rc));
		release(s);
		return rc;
	}
	*out = s;
	return 0;
}

void store_stop(struct store *s)
{
	if (!s)
		return;
	(void)eventfd_write(s->w.stop_fd, 1);
	pthread_join(s->thread, NULL);
	release(s);
}
