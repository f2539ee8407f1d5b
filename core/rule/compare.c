/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/rule/evaluation.h"

#define INT64_BOUND 9223372036854775808.0

struct rule_text rule_member_name(const struct member *m, char buffer[RULE_LABEL_MAX])
{
	if (!m->is_label)
		return (struct rule_text){.data = m->key, .len = m->key_len};
	return (struct rule_text){
		.data = buffer,
		.len = (size_t)snprintf(buffer, RULE_LABEL_MAX, "%" PRId64, m->label)};
}

/* Most names that labels are compared with are words. */
static bool label_is(const struct member *m, const char *name, size_t len)
{
	char buffer[RULE_LABEL_MAX];
	struct rule_text label;

	if (len == 0 || name[0] > '9')
		return false;
	label = rule_member_name(m, buffer);
	return label.len == len && memcmp(label.data, name, len) == 0;
}

bool rule_member_is(const struct member *m, const char *name, size_t len)
{
	if (m->is_label)
		return label_is(m, name, len);
	return m->key_len == len && memcmp(m->key, name, len) == 0;
}

/* What most of an evaluation's time is spent on: the last letter tells most names of one length
 * apart (temp1, temp2) before memcmp is called. */
const struct value *rule_member(const struct value *v, const char *name, size_t len)
{
	char last = len > 0 ? name[len - 1] : 0;

	if (v->type != VALUE_MAP)
		return NULL;
	for (size_t i = 0; i < v->u.map.count; i++) {
		const struct member *m = &v->u.map.members[i];

		if (m->is_label
			    ? label_is(m, name, len)
			    : m->key_len == len && (len == 0 || (m->key[len - 1] == last &&
								 memcmp(m->key, name, len) == 0)))
			return &m->value;
	}
	return NULL;
}

static bool same_text(const struct value *a, const struct value *b)
{
	return a->u.text.len == b->u.text.len &&
	       memcmp(a->u.text.data, b->u.text.data, a->u.text.len) == 0;
}

static bool same_array(const struct value *a, const struct value *b)
{
	if (a->u.array.count != b->u.array.count)
		return false;
	for (size_t i = 0; i < a->u.array.count; i++)
		if (!rule_equal(&a->u.array.items[i], &b->u.array.items[i]))
			return false;
	return true;
}

/* Names are unique in a map, so as many members, each with its equal, are all of them. */
static bool same_map(const struct value *a, const struct value *b)
{
	if (a->u.map.count != b->u.map.count)
		return false;
	for (size_t i = 0; i < a->u.map.count; i++) {
		const struct member *m = &a->u.map.members[i];
		char buffer[RULE_LABEL_MAX];
		struct rule_text name = rule_member_name(m, buffer);
		const struct value *v = rule_member(b, name.data, name.len);

		if (!v || !rule_equal(&m->value, v))
			return false;
	}
	return true;
}

static bool is_number(const struct value *v)
{
	return v->type == VALUE_INTEGER || v->type == VALUE_NUMBER;
}

bool rule_equal(const struct value *a, const struct value *b)
{
	if (is_number(a) && is_number(b))
		return rule_compare_numbers(a, b) == 0;
	if (a->type != b->type)
		return false;
	switch (a->type) {
	case VALUE_BOOL:
		return a->u.boolean == b->u.boolean;
	case VALUE_TEXT:
	case VALUE_BYTES:
		return same_text(a, b);
	case VALUE_ARRAY:
		return same_array(a, b);
	case VALUE_MAP:
		return same_map(a, b);
	case VALUE_NULL:
	case VALUE_INTEGER:
	case VALUE_NUMBER:
		break;
	}
	return true;
}

/* An integer as a double may be another number: 2^53 + 1. The double as an integer, where it has a
 * counterpart, is compared instead, and then its fraction. */
static int compare_mixed(int64_t i, double x)
{
	double whole = trunc(x);
	int64_t w;

	if (x >= INT64_BOUND)
		return -1;
	if (x < -INT64_BOUND)
		return 1;
	w = (int64_t)whole;
	if (i != w)
		return i < w ? -1 : 1;
	return (x < whole) - (x > whole);
}

int rule_compare_numbers(const struct value *a, const struct value *b)
{
	if (a->type == VALUE_INTEGER && b->type == VALUE_INTEGER)
		return (a->u.integer > b->u.integer) - (a->u.integer < b->u.integer);
	if (a->type == VALUE_INTEGER)
		return compare_mixed(a->u.integer, b->u.number);
	if (b->type == VALUE_INTEGER)
		return -compare_mixed(b->u.integer, a->u.number);
	return (a->u.number > b->u.number) - (a->u.number < b->u.number);
}

/* As the characters' code points: UTF-8 keeps their order. */
static int compare_texts(const struct value *a, const struct value *b)
{
	size_t la = a->u.text.len, lb = b->u.text.len;
	int order = memcmp(a->u.text.data, b->u.text.data, la < lb ? la : lb);

	return order ? order : (la > lb) - (la < lb);
}

bool rule_compare(const struct rule_result *a, const struct rule_result *b, int *order)
{
	struct value x, y;

	if (rule_to_number(a, &x) && rule_to_number(b, &y)) {
		*order = rule_compare_numbers(&x, &y);
		return true;
	}
	if (!a->defined || !b->defined || a->value.type != VALUE_TEXT ||
	    b->value.type != VALUE_TEXT)
		return false;
	*order = compare_texts(&a->value, &b->value);
	return true;
}
