/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Topic filters as a tree of their levels: which of them match a topic is found by walking the
 * topic's levels, each by one look into a hash table, and not by the number of filters. Built once,
 * then only read, by any thread.
 */
#ifndef FG_RULE_FILTER_TREE_H
#define FG_RULE_FILTER_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RULE_LEVELS_MAX 200 /* of a filter or topic: the broker takes no more */

struct filter_tree {
	struct tree_node *nodes; /* the first is the root */
	size_t node_count, node_capacity;
	struct tree_edge *edges; /* open addressing; half of them stay free */
	size_t edge_count, edge_capacity;
	struct tree_entry *entries;
	size_t entry_count, entry_capacity;
};

/* How many levels this filter or topic has. */
size_t filter_tree_levels(const char *topic);

/*
 * Add a valid filter of at most RULE_LEVELS_MAX levels, which must outlive the tree, under a number
 * of the caller's. 0 or -ENOMEM: then the tree is as it was, or a little larger for nothing.
 */
int filter_tree_add(struct filter_tree *t, const char *filter, uint32_t number);
void filter_tree_free(struct filter_tree *t);

/*
 * Visit the number of each filter that matches this valid topic name (MQTT 5.0 section 4.7), until
 * one returns false; of equal filters in the order of adding. Allocates nothing. False when it was
 * ended so. steps, if not NULL, is increased by each comparison.
 */
bool filter_tree_match(const struct filter_tree *t, const char *topic,
		       bool (*visit)(void *arg, uint32_t number), void *arg, size_t *steps);

#endif
