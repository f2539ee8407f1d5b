/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot is an arena with everything in it and three hash tables into that arena. The builder
 * fills a snapshot that nobody else has seen yet; snapshot_build only takes the builder away, and
 * from then on nothing in it changes but the count of references.
 */
#include "core/registry/snapshot.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "core/base/hash.h"
#include "core/registry/snapshot_internal.h"
#include "core/registry/topic.h"

#define ARENA_CHUNK	  (64 * 1024)
#define TABLE_CAPACITY	  64
#define LIST_CAPACITY	  64
#define RULE_CAPACITY	  8
#define DEVICE_VARIABLE	  "${device}"
#define MATERIAL_MAX	  4096 /* bytes; a public key or an encrypted PSK has a few hundred at most */
#define SNAPSHOT_ITEM_MAX UINT32_MAX

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
static const char *const action_names[] = {"publish", "subscribe", "receive"};

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

int policy_action_parse(const char *name)
{
	return name_index(action_names, COUNT_OF(action_names), name);
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

/* --- Tables and lists --- */

static uint64_t hash_bytes(const void *data, size_t len)
{
	return hash_siphash(hash_table_key(), data, len);
}

/* The slot that holds what `equal` says is the key, or the free one where it belongs. */
static struct table_slot *table_find(const struct table *t, uint64_t hash,
				     bool (*equal)(const void *item, const void *key),
				     const void *key)
{
	size_t mask = t->capacity - 1;
	size_t i = (size_t)hash & mask;

	while (t->slots[i].item && (t->slots[i].hash != hash || !equal(t->slots[i].item, key)))
		i = (i + 1) & mask;
	return &t->slots[i];
}

static void *table_get(const struct table *t, uint64_t hash,
		       bool (*equal)(const void *item, const void *key), const void *key)
{
	return t->capacity ? table_find(t, hash, equal, key)->item : NULL;
}

/* Make room for one more. */
static int table_reserve(struct table *t)
{
	struct table bigger = {.count = t->count};

	if (t->capacity && t->count < t->capacity / 2)
		return 0;
	bigger.capacity = t->capacity ? t->capacity * 2 : TABLE_CAPACITY;
	bigger.slots = calloc(bigger.capacity, sizeof(*bigger.slots));
	if (!bigger.slots)
		return -ENOMEM;
	for (size_t i = 0; i < t->capacity; i++) {
		size_t k = (size_t)t->slots[i].hash & (bigger.capacity - 1);

		if (!t->slots[i].item)
			continue;
		while (bigger.slots[k].item)
			k = (k + 1) & (bigger.capacity - 1);
		bigger.slots[k] = t->slots[i];
	}
	free(t->slots);
	*t = bigger;
	return 0;
}

/* After table_reserve, and only what is not in it yet. */
static void table_put(struct table *t, uint64_t hash, void *item)
{
	size_t i = (size_t)hash & (t->capacity - 1);

	while (t->slots[i].item)
		i = (i + 1) & (t->capacity - 1);
	t->slots[i] = (struct table_slot){hash, item};
	t->count++;
}

static int list_reserve(struct list *l)
{
	size_t capacity = l->capacity ? l->capacity * 2 : LIST_CAPACITY;
	void **items;

	if (l->count < l->capacity)
		return 0;
	items = reallocarray(l->items, capacity, sizeof(*items));
	if (!items)
		return -ENOMEM;
	l->items = items;
	l->capacity = capacity;
	return 0;
}

/* --- Reading --- */

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

static bool credential_equal(const void *item, const void *key)
{
	const struct credential *c = item;
	const struct credential_key *k = key;

	return c->kind == k->kind &&
	       CRYPTO_memcmp(c->fingerprint, k->fingerprint, FINGERPRINT_LEN) == 0;
}

static uint64_t hash_name(const char *name)
{
	return hash_bytes(name, strlen(name));
}

static uint64_t hash_credential(enum credential_kind kind, const uint8_t *fingerprint)
{
	return hash_bytes(fingerprint, FINGERPRINT_LEN) + (uint64_t)kind;
}

static struct policy_entry *find_policy(const struct snapshot *s, const char *name)
{
	return table_get(&s->policy_table, hash_name(name), policy_equal, name);
}

static struct principal_entry *find_principal(const struct snapshot *s, const char *id)
{
	return table_get(&s->principal_table, hash_name(id), principal_equal, id);
}

const struct principal *snapshot_principal(const struct snapshot *s, const char *id)
{
	const struct principal_entry *e = find_principal(s, id);

	return e ? &e->principal : NULL;
}

const struct credential *snapshot_credential(const struct snapshot *s, enum credential_kind kind,
					     const uint8_t fingerprint[FINGERPRINT_LEN])
{
	const struct credential_key key = {kind, fingerprint};

	return table_get(&s->credential_table, hash_credential(kind, fingerprint), credential_equal,
			 &key);
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
	free(s->policies.items);
	free(s->principals.items);
	free(s->credentials.items);
	free(s->policy_table.slots);
	free(s->principal_table.slots);
	free(s->credential_table.slots);
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

/* --- Building --- */

struct rule_entry {
	const struct policy_entry *policy;
	struct policy_rule rule;
};

struct snapshot_builder {
	struct snapshot *snapshot;
	struct table rule_table; /* only to find repeated rules */
	struct arena rule_arena;
};

struct snapshot_builder *snapshot_builder_new(void)
{
	struct snapshot_builder *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->snapshot = calloc(1, sizeof(*b->snapshot));
	if (!b->snapshot) {
		free(b);
		return NULL;
	}
	b->snapshot->references = 1;
	arena_init(&b->snapshot->arena, ARENA_CHUNK, SIZE_MAX);
	arena_init(&b->rule_arena, ARENA_CHUNK, SIZE_MAX);
	return b;
}

void snapshot_builder_free(struct snapshot_builder *b)
{
	if (!b)
		return;
	snapshot_release(b->snapshot);
	free(b->rule_table.slots);
	arena_free(&b->rule_arena);
	free(b);
}

const struct snapshot *snapshot_build(struct snapshot_builder *b, int64_t version)
{
	struct snapshot *s = b->snapshot;

	s->version = version;
	b->snapshot = NULL;
	snapshot_builder_free(b);
	return s;
}

static int refuse(int code, char *err, size_t err_len, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static int refuse(int code, char *err, size_t err_len, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, err_len, fmt, ap);
	va_end(ap);
	return code;
}

static int no_memory(char *err, size_t err_len)
{
	return refuse(-ENOMEM, err, err_len, "out of memory");
}

/* Room for one more in both, so that what follows cannot fail half-way. */
static int reserve(struct table *t, struct list *l)
{
	if (l->count >= SNAPSHOT_ITEM_MAX || table_reserve(t) != 0)
		return -ENOMEM;
	return list_reserve(l);
}

static void put(struct table *t, struct list *l, uint64_t hash, void *item)
{
	table_put(t, hash, item);
	l->items[l->count++] = item;
}

int snapshot_add_policy(struct snapshot_builder *b, const char *name, char *err, size_t err_len)
{
	struct snapshot *s = b->snapshot;
	struct policy_entry *e;
	char *copy;

	if (!principal_id_valid(name, strlen(name)))
		return refuse(-EINVAL, err, err_len, "the name '%.80s' is not %s", name,
			      "1 to 64 of A-Z a-z 0-9 _ . : -");
	if (find_policy(s, name))
		return refuse(-EEXIST, err, err_len, "policy %s is there twice", name);
	e = arena_alloc(&s->arena, sizeof(*e));
	copy = arena_strndup(&s->arena, name, strlen(name));
	if (!e || !copy || reserve(&s->policy_table, &s->policies) != 0)
		return no_memory(err, err_len);
	*e = (struct policy_entry){.policy = {.name = copy}, .number = (uint32_t)s->policies.count};
	put(&s->policy_table, &s->policies, hash_name(copy), e);
	return 0;
}

/* A misspelt variable would make a rule that never applies, which nobody notices of a deny rule. */
static bool variables_known(const char *filter)
{
	for (const char *p = filter; (p = strstr(p, "${")); p++)
		if (strncmp(p, DEVICE_VARIABLE, strlen(DEVICE_VARIABLE)) != 0)
			return false;
	return true;
}

static bool rule_equal(const void *item, const void *key)
{
	const struct rule_entry *a = item, *b = key;

	return a->policy == b->policy && a->rule.deny == b->rule.deny &&
	       a->rule.action == b->rule.action && strcmp(a->rule.filter, b->rule.filter) == 0;
}

static uint64_t hash_rule(const struct rule_entry *r)
{
	uint64_t parts[] = {hash_name(r->rule.filter), r->policy->number, r->rule.action,
			    r->rule.deny};

	return hash_bytes(parts, sizeof(parts));
}

/* Room for one more rule in the policy. The old array stays behind in the arena: half of the new
 * one. */
static int rules_reserve(struct snapshot *s, struct policy_entry *e)
{
	size_t capacity = e->rule_capacity ? e->rule_capacity * 2 : RULE_CAPACITY;
	struct policy_rule *rules;

	if (e->policy.rule_count < e->rule_capacity)
		return 0;
	if (e->policy.rule_count >= SNAPSHOT_ITEM_MAX)
		return -ENOMEM;
	rules = arena_alloc(&s->arena, capacity * sizeof(*rules));
	if (!rules)
		return -ENOMEM;
	if (e->policy.rule_count > 0)
		memcpy(rules, e->rules, e->policy.rule_count * sizeof(*rules));
	e->rules = rules;
	e->policy.rules = rules;
	e->rule_capacity = capacity;
	return 0;
}

int snapshot_add_policy_rule(struct snapshot_builder *b, const char *policy, bool deny,
			     enum policy_action action, const char *filter, char *err,
			     size_t err_len)
{
	struct policy_entry *e = find_policy(b->snapshot, policy);
	struct rule_entry key = {e, {deny, action, filter}};
	struct rule_entry *known;
	char *copy;

	if (!e)
		return refuse(-EINVAL, err, err_len, "there is no policy '%.80s'", policy);
	if (!topic_filter_valid(filter))
		return refuse(-EINVAL, err, err_len, "'%.200s' is not a topic filter", filter);
	if (!variables_known(filter))
		return refuse(-EINVAL, err, err_len, "'%.200s' holds a variable other than %s",
			      filter, DEVICE_VARIABLE);
	if (table_get(&b->rule_table, hash_rule(&key), rule_equal, &key))
		return refuse(-EEXIST, err, err_len, "the rule for '%.200s' is there twice",
			      filter);
	known = arena_alloc(&b->rule_arena, sizeof(*known));
	copy = arena_strndup(&b->snapshot->arena, filter, strlen(filter));
	if (!known || !copy || table_reserve(&b->rule_table) != 0 ||
	    rules_reserve(b->snapshot, e) != 0)
		return no_memory(err, err_len);
	*known = (struct rule_entry){e, {deny, action, copy}};
	table_put(&b->rule_table, hash_rule(known), known);
	e->rules[e->policy.rule_count++] = known->rule;
	return 0;
}

int snapshot_add_principal(struct snapshot_builder *b, const char *id, enum principal_kind kind,
			   enum principal_state state, const char *policy, char *err,
			   size_t err_len)
{
	struct snapshot *s = b->snapshot;
	const struct policy_entry *p = find_policy(s, policy);
	struct principal_entry *e;
	char *copy;

	if (!principal_id_valid(id, strlen(id)))
		return refuse(-EINVAL, err, err_len, "the id '%.80s' is not %s", id,
			      "1 to 64 of A-Z a-z 0-9 _ . : -");
	if (!p)
		return refuse(-EINVAL, err, err_len, "there is no policy '%.80s'", policy);
	if (find_principal(s, id))
		return refuse(-EEXIST, err, err_len, "principal %s is there twice", id);
	e = arena_alloc(&s->arena, sizeof(*e));
	copy = arena_strndup(&s->arena, id, strlen(id));
	if (!e || !copy || reserve(&s->principal_table, &s->principals) != 0)
		return no_memory(err, err_len);
	*e = (struct principal_entry){
		.principal = {.id = copy, .kind = kind, .state = state, .policy = &p->policy},
		.number = (uint32_t)s->principals.count,
	};
	put(&s->principal_table, &s->principals, hash_name(copy), e);
	return 0;
}

int snapshot_add_credential(struct snapshot_builder *b, enum credential_kind kind,
			    const uint8_t fingerprint[FINGERPRINT_LEN], const char *principal,
			    bool revoked, const void *material, size_t material_len, char *err,
			    size_t err_len)
{
	struct snapshot *s = b->snapshot;
	struct principal_entry *p = find_principal(s, principal);
	struct credential *c;
	char *copy = NULL;

	if (!p)
		return refuse(-EINVAL, err, err_len, "there is no principal '%.80s'", principal);
	if (material_len > MATERIAL_MAX)
		return refuse(-EINVAL, err, err_len, "its material has %zu bytes, more than %d",
			      material_len, MATERIAL_MAX);
	if (snapshot_credential(s, kind, fingerprint))
		return refuse(-EEXIST, err, err_len, "a %s credential of %s is there twice",
			      credential_names[kind], principal);
	c = arena_alloc(&s->arena, sizeof(*c));
	if (material)
		copy = arena_strndup(&s->arena, material, material_len);
	if (!c || (material && !copy) || reserve(&s->credential_table, &s->credentials) != 0)
		return no_memory(err, err_len);
	*c = (struct credential){.kind = kind,
				 .principal = &p->principal,
				 .revoked = revoked,
				 .material = (const uint8_t *)copy,
				 .material_len = material ? material_len : 0};
	memcpy(c->fingerprint, fingerprint, FINGERPRINT_LEN);
	put(&s->credential_table, &s->credentials, hash_credential(kind, fingerprint), c);
	p->live_credentials += !revoked;
	return 0;
}
