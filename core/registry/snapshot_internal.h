/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a snapshot, shared by snapshot*.c. */
#ifndef FG_REGISTRY_SNAPSHOT_INTERNAL_H
#define FG_REGISTRY_SNAPSHOT_INTERNAL_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/x509.h>

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

struct authority_entry {
	struct authority authority;
	X509 *x509;
};

/* A certificate that was revoked before its row was deleted. */
struct revoked_entry {
	enum credential_kind kind;
	uint8_t fingerprint[FINGERPRINT_LEN];
	bool has_issuer;
	uint8_t issuer[FINGERPRINT_LEN];
	const char *serial; /* NULL: not known */
};

/* A device that was enrolled after the snapshot was built. Never changes once it is in the list. */
struct enrolled {
	struct enrolled *next;
	struct principal_entry principal;
	struct credential_entry credential;
	uint64_t id_hash, credential_hash;
	char id[PRINCIPAL_ID_MAX + 1];
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
	struct list policies, principals, credentials, rules, authorities, revoked, revoked_serials;
	struct table policy_table, principal_table, credential_table, rule_table, authority_table,
		revoked_table, revoked_serial_table;
	_Atomic(struct enrolled *) enrolled; /* newest first */
};

struct snapshot_builder {
	struct snapshot *snapshot;
	struct table right_table; /* only to find repeated rights of policies */
	struct arena right_arena;
};

/* The file: see snapshot_write.c. */
#define SNAPSHOT_MAGIC		    "FGREGSNP"
#define SNAPSHOT_MAGIC_LEN	    8
#define SNAPSHOT_FORMAT		    3 /* 2: rules, POLICY_RELAY; 3: dates, authorities, revoked */
#define SNAPSHOT_FORMAT_AUTHORITIES 3 /* since then, and dates */
#define SNAPSHOT_FORMAT_OLDEST	    2 /* that is read */
#define SNAPSHOT_CRC_LEN	    4
#define SNAPSHOT_FILE_MAX	    ((size_t)1024 * 1024 * 1024)

/* snapshot.c */
uint64_t snapshot_hash(const void *data, size_t len);
uint64_t snapshot_hash_name(const char *name);
uint64_t snapshot_hash_credential(enum credential_kind kind, const uint8_t *fingerprint);
void *snapshot_table_get(const struct table *t, uint64_t hash,
			 bool (*equal)(const void *item, const void *key), const void *key);
struct policy_entry *snapshot_find_policy(const struct snapshot *s, const char *name);
struct principal_entry *snapshot_find_principal(const struct snapshot *s, const char *id);
struct snapshot_rule *snapshot_find_rule(const struct snapshot *s, const char *name);

/* snapshot_build.c */
/* Room for one more in both, so that what follows cannot fail half-way: 0 or -ENOMEM. Then put. */
int snapshot_reserve(struct table *t, struct list *l);
void snapshot_put(struct table *t, struct list *l, uint64_t hash, void *item);
/* Writes the message, and returns code. */
int snapshot_refuse(int code, char *err, size_t err_len, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* snapshot_enrolled.c: what the tables do not have, or NULL. */
const struct principal *snapshot_enrolled_principal(const struct snapshot *s, const char *id);
const struct credential *snapshot_enrolled_credential(const struct snapshot *s,
						      enum credential_kind kind,
						      const uint8_t *fingerprint);
void snapshot_enrolled_free(struct snapshot *s);

#endif
