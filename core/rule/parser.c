/* SPDX-License-Identifier: Apache-2.0 */
#include "core/rule/parser.h"

#include <string.h>

#include "core/rule/functions.h"
#include "core/rule/parser_internal.h"

/* --- Nodes --- */

struct rule_tree tree_new(struct parser *p, enum rule_node_kind kind, size_t at, unsigned below)
{
	struct rule_tree t = {.height = below + 1};

	if (p->lx.error)
		return t;
	if (t.height > RULE_DEPTH_MAX) {
		lexer_fail(&p->lx, at,
			   "expressions are nested more than %d deep (each operator of a chain "
			   "counts): use parentheses, IN or concat()",
			   RULE_DEPTH_MAX);
		return t;
	}
	if (p->nodes == RULE_NODES_MAX) {
		lexer_fail(&p->lx, at, "more than %d values and operators", RULE_NODES_MAX);
		return t;
	}
	t.node = arena_alloc(p->arena, sizeof(*t.node));
	if (!t.node) {
		lexer_fail_memory(&p->lx);
		return t;
	}
	*t.node = (struct rule_node){.kind = kind, .at = (uint32_t)at};
	p->nodes++;
	return t;
}

bool parser_enter(struct parser *p)
{
	if (p->lx.error)
		return false;
	if (p->depth == PARSER_DEPTH_MAX) {
		lexer_fail(&p->lx, p->lx.token.at,
			   "expressions and parentheses are nested more than %d deep",
			   PARSER_DEPTH_MAX);
		return false;
	}
	p->depth++;
	return true;
}

void parser_leave(struct parser *p)
{
	p->depth--;
}

static unsigned higher(unsigned a, unsigned b)
{
	return a > b ? a : b;
}

/* --- Operators --- */

static const struct {
	int sign;
	enum rule_operator op;
	enum rule_level level;
} operators[] = {
	{'=', OP_EQUAL, LEVEL_COMPARE},	    {SIGN_NOT_EQUAL, OP_NOT_EQUAL, LEVEL_COMPARE},
	{'<', OP_LESS, LEVEL_COMPARE},	    {SIGN_LESS_EQUAL, OP_LESS_EQUAL, LEVEL_COMPARE},
	{'>', OP_GREATER, LEVEL_COMPARE},   {SIGN_GREATER_EQUAL, OP_GREATER_EQUAL, LEVEL_COMPARE},
	{'+', OP_ADD, LEVEL_ADD},	    {'-', OP_SUBTRACT, LEVEL_ADD},
	{'*', OP_MULTIPLY, LEVEL_MULTIPLY}, {'/', OP_DIVIDE, LEVEL_MULTIPLY},
	{'%', OP_MODULO, LEVEL_MULTIPLY},
};

/* The operator that is looked at, if it is one with two operands: its level; 0: it is none. IN,
 * BETWEEN, LIKE, and NOT before them, have the level of comparisons and no rule_operator. */
static int operator_at(const struct lexer *lx, enum rule_operator *op, bool *is_word)
{
	*is_word = lx->token.kind == TOKEN_WORD;
	if (*is_word) {
		switch (lx->token.word) {
		case WORD_OR:
			*op = OP_OR;
			return LEVEL_OR;
		case WORD_AND:
			*op = OP_AND;
			return LEVEL_AND;
		case WORD_IN:
		case WORD_BETWEEN:
		case WORD_LIKE:
		case WORD_NOT:
			return LEVEL_COMPARE;
		default:
			return 0;
		}
	}
	if (lx->token.kind == TOKEN_SIGN) {
		for (size_t i = 0; i < sizeof(operators) / sizeof(operators[0]); i++) {
			if (operators[i].sign == lx->token.sign) {
				*op = operators[i].op;
				return (int)operators[i].level;
			}
		}
	}
	return 0;
}

static struct rule_tree parse_level(struct parser *p, int level);

static struct rule_tree binary(struct parser *p, struct rule_tree left, enum rule_operator op,
			       int level)
{
	size_t at = p->lx.token.at;
	struct rule_tree right, t;

	lexer_next(&p->lx);
	right = parse_level(p, level + 1);
	t = tree_new(p, NODE_BINARY, at, higher(left.height, right.height));
	if (t.node) {
		t.node->u.binary.op = op;
		t.node->u.binary.left = left.node;
		t.node->u.binary.right = right.node;
	}
	return t;
}

/* What IN looks through without parentheses: anything that can give an array, and only if it
 * cannot be taken for the list itself. */
static struct rule_tree parse_in_array(struct parser *p)
{
	const struct token *t = &p->lx.token;
	bool possible = t->kind == TOKEN_NAME ||
			(t->kind == TOKEN_WORD && (t->word == WORD_NONE || t->word == WORD_CASE)) ||
			lexer_is_sign(&p->lx, '[');

	if (!possible) {
		lexer_fail_expected(&p->lx, "'(', '[' or the name of an array");
		return (struct rule_tree){0};
	}
	return parse_primary(p);
}

static struct rule_tree parse_in(struct parser *p, struct rule_tree subject, bool negated,
				 size_t at)
{
	size_t first = p->item_count, count = 1;
	bool is_array = !lexer_is_sign(&p->lx, '(');
	struct rule_node **items;
	struct rule_tree t = {0};
	unsigned below;

	if (is_array) {
		struct rule_tree array = parse_in_array(p);

		below = array.height;
		parser_push(p, array.node, NULL, 0);
	} else {
		lexer_next(&p->lx);
		below = parse_list(p, ')');
		count = p->item_count - first;
	}
	items = parser_take_nodes(p, first);
	t = tree_new(p, NODE_IN, at, higher(subject.height, below));
	if (t.node) {
		t.node->u.in.subject = subject.node;
		t.node->u.in.items = items;
		t.node->u.in.count = count;
		t.node->u.in.negated = negated;
		t.node->u.in.is_array = is_array;
	}
	return t;
}

static struct rule_tree parse_between(struct parser *p, struct rule_tree subject, bool negated,
				      size_t at)
{
	struct rule_tree low = parse_level(p, LEVEL_ADD), high = {0}, t;

	if (!p->lx.error && !lexer_skip_word(&p->lx, WORD_AND))
		lexer_fail_expected(&p->lx, "AND between the two ends");
	if (!p->lx.error)
		high = parse_level(p, LEVEL_ADD);
	t = tree_new(p, NODE_BETWEEN, at, higher(subject.height, higher(low.height, high.height)));
	if (t.node) {
		t.node->u.between.subject = subject.node;
		t.node->u.between.low = low.node;
		t.node->u.between.high = high.node;
		t.node->u.between.negated = negated;
	}
	return t;
}

static struct rule_tree parse_like(struct parser *p, struct rule_tree subject, bool negated,
				   size_t at)
{
	struct rule_tree pattern = parse_level(p, LEVEL_ADD);
	struct rule_tree t = tree_new(p, NODE_LIKE, at, higher(subject.height, pattern.height));

	if (t.node) {
		t.node->u.like.subject = subject.node;
		t.node->u.like.pattern = pattern.node;
		t.node->u.like.negated = negated;
	}
	return t;
}

/* [NOT] IN, [NOT] BETWEEN, [NOT] LIKE. */
static struct rule_tree parse_predicate(struct parser *p, struct rule_tree subject)
{
	size_t at = p->lx.token.at;
	bool negated = lexer_skip_word(&p->lx, WORD_NOT);

	if (lexer_skip_word(&p->lx, WORD_IN))
		return parse_in(p, subject, negated, at);
	if (lexer_skip_word(&p->lx, WORD_BETWEEN))
		return parse_between(p, subject, negated, at);
	if (lexer_skip_word(&p->lx, WORD_LIKE))
		return parse_like(p, subject, negated, at);
	lexer_fail_expected(&p->lx, "IN, BETWEEN or LIKE");
	return (struct rule_tree){0};
}

static struct rule_tree parse_not(struct parser *p)
{
	size_t at = p->lx.token.at;
	struct rule_tree operand, t;

	if (!parser_enter(p))
		return (struct rule_tree){0};
	lexer_next(&p->lx);
	operand = parse_level(p, LEVEL_NOT);
	parser_leave(p);
	t = tree_new(p, NODE_NOT, at, operand.height);
	if (t.node)
		t.node->u.operand = operand.node;
	return t;
}

/* A sign before a number's digits belongs to the number, so that -9223372036854775808 is one. */
static struct rule_tree parse_unary(struct parser *p)
{
	size_t at = p->lx.token.at;
	struct rule_tree operand, t;

	if (!lexer_is_sign(&p->lx, '-'))
		return parse_primary(p);
	if (!parser_enter(p))
		return (struct rule_tree){0};
	lexer_next(&p->lx);
	if (p->lx.token.kind == TOKEN_NUMBER) {
		t = parse_number(p, at, true);
		parser_leave(p);
		return t;
	}
	operand = parse_unary(p);
	parser_leave(p);
	t = tree_new(p, NODE_NEGATE, at, operand.height);
	if (t.node)
		t.node->u.operand = operand.node;
	return t;
}

/* Operators of this level and those that hold more tightly; equal ones from left to right. */
static struct rule_tree parse_level(struct parser *p, int level)
{
	bool compared = false;
	struct rule_tree t;

	if (level <= LEVEL_NOT && lexer_is_word(&p->lx, WORD_NOT))
		t = parse_not(p);
	else
		t = parse_unary(p);
	while (!p->lx.error) {
		enum rule_operator op = OP_OR;
		bool is_word;
		int found = operator_at(&p->lx, &op, &is_word);

		if (found == 0 || found < level)
			break;
		if (found == LEVEL_COMPARE && compared) {
			lexer_fail(&p->lx, p->lx.token.at,
				   "a comparison of a comparison needs parentheses");
			break;
		}
		compared = found == LEVEL_COMPARE;
		if (compared && is_word)
			t = parse_predicate(p, t);
		else
			t = binary(p, t, op, found);
	}
	if (p->lx.error)
		t.node = NULL;
	return t;
}

struct rule_tree parse_expression(struct parser *p)
{
	struct rule_tree t = {0};

	if (!parser_enter(p))
		return t;
	t = parse_level(p, LEVEL_OR);
	parser_leave(p);
	return t;
}
