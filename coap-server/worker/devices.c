/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/worker/devices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"

#define FIRST_BUCKETS 256

static size_t slot_of(const struct devices *t, const char *id)
{
	return (size_t)hash_siphash(hash_table_key(), id, strlen(id)) & t->mask;
}

int devices_init(struct devices *t)
{
	t->buckets = calloc(FIRST_BUCKETS, sizeof(struct device *));
	t->mask = FIRST_BUCKETS - 1;
	t->count = 0;
	return t->buckets ? 0 : -ENOMEM;
}

void devices_free(struct devices *t)
{
	struct device *d, *next;

	for (size_t i = 0; t->buckets && i <= t->mask; i++) {
		for (d = t->buckets[i]; d; d = next) {
			next = d->next;
			free(d);
		}
	}
	free(t->buckets);
	t->buckets = NULL;
}

/* Twice as many buckets. Without memory the chains get longer, that is all. */
static void grow(struct devices *t)
{
	struct device **old = t->buckets, *d, *next;
	size_t old_mask = t->mask;

	t->buckets = calloc((old_mask + 1) * 2, sizeof(struct device *));
	if (!t->buckets) {
		t->buckets = old;
		return;
	}
	t->mask = old_mask * 2 + 1;
	for (size_t i = 0; i <= old_mask; i++) {
		for (d = old[i]; d; d = next) {
			struct device **slot = &t->buckets[slot_of(t, d->id)];

			next = d->next;
			d->next = *slot;
			*slot = d;
		}
	}
	free(old);
}

static struct device *add_device(struct devices *t, const char *id)
{
	size_t size = strlen(id) + 1;
	struct device *d = calloc(1, sizeof(*d) + size);
	struct device **slot;

	if (!d)
		return NULL;
	memcpy(d->id, id, size);
	TAILQ_INIT(&d->sessions);
	if (++t->count > t->mask)
		grow(t);
	slot = &t->buckets[slot_of(t, id)];
	d->next = *slot;
	*slot = d;
	return d;
}

struct device *devices_get(struct devices *t, const char *id)
{
	struct device *d = t->buckets[slot_of(t, id)];

	while (d && strcmp(d->id, id) != 0)
		d = d->next;
	return d ? d : add_device(t, id);
}

void device_add(struct device *d, struct session *s)
{
	s->device = d;
	TAILQ_INSERT_TAIL(&d->sessions, s, list);
	d->count++;
}

void device_touch(struct session *s)
{
	struct session_list *list = &s->device->sessions;

	if (TAILQ_LAST(list, session_list) == s)
		return;
	TAILQ_REMOVE(list, s, list);
	TAILQ_INSERT_TAIL(list, s, list);
}

void devices_remove(struct devices *t, struct session *s)
{
	struct device *d = s->device, **slot;

	s->device = NULL;
	TAILQ_REMOVE(&d->sessions, s, list);
	if (--d->count > 0)
		return;
	slot = &t->buckets[slot_of(t, d->id)];
	while (*slot != d)
		slot = &(*slot)->next;
	*slot = d->next;
	t->count--;
	free(d);
}

void devices_each(struct devices *t, void (*visit)(void *arg, struct device *d), void *arg)
{
	for (size_t i = 0; i <= t->mask; i++)
		for (struct device *d = t->buckets[i]; d; d = d->next)
			visit(arg, d);
}
