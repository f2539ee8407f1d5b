/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All edges between nodes are in one hash table, keyed by (parent, text of the level). The texts
 * are the owner's filters; a topic, which may be hostile, is only looked up, and a look-up ends at
 * the first free slot: so a plain hash will do.
 *
 * A walk visits a node at most once, for there is one way to each: it costs no more than the tree
 * is large, whatever wildcards are in it.
 */
#include "core/rule/filter_tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NONE	     UINT32_MAX
#define FIRST_ROOM   16
#define FNV_OFFSET   UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME    UINT64_C(0x100000001b3)
#define MULTIPLIER   UINT64_C(0x9e3779b97f4a7c15) /* 2^64 / golden ratio */
#define HASH_ROTATED 32

struct tree_node {
	uint32_t plus;			  /* the node of '+', or NONE */
	uint32_t exact, exact_last;	  /* entries whose filter ends here */
	uint32_t anything, anything_last; /* entries whose filter goes on with '#' and ends */
};

struct tree_edge {
	const char *text; /* of the level; in a filter. NULL: free */
	size_t len;
	uint32_t parent, child;
};

struct tree_entry {
	uint32_t number;
	uint32_t next; /* or NONE */
};

size_t filter_tree_levels(const char *topic)
{
	size_t n = 1;

	for (; *topic; topic++)
		n += *topic == '/';
	return n;
}

static size_t hash_edge(uint32_t parent, const char *text, size_t len)
{
	uint64_t h = FNV_OFFSET ^ parent * MULTIPLIER;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)text[i]) * FNV_PRIME;
	return (size_t)(h ^ h >> HASH_ROTATED);
}

/* The slot of the edge, or the free one where it would be. */
static struct tree_edge *find_edge(const struct filter_tree *t, uint32_t parent, const char *text,
				   size_t len, size_t *steps)
{
	size_t mask = t->edge_capacity - 1;
	size_t i = hash_edge(parent, text, len) & mask;

	for (;; i = (i + 1) & mask) {
		struct tree_edge *e = &t->edges[i];

		*steps += 1;
		if (!e->text ||
		    (e->parent == parent && e->len == len && memcmp(e->text, text, len) == 0))
			return e;
	}
}

/* --- Building --- */

/* The array, with room for one more; NULL without memory. */
static void *grown(void *items, size_t size, size_t count, size_t *capacity)
{
	size_t more = *capacity ? *capacity * 2 : FIRST_ROOM;
	void *bigger;

	if (count < *capacity)
		return items;
	if (count >= NONE - 1)
		return NULL;
	bigger = reallocarray(items, more, size);
	if (bigger)
		*capacity = more;
	return bigger;
}

static int reserve_entry(struct filter_tree *t)
{
	void *entries = grown(t->entries, sizeof(*t->entries), t->entry_count, &t->entry_capacity);

	if (!entries)
		return -ENOMEM;
	t->entries = entries;
	return 0;
}

static int reserve_edge(struct filter_tree *t)
{
	struct filter_tree bigger = {.edge_capacity =
					     t->edge_capacity ? t->edge_capacity * 2 : FIRST_ROOM};
	size_t steps = 0;

	if (t->edge_count < t->edge_capacity / 2)
		return 0;
	bigger.edges = calloc(bigger.edge_capacity, sizeof(*bigger.edges));
	if (!bigger.edges)
		return -ENOMEM;
	for (size_t i = 0; i < t->edge_capacity; i++) {
		const struct tree_edge *e = &t->edges[i];

		if (e->text)
			*find_edge(&bigger, e->parent, e->text, e->len, &steps) = *e;
	}
	free(t->edges);
	t->edges = bigger.edges;
	t->edge_capacity = bigger.edge_capacity;
	return 0;
}

static int add_node(struct filter_tree *t, uint32_t *out)
{
	void *nodes = grown(t->nodes, sizeof(*t->nodes), t->node_count, &t->node_capacity);

	if (!nodes)
		return -ENOMEM;
	t->nodes = nodes;
	*out = (uint32_t)t->node_count;
	t->nodes[t->node_count++] = (struct tree_node){NONE, NONE, NONE, NONE, NONE};
	return 0;
}

/* From a node to the one of a level, which is made if it is not there. */
static int descend(struct filter_tree *t, uint32_t *node, const char *text, size_t len)
{
	bool plus = len == 1 && *text == '+';
	struct tree_edge *e = NULL;
	uint32_t child = NONE;
	size_t steps = 0;
	int rc = reserve_edge(t);

	if (rc != 0)
		return rc;
	if (!plus) {
		e = find_edge(t, *node, text, len, &steps);
		child = e->text ? e->child : NONE;
	} else {
		child = t->nodes[*node].plus;
	}
	if (child == NONE) {
		rc = add_node(t, &child);
		if (rc != 0)
			return rc;
		if (plus) {
			t->nodes[*node].plus = child;
		} else {
			*e = (struct tree_edge){text, len, *node, child};
			t->edge_count++;
		}
	}
	*node = child;
	return 0;
}

static void append(struct filter_tree *t, uint32_t *first, uint32_t *last, uint32_t number)
{
	uint32_t entry = (uint32_t)t->entry_count++;

	t->entries[entry] = (struct tree_entry){number, NONE};
	if (*first == NONE)
		*first = entry;
	else
		t->entries[*last].next = entry;
	*last = entry;
}

int filter_tree_add(struct filter_tree *t, const char *filter, uint32_t number)
{
	const char *level = filter;
	uint32_t node = 0;
	int rc = reserve_entry(t);

	if (rc == 0 && t->node_count == 0)
		rc = add_node(t, &node);
	while (rc == 0) {
		size_t len = (size_t)(strchrnul(level, '/') - level);

		if (len == 1 && *level == '#') {
			append(t, &t->nodes[node].anything, &t->nodes[node].anything_last, number);
			return 0;
		}
		rc = descend(t, &node, level, len);
		if (rc == 0 && level[len] == '\0') {
			append(t, &t->nodes[node].exact, &t->nodes[node].exact_last, number);
			return 0;
		}
		level += len + 1;
	}
	return rc;
}

void filter_tree_free(struct filter_tree *t)
{
	free(t->nodes);
	free(t->edges);
	free(t->entries);
	*t = (struct filter_tree){0};
}

/* --- Matching --- */

struct walk {
	const struct filter_tree *tree;
	bool (*visit)(void *arg, uint32_t number);
	void *arg;
	size_t steps;
};

static bool visit_list(struct walk *w, uint32_t entry)
{
	for (; entry != NONE; entry = w->tree->entries[entry].next) {
		w->steps++;
		if (!w->visit(w->arg, w->tree->entries[entry].number))
			return false;
	}
	return true;
}

/* level: what is left of the topic; NULL: nothing. As deep as the tree, which has at most
 * RULE_LEVELS_MAX levels. */
static bool walk_from(struct walk *w, uint32_t at, const char *level, bool wildcards)
{
	const struct tree_node *node = &w->tree->nodes[at];
	const struct tree_edge *e;
	const char *rest;
	size_t len;

	if (wildcards && !visit_list(w, node->anything))
		return false;
	if (!level)
		return visit_list(w, node->exact);
	len = (size_t)(strchrnul(level, '/') - level);
	rest = level[len] ? level + len + 1 : NULL;
	if (wildcards && node->plus != NONE) {
		w->steps++;
		if (!walk_from(w, node->plus, rest, true))
			return false;
	}
	if (w->tree->edge_count == 0)
		return true;
	e = find_edge(w->tree, at, level, len, &w->steps);
	return !e->text || walk_from(w, e->child, rest, true);
}

bool filter_tree_match(const struct filter_tree *t, const char *topic,
		       bool (*visit)(void *arg, uint32_t number), void *arg, size_t *steps)
{
	struct walk w = {.tree = t, .visit = visit, .arg = arg};
	/* Section 4.7.2: a wildcard at the beginning matches no topic of the server's own. */
	bool all = t->node_count == 0 || walk_from(&w, 0, topic, topic[0] != '$');

	if (steps)
		*steps += w.steps;
	return all;
}
