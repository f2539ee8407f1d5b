/* SPDX-License-Identifier: Apache-2.0 */
/* Doubly linked lists through links inside their members: taking one out is O(1) from wherever it
 * was found. A list is a link that is no member; a member that is in no list points to itself. */
#ifndef FG_COAP_LIST_H
#define FG_COAP_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct link {
	struct link *prev, *next;
};

#define LINK_OWNER(l, type, member) ((type *)(void *)((char *)(l)-offsetof(type, member)))

static inline void link_init(struct link *l)
{
	l->prev = l->next = l;
}

static inline bool list_empty(const struct link *list)
{
	return list->next == list;
}

static inline void list_append(struct link *list, struct link *l)
{
	l->prev = list->prev;
	l->next = list;
	l->prev->next = l;
	list->prev = l;
}

static inline void link_remove(struct link *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	link_init(l);
}

/* The first of a list that is not empty, out of it. */
static inline struct link *list_take(struct link *list)
{
	struct link *l = list->next;

	list->next = l->next;
	l->next->prev = list;
	link_init(l);
	return l;
}

#endif
