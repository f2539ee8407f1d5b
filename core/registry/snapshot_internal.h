/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a snapshot, shared by snapshot.c, which builds it, and snapshot_file.c, which
 * writes it. */
#ifndef FG_REGISTRY_SNAPSHOT_INTERNAL_H
#define FG_REGISTRY_SNAPSHOT_INTERNAL_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/arena.h"
#include "core/registry/snapshot.h"

/* Entries begin with what the readers see, so that one pointer serves both. */

struct policy_entry {
	struct policy policy;
	struct policy_rule *rules; /* policy.rules, writable */
	size_t rule_capacity;
};

struct credential_entry {
	struct credential credential;
	struct credential_entry *next; /* of the same principal */
};

struct principal_entry {
	struct principal principal;
	struct credential_entry *credentials;
	size_t live_credentials; /* not revoked */
};

/* Open addressing, linear probing; half of the slots stay free. */
struct table_slot {
	uint64_t hash;
	void *item; /* NULL: free */
};

struct table {
	struct table_slot *slots;
	size_t capacity; /* a power of two, or 0 */
	size_t count;
};

/* Pointers in the order of adding. */
struct list {
	void **items;
	size_t count, capacity;
};

struct snapshot {
	_Atomic size_t references;
	int64_t version;
	struct arena arena; /* everything that entries point to */
	struct list policies, principals, credentials, rules;
	struct table policy_table, principal_table, credential_table, rule_table;
};

/* snapshot.c */
uint64_t snapshot_hash(const void *data, size_t len);
uint64_t snapshot_hash_name(const char *name);
uint64_t snapshot_hash_credential(enum credential_kind kind, const uint8_t *fingerprint);
void *snapshot_table_get(const struct table *t, uint64_t hash,
			 bool (*equal)(const void *item, const void *key), const void *key);
struct policy_entry *snapshot_find_policy(const struct snapshot *s, const char *name);
struct principal_entry *snapshot_find_principal(const struct snapshot *s, const char *id);
struct snapshot_rule *snapshot_find_rule(const struct snapshot *s, const char *name);

#endif
