/* SPDX-License-Identifier: Apache-2.0 */
#include "rule_same.h"

#include <math.h>
#include <string.h>

static bool same_bytes(const char *a, size_t a_len, const char *b, size_t b_len)
{
	return a_len == b_len && memcmp(a, b, a_len) == 0;
}

static bool same_literal(const struct value *a, const struct value *b)
{
	if (a->type != b->type)
		return false;
	switch (a->type) {
	case VALUE_NULL:
		return true;
	case VALUE_BOOL:
		return a->u.boolean == b->u.boolean;
	case VALUE_INTEGER:
		return a->u.integer == b->u.integer;
	case VALUE_NUMBER: /* 0.0 is not -0.0 */
		return a->u.number == b->u.number && signbit(a->u.number) == signbit(b->u.number);
	case VALUE_TEXT:
		return same_bytes(a->u.text.data, a->u.text.len, b->u.text.data, b->u.text.len);
	default:
		return false;
	}
}

static bool same_path(const struct rule_node *a, const struct rule_node *b)
{
	if (a->u.path.count != b->u.path.count)
		return false;
	for (size_t i = 0; i < a->u.path.count; i++) {
		const struct rule_step *x = &a->u.path.steps[i], *y = &b->u.path.steps[i];

		if (x->is_index != y->is_index)
			return false;
		if (x->is_index ? x->index != y->index
				: !same_bytes(x->name, x->name_len, y->name, y->name_len))
			return false;
	}
	return true;
}

static bool same_list(struct rule_node *const *a, size_t a_count, struct rule_node *const *b,
		      size_t b_count)
{
	if (a_count != b_count)
		return false;
	for (size_t i = 0; i < a_count; i++)
		if (!rule_same_node(a[i], b[i]))
			return false;
	return true;
}

static bool same_case(const struct rule_node *a, const struct rule_node *b)
{
	if (a->u.when.count != b->u.when.count ||
	    !rule_same_node(a->u.when.subject, b->u.when.subject) ||
	    !rule_same_node(a->u.when.otherwise, b->u.when.otherwise))
		return false;
	for (size_t i = 0; i < a->u.when.count; i++)
		if (!rule_same_node(a->u.when.arms[i].when, b->u.when.arms[i].when) ||
		    !rule_same_node(a->u.when.arms[i].then, b->u.when.arms[i].then))
			return false;
	return true;
}

static bool same_object(const struct rule_node *a, const struct rule_node *b)
{
	if (a->u.object.count != b->u.object.count)
		return false;
	for (size_t i = 0; i < a->u.object.count; i++) {
		const struct rule_pair *x = &a->u.object.pairs[i], *y = &b->u.object.pairs[i];

		if (!same_bytes(x->key, x->key_len, y->key, y->key_len) ||
		    !rule_same_node(x->value, y->value))
			return false;
	}
	return true;
}

bool rule_same_node(const struct rule_node *a, const struct rule_node *b)
{
	if (!a || !b)
		return a == b;
	if (a->kind != b->kind)
		return false;
	switch (a->kind) {
	case NODE_LITERAL:
		return same_literal(&a->u.literal, &b->u.literal);
	case NODE_UNDEFINED:
	case NODE_ALL:
		return true;
	case NODE_PATH:
		return same_path(a, b);
	case NODE_CALL:
		return a->u.call.function == b->u.call.function &&
		       same_list(a->u.call.args, a->u.call.count, b->u.call.args, b->u.call.count);
	case NODE_NOT:
	case NODE_NEGATE:
		return rule_same_node(a->u.operand, b->u.operand);
	case NODE_BINARY:
		return a->u.binary.op == b->u.binary.op &&
		       rule_same_node(a->u.binary.left, b->u.binary.left) &&
		       rule_same_node(a->u.binary.right, b->u.binary.right);
	case NODE_IN:
		return a->u.in.negated == b->u.in.negated && a->u.in.is_array == b->u.in.is_array &&
		       rule_same_node(a->u.in.subject, b->u.in.subject) &&
		       same_list(a->u.in.items, a->u.in.count, b->u.in.items, b->u.in.count);
	case NODE_BETWEEN:
		return a->u.between.negated == b->u.between.negated &&
		       rule_same_node(a->u.between.subject, b->u.between.subject) &&
		       rule_same_node(a->u.between.low, b->u.between.low) &&
		       rule_same_node(a->u.between.high, b->u.between.high);
	case NODE_LIKE:
		return a->u.like.negated == b->u.like.negated &&
		       rule_same_node(a->u.like.subject, b->u.like.subject) &&
		       rule_same_node(a->u.like.pattern, b->u.like.pattern);
	case NODE_CASE:
		return same_case(a, b);
	case NODE_ARRAY:
		return same_list(a->u.array.items, a->u.array.count, b->u.array.items,
				 b->u.array.count);
	case NODE_OBJECT:
		return same_object(a, b);
	}
	return false;
}

bool rule_same_statement(const struct rule_statement *a, const struct rule_statement *b)
{
	if (a->field_count != b->field_count || strcmp(a->filter, b->filter) != 0)
		return false;
	for (size_t i = 0; i < a->field_count; i++) {
		const struct rule_field *x = &a->fields[i], *y = &b->fields[i];

		if (x->everything != y->everything || x->alias_given != y->alias_given)
			return false;
		if (x->everything)
			continue;
		if (!same_bytes(x->alias, x->alias_len, y->alias, y->alias_len) ||
		    !rule_same_node(x->expression, y->expression))
			return false;
	}
	return rule_same_node(a->where, b->where);
}
