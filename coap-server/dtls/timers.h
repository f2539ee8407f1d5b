/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One time for each session that waits for one, in a heap: handshakes (the next retransmission or
 * the end) and sessions that have not yet shown what they are good for. A session that is
 * authenticated has none. One thread.
 */
#ifndef FG_DTLS_TIMERS_H
#define FG_DTLS_TIMERS_H

#include <stddef.h>
#include <stdint.h>

struct dtls_session;

struct timer {
	int64_t at_us;
	struct dtls_session *session;
};

struct timers {
	struct timer *heap;
	size_t count, size;
};

/* 0 or -ENOMEM; never fails for a session that has a time already. */
int timers_set(struct timers *t, struct dtls_session *s, int64_t at_us);
void timers_cancel(struct timers *t, struct dtls_session *s);

/* The session whose time comes first, or NULL. */
struct dtls_session *timers_first(const struct timers *t, int64_t *at_us);

void timers_free(struct timers *t);

#endif
