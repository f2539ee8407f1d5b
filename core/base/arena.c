/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/arena.h"

#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct arena_chunk {
	struct arena_chunk *next;
	size_t size;
	size_t used;
	alignas(max_align_t) unsigned char data[];
};

void arena_init(struct arena *a, size_t chunk_size, size_t limit)
{
	*a = (struct arena){.chunk_size = chunk_size, .limit = limit};
}

static struct arena_chunk *chunk_new(size_t size)
{
	struct arena_chunk *c;

	if (size > SIZE_MAX - sizeof(*c))
		return NULL;
	c = malloc(sizeof(*c) + size);
	if (!c)
		return NULL;
	c->next = NULL;
	c->size = size;
	c->used = 0;
	return c;
}

/* The chunk to allocate from: the current one, a kept one behind it, or a new one. */
static struct arena_chunk *chunk_with_room(struct arena *a, size_t size)
{
	struct arena_chunk *c = a->current;

	while (c && c->size - c->used < size) {
		if (!c->next)
			break;
		c = c->next;
	}
	if (!c || c->size - c->used < size) {
		struct arena_chunk *fresh = chunk_new(size > a->chunk_size ? size : a->chunk_size);

		if (!fresh)
			return NULL;
		if (c)
			c->next = fresh;
		else
			a->first = fresh;
		c = fresh;
	}
	a->current = c;
	return c;
}

void *arena_alloc(struct arena *a, size_t size)
{
	const size_t align = alignof(max_align_t);
	struct arena_chunk *c;
	void *p;

	if (size > a->limit || size > SIZE_MAX - align)
		return NULL;
	size = size ? (size + align - 1) / align * align : align;
	if (size > a->limit - a->used)
		return NULL;
	c = chunk_with_room(a, size);
	if (!c)
		return NULL;
	p = c->data + c->used;
	c->used += size;
	a->used += size;
	return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t len)
{
	char *copy = len < SIZE_MAX ? arena_alloc(a, len + 1) : NULL;

	if (!copy)
		return NULL;
	if (len > 0)
		memcpy(copy, s, len);
	copy[len] = '\0';
	return copy;
}

struct arena_mark arena_mark(const struct arena *a)
{
	return (struct arena_mark){a->current, a->current ? a->current->used : 0, a->used};
}

/* Empty the chunks from *link on, as far as any were used since. */
static void empty_chunks(struct arena *a, struct arena_chunk **link)
{
	const struct arena_chunk *last = a->current;
	bool more = *link != NULL;

	while (more) {
		struct arena_chunk *c = *link;

		more = c != last && c->next;
		if (c->size > a->chunk_size) {
			*link = c->next;
			free(c);
		} else {
			c->used = 0;
			link = &c->next;
		}
	}
}

/* What lies behind the current chunk is empty, so it is empty behind the mark's, too. */
void arena_rewind(struct arena *a, struct arena_mark mark)
{
	if (!mark.chunk) {
		arena_reset(a);
		return;
	}
	if (a->current != mark.chunk)
		empty_chunks(a, &mark.chunk->next);
	mark.chunk->used = mark.chunk_used;
	a->current = mark.chunk;
	a->used = mark.used;
}

/*
 * A chunk that was made for one large allocation is given back: requests that grow a little each
 * time fit none of those kept from before, so that keeping them would let a peer collect memory
 * without a bound.
 */
void arena_reset(struct arena *a)
{
	struct arena_chunk **link = &a->first;

	while (*link) {
		struct arena_chunk *c = *link;

		if (c->size > a->chunk_size) {
			*link = c->next;
			free(c);
		} else {
			c->used = 0;
			link = &c->next;
		}
	}
	a->current = a->first;
	a->used = 0;
}

void arena_free(struct arena *a)
{
	struct arena_chunk *c = a->first;

	while (c) {
		struct arena_chunk *next = c->next;

		free(c);
		c = next;
	}
	a->first = NULL;
	a->current = NULL;
	a->used = 0;
}
