/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices for which messages wait: a hash set of ids, which come from the database only. Beyond
 * its bound, and without memory, it says yes for everybody: whoever asks then asks the database in
 * vain, and no message is forgotten.
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/document/internal.h"

#define BUCKETS_FIRST 64

struct waiting_name {
	struct waiting_name *next;
	char device[];
};

static struct waiting_name **bucket_of(const struct waiting *w, const char *device)
{
	return &w->buckets[hash_siphash(hash_table_key(), device, strlen(device)) & w->mask];
}

static struct waiting_name **find(const struct waiting *w, const char *device)
{
	struct waiting_name **at;

	if (!w->buckets)
		return NULL;
	for (at = bucket_of(w, device); *at; at = &(*at)->next)
		if (strcmp((*at)->device, device) == 0)
			return at;
	return NULL;
}

/* As many buckets as names, or more. */
static bool grow(struct waiting *w)
{
	size_t n = w->buckets ? 2 * (w->mask + 1) : BUCKETS_FIRST;
	struct waiting bigger = {.mask = n - 1};

	if (w->buckets && w->count <= w->mask)
		return true;
	bigger.buckets = calloc(n, sizeof(struct waiting_name *));
	if (!bigger.buckets)
		return false;
	for (size_t i = 0; w->buckets && i <= w->mask; i++) {
		while (w->buckets[i]) {
			struct waiting_name *name = w->buckets[i];
			struct waiting_name **to = bucket_of(&bigger, name->device);

			w->buckets[i] = name->next;
			name->next = *to;
			*to = name;
		}
	}
	free(w->buckets);
	w->buckets = bigger.buckets;
	w->mask = bigger.mask;
	return true;
}

void waiting_add(struct waiting *w, const char *device)
{
	size_t len = strlen(device);
	struct waiting_name *n, **bucket;

	if (find(w, device))
		return;
	n = w->count < WAITING_MAX && grow(w) ? malloc(sizeof(*n) + len + 1) : NULL;
	if (!n) {
		w->overflowed = true;
		return;
	}
	memcpy(n->device, device, len + 1);
	bucket = bucket_of(w, device);
	n->next = *bucket;
	*bucket = n;
	w->count++;
}

void waiting_remove(struct waiting *w, const char *device)
{
	struct waiting_name **at = find(w, device), *n;

	if (!at)
		return;
	n = *at;
	*at = n->next;
	free(n);
	w->count--;
}

bool waiting_has(const struct waiting *w, const char *device)
{
	return w->overflowed || find(w, device);
}

void waiting_free(struct waiting *w)
{
	for (size_t i = 0; w->buckets && i <= w->mask; i++) {
		while (w->buckets[i]) {
			struct waiting_name *n = w->buckets[i];

			w->buckets[i] = n->next;
			free(n);
		}
	}
	free(w->buckets);
	*w = (struct waiting){0};
}

char *waiting_copy(const struct waiting *w, size_t *len)
{
	size_t size = 0;
	char *copy, *at;

	*len = 0;
	for (size_t i = 0; w->buckets && i <= w->mask; i++)
		for (const struct waiting_name *n = w->buckets[i]; n; n = n->next)
			size += strlen(n->device) + 1;
	copy = size > 0 ? malloc(size) : NULL;
	if (!copy)
		return NULL;
	at = copy;
	for (size_t i = 0; i <= w->mask; i++)
		for (const struct waiting_name *n = w->buckets[i]; n; n = n->next)
			at = stpcpy(at, n->device) + 1;
	*len = size;
	return copy;
}
