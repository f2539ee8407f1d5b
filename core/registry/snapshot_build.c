/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The builder fills a snapshot that nobody else has seen yet; snapshot_build only takes the builder
 * away. Each entry is checked and all room for it made before it is put in, so a refused one leaves
 * no trace.
 */
#include "core/registry/snapshot.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/registry/snapshot_internal.h"
#include "core/registry/topic.h"

#define ARENA_CHUNK	  (64 * 1024)
#define TABLE_CAPACITY	  64
#define LIST_CAPACITY	  64
#define RULE_CAPACITY	  8
#define DEVICE_VARIABLE	  "${device}"
#define MATERIAL_MAX	  4096 /* bytes; a public key or an encrypted PSK has a few hundred at most */
#define SNAPSHOT_ITEM_MAX UINT32_MAX

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

struct right_entry {
	const struct policy_entry *policy;
	struct policy_rule rule;
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
	arena_init(&b->right_arena, ARENA_CHUNK, SIZE_MAX);
	return b;
}

void snapshot_builder_free(struct snapshot_builder *b)
{
	if (!b)
		return;
	snapshot_release(b->snapshot);
	free(b->right_table.slots);
	arena_free(&b->right_arena);
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

#define refuse snapshot_refuse

int snapshot_refuse(int code, char *err, size_t err_len, const char *fmt, ...)
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

int snapshot_reserve(struct table *t, struct list *l)
{
	if (l->count >= SNAPSHOT_ITEM_MAX || table_reserve(t) != 0)
		return -ENOMEM;
	return list_reserve(l);
}

void snapshot_put(struct table *t, struct list *l, uint64_t hash, void *item)
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
	if (snapshot_find_policy(s, name))
		return refuse(-EEXIST, err, err_len, "policy %s is there twice", name);
	e = arena_alloc(&s->arena, sizeof(*e));
	copy = arena_strndup(&s->arena, name, strlen(name));
	if (!e || !copy || snapshot_reserve(&s->policy_table, &s->policies) != 0)
		return no_memory(err, err_len);
	*e = (struct policy_entry){.policy = {.name = copy}};
	snapshot_put(&s->policy_table, &s->policies, snapshot_hash_name(copy), e);
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

static bool right_equal(const void *item, const void *key)
{
	const struct right_entry *a = item, *b = key;

	return a->policy == b->policy && a->rule.deny == b->rule.deny &&
	       a->rule.action == b->rule.action && strcmp(a->rule.filter, b->rule.filter) == 0;
}

static uint64_t hash_right(const struct right_entry *r)
{
	uint64_t parts[] = {snapshot_hash_name(r->rule.filter), (uintptr_t)r->policy,
			    r->rule.action, r->rule.deny};

	return snapshot_hash(parts, sizeof(parts));
}

/* Room for one more rule in the policy. The old array stays behind in the arena: half of the new
 * one. */
static int rights_reserve(struct snapshot *s, struct policy_entry *e)
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
	struct policy_entry *e = snapshot_find_policy(b->snapshot, policy);
	struct right_entry key = {e, {deny, action, filter}};
	struct right_entry *known;
	char *copy;

	if (!e)
		return refuse(-EINVAL, err, err_len, "there is no policy '%.80s'", policy);
	if (!topic_filter_valid(filter))
		return refuse(-EINVAL, err, err_len, "'%.200s' is not a topic filter", filter);
	if (!variables_known(filter))
		return refuse(-EINVAL, err, err_len, "'%.200s' holds a variable other than %s",
			      filter, DEVICE_VARIABLE);
	if (snapshot_table_get(&b->right_table, hash_right(&key), right_equal, &key))
		return refuse(-EEXIST, err, err_len, "the rule for '%.200s' is there twice",
			      filter);
	known = arena_alloc(&b->right_arena, sizeof(*known));
	copy = arena_strndup(&b->snapshot->arena, filter, strlen(filter));
	if (!known || !copy || table_reserve(&b->right_table) != 0 ||
	    rights_reserve(b->snapshot, e) != 0)
		return no_memory(err, err_len);
	*known = (struct right_entry){e, {deny, action, copy}};
	table_put(&b->right_table, hash_right(known), known);
	e->rules[e->policy.rule_count++] = known->rule;
	return 0;
}

int snapshot_add_principal(struct snapshot_builder *b, const char *id, enum principal_kind kind,
			   enum principal_state state, const char *policy, char *err,
			   size_t err_len)
{
	struct snapshot *s = b->snapshot;
	const struct policy_entry *p = snapshot_find_policy(s, policy);
	struct principal_entry *e;
	char *copy;

	if (!principal_id_valid(id, strlen(id)))
		return refuse(-EINVAL, err, err_len, "the id '%.80s' is not %s", id,
			      "1 to 64 of A-Z a-z 0-9 _ . : -");
	if (!p)
		return refuse(-EINVAL, err, err_len, "there is no policy '%.80s'", policy);
	if (snapshot_find_principal(s, id))
		return refuse(-EEXIST, err, err_len, "principal %s is there twice", id);
	e = arena_alloc(&s->arena, sizeof(*e));
	copy = arena_strndup(&s->arena, id, strlen(id));
	if (!e || !copy || snapshot_reserve(&s->principal_table, &s->principals) != 0)
		return no_memory(err, err_len);
	*e = (struct principal_entry){
		.principal = {.id = copy, .kind = kind, .state = state, .policy = &p->policy},
	};
	snapshot_put(&s->principal_table, &s->principals, snapshot_hash_name(copy), e);
	return 0;
}

int snapshot_add_credential(struct snapshot_builder *b, enum credential_kind kind,
			    const uint8_t fingerprint[FINGERPRINT_LEN], const char *principal,
			    bool revoked, const void *material, size_t material_len, char *err,
			    size_t err_len)
{
	struct snapshot *s = b->snapshot;
	struct principal_entry *p = snapshot_find_principal(s, principal);
	struct credential_entry *c;
	char *copy = NULL;

	if (!p)
		return refuse(-EINVAL, err, err_len, "there is no principal '%.80s'", principal);
	if (material_len > MATERIAL_MAX)
		return refuse(-EINVAL, err, err_len, "its material has %zu bytes, more than %d",
			      material_len, MATERIAL_MAX);
	if (snapshot_credential(s, kind, fingerprint))
		return refuse(-EEXIST, err, err_len, "a credential of %s is there twice",
			      principal);
	c = arena_alloc(&s->arena, sizeof(*c));
	if (material)
		copy = arena_strndup(&s->arena, material, material_len);
	if (!c || (material && !copy) ||
	    snapshot_reserve(&s->credential_table, &s->credentials) != 0)
		return no_memory(err, err_len);
	*c = (struct credential_entry){
		.credential = {.kind = kind,
			       .principal = &p->principal,
			       .revoked = revoked,
			       .not_before = INT64_MIN,
			       .not_after = INT64_MAX,
			       .material = (const uint8_t *)copy,
			       .material_len = material ? material_len : 0},
		.next = p->credentials,
	};
	memcpy(c->credential.fingerprint, fingerprint, FINGERPRINT_LEN);
	p->credentials = c;
	snapshot_put(&s->credential_table, &s->credentials,
		     snapshot_hash_credential(kind, fingerprint), c);
	p->live_credentials += !revoked;
	return 0;
}

int snapshot_limit_credential(struct snapshot_builder *b, enum credential_kind kind,
			      const uint8_t fingerprint[FINGERPRINT_LEN], int64_t not_before,
			      int64_t not_after, char *err, size_t err_len)
{
	struct credential *c =
		(struct credential *)snapshot_credential(b->snapshot, kind, fingerprint);

	if (!c)
		return refuse(-EINVAL, err, err_len, "there is no such credential");
	c->not_before = not_before;
	c->not_after = not_after;
	return 0;
}

int snapshot_mark_credential(struct snapshot_builder *b, enum credential_kind kind,
			     const uint8_t fingerprint[FINGERPRINT_LEN], uint32_t edition,
			     char *err, size_t err_len)
{
	struct credential *c =
		(struct credential *)snapshot_credential(b->snapshot, kind, fingerprint);

	if (!c)
		return refuse(-EINVAL, err, err_len, "there is no such credential");
	c->edition = edition;
	return 0;
}

static bool text_fits(const char *text)
{
	return strlen(text) <= SNAPSHOT_TEXT_MAX;
}

int snapshot_add_rule(struct snapshot_builder *b, const struct snapshot_rule *rule, char *err,
		      size_t err_len)
{
	struct snapshot *s = b->snapshot;
	struct snapshot_rule *r;

	if (!principal_id_valid(rule->name, strlen(rule->name)))
		return refuse(-EINVAL, err, err_len, "the name '%.80s' is not %s", rule->name,
			      "1 to 64 of A-Z a-z 0-9 _ . : -");
	if (!text_fits(rule->sql) || !text_fits(rule->actions) ||
	    (rule->error_action && !text_fits(rule->error_action)))
		return refuse(-EINVAL, err, err_len,
			      "its sql, actions or error_action has more than %d bytes",
			      SNAPSHOT_TEXT_MAX);
	if (snapshot_find_rule(s, rule->name))
		return refuse(-EEXIST, err, err_len, "rule %s is there twice", rule->name);
	r = arena_alloc(&s->arena, sizeof(*r));
	if (!r)
		return no_memory(err, err_len);
	*r = (struct snapshot_rule){
		.name = arena_strndup(&s->arena, rule->name, strlen(rule->name)),
		.revision = rule->revision,
		.sql = arena_strndup(&s->arena, rule->sql, strlen(rule->sql)),
		.actions = arena_strndup(&s->arena, rule->actions, strlen(rule->actions)),
	};
	if (rule->error_action)
		r->error_action =
			arena_strndup(&s->arena, rule->error_action, strlen(rule->error_action));
	if (!r->name || !r->sql || !r->actions || (rule->error_action && !r->error_action) ||
	    snapshot_reserve(&s->rule_table, &s->rules) != 0)
		return no_memory(err, err_len);
	snapshot_put(&s->rule_table, &s->rules, snapshot_hash_name(r->name), r);
	return 0;
}
