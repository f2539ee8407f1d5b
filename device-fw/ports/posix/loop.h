/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one thread of fieldgate-device: file descriptors by epoll, timers in a heap, thousands of
 * both. What is registered is called from loop_run only.
 */
#ifndef FG_DEVICE_LOOP_H
#define FG_DEVICE_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;

/* Part of what waits for it; zeroed before its first use. */
struct loop_timer {
	void (*call)(void *arg);
	void *arg;
	int64_t at_us; /* CLOCK_MONOTONIC */
	size_t place;  /* 1 and more: in the heap */
};

struct loop_fd {
	/* events: EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP */
	void (*call)(void *arg, uint32_t events);
	void *arg;
	int fd;
};

/* Raises this process's limit of open files as far as it may; how many that are. */
size_t loop_descriptors(void);

struct loop *loop_new(void); /* NULL: out of memory or descriptors, errno says which */
void loop_free(struct loop *l);
int64_t loop_now_us(const struct loop *l); /* as of the last call from loop_run; cheap */
/* At its time or up to 1 ms later. What is due already is called in the next round of the loop,
 * never from inside loop_at. */
void loop_at(struct loop *l, struct loop_timer *t,
	     int64_t at_us); /* moves it if it is set already */
void loop_cancel(struct loop *l, struct loop_timer *t);
int loop_watch(struct loop *l, struct loop_fd *f,
	       uint32_t events);		      /* also to change them; 0 or -errno */
void loop_unwatch(struct loop *l, struct loop_fd *f); /* before close; safe in any callback */
void loop_run(struct loop *l);			      /* until loop_stop */
/* Also before loop_run. From callbacks, not from signal handlers. */
void loop_stop(struct loop *l);

#endif
