/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hash table that grows by one bucket per insertion (linear hashing: Litwin, 1980), so no
 * insertion ever waits for a rehash of all. It never shrinks. Entries are links in the caller's
 * structures; keys from the network must be hashed with a secret key (core/base/hash.h). One
 * thread.
 */
#ifndef FG_DTLS_TABLE_H
#define FG_DTLS_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct table_link {
	struct table_link *next;
};

struct table {
	struct table_link ***segments; /* of TABLE_SEGMENT buckets each */
	size_t segment_count;
	size_t round; /* buckets at the beginning of this round, a power of two */
	size_t split; /* so many of them have been split in two */
	size_t count;
	uint64_t (*hash)(const struct table_link *link);
};

/* 0 or -ENOMEM. */
int table_init(struct table *t, uint64_t (*hash)(const struct table_link *link));
void table_free(struct table *t); /* not the entries */

/* Never fails: without memory to grow, chains become longer. */
void table_insert(struct table *t, struct table_link *link);
void table_remove(struct table *t, struct table_link *link);

/* The first link that may have this hash; the others follow by ->next. */
struct table_link *table_first(const struct table *t, uint64_t hash);

/*
 * Buckets 0 to table_buckets - 1, for walks: an entry that is moved when its bucket is split goes
 * to a bucket above all that there were, so a walk upwards meets every entry at least once.
 */
size_t table_buckets(const struct table *t);
struct table_link *table_bucket(const struct table *t, size_t bucket);

#endif
