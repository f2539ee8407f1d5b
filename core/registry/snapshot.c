/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot is an arena with everything in it and hash tables into that arena. Looking something
 * up reads the tables, and behind them the list of those who were enrolled since; the only things
 * that ever change are that list, which grows, and the count of references.
 */
#include "core/registry/snapshot.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "core/base/hash.h"
#include "core/registry/snapshot_internal.h"

/* --- Names --- */

static int name_index(const char *const *names, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(names[i], name) == 0)
			return (int)i;
	return -1;
}

#define COUNT_OF(a) (sizeof(a) / sizeof(*(a)))

static const char *const state_names[] = {"pending", "active", "suspended", "revoked"};
static const char *const kind_names[] = {"device", "service"};
static const char *const credential_names[] = {"x509", "x509_key", "jwt", "psk", "token"};
static const char *const action_names[] = {"publish", "subscribe", "receive", "relay"};
static const char *const enrolment_names[] = {"off", "pending", "active"};

int principal_state_parse(const char *name)
{
	return name_index(state_names, COUNT_OF(state_names), name);
}

const char *principal_state_name(enum principal_state state)
{
	return state_names[state];
}

int principal_kind_parse(const char *name)
{
	return name_index(kind_names, COUNT_OF(kind_names), name);
}

int credential_kind_parse(const char *name)
{
	return name_index(credential_names, COUNT_OF(credential_names), name);
}

const char *credential_kind_name(enum credential_kind kind)
{
	return credential_names[kind];
}

int policy_action_parse(const char *name)
{
	return name_index(action_names, COUNT_OF(action_names), name);
}

int enrolment_mode_parse(const char *name)
{
	return name_index(enrolment_names, COUNT_OF(enrolment_names), name);
}

const char *enrolment_mode_name(enum enrolment_mode mode)
{
	return enrolment_names[mode];
}

static bool id_char(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '.' || c == ':' || c == '-';
}

bool principal_id_valid(const char *id, size_t len)
{
	if (len < 1 || len > PRINCIPAL_ID_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!id_char(id[i]))
			return false;
	return true;
}

/* --- Tables --- */

uint64_t snapshot_hash(const void *data, size_t len)
{
	return hash_siphash(hash_table_key(), data, len);
}

/* What has this hash and is `equal` to the key, or NULL. */
void *snapshot_table_get(const struct table *t, uint64_t hash,
			 bool (*equal)(const void *item, const void *key), const void *key)
{
	size_t mask = t->capacity - 1;

	if (t->capacity == 0)
		return NULL;
	for (size_t i = (size_t)hash & mask; t->slots[i].item; i = (i + 1) & mask)
		if (t->slots[i].hash == hash && equal(t->slots[i].item, key))
			return t->slots[i].item;
	return NULL;
}

struct credential_key {
	enum credential_kind kind;
	const uint8_t *fingerprint;
};

static bool policy_equal(const void *item, const void *key)
{
	return strcmp(((const struct policy_entry *)item)->policy.name, key) == 0;
}

static bool principal_equal(const void *item, const void *key)
{
	return strcmp(((const struct principal_entry *)item)->principal.id, key) == 0;
}

static bool rule_equal(const void *item, const void *key)
{
	return strcmp(((const struct snapshot_rule *)item)->name, key) == 0;
}

static bool credential_equal(const void *item, const void *key)
{
	const struct credential *c = item;
	const struct credential_key *k = key;

	return c->kind == k->kind &&
	       CRYPTO_memcmp(c->fingerprint, k->fingerprint, FINGERPRINT_LEN) == 0;
}

uint64_t snapshot_hash_name(const char *name)
{
	return snapshot_hash(name, strlen(name));
}

uint64_t snapshot_hash_credential(enum credential_kind kind, const uint8_t *fingerprint)
{
	return snapshot_hash(fingerprint, FINGERPRINT_LEN) + (uint64_t)kind;
}

struct policy_entry *snapshot_find_policy(const struct snapshot *s, const char *name)
{
	return snapshot_table_get(&s->policy_table, snapshot_hash_name(name), policy_equal, name);
}

struct principal_entry *snapshot_find_principal(const struct snapshot *s, const char *id)
{
	return snapshot_table_get(&s->principal_table, snapshot_hash_name(id), principal_equal, id);
}

struct snapshot_rule *snapshot_find_rule(const struct snapshot *s, const char *name)
{
	return snapshot_table_get(&s->rule_table, snapshot_hash_name(name), rule_equal, name);
}

const struct principal *snapshot_principal(const struct snapshot *s, const char *id)
{
	const struct principal_entry *e = snapshot_find_principal(s, id);

	return e ? &e->principal : snapshot_enrolled_principal(s, id);
}

const struct credential *snapshot_credential(const struct snapshot *s, enum credential_kind kind,
					     const uint8_t fingerprint[FINGERPRINT_LEN])
{
	const struct credential_key key = {kind, fingerprint};

	const struct credential *c = snapshot_table_get(&s->credential_table,
							snapshot_hash_credential(kind, fingerprint),
							credential_equal, &key);

	return c ? c : snapshot_enrolled_credential(s, kind, fingerprint);
}

const struct credential *snapshot_credential_next(const struct snapshot *s,
						  const struct principal *p,
						  enum credential_kind kind,
						  const struct credential *after)
{
	const struct credential_entry *e = after ? ((const struct credential_entry *)after)->next
						 : ((const struct principal_entry *)p)->credentials;

	(void)s;
	while (e && e->credential.kind != kind)
		e = e->next;
	return e ? &e->credential : NULL;
}

size_t snapshot_principal_count(const struct snapshot *s)
{
	return s->principals.count;
}

size_t snapshot_credential_count(const struct snapshot *s, const struct principal *p)
{
	(void)s;
	return ((const struct principal_entry *)p)->live_credentials;
}

size_t snapshot_rule_count(const struct snapshot *s)
{
	return s->rules.count;
}

const struct snapshot_rule *snapshot_rule_at(const struct snapshot *s, size_t i)
{
	return s->rules.items[i];
}

int64_t snapshot_version(const struct snapshot *s)
{
	return s->version;
}

const struct snapshot *snapshot_retain(const struct snapshot *s)
{
	atomic_fetch_add_explicit(&((struct snapshot *)s)->references, 1, memory_order_relaxed);
	return s;
}

static void snapshot_free(struct snapshot *s)
{
	snapshot_enrolled_free(s);
	for (size_t i = 0; i < s->authorities.count; i++)
		X509_free(((struct authority_entry *)s->authorities.items[i])->x509);
	free(s->authorities.items);
	free(s->revoked.items);
	free(s->revoked_serials.items);
	free(s->authority_table.slots);
	free(s->revoked_table.slots);
	free(s->revoked_serial_table.slots);
	free(s->policies.items);
	free(s->principals.items);
	free(s->credentials.items);
	free(s->rules.items);
	free(s->policy_table.slots);
	free(s->principal_table.slots);
	free(s->credential_table.slots);
	free(s->rule_table.slots);
	arena_free(&s->arena);
	free(s);
}

void snapshot_release(const struct snapshot *s)
{
	struct snapshot *mine = (struct snapshot *)s;

	/* Release and acquire: whoever frees it must see that all others are done reading. */
	if (mine && atomic_fetch_sub_explicit(&mine->references, 1, memory_order_acq_rel) == 1)
		snapshot_free(mine);
}
