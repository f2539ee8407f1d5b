/* SPDX-License-Identifier: Apache-2.0 */
/* Of values of any type. */
#include <math.h>
#include <string.h>

#include "core/rule/evaluation.h"
#include "core/rule/functions_table.h"

int rule_call_is_undefined(struct rule_evaluation *e, const struct rule_result *args, size_t count,
			   struct rule_result *out)
{
	(void)e, (void)count;
	rule_set_boolean(out, !args[0].defined);
	return 0;
}

int rule_call_is_null(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		      struct rule_result *out)
{
	(void)e, (void)count;
	rule_set_boolean(out, args[0].defined && args[0].value.type == VALUE_NULL);
	return 0;
}

int rule_call_typeof(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		     struct rule_result *out)
{
	static const char *const names[] = {
		[VALUE_NULL] = "null",	    [VALUE_BOOL] = "boolean", [VALUE_INTEGER] = "int",
		[VALUE_NUMBER] = "decimal", [VALUE_TEXT] = "string",  [VALUE_BYTES] = "bytes",
		[VALUE_ARRAY] = "array",    [VALUE_MAP] = "object",
	};
	const char *name = args[0].defined ? names[args[0].value.type] : "undefined";

	(void)e, (void)count;
	rule_set_text(out, name, strlen(name));
	return 0;
}

/* The last one, whatever it is, when all before it are undefined or null. */
int rule_call_coalesce(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		       struct rule_result *out)
{
	(void)e;
	for (size_t i = 0; i < count; i++) {
		*out = args[i];
		if (out->defined && out->value.type != VALUE_NULL)
			break;
	}
	return 0;
}

static size_t character(const char *s, size_t left)
{
	size_t n = 1;

	while (n < left && ((unsigned char)s[n] & 0xc0) == 0x80)
		n++;
	return n;
}

static void get_character(const struct value *text, int64_t index, struct rule_result *out)
{
	const char *s = text->u.text.data, *end = s + text->u.text.len;

	while (s < end) {
		size_t n = character(s, (size_t)(end - s));

		if (index-- == 0) {
			rule_set_text(out, s, n);
			return;
		}
		s += n;
	}
}

static void get_item(const struct value *array, int64_t index, struct rule_result *out)
{
	if ((uint64_t)index >= array->u.array.count)
		return;
	out->defined = true;
	out->value = array->u.array.items[index];
}

/* The key is text, or a number for a label of CBOR. */
static int get_member(struct rule_evaluation *e, const struct value *map,
		      const struct rule_result *key, struct rule_result *out)
{
	const struct value *v;
	struct rule_text name;
	int rc;

	if (!key->defined || (key->value.type != VALUE_TEXT && key->value.type != VALUE_INTEGER))
		return 0;
	rc = rule_to_text(e, key, &name);
	if (rc != 1)
		return rc;
	v = rule_member(map, name.data, name.len);
	out->defined = v;
	if (v)
		out->value = *v;
	return 0;
}

int rule_call_get(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		  struct rule_result *out)
{
	const struct value *from = &args[0].value;
	int64_t index;

	(void)count;
	if (!args[0].defined)
		return 0;
	if (from->type == VALUE_MAP)
		return get_member(e, from, &args[1], out);
	if (!rule_to_integer(&args[1], &index) || index < 0)
		return 0;
	if (from->type == VALUE_ARRAY)
		get_item(from, index, out);
	else if (from->type == VALUE_TEXT)
		get_character(from, index, out);
	return 0;
}

static void cast_number(const struct rule_result *x, bool whole, struct rule_result *out)
{
	struct rule_result r = *x;
	struct value v;

	if (r.defined && r.value.type == VALUE_BOOL)
		rule_set_integer(&r, r.value.u.boolean);
	if (!rule_to_number(&r, &v))
		return;
	if (!whole)
		rule_set_number(out, v.type == VALUE_INTEGER ? (double)v.u.integer : v.u.number);
	else if (v.type == VALUE_INTEGER)
		rule_set_integer(out, v.u.integer);
	else
		rule_set_whole(out, floor(v.u.number));
}

static void cast_boolean(const struct rule_result *x, struct rule_result *out)
{
	bool b;

	if (x->defined && x->value.type == VALUE_INTEGER)
		rule_set_boolean(out, x->value.u.integer != 0);
	else if (x->defined && x->value.type == VALUE_NUMBER)
		rule_set_boolean(out, x->value.u.number != 0);
	else if (rule_to_boolean(x, &b))
		rule_set_boolean(out, b);
}

static int cast_text(struct rule_evaluation *e, const struct rule_result *x,
		     struct rule_result *out)
{
	struct rule_text t;
	int rc = rule_to_text(e, x, &t);

	if (rc == 1)
		rule_set_text(out, t.data, t.len);
	return rc < 0 ? rc : 0;
}

/* The type is one of rule_cast_type, which differ in their first letter. */
int rule_call_cast(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		   struct rule_result *out)
{
	(void)count;
	if (!args[1].defined || args[1].value.type != VALUE_TEXT || args[1].value.u.text.len == 0)
		return 0;
	switch (args[1].value.u.text.data[0]) {
	case 'b':
		cast_boolean(&args[0], out);
		return 0;
	case 'd':
		cast_number(&args[0], false, out);
		return 0;
	case 'i':
		cast_number(&args[0], true, out);
		return 0;
	default:
		return cast_text(e, &args[0], out);
	}
}
