/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/ports/posix/loop.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define US_PER_S     1000000
#define US_PER_MS    1000
#define NS_PER_US    1000
#define EVENTS_MAX   64 /* of one wake-up: the timers wait for no more callbacks than these */
#define TIMERS_FIRST 64

struct loop {
	int epoll;
	int64_t now_us;
	bool stopped, in_timers;
	struct epoll_event events[EVENTS_MAX];
	int event, event_count; /* the one that is handled, and how many there are */
	/* A binary heap: heap[1] is due first, heap[n / 2] is not due after heap[n]. */
	struct loop_timer **heap;
	size_t count, size;
};

static int64_t clock_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * US_PER_S + now.tv_nsec / NS_PER_US;
}

size_t loop_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return 0;
	if (limit.rlim_cur < limit.rlim_max) {
		struct rlimit higher = {limit.rlim_max, limit.rlim_max};

		if (setrlimit(RLIMIT_NOFILE, &higher) == 0)
			limit = higher;
	}
	return limit.rlim_cur;
}

struct loop *loop_new(void)
{
	struct loop *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->heap = calloc(TIMERS_FIRST, sizeof(struct loop_timer *));
	l->size = TIMERS_FIRST;
	l->epoll = l->heap ? epoll_create1(EPOLL_CLOEXEC) : -1;
	if (l->epoll < 0) {
		int error = errno;

		free(l->heap);
		free(l);
		errno = error;
		return NULL;
	}
	l->now_us = clock_us();
	return l;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	close(l->epoll);
	free(l->heap);
	free(l);
}

int64_t loop_now_us(const struct loop *l)
{
	return l->now_us;
}

/* ---- timers */

static void put(struct loop *l, struct loop_timer *t, size_t place)
{
	l->heap[place] = t;
	t->place = place;
}

static void rise(struct loop *l, struct loop_timer *t, size_t place)
{
	for (; place > 1 && l->heap[place / 2]->at_us > t->at_us; place /= 2)
		put(l, l->heap[place / 2], place);
	put(l, t, place);
}

static void sink(struct loop *l, struct loop_timer *t, size_t place)
{
	for (size_t child; (child = 2 * place) <= l->count; place = child) {
		if (child < l->count && l->heap[child + 1]->at_us < l->heap[child]->at_us)
			child++;
		if (l->heap[child]->at_us >= t->at_us)
			break;
		put(l, l->heap[child], place);
	}
	put(l, t, place);
}

/* loop_at cannot fail: what waits for a timer that never comes is worse than an end with a reason.
 */
static void make_room(struct loop *l)
{
	struct loop_timer **heap;

	if (l->count + 1 < l->size)
		return;
	heap = realloc(l->heap, 2 * l->size * sizeof(struct loop_timer *));
	if (!heap) {
		fprintf(stderr, "out of memory for %zu timers\n", l->count + 1);
		abort();
	}
	l->heap = heap;
	l->size *= 2;
}

void loop_at(struct loop *l, struct loop_timer *t, int64_t at_us)
{
	/* For the next round: a timer that is always due must not keep the others waiting. */
	if (l->in_timers && at_us <= l->now_us)
		at_us = l->now_us + 1;
	if (!t->place) {
		make_room(l);
		t->at_us = at_us;
		rise(l, t, ++l->count);
	} else if (at_us < t->at_us) {
		t->at_us = at_us;
		rise(l, t, t->place);
	} else {
		t->at_us = at_us;
		sink(l, t, t->place);
	}
}

void loop_cancel(struct loop *l, struct loop_timer *t)
{
	size_t place = t->place;
	struct loop_timer *last;

	if (!place)
		return;
	t->place = 0;
	last = l->heap[l->count--];
	if (last == t)
		return;
	if (place > 1 && l->heap[place / 2]->at_us > last->at_us)
		rise(l, last, place);
	else
		sink(l, last, place);
}

static void run_timers(struct loop *l)
{
	int64_t due_us = clock_us();

	l->now_us = due_us;
	l->in_timers = true;
	while (l->count > 0 && l->heap[1]->at_us <= due_us && !l->stopped) {
		struct loop_timer *t = l->heap[1];

		loop_cancel(l, t);
		l->now_us = clock_us();
		t->call(t->arg);
	}
	l->in_timers = false;
}

/* ---- file descriptors */

int loop_watch(struct loop *l, struct loop_fd *f, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.ptr = f};

	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, f->fd, &e) == 0)
		return 0;
	if (errno == EEXIST && epoll_ctl(l->epoll, EPOLL_CTL_MOD, f->fd, &e) == 0)
		return 0;
	return -errno;
}

void loop_unwatch(struct loop *l, struct loop_fd *f)
{
	epoll_ctl(l->epoll, EPOLL_CTL_DEL, f->fd, NULL);
	for (int i = l->event + 1; i < l->event_count; i++)
		if (l->events[i].data.ptr == f)
			l->events[i].data.ptr = NULL;
}

static void run_events(struct loop *l)
{
	for (l->event = 0; l->event < l->event_count && !l->stopped; l->event++) {
		struct epoll_event *e = &l->events[l->event];
		struct loop_fd *f = e->data.ptr;

		if (!f)
			continue;
		l->now_us = clock_us();
		f->call(f->arg, e->events);
	}
	l->event_count = 0;
}

static int wait_ms(const struct loop *l)
{
	int64_t us;

	if (l->count == 0)
		return -1;
	us = l->heap[1]->at_us - clock_us();
	if (us <= 0)
		return 0;
	/* Rounded up, but not too late for an int. */
	us = us > INT_MAX / 2 * (int64_t)US_PER_MS ? INT_MAX / 2 * (int64_t)US_PER_MS : us;
	return (int)((us + US_PER_MS - 1) / US_PER_MS);
}

void loop_run(struct loop *l)
{
	while (!l->stopped) {
		int n = epoll_wait(l->epoll, l->events, EVENTS_MAX, wait_ms(l));

		l->event_count = n > 0 ? n : 0;
		l->now_us = clock_us();
		run_events(l);
		run_timers(l);
	}
	l->stopped = false;
}

void loop_stop(struct loop *l)
{
	l->stopped = true;
}
