/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks lie one behind the other, each with its size before it. Free neighbours are joined when
 * they are looked at. */
#include "device-fw/ports/qemu_m33/heap.h"

#include <stdint.h>
#include <string.h>

#define ALIGNMENT 8u
#define USED	  1u /* a size is a multiple of ALIGNMENT: this bit is free */

/* It is where something else may have been before. */
struct __attribute__((may_alias)) head {
	uint32_t size; /* with the head */
};

/* The first head is where what follows it is aligned. The section has a name: m33.ld says where it
 * is to who measures it. */
static struct {
	uint32_t unused;
	uint8_t blocks[HEAP_SIZE];
} heap __attribute__((aligned(8), section(".bss.heap")));

static struct head *head_at(uint32_t offset)
{
	return (struct head *)(void *)(heap.blocks + offset);
}

void *fg_heap_calloc(size_t count, size_t size)
{
	uint32_t want, free;

	if (count != 0 && size > HEAP_SIZE / count)
		return NULL;
	if (head_at(0)->size == 0)
		head_at(0)->size = HEAP_SIZE;
	want = (uint32_t)(count * size + sizeof(struct head) + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
	for (uint32_t at = 0; at < HEAP_SIZE; at += free & ~USED) {
		struct head *h = head_at(at);

		free = h->size;
		if (free & USED)
			continue;
		while (at + free < HEAP_SIZE && !(head_at(at + free)->size & USED))
			free += head_at(at + free)->size;
		h->size = free;
		if (free < want)
			continue;
		if (free > want)
			head_at(at + want)->size = free - want;
		h->size = want | USED;
		return memset(h + 1, 0, want - sizeof(*h));
	}
	return NULL;
}

void fg_heap_free(void *block)
{
	if (block)
		((struct head *)block - 1)->size &= ~USED;
}
