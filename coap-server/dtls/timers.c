/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/dtls/timers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "coap-server/dtls/internal.h"

/* A session's `timer` is its place in the heap plus one; 0: it has no time. */
static void put(struct timers *t, size_t i, struct timer timer)
{
	t->heap[i] = timer;
	timer.session->timer = (uint32_t)i + 1;
}

static void sift_up(struct timers *t, size_t i, struct timer timer)
{
	while (i > 0 && t->heap[(i - 1) / 2].at_us > timer.at_us) {
		put(t, i, t->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	put(t, i, timer);
}

static void sift_down(struct timers *t, size_t i, struct timer timer)
{
	for (;;) {
		size_t child = 2 * i + 1;

		if (child + 1 < t->count && t->heap[child + 1].at_us < t->heap[child].at_us)
			child++;
		if (child >= t->count || t->heap[child].at_us >= timer.at_us)
			break;
		put(t, i, t->heap[child]);
		i = child;
	}
	put(t, i, timer);
}

static void place(struct timers *t, size_t i, struct timer timer)
{
	if (i > 0 && t->heap[(i - 1) / 2].at_us > timer.at_us)
		sift_up(t, i, timer);
	else
		sift_down(t, i, timer);
}

int timers_set(struct timers *t, struct dtls_session *s, int64_t at_us)
{
	struct timer timer = {.at_us = at_us, .session = s};

	if (s->timer) {
		place(t, s->timer - 1, timer);
		return 0;
	}
	if (t->count == t->size) {
		size_t size = t->size ? 2 * t->size : 64;
		struct timer *heap = reallocarray(t->heap, size, sizeof(*heap));

		if (!heap)
			return -ENOMEM;
		t->heap = heap;
		t->size = size;
	}
	t->count++;
	sift_up(t, t->count - 1, timer);
	return 0;
}

void timers_cancel(struct timers *t, struct dtls_session *s)
{
	size_t i = s->timer - 1;

	if (!s->timer)
		return;
	s->timer = 0;
	t->count--;
	if (i < t->count)
		place(t, i, t->heap[t->count]);
}

struct dtls_session *timers_first(const struct timers *t, int64_t *at_us)
{
	if (t->count == 0)
		return NULL;
	*at_us = t->heap[0].at_us;
	return t->heap[0].session;
}

void timers_free(struct timers *t)
{
	free(t->heap);
	memset(t, 0, sizeof(*t));
}
