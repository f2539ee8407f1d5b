/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap-client/seen.h"

#include <stdlib.h>

#include "core/base/hash.h"
#include "tests/coap-client/die.h"

#define FIRST_SIZE 8

uint64_t seen_digest(const uint8_t *record, size_t len)
{
	static const struct hash_key key;

	return hash_siphash(&key, record, len);
}

static struct seen_entry *find(struct seen_entry *entries, size_t size, uint64_t number)
{
	size_t i = (size_t)((number * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (size - 1);

	while (entries[i].number && entries[i].number != number)
		i = (i + 1) & (size - 1);
	return &entries[i];
}

static void grow(struct seen *s)
{
	size_t size = s->size ? 2 * s->size : FIRST_SIZE;
	struct seen_entry *entries = calloc(size, sizeof(*entries));

	if (!entries)
		die("out of memory");
	for (size_t i = 0; i < s->size; i++)
		if (s->entries[i].number)
			*find(entries, size, s->entries[i].number) = s->entries[i];
	free(s->entries);
	s->entries = entries;
	s->size = size;
}

enum seen_result seen_add(struct seen *s, uint64_t number, uint64_t digest)
{
	struct seen_entry *e;

	if (4 * (s->count + 1) > 3 * s->size)
		grow(s);
	e = find(s->entries, s->size, number);
	if (e->number)
		return e->digest == digest ? SEEN_SAME : SEEN_REUSED;
	*e = (struct seen_entry){number, digest};
	s->count++;
	return SEEN_NEW;
}

void seen_clear(struct seen *s)
{
	free(s->entries);
	*s = (struct seen){0};
}
