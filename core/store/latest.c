/* SPDX-License-Identifier: Apache-2.0 */
#include "core/store/latest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"

#define SLOTS_FIRST	 1024
#define CANDIDATES_FIRST 256

int latest_init(struct latest *l, size_t extra_bit)
{
	latest_free(l);
	l->extra_bit = extra_bit;
	l->words = mask_words(extra_bit + 1);
	l->slots = calloc(SLOTS_FIRST, sizeof(*l->slots));
	if (!l->slots)
		return -ENOMEM;
	l->slot_mask = SLOTS_FIRST - 1;
	l->free_candidates = LATEST_NONE;
	return 0;
}

void latest_clear(struct latest *l)
{
	if (l->device_count > 0)
		memset(l->slots, 0, (l->slot_mask + 1) * sizeof(*l->slots));
	l->device_count = 0;
	l->candidate_count = 0;
	l->free_candidates = LATEST_NONE;
	l->most = 0;
}

void latest_free(struct latest *l)
{
	free(l->devices);
	free(l->slots);
	free(l->candidates);
	free(l->masks);
	*l = (struct latest){0};
}

static int grow_slots(struct latest *l)
{
	size_t size = (l->slot_mask + 1) * 2;
	uint32_t *slots = calloc(size, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	for (size_t d = 0; d < l->device_count; d++) {
		size_t s = l->devices[d].hash & (size - 1);

		while (slots[s])
			s = (s + 1) & (size - 1);
		slots[s] = (uint32_t)d + 1;
	}
	free(l->slots);
	l->slots = slots;
	l->slot_mask = size - 1;
	return 0;
}

static int grow_devices(struct latest *l)
{
	size_t size = l->devices_size ? l->devices_size * 2 : SLOTS_FIRST / 2;
	struct latest_device *devices = realloc(l->devices, size * sizeof(*devices));

	if (!devices)
		return -ENOMEM;
	l->devices = devices;
	l->devices_size = size;
	return 0;
}

int64_t latest_device(struct latest *l, struct bytes *heap, const char *name, size_t len)
{
	uint64_t hash = hash_siphash(hash_table_key(), name, len);
	size_t s = hash & l->slot_mask, at;

	for (; l->slots[s]; s = (s + 1) & l->slot_mask) {
		const struct latest_device *d = &l->devices[l->slots[s] - 1];

		if (d->hash == hash && d->name.len == len &&
		    memcmp(heap->data + d->name.at, name, len) == 0)
			return l->slots[s] - 1;
	}
	if (l->device_count == l->devices_size && grow_devices(l) != 0)
		return -ENOMEM;
	at = heap->len;
	bytes_put(heap, name, len);
	if (heap->failed)
		return -ENOMEM;
	l->devices[l->device_count] = (struct latest_device){
		.hash = hash, .name = bytes_since(heap, at), .newest = LATEST_NONE};
	l->slots[s] = (uint32_t)++l->device_count;
	if (l->device_count * 2 > l->slot_mask && grow_slots(l) != 0)
		return -ENOMEM;
	return (int64_t)l->device_count - 1;
}

static int grow_candidates(struct latest *l)
{
	size_t size = l->candidates_size ? l->candidates_size * 2 : CANDIDATES_FIRST;
	struct latest_candidate *candidates;
	uint64_t *masks;

	if (l->words == 0)
		return -ENOMEM;
	masks = realloc(l->masks, size * l->words * sizeof(*masks));
	if (!masks)
		return -ENOMEM;
	l->masks = masks;
	candidates = realloc(l->candidates, size * sizeof(*candidates));
	if (!candidates)
		return -ENOMEM;
	l->candidates = candidates;
	l->candidates_size = size;
	return 0;
}

static uint32_t new_candidate(struct latest *l)
{
	uint32_t c = l->free_candidates;

	if (c != LATEST_NONE) {
		l->free_candidates = l->candidates[c].older;
		return c;
	}
	if (l->candidate_count == l->candidates_size && grow_candidates(l) != 0)
		return LATEST_NONE;
	return (uint32_t)l->candidate_count++;
}

static bool is_newer(const struct latest_row *a, const struct latest_row *b)
{
	return a->ts != b->ts ? a->ts > b->ts : a->seq > b->seq;
}

/* Take from `mask` what a newer row reports. Another set of names in extra is no replacement. */
static bool subtract(const struct latest *l, uint64_t *mask, uint64_t keys, const uint64_t *newer,
		     uint64_t newer_keys)
{
	uint64_t left = 0;
	bool extra = mask_has(mask, l->extra_bit) && keys != newer_keys;

	for (size_t w = 0; w < l->words; w++)
		mask[w] &= ~newer[w];
	if (extra)
		mask_set(mask, l->extra_bit);
	for (size_t w = 0; w < l->words; w++)
		left |= mask[w];
	return left != 0;
}

/* Rows older than the one just added: those that have nothing left to say leave the list. */
static void subtract_from_older(struct latest *l, struct latest_device *d, uint32_t from)
{
	const struct latest_candidate *added = &l->candidates[from];
	uint32_t *link = &l->candidates[from].older;

	while (*link != LATEST_NONE) {
		uint32_t c = *link;

		if (subtract(l, l->masks + c * l->words, l->candidates[c].r.extra_keys,
			     latest_mask(l, from), added->r.extra_keys)) {
			link = &l->candidates[c].older;
			continue;
		}
		*link = l->candidates[c].older;
		l->candidates[c].older = l->free_candidates;
		l->free_candidates = c;
		d->count--;
	}
}

int latest_add(struct latest *l, uint32_t device, const struct latest_row *r, uint64_t *mask)
{
	struct latest_device *d = &l->devices[device];
	uint32_t newer = LATEST_NONE, next = d->newest, c;
	bool decides = true;

	while (next != LATEST_NONE && !is_newer(r, &l->candidates[next].r)) {
		const struct latest_candidate *n = &l->candidates[next];

		if (!n->r.uncertain)
			decides = subtract(l, mask, r->extra_keys, latest_mask(l, next),
					   n->r.extra_keys);
		newer = next;
		next = n->older;
	}
	if (!decides)
		return 0;
	c = new_candidate(l);
	if (c == LATEST_NONE)
		return -ENOMEM;
	l->candidates[c] = (struct latest_candidate){.r = *r, .older = next};
	memcpy(l->masks + c * l->words, mask, l->words * sizeof(*mask));
	if (newer == LATEST_NONE)
		d->newest = c;
	else
		l->candidates[newer].older = c;
	d->count++;
	if (!r->uncertain)
		subtract_from_older(l, d, c);
	if (d->count > l->most)
		l->most = d->count;
	return 0;
}
