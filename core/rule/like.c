/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LIKE: `%` stands for any text, `_` for one character, `\` makes the next one plain. The pattern
 * is cut at its `%`; its pieces are looked for one after the other, each at the first place behind
 * the one before. That first place is always as good as a later one, so nothing is ever tried
 * again: the work is a search for each piece. A piece without `_` is found by memmem, which is
 * linear; one with it could take the product of the two lengths, so steps are counted.
 */
#include <errno.h>
#include <string.h>

#include "core/rule/evaluation.h"

struct piece {
	const char *data; /* of the pattern, or without its escapes */
	const bool *any;  /* per byte of data: is it a `_`? NULL: none is */
	size_t len;
};

struct match {
	const char *at, *end; /* what is left of the subject */
	size_t steps, steps_max;
};

static size_t character(const char *s, const char *end)
{
	size_t n = 1;

	while (s + n < end && ((unsigned char)s[n] & 0xc0) == 0x80)
		n++;
	return n;
}

/* The bytes of the subject, from s on, that the piece matches; SIZE_MAX: it does not. */
static size_t matches_at(struct match *m, const struct piece *p, const char *s)
{
	const char *from = s;

	for (size_t i = 0; i < p->len; i++, m->steps++) {
		if (s == m->end)
			return SIZE_MAX;
		if (p->any && p->any[i])
			s += character(s, m->end);
		else if (*s++ != p->data[i])
			return SIZE_MAX;
	}
	return (size_t)(s - from);
}

/* Move behind the first place where the piece matches. */
static bool find(struct match *m, const struct piece *p)
{
	size_t left = (size_t)(m->end - m->at);

	if (!p->any) {
		const char *s = memmem(m->at, left, p->data, p->len);

		if (s)
			m->at = s + p->len;
		return s;
	}
	while (m->at < m->end && m->steps <= m->steps_max) {
		size_t len = matches_at(m, p, m->at);

		if (len != SIZE_MAX) {
			m->at += len;
			return true;
		}
		m->at += character(m->at, m->end);
		m->steps++;
	}
	return false;
}

/* At the beginning. */
static bool skip(struct match *m, const struct piece *p)
{
	size_t len = matches_at(m, p, m->at);

	if (len == SIZE_MAX)
		return false;
	m->at += len;
	return true;
}

static size_t characters(const struct piece *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->len; i++)
		n += (p->any && p->any[i]) || ((unsigned char)p->data[i] & 0xc0) != 0x80;
	return n;
}

/* At the end: as many characters from there as the piece has. */
static bool is_tail(struct match *m, const struct piece *p)
{
	const char *s = m->end;

	for (size_t n = characters(p); n > 0; n--) {
		do {
			if (s == m->at)
				return false;
			s--;
		} while (((unsigned char)*s & 0xc0) == 0x80);
	}
	return matches_at(m, p, s) == (size_t)(m->end - s);
}

struct pattern {
	const char *at, *end;
	char *data; /* room for the bytes and marks of a piece */
	bool *any;
};

/* The piece up to the next `%`, which is skipped; *last: there is none. */
static void next_piece(struct pattern *t, struct piece *p, bool *last)
{
	bool special = false;

	p->len = 0;
	for (; t->at < t->end && *t->at != '%'; t->at++) {
		bool any = *t->at == '_';

		if (*t->at == '\\' && t->at + 1 < t->end)
			t->at++;
		t->any[p->len] = any;
		t->data[p->len++] = *t->at;
		special |= any;
	}
	*last = t->at == t->end;
	if (!*last)
		t->at++;
	p->data = t->data;
	p->any = special ? t->any : NULL;
}

static bool matches(struct match *m, struct pattern *t)
{
	struct piece p;
	bool last;

	next_piece(t, &p, &last);
	if (!skip(m, &p))
		return false;
	if (last)
		return m->at == m->end;
	for (;;) {
		next_piece(t, &p, &last);
		if (last)
			return is_tail(m, &p);
		if (!find(m, &p))
			return false;
	}
}

int rule_like(struct rule_evaluation *e, const struct rule_result *subject,
	      const struct rule_result *pattern, struct rule_result *out)
{
	struct rule_text s, p;
	struct pattern t;
	struct match m = {0};
	void *room;
	bool yes;
	int rc;

	out->defined = false;
	rc = rule_to_text(e, subject, &s);
	if (rc == 1)
		rc = rule_to_text(e, pattern, &p);
	if (rc != 1)
		return rc;
	rc = rule_alloc(e, 2 * p.len, &room);
	if (rc)
		return rc;
	t = (struct pattern){.at = p.data, .end = p.data + p.len, .data = room};
	t.any = (bool *)room + p.len;
	m.at = s.data;
	m.end = s.data + s.len;
	m.steps_max = e->in->work && *e->in->work < RULE_LIKE_STEPS_MAX ? *e->in->work
									: RULE_LIKE_STEPS_MAX;
	yes = matches(&m, &t);
	rc = rule_spend(e, m.steps);
	if (rc)
		return rc;
	if (m.steps > RULE_LIKE_STEPS_MAX)
		return rule_fail(e, -E2BIG, "LIKE with `_` behind a `%%` takes more than %d steps",
				 RULE_LIKE_STEPS_MAX);
	rule_set_boolean(out, yes);
	return 0;
}
