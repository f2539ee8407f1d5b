/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/dtls/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_SEGMENT 1024

static struct table_link **bucket_at(const struct table *t, size_t bucket)
{
	return &t->segments[bucket / TABLE_SEGMENT][bucket % TABLE_SEGMENT];
}

static size_t bucket_of(const struct table *t, uint64_t hash)
{
	size_t bucket = hash & (t->round - 1);

	return bucket < t->split ? hash & (2 * t->round - 1) : bucket;
}

static int add_segment(struct table *t)
{
	struct table_link **segment = calloc(TABLE_SEGMENT, sizeof(struct table_link *));
	struct table_link ***segments =
		reallocarray(t->segments, t->segment_count + 1, sizeof(*segments));

	if (segments)
		t->segments = segments;
	if (!segments || !segment) {
		free(segment);
		return -ENOMEM;
	}
	t->segments[t->segment_count++] = segment;
	return 0;
}

int table_init(struct table *t, uint64_t (*hash)(const struct table_link *link))
{
	memset(t, 0, sizeof(*t));
	t->round = TABLE_SEGMENT;
	t->hash = hash;
	return add_segment(t);
}

void table_free(struct table *t)
{
	for (size_t i = 0; i < t->segment_count; i++)
		free(t->segments[i]);
	free(t->segments);
	memset(t, 0, sizeof(*t));
}

size_t table_buckets(const struct table *t)
{
	return t->round + t->split;
}

struct table_link *table_bucket(const struct table *t, size_t bucket)
{
	return *bucket_at(t, bucket);
}

static void push(struct table *t, struct table_link *link)
{
	struct table_link **head = bucket_at(t, bucket_of(t, t->hash(link)));

	link->next = *head;
	*head = link;
}

static void split_one(struct table *t)
{
	size_t added = table_buckets(t);
	struct table_link *link, *next;

	if (added == t->segment_count * TABLE_SEGMENT && add_segment(t))
		return;
	link = *bucket_at(t, t->split);
	*bucket_at(t, t->split) = NULL;
	t->split++;
	for (; link; link = next) {
		next = link->next;
		push(t, link);
	}
	if (t->split == t->round) {
		t->round *= 2;
		t->split = 0;
	}
}

void table_insert(struct table *t, struct table_link *link)
{
	push(t, link);
	t->count++;
	if (t->count > table_buckets(t))
		split_one(t);
}

void table_remove(struct table *t, struct table_link *link)
{
	struct table_link **p = bucket_at(t, bucket_of(t, t->hash(link)));

	while (*p && *p != link)
		p = &(*p)->next;
	if (!*p)
		return;
	*p = link->next;
	t->count--;
}

struct table_link *table_first(const struct table *t, uint64_t hash)
{
	return *bucket_at(t, bucket_of(t, hash));
}
