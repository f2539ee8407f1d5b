/* SPDX-License-Identifier: Apache-2.0 */
/* Starting and stopping the thread, and the counters that other threads may read. */
#include "core/sink/sink.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/pgconn.h"
#include "core/base/thread.h"
#include "core/sink/internal.h"

#define ARENA_CHUNK (256 * 1024)
#define ARENA_RATIO 64 /* a decoded document is at most this many times its text */
#define ARENA_RULES (16 * 1024 * 1024)

void sink_stats(const struct sink *s, struct sink_stats *out)
{
	*out = (struct sink_stats){
		.rows = atomic_load(&s->rows),
		.refused = atomic_load(&s->refused),
		.missed = atomic_load(&s->missed),
	};
}

static void *run(void *arg)
{
	sink_loop(arg);
	return NULL;
}

static void release(struct sink *s)
{
	PQfinish(s->conn);
	while (s->lane_count > 0)
		sink_drop_lane(s, 0);
	sink_lane_close(&s->main);
	sink_report_free(s);
	sink_targets_free(&s->targets);
	rule_set_release(s->set);
	arena_free(&s->arena);
	if (s->stop_fd >= 0)
		close(s->stop_fd);
	free((char *)(uintptr_t)s->o.database_url);
	free((char *)(uintptr_t)s->o.source);
	free(s);
}

/*
 * Everything in the journal is kept until the database has said from where on it is needed: this is
 * before the store's first release.
 */
static int prepare(struct sink *s, const struct sink_options *o, struct journal *j,
		   struct rules *rules)
{
	s->o = *o;
	s->o.database_url = strdup(o->database_url);
	s->o.source = strdup(o->source);
	s->journal = j;
	s->rules = rules;
	s->status_at_us = clock_monotonic_us();
	arena_init(&s->arena, ARENA_CHUNK, ARENA_RULES + o->limits.max_bytes * ARENA_RATIO);
	s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->stop_fd < 0)
		return -errno;
	if (!s->o.database_url || !s->o.source)
		return -ENOMEM;
	s->begin_at = journal_end(j);
	return sink_lane_open(&s->main, j, NULL, (struct journal_position){0, 0});
}

int sink_start(struct sink **out, const struct sink_options *o, struct journal *j,
	       struct rules *rules, char *err, size_t err_len)
{
	struct sink *s;
	int rc = pgconn_check_url(o->database_url, err, err_len);

	*out = NULL;
	if (rc != 0)
		return rc;
	s = calloc(1, sizeof(*s));
	if (!s) {
		snprintf(err, err_len, "out of memory");
		return -ENOMEM;
	}
	rc = prepare(s, o, j, rules);
	if (rc == 0)
		rc = thread_start(&s->thread, "fg-sink", run, s);
	if (rc != 0) {
		snprintf(err, err_len, "cannot start what stores for rules: %s", strerror(-rc));
		release(s);
		return rc;
	}
	*out = s;
	return 0;
}

void sink_stop(struct sink *s)
{
	if (!s)
		return;
	(void)eventfd_write(s->stop_fd, 1);
	pthread_join(s->thread, NULL);
	release(s);
}
