/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The value of an expression: one function per kind of node. Truth has three values, as in SQL:
 * what is undefined may yet be decided by the other side of AND and OR.
 */
#include <string.h>

#include "core/rule/evaluation.h"

#define ARGS_ON_STACK 4

enum truth {
	FALSE,
	TRUE,
	UNKNOWN,
};

static enum truth truth(const struct rule_result *r)
{
	bool b;

	return !rule_to_boolean(r, &b) ? UNKNOWN : b ? TRUE : FALSE;
}

static int set_truth(struct rule_result *r, enum truth t)
{
	if (t == UNKNOWN)
		r->defined = false;
	else
		rule_set_boolean(r, t == TRUE);
	return 0;
}

static enum truth negated(enum truth t, bool is_negated)
{
	if (!is_negated || t == UNKNOWN)
		return t;
	return t == TRUE ? FALSE : TRUE;
}

static enum truth equal(const struct rule_result *a, const struct rule_result *b)
{
	if (!a->defined || !b->defined)
		return UNKNOWN;
	return rule_equal(&a->value, &b->value) ? TRUE : FALSE;
}

static enum truth compare(enum rule_operator op, const struct rule_result *a,
			  const struct rule_result *b)
{
	bool holds;
	int order;

	if (!rule_compare(a, b, &order))
		return UNKNOWN;
	switch (op) {
	case OP_LESS:
		holds = order < 0;
		break;
	case OP_LESS_EQUAL:
		holds = order <= 0;
		break;
	case OP_GREATER:
		holds = order > 0;
		break;
	default:
		holds = order >= 0;
		break;
	}
	return holds ? TRUE : FALSE;
}

/* A payload that is no map is one with the single member `value`, as telemetry has it. */
static const struct value *first_step(const struct value *payload, const struct rule_step *s)
{
	if (!payload)
		return NULL;
	if (payload->type == VALUE_MAP)
		return rule_member(payload, s->name, s->name_len);
	return s->name_len == 5 && memcmp(s->name, "value", 5) == 0 ? payload : NULL;
}

static const struct value *step(const struct value *v, const struct rule_step *s)
{
	if (!s->is_index)
		return rule_member(v, s->name, s->name_len);
	if (v->type != VALUE_ARRAY || s->index < 0 || (uint64_t)s->index >= v->u.array.count)
		return NULL;
	return &v->u.array.items[s->index];
}

static void set_value(struct rule_result *out, const struct value *v)
{
	out->defined = v;
	if (v)
		out->value = *v;
}

static int eval_path(struct rule_evaluation *e, const struct rule_node *n, struct rule_result *out)
{
	const struct value *v = first_step(e->in->payload, &n->u.path.steps[0]);

	for (size_t i = 1; v && i < n->u.path.count; i++)
		v = step(v, &n->u.path.steps[i]);
	set_value(out, v);
	return 0;
}

static int eval_all_of(struct rule_evaluation *e, struct rule_node *const *nodes, size_t count,
		       struct rule_result *out)
{
	for (size_t i = 0; i < count; i++) {
		int rc = rule_eval(e, nodes[i], &out[i]);

		if (rc)
			return rc;
	}
	return 0;
}

/* The payload as an argument of a function that takes bytes is what came, decoded or not. */
static int eval_call(struct rule_evaluation *e, const struct rule_node *n, struct rule_result *out)
{
	const struct rule_function *f = n->u.call.function;
	struct rule_result few[ARGS_ON_STACK], *args = few;
	size_t count = n->u.call.count;
	int rc;

	if (count > ARGS_ON_STACK) {
		void *many;

		rc = rule_alloc(e, count * sizeof(*args), &many);
		if (rc)
			return rc;
		args = many;
	}
	rc = eval_all_of(e, n->u.call.args, count, args);
	if (rc)
		return rc;
	if (f->takes_all && n->u.call.args[0]->kind == NODE_ALL)
		rule_set_bytes(&args[0], e->in->raw, e->in->raw_len);
	out->defined = false;
	return f->call(e, args, count, out);
}

/* The right side is looked at only when the left one does not decide. */
static int eval_logic(struct rule_evaluation *e, const struct rule_node *n, struct rule_result *out)
{
	enum truth deciding = n->u.binary.op == OP_AND ? FALSE : TRUE, left, right;
	int rc = rule_eval(e, n->u.binary.left, out);

	if (rc)
		return rc;
	left = truth(out);
	if (left == deciding)
		return set_truth(out, left);
	rc = rule_eval(e, n->u.binary.right, out);
	if (rc)
		return rc;
	right = truth(out);
	return set_truth(out, right == deciding || left != UNKNOWN ? right : UNKNOWN);
}

static int eval_binary(struct rule_evaluation *e, const struct rule_node *n,
		       struct rule_result *out)
{
	enum rule_operator op = n->u.binary.op;
	struct rule_result a, b;
	int rc;

	if (op == OP_AND || op == OP_OR)
		return eval_logic(e, n, out);
	rc = rule_eval(e, n->u.binary.left, &a);
	if (!rc)
		rc = rule_eval(e, n->u.binary.right, &b);
	if (rc)
		return rc;
	switch (op) {
	case OP_EQUAL:
	case OP_NOT_EQUAL:
		return set_truth(out, negated(equal(&a, &b), op == OP_NOT_EQUAL));
	case OP_LESS:
	case OP_LESS_EQUAL:
	case OP_GREATER:
	case OP_GREATER_EQUAL:
		return set_truth(out, compare(op, &a, &b));
	default:
		return rule_arithmetic(e, op, &a, &b, out);
	}
}

static int eval_not(struct rule_evaluation *e, const struct rule_node *n, struct rule_result *out)
{
	int rc = rule_eval(e, n->u.operand, out);

	return rc ? rc : set_truth(out, negated(truth(out), true));
}

static int eval_negate(struct rule_evaluation *e, const struct rule_node *n,
		       struct rule_result *out)
{
	struct rule_result zero, x;
	int rc = rule_eval(e, n->u.operand, &x);

	if (rc)
		return rc;
	rule_set_integer(&zero, 0);
	return rule_arithmetic(e, OP_SUBTRACT, &zero, &x, out);
}

static enum truth among(const struct rule_result *subject, const struct value *items, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (rule_equal(&subject->value, &items[i]))
			return TRUE;
	return FALSE;
}

/* x IN (a, b) is x = a OR x = b. */
static int eval_in_list(struct rule_evaluation *e, const struct rule_node *n,
			const struct rule_result *subject, enum truth *found)
{
	*found = FALSE;
	for (size_t i = 0; i < n->u.in.count && *found != TRUE; i++) {
		struct rule_result item;
		int rc = rule_eval(e, n->u.in.items[i], &item);
		enum truth same;

		if (rc)
			return rc;
		same = equal(subject, &item);
		if (same != FALSE)
			*found = same;
	}
	return 0;
}

static int eval_in_array(struct rule_evaluation *e, const struct rule_node *n,
			 const struct rule_result *subject, enum truth *found)
{
	struct rule_result array;
	int rc = rule_eval(e, n->u.in.items[0], &array);

	if (rc)
		return rc;
	*found = UNKNOWN;
	if (subject->defined && array.defined && array.value.type == VALUE_ARRAY)
		*found = among(subject, array.value.u.array.items, array.value.u.array.count);
	return 0;
}

static int eval_in(struct rule_evaluation *e, const struct rule_node *n, struct rule_result *out)
{
	struct rule_result subject;
	enum truth found = UNKNOWN;
	int rc = rule_eval(e, n->u.in.subject, &subject);

	if (!rc)
		rc = n->u.in.is_array ? eval_in_array(e, n, &subject, &found)
				      : eval_in_list(e, n, &subject, &found);
	return rc ? rc : set_truth(out, negated(found, n->u.in.negated));
}

static int eval_between(struct rule_evaluation *e, const struct rule_node *n,
			struct rule_result *out)
{
	struct rule_result x, low, high;
	enum truth above, below, both;
	int rc = rule_eval(e, n->u.between.subject, &x);

	if (!rc)
		rc = rule_eval(e, n->u.between.low, &low);
	if (!rc)
		rc = rule_eval(e, n->u.between.high, &high);
	if (rc)
		return rc;
	above = compare(OP_GREATER_EQUAL, &x, &low);
	below = compare(OP_LESS_EQUAL, &x, &high);
	if (above == FALSE || below == FALSE)
		both = FALSE;
	else
		both = above == TRUE && below == TRUE ? TRUE : UNKNOWN;
	return set_truth(out, negated(both, n->u.between.negated));
}

static int eval_like(struct rule_evaluation *e, const struct rule_node *n, struct rule_result *out)
{
	struct rule_result subject, pattern;
	int rc = rule_eval(e, n->u.like.subject, &subject);

	if (!rc)
		rc = rule_eval(e, n->u.like.pattern, &pattern);
	if (!rc)
		rc = rule_like(e, &subject, &pattern, out);
	return rc ? rc : set_truth(out, negated(truth(out), n->u.like.negated));
}

/* CASE <undefined> WHEN ... is undefined, whatever ELSE says; an arm that is undefined is none. */
static int eval_case(struct rule_evaluation *e, const struct rule_node *n, struct rule_result *out)
{
	struct rule_result subject, when;
	int rc;

	out->defined = false;
	if (n->u.when.subject) {
		rc = rule_eval(e, n->u.when.subject, &subject);
		if (rc || !subject.defined)
			return rc;
	}
	for (size_t i = 0; i < n->u.when.count; i++) {
		const struct rule_arm *arm = &n->u.when.arms[i];

		rc = rule_eval(e, arm->when, &when);
		if (rc)
			return rc;
		if ((n->u.when.subject ? equal(&subject, &when) : truth(&when)) == TRUE)
			return rule_eval(e, arm->then, out);
	}
	return n->u.when.otherwise ? rule_eval(e, n->u.when.otherwise, out) : 0;
}

/* An undefined item is null: those behind it keep their places. */
static int eval_array(struct rule_evaluation *e, const struct rule_node *n, struct rule_result *out)
{
	size_t count = n->u.array.count;
	struct value *items;
	void *room;
	int rc = rule_alloc(e, count * sizeof(*items), &room);

	if (rc)
		return rc;
	items = room;
	for (size_t i = 0; i < count; i++) {
		struct rule_result item;

		rc = rule_eval(e, n->u.array.items[i], &item);
		if (rc)
			return rc;
		items[i] = item.defined ? item.value : (struct value){.type = VALUE_NULL};
	}
	out->defined = true;
	out->value.type = VALUE_ARRAY;
	out->value.u.array.items = items;
	out->value.u.array.count = count;
	return 0;
}

static int eval_object(struct rule_evaluation *e, const struct rule_node *n,
		       struct rule_result *out)
{
	struct value map = {.type = VALUE_MAP};
	void *room;
	int rc = rule_alloc(e, n->u.object.count * sizeof(struct member), &room);

	if (rc)
		return rc;
	map.u.map.members = room;
	for (size_t i = 0; i < n->u.object.count; i++) {
		const struct rule_pair *pair = &n->u.object.pairs[i];
		struct rule_result r;

		rc = rule_eval(e, pair->value, &r);
		if (rc)
			return rc;
		if (r.defined)
			rule_put(&map, pair->key, pair->key_len, &r.value);
	}
	out->defined = true;
	out->value = map;
	return 0;
}

int rule_eval(struct rule_evaluation *e, const struct rule_node *n, struct rule_result *out)
{
	switch (n->kind) {
	case NODE_LITERAL:
		out->defined = true;
		out->value = n->u.literal;
		return 0;
	case NODE_UNDEFINED:
		out->defined = false;
		return 0;
	case NODE_ALL:
		set_value(out, e->in->payload);
		return 0;
	case NODE_PATH:
		return eval_path(e, n, out);
	case NODE_CALL:
		return eval_call(e, n, out);
	case NODE_NOT:
		return eval_not(e, n, out);
	case NODE_NEGATE:
		return eval_negate(e, n, out);
	case NODE_BINARY:
		return eval_binary(e, n, out);
	case NODE_IN:
		return eval_in(e, n, out);
	case NODE_BETWEEN:
		return eval_between(e, n, out);
	case NODE_LIKE:
		return eval_like(e, n, out);
	case NODE_CASE:
		return eval_case(e, n, out);
	case NODE_ARRAY:
		return eval_array(e, n, out);
	case NODE_OBJECT:
		return eval_object(e, n, out);
	}
	out->defined = false;
	return 0;
}
