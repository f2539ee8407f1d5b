/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap-client/wheel.h"

#include <stdbool.h>
#include <stddef.h>

#define SLOTS 4096

static struct timer *slots[SLOTS];
static int64_t turned; /* steps */

static void insert(struct timer *t, struct timer **list)
{
	t->next = *list;
	t->at = list;
	if (t->next)
		t->next->at = &t->next;
	*list = t;
}

static void take(struct timer *t)
{
	*t->at = t->next;
	if (t->next)
		t->next->at = t->at;
	t->next = NULL;
	t->at = NULL;
}

void timer_set(struct timer *t, int64_t due_us)
{
	int64_t step = due_us / WHEEL_STEP_US + 1;

	if (t->at)
		take(t);
	t->due_us = due_us;
	if (due_us == INT64_MAX)
		return;
	if (step <= turned)
		step = turned + 1;
	insert(t, &slots[step % SLOTS]);
}

/* Those of a later turn of the wheel stand in the same list. */
static void turn_slot(struct timer **slot, int64_t now_us)
{
	struct timer *list = *slot;

	*slot = NULL;
	if (list)
		list->at = &list;
	while (list) {
		struct timer *t = list;

		take(t);
		if (t->due_us > now_us)
			insert(t, slot);
		else
			t->expired(t);
	}
}

void wheel_turn(int64_t now_us)
{
	int64_t last = now_us / WHEEL_STEP_US;

	/* After a long pause once round is enough. */
	if (last - turned > SLOTS)
		turned = last - SLOTS;
	while (turned < last)
		turn_slot(&slots[++turned % SLOTS], now_us);
}
