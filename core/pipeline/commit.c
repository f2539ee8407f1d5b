/* SPDX-License-Identifier: Apache-2.0 */
#include "core/pipeline/commit.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#include "core/base/thread.h"

/* Tickets that follow each other, whose records are in one segment of the journal. */
struct span {
	STAILQ_ENTRY(span) next;
	uint64_t last;		     /* ticket */
	struct journal_position end; /* of its record */
	int rc;
};

STAILQ_HEAD(span_list, span);

struct commit {
	struct journal *journal;
	int fd; /* readable exactly when `done` is not empty */

	/* The owner's. */
	uint64_t last_ticket;
	struct span_list batch; /* since the last commit_run */
	struct span *newest;	/* of the batch; NULL: it is empty */
	struct span_list spare; /* at least one after commit_prepare */
	pthread_t thread;
	bool started;

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t wake;
	struct span_list waiting;
	struct span_list done;
	bool stop;
};

int commit_open(struct commit **out, struct journal *j)
{
	struct commit *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (c->fd < 0) {
		rc = -errno;
		free(c);
		return rc;
	}
	c->journal = j;
	STAILQ_INIT(&c->batch);
	STAILQ_INIT(&c->spare);
	STAILQ_INIT(&c->waiting);
	STAILQ_INIT(&c->done);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->wake, NULL);
	*out = c;
	return 0;
}

static void free_spans(struct span_list *list)
{
	struct span *s;

	while ((s = STAILQ_FIRST(list))) {
		STAILQ_REMOVE_HEAD(list, next);
		free(s);
	}
}

static void stop_thread(struct commit *c)
{
	if (!c->started)
		return;
	pthread_mutex_lock(&c->lock);
	c->stop = true;
	pthread_cond_signal(&c->wake);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
}

void commit_close(struct commit *c)
{
	if (!c)
		return;
	stop_thread(c);
	free_spans(&c->batch);
	free_spans(&c->spare);
	free_spans(&c->waiting);
	free_spans(&c->done);
	pthread_cond_destroy(&c->wake);
	pthread_mutex_destroy(&c->lock);
	close(c->fd);
	free(c);
}

/* --- The thread --- */

/* Lock held, and given up while the disk works. */
static void sync_first(struct commit *c)
{
	struct span *s = STAILQ_FIRST(&c->waiting);

	STAILQ_REMOVE_HEAD(&c->waiting, next);
	pthread_mutex_unlock(&c->lock);
	s->rc = journal_sync(c->journal, s->end);
	pthread_mutex_lock(&c->lock);
	if (STAILQ_EMPTY(&c->done))
		eventfd_write(c->fd, 1);
	STAILQ_INSERT_TAIL(&c->done, s, next);
}

static void *commit_main(void *arg)
{
	struct commit *c = arg;

	pthread_mutex_lock(&c->lock);
	while (!c->stop) {
		if (STAILQ_EMPTY(&c->waiting))
			pthread_cond_wait(&c->wake, &c->lock);
		else
			sync_first(c);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

static int start_thread(struct commit *c)
{
	int rc = thread_start(&c->thread, "pipeline-commit", commit_main, c);

	c->started = rc == 0;
	return rc;
}

/* --- The owner --- */

int commit_prepare(struct commit *c)
{
	struct span *s;

	if (STAILQ_EMPTY(&c->spare)) {
		s = malloc(sizeof(*s));
		if (!s)
			return -ENOMEM;
		STAILQ_INSERT_HEAD(&c->spare, s, next);
	}
	return c->started ? 0 : start_thread(c);
}

uint64_t commit_add(struct commit *c, struct journal_position end)
{
	struct span *s = c->newest;

	if (!s || s->end.segment != end.segment) {
		s = STAILQ_FIRST(&c->spare);
		STAILQ_REMOVE_HEAD(&c->spare, next);
		STAILQ_INSERT_TAIL(&c->batch, s, next);
		c->newest = s;
	}
	s->end = end;
	s->last = ++c->last_ticket;
	return s->last;
}

void commit_run(struct commit *c)
{
	if (!c->newest)
		return;
	c->newest = NULL;
	pthread_mutex_lock(&c->lock);
	STAILQ_CONCAT(&c->waiting, &c->batch);
	pthread_cond_signal(&c->wake);
	pthread_mutex_unlock(&c->lock);
}

int commit_fd(const struct commit *c)
{
	return c->fd;
}

bool commit_settled(struct commit *c, uint64_t *ticket, int *rc)
{
	eventfd_t ignored;
	struct span *s;

	pthread_mutex_lock(&c->lock);
	s = STAILQ_FIRST(&c->done);
	if (s) {
		STAILQ_REMOVE_HEAD(&c->done, next);
		if (STAILQ_EMPTY(&c->done))
			eventfd_read(c->fd, &ignored);
	}
	pthread_mutex_unlock(&c->lock);
	if (!s)
		return false;
	*ticket = s->last;
	*rc = s->rc;
	STAILQ_INSERT_HEAD(&c->spare, s, next);
	return true;
}
