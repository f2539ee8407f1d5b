/* SPDX-License-Identifier: Apache-2.0 */
/* A statement of a message: WHERE, then the map that SELECT gives. */
#include <errno.h>
#include <string.h>

#include "core/rule/evaluation.h"

#define STATEMENT_WORK 256

static struct rule_evaluation evaluation(const struct rule_statement *s,
					 const struct rule_input *in, struct arena *a, char *why,
					 size_t why_len)
{
	return (struct rule_evaluation){
		.in = in, .arena = a, .name = s->name, .why = why, .why_len = why_len};
}

static int holds(struct rule_evaluation *e, const struct rule_statement *s)
{
	struct rule_result r;
	bool yes;
	int rc = rule_spend(e, STATEMENT_WORK);

	if (rc)
		return rc;
	if (!s->where)
		return 1;
	rc = rule_eval(e, s->where, &r);
	if (rc)
		return rc;
	return rule_to_boolean(&r, &yes) && yes;
}

int rule_holds(const struct rule_statement *s, const struct rule_input *in, struct arena *a,
	       char *why, size_t why_len)
{
	struct rule_evaluation e = evaluation(s, in, a, why, why_len);

	return holds(&e, s);
}

/* Where the member of that name is, or would be. */
static size_t place_of(const struct value *map, const char *key, size_t len)
{
	size_t i = 0;

	while (i < map->u.map.count && !rule_member_is(&map->u.map.members[i], key, len))
		i++;
	return i;
}

void rule_put(struct value *map, const char *key, size_t len, const struct value *v)
{
	size_t i = place_of(map, key, len);

	if (i == map->u.map.count) {
		map->u.map.members[i] = (struct member){.key = key, .key_len = len};
		map->u.map.count++;
	}
	map->u.map.members[i].value = *v;
}

/* What `*` is: the members of the payload. */
static int everything(struct rule_evaluation *e, struct member *single, struct value *out)
{
	const struct value *payload = e->in->payload;

	if (!payload)
		return rule_fail(e, -EBADMSG,
				 "`SELECT *` of a payload that is neither JSON nor CBOR; encode(*, "
				 "'base64') takes it as it is");
	if (payload->type == VALUE_MAP) {
		*out = *payload;
		return 0;
	}
	*single = (struct member){.key = "value", .key_len = 5, .value = *payload};
	out->type = VALUE_MAP;
	out->u.map.members = single;
	out->u.map.count = 1;
	return 0;
}

/* What a field gave already goes before the payload's member of the same name. */
static void put_everything(struct value *map, const struct value *all)
{
	const struct value before = *map;

	if (before.u.map.count == 0 && all->u.map.count > 0) {
		memcpy(map->u.map.members, all->u.map.members,
		       all->u.map.count * sizeof(struct member));
		map->u.map.count = all->u.map.count;
		return;
	}
	for (size_t i = 0; i < all->u.map.count; i++) {
		const struct member *m = &all->u.map.members[i];
		char buffer[RULE_LABEL_MAX];
		struct rule_text name = rule_member_name(m, buffer);

		if (place_of(&before, name.data, name.len) == before.u.map.count)
			map->u.map.members[map->u.map.count++] = *m;
	}
}

static int put_fields(struct rule_evaluation *e, const struct rule_statement *s,
		      const struct value *all, struct value *map)
{
	for (size_t i = 0; i < s->field_count; i++) {
		const struct rule_field *f = &s->fields[i];
		struct rule_result r;
		int rc;

		if (f->everything) {
			put_everything(map, all);
			continue;
		}
		rc = rule_eval(e, f->expression, &r);
		if (rc)
			return rc;
		if (r.defined)
			rule_put(map, f->alias, f->alias_len, &r.value);
	}
	return 0;
}

static int select_fields(struct rule_evaluation *e, const struct rule_statement *s,
			 struct value *out)
{
	struct value all = {.type = VALUE_MAP};
	size_t room = s->field_count;
	void *members, *single;
	int rc = rule_alloc(e, sizeof(struct member), &single);

	for (size_t i = 0; i < s->field_count && !rc; i++) {
		if (!s->fields[i].everything)
			continue;
		rc = everything(e, single, &all);
		room += all.u.map.count;
	}
	if (rc)
		return rc;
	if (s->field_count == 1 && s->fields[0].everything) {
		*out = all;
		return 0;
	}
	rc = rule_alloc(e, room * sizeof(struct member), &members);
	if (rc)
		return rc;
	*out = (struct value){.type = VALUE_MAP, .u.map.members = members};
	return put_fields(e, s, &all, out);
}

int rule_evaluate(const struct rule_statement *s, const struct rule_input *in, struct arena *a,
		  struct value *out, char *why, size_t why_len)
{
	struct rule_evaluation e = evaluation(s, in, a, why, why_len);
	int rc = holds(&e, s);

	if (rc != 1)
		return rc;
	rc = select_fields(&e, s, out);
	return rc ? rc : 1;
}
