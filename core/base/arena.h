/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bump allocator with a hard limit: decoding one message allocates from it and one reset frees
 * all. Chunks are kept over a reset, so that messages whose allocations fit a chunk never call
 * malloc in the steady state; at most twice the limit is kept. One arena, one thread.
 */
#ifndef FG_BASE_ARENA_H
#define FG_BASE_ARENA_H

#include <stddef.h>

struct arena_chunk;

struct arena {
	struct arena_chunk *first;
	struct arena_chunk *current;
	size_t chunk_size;
	size_t limit; /* bytes that may be handed out between two resets */
	size_t used;
};

/* chunk_size: bytes taken from malloc at a time; limit: see struct arena. Allocates nothing. */
void arena_init(struct arena *a, size_t chunk_size, size_t limit);

/* Memory aligned for any type, uninitialised; NULL when the limit or the heap is exhausted. */
void *arena_alloc(struct arena *a, size_t size);

/* A copy of len bytes with a NUL behind it; NULL as arena_alloc. */
char *arena_strndup(struct arena *a, const char *s, size_t len);

/* Everything handed out becomes invalid. Chunks are kept for the next use, save those that a single
 * allocation larger than chunk_size needed. */
void arena_reset(struct arena *a);

/* A moment of an arena, to go back to: what was handed out since becomes invalid, what was there
 * before stays. No reset between the two. */
struct arena_mark {
	struct arena_chunk *chunk;
	size_t chunk_used;
	size_t used;
};

struct arena_mark arena_mark(const struct arena *a);
void arena_rewind(struct arena *a, struct arena_mark mark);

/* Give all memory back. The arena may be used again as after arena_init. */
void arena_free(struct arena *a);

#endif
