/* SPDX-License-Identifier: Apache-2.0 */
/* A template filled in: the texts of its expressions between its own, in one piece of memory. */
#include "core/rule/template.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/rule/evaluation.h"

static const char *type_word(const struct rule_result *r)
{
	if (!r->defined)
		return "undefined";
	switch (r->value.type) {
	case VALUE_NULL:
		return "null";
	case VALUE_ARRAY:
		return "an array";
	case VALUE_MAP:
		return "an object";
	default:
		return NULL;
	}
}

/*
 * Whoever writes `m/d/${target}/c2d` means one level, and a sender who writes `x/d2c` into target
 * must not make a topic of another shape of it. A template that is this expression and nothing else
 * leaves the topic to the sender, and says so.
 */
static int check_text(struct rule_evaluation *e, const struct rule_part *p, bool alone,
		      const struct rule_text *text)
{
	if (!p->from_payload || alone || !memchr(text->data, '/', text->len))
		return 0;
	return rule_fail(e, -EBADMSG,
			 "column %u: ${} is text of the message with a '/', which would make other "
			 "levels of the topic; only a template that is nothing but ${} takes it",
			 (unsigned)p->expression->at + 1);
}

static int render_part(struct rule_evaluation *e, const struct rule_part *p, bool alone,
		       struct rule_text *out)
{
	struct rule_result r;
	const char *bad;
	int rc;

	if (!p->expression) {
		*out = (struct rule_text){.data = p->text, .len = p->len};
		return 0;
	}
	rc = rule_eval(e, p->expression, &r);
	if (rc)
		return rc;
	bad = type_word(&r);
	if (bad)
		return rule_fail(e, -EBADMSG,
				 "column %u: ${} is %s; it must be text, a number or a "
				 "boolean",
				 (unsigned)p->expression->at + 1, bad);
	rc = rule_to_text(e, &r, out);
	if (rc < 0)
		return rc;
	return out->len > 0 ? check_text(e, p, alone, out) : 0;
}

static int render(struct rule_evaluation *e, const struct rule_template *t, const char **out)
{
	struct rule_text *texts;
	size_t len = 0;
	char *to;
	void *room;
	int rc = rule_alloc(e, t->count * sizeof(*texts), &room);

	texts = room;
	for (size_t i = 0; i < t->count && !rc; i++) {
		rc = render_part(e, &t->parts[i], t->count == 1, &texts[i]);
		if (!rc)
			len += texts[i].len;
	}
	if (!rc)
		rc = rule_alloc_text(e, len + 1, &to);
	if (rc)
		return rc;
	*out = to;
	for (size_t i = 0; i < t->count; i++) {
		if (texts[i].len > 0)
			memcpy(to, texts[i].data, texts[i].len);
		to += texts[i].len;
	}
	*to = '\0';
	return 0;
}

int rule_template_render(const struct rule_template *t, const struct rule_input *in,
			 struct arena *a, const char **out, char *why, size_t why_len)
{
	struct rule_evaluation e = {.in = in,
				    .arena = a,
				    .name = t->name,
				    .where = t->where,
				    .why = why,
				    .why_len = why_len};

	return render(&e, t, out);
}
