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

static int render_part(struct rule_evaluation *e, const struct rule_part *p, struct rule_text *out)
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
	return rc < 0 ? rc : 0;
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
		rc = render_part(e, &t->parts[i], &texts[i]);
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
