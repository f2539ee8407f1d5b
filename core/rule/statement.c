/* SPDX-License-Identifier: Apache-2.0 */
/* SELECT ... FROM ... WHERE ...: a statement from its text. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/payload/text.h"
#include "core/registry/topic.h"
#include "core/rule/functions.h"
#include "core/rule/parser.h"

#define ARENA_CHUNK 2048
/* Nodes and lists of RULE_NODES_MAX and a path of RULE_TEXT_MAX / 2 steps need less. */
#define ARENA_LIMIT ((size_t)1024 * 1024)

/* --- Names of fields --- */

static const char *alias_of_path(const struct rule_node *n, size_t *len)
{
	size_t i = n->u.path.count;

	while (n->u.path.steps[i - 1].is_index)
		i--;
	*len = n->u.path.steps[i - 1].name_len;
	return n->u.path.steps[i - 1].name;
}

static bool is_text(const struct rule_node *n)
{
	return n->kind == NODE_LITERAL && n->u.literal.type == VALUE_TEXT;
}

static bool is_integer(const struct rule_node *n)
{
	return n->kind == NODE_LITERAL && n->u.literal.type == VALUE_INTEGER;
}

/* get(x, 'name') is also what f().name becomes, so it is called as that is: name; get(x, 0) as x.
 */
const char *rule_default_alias(const struct rule_node *n, size_t *len)
{
	while (n->kind == NODE_CALL && strcmp(n->u.call.function->name, "get") == 0) {
		const struct rule_node *which = n->u.call.args[1];

		if (is_text(which)) {
			*len = which->u.literal.u.text.len;
			return which->u.literal.u.text.data;
		}
		if (!is_integer(which))
			break;
		n = n->u.call.args[0];
	}
	switch (n->kind) {
	case NODE_PATH:
		return alias_of_path(n, len);
	case NODE_CALL:
		*len = strlen(n->u.call.function->name);
		return n->u.call.function->name;
	case NODE_ALL:
		*len = 7;
		return "payload";
	default:
		return NULL;
	}
}

static bool set_alias(struct parser *p, struct rule_field *f, const char *name, size_t len)
{
	f->alias = arena_strndup(p->arena, name, len);
	f->alias_len = len;
	if (!f->alias)
		lexer_fail_memory(&p->lx);
	return f->alias;
}

static bool parse_alias(struct parser *p, struct rule_field *f)
{
	const struct token *t = &p->lx.token;

	if (t->kind == TOKEN_WORD && t->word != WORD_NONE) {
		lexer_fail_expected(&p->lx, "a name (a word of the language is put in quotes)");
		return false;
	}
	if (t->kind != TOKEN_WORD && t->kind != TOKEN_NAME) {
		lexer_fail_expected(&p->lx, "a name");
		return false;
	}
	f->alias_given = true;
	if (!set_alias(p, f, t->data, t->data_len))
		return false;
	lexer_next(&p->lx);
	if (!lexer_is_sign(&p->lx, '.') && !lexer_is_sign(&p->lx, '['))
		return true;
	lexer_fail(&p->lx, p->lx.token.at,
		   "AS takes one name; an object inside is written {'name': value}");
	return false;
}

/* clientid() is the function device(), but whoever wrote it expects `clientid`. */
static bool is_other_name(const struct rule_node *n, const struct token *first)
{
	return n->kind == NODE_CALL && n->at == first->at && first->kind == TOKEN_WORD &&
	       (strlen(n->u.call.function->name) != first->data_len ||
		strncasecmp(n->u.call.function->name, first->data, first->data_len) != 0);
}

static bool name_without_as(struct parser *p, struct rule_field *f, const struct token *first)
{
	const char *name;
	size_t len;

	f->alias_given = is_other_name(f->expression, first);
	if (f->alias_given)
		return set_alias(p, f, first->data, first->data_len);
	name = rule_default_alias(f->expression, &len);
	if (name)
		return set_alias(p, f, name, len);
	lexer_fail_expected(&p->lx, "AS and a name");
	return false;
}

/* --- Clauses --- */

static void check_twice(struct parser *p, const struct rule_field *fields, size_t count, size_t at)
{
	const struct rule_field *f = &fields[count];

	for (size_t i = 0; i < count; i++) {
		if (f->everything && fields[i].everything)
			lexer_fail(&p->lx, at, "'*' is there already");
		else if (!f->everything && !fields[i].everything &&
			 f->alias_len == fields[i].alias_len &&
			 memcmp(f->alias, fields[i].alias, f->alias_len) == 0)
			lexer_fail(&p->lx, at, "two fields are called '%.*s%s': rename one with AS",
				   f->alias_len < 40 ? (int)f->alias_len : 40, f->alias,
				   f->alias_len > 40 ? "..." : "");
	}
}

/*
 * AWS's SELECT VALUE x, which a member called value must not be taken for: what follows cannot
 * follow a name. Looking ahead is reading and going back.
 */
static bool is_select_value(const struct parser *p)
{
	struct lexer lx = p->lx;
	const struct token *t = &lx.token;

	if (t->kind != TOKEN_WORD || t->data_len != 5 || strncasecmp(t->data, "value", 5) != 0)
		return false;
	lexer_next(&lx);
	if (lexer_skip_sign(&lx, '*'))
		return lexer_is_word(&lx, WORD_FROM);
	if (t->kind == TOKEN_WORD)
		return t->word == WORD_CASE ||
		       (t->word == WORD_NONE && !rule_word_hint(t->data, t->data_len));
	return t->kind == TOKEN_NAME || t->kind == TOKEN_TEXT || t->kind == TOKEN_NUMBER ||
	       lexer_is_sign(&lx, '{');
}

/* false: lx.error says why. */
static bool parse_field(struct parser *p, struct rule_field *f)
{
	const struct token first = p->lx.token;

	*f = (struct rule_field){.everything = lexer_skip_sign(&p->lx, '*')};
	if (f->everything) {
		if (!lexer_is_word(&p->lx, WORD_AS))
			return true;
		lexer_fail(&p->lx, p->lx.token.at,
			   "'*' has no name of its own: write payload AS name");
		return false;
	}
	if (is_select_value(p)) {
		lexer_fail(&p->lx, first.at, "SELECT VALUE is AWS's and not part of this language");
		return false;
	}
	f->expression = parse_expression(p).node;
	if (!f->expression)
		return false;
	if (lexer_skip_word(&p->lx, WORD_AS))
		return parse_alias(p, f);
	return name_without_as(p, f, &first);
}

static void parse_select(struct parser *p, struct rule_statement *s)
{
	struct rule_field fields[RULE_FIELDS_MAX];
	size_t count = 0;

	if (!lexer_skip_word(&p->lx, WORD_SELECT)) {
		lexer_fail_expected(&p->lx, "SELECT");
		return;
	}
	do {
		size_t at = p->lx.token.at;

		if (count == RULE_FIELDS_MAX) {
			lexer_fail(&p->lx, at, "more than %d fields", RULE_FIELDS_MAX);
			return;
		}
		if (!parse_field(p, &fields[count]))
			return;
		check_twice(p, fields, count, at);
		count++;
	} while (!p->lx.error && lexer_skip_sign(&p->lx, ','));
	if (!lexer_is_word(&p->lx, WORD_FROM)) {
		bool renamed = fields[count - 1].everything || fields[count - 1].alias_given;

		lexer_fail_expected(&p->lx, renamed ? "',' or FROM" : "AS, ',' or FROM");
		return;
	}
	s->fields = arena_alloc(p->arena, count * sizeof(*fields));
	if (!s->fields) {
		lexer_fail_memory(&p->lx);
		return;
	}
	memcpy(s->fields, fields, count * sizeof(*fields));
	s->field_count = count;
}

static void check_filter(struct parser *p, const char *filter, size_t at)
{
	if (!topic_filter_valid(filter))
		lexer_fail(&p->lx, at,
			   "this is no topic filter: '+' is a whole level, '#' the whole last one");
	else if (strstr(filter, "${"))
		lexer_fail(&p->lx, at,
			   "nothing is filled in here: write '+' and compare with device() or "
			   "topic(n)");
	else if (strncmp(filter, "$share/", 7) == 0)
		lexer_fail(&p->lx, at, "a rule sees every message: leave out $share/<group>/");
	else if (strncmp(filter, "$events/", 8) == 0)
		lexer_fail(&p->lx, at,
			   "EMQX's events are not here; presence is on m/presence/<device>");
}

/* FROM is looked at. */
static void parse_from(struct parser *p, struct rule_statement *s)
{
	const struct token *t = &p->lx.token;
	size_t at;

	lexer_next(&p->lx);
	if (t->kind != TOKEN_TEXT && t->kind != TOKEN_NAME) {
		lexer_fail_expected(&p->lx, "a topic filter in quotes");
		return;
	}
	at = t->at;
	s->filter = arena_strndup(p->arena, t->data, t->data_len);
	if (!s->filter) {
		lexer_fail_memory(&p->lx);
		return;
	}
	check_filter(p, s->filter, at);
	lexer_next(&p->lx);
	if (lexer_is_sign(&p->lx, ','))
		lexer_fail(&p->lx, p->lx.token.at,
			   "a rule has one topic filter: make a rule of each");
}

static void parse_where(struct parser *p, struct rule_statement *s)
{
	if (lexer_skip_word(&p->lx, WORD_WHERE))
		s->where = parse_expression(p).node;
	lexer_skip_sign(&p->lx, ';');
	if (!p->lx.error && p->lx.token.kind != TOKEN_END)
		lexer_fail_expected(&p->lx, s->where ? "the end" : "WHERE or the end");
}

/* --- The whole --- */

static int parse_text(struct rule_statement *s, const char *text, size_t len, char *err,
		      size_t err_len)
{
	struct parser *p = malloc(sizeof(*p));
	char subject[RULE_NAME_MAX + 16];
	int error;

	if (!p)
		return text_reason(err, err_len, -ENOMEM, "rule '%s': no memory", s->name);
	p->arena = &s->arena;
	p->depth = 0;
	p->nodes = 0;
	p->item_count = 0;
	snprintf(subject, sizeof(subject), "rule '%.*s'", RULE_NAME_MAX, s->name);
	lexer_init(&p->lx, &s->arena, subject, false, text, len, err, err_len);
	lexer_next(&p->lx);
	parse_select(p, s);
	if (!p->lx.error)
		parse_from(p, s);
	if (!p->lx.error)
		parse_where(p, s);
	error = p->lx.error;
	free(p);
	return error;
}

int rule_parse(struct rule_statement **out, const char *name, const char *text, size_t len,
	       char *err, size_t err_len)
{
	struct rule_statement *s;
	int error;

	if (len > RULE_TEXT_MAX)
		return text_reason(err, err_len, -EINVAL,
				   "rule '%s': a statement of %zu bytes; the limit is %d", name,
				   len, RULE_TEXT_MAX);
	s = calloc(1, sizeof(*s));
	if (!s)
		return text_reason(err, err_len, -ENOMEM, "rule '%s': no memory", name);
	arena_init(&s->arena, ARENA_CHUNK, ARENA_LIMIT);
	s->name = arena_strndup(&s->arena, name, strlen(name));
	if (s->name)
		error = parse_text(s, text, len, err, err_len);
	else
		error = text_reason(err, err_len, -ENOMEM, "rule '%s': no memory", name);
	if (error) {
		rule_free(s);
		return error;
	}
	*out = s;
	return 0;
}

void rule_free(struct rule_statement *s)
{
	if (!s)
		return;
	arena_free(&s->arena);
	free(s);
}

const char *rule_filter(const struct rule_statement *s)
{
	return s->filter;
}
