/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Of text. Places count characters (code points) from 0. What is no text is taken as JSON writes
 * it; null has no text. A part of a text points into it, so only new texts need memory.
 */
#include <math.h>
#include <string.h>

#include "core/rule/evaluation.h"
#include "core/rule/functions_table.h"

#define PAD_MAX 1000 /* as AWS */

static size_t character(const char *s, const char *end)
{
	size_t n = 1;

	while (s + n < end && ((unsigned char)s[n] & 0xc0) == 0x80)
		n++;
	return n;
}

static size_t characters(const char *s, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += ((unsigned char)s[i] & 0xc0) != 0x80;
	return n;
}

/* The texts of all arguments: 1, 0 or -errno as rule_to_text. */
static int texts_of(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		    struct rule_text *out)
{
	int rc = 1;

	for (size_t i = 0; i < count && rc == 1; i++)
		rc = rule_to_text(e, &args[i], &out[i]);
	return rc;
}

/* --- Upper and lower case --- */

struct letters { /* of two bytes: capitals, every `step` one, and how far their small letters are */
	unsigned from, to, distance, step;
};

static const struct letters letters[] = {
	{0xc0, 0xd6, 32, 1},   {0xd8, 0xde, 32, 1},   {0x100, 0x12e, 1, 2},  {0x132, 0x136, 1, 2},
	{0x139, 0x147, 1, 2},  {0x14a, 0x176, 1, 2},  {0x179, 0x17d, 1, 2},  {0x391, 0x3a1, 32, 1},
	{0x3a3, 0x3a9, 32, 1}, {0x400, 0x40f, 80, 1}, {0x410, 0x42f, 32, 1},
};

static bool is_capital(const struct letters *l, unsigned c)
{
	return c >= l->from && c <= l->to && (c - l->from) % l->step == 0;
}

static unsigned other_case(unsigned c, bool to_upper)
{
	for (size_t i = 0; i < sizeof(letters) / sizeof(letters[0]); i++) {
		const struct letters *l = &letters[i];

		if (to_upper && c >= l->distance && is_capital(l, c - l->distance))
			return c - l->distance;
		if (!to_upper && is_capital(l, c))
			return c + l->distance;
	}
	return c;
}

static void copy_ascii(char *to, char c, bool to_upper)
{
	char first = to_upper ? 'a' : 'A';

	*to = c >= first && c <= first + 25 ? (char)(c ^ 0x20) : c;
}

static int change_case(struct rule_evaluation *e, const struct rule_result *arg, bool to_upper,
		       struct rule_result *out)
{
	struct rule_text t;
	char *to;
	int rc = rule_to_text(e, arg, &t);

	if (rc != 1)
		return rc;
	rc = rule_alloc_text(e, t.len, &to);
	if (rc)
		return rc;
	for (size_t i = 0; i < t.len; i++) {
		unsigned char c = (unsigned char)t.data[i];

		copy_ascii(to + i, t.data[i], to_upper);
		if (c >= 0xc0 && c < 0xe0 && i + 1 < t.len) {
			unsigned second = (unsigned char)t.data[i + 1];
			unsigned l = other_case((c & 0x1fu) << 6 | (second & 0x3f), to_upper);

			to[i++] = (char)(0xc0 | l >> 6);
			to[i] = (char)(0x80 | (l & 0x3f));
		}
	}
	rule_set_text(out, to, t.len);
	return 0;
}

int rule_call_lower(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		    struct rule_result *out)
{
	(void)count;
	return change_case(e, &args[0], false, out);
}

int rule_call_upper(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		    struct rule_result *out)
{
	(void)count;
	return change_case(e, &args[0], true, out);
}

/* --- Length, joining --- */

int rule_call_length(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		     struct rule_result *out)
{
	const struct value *v = &args[0].value;
	struct rule_text t;
	int rc;

	(void)count;
	if (args[0].defined && v->type == VALUE_ARRAY) {
		rule_set_integer(out, (int64_t)v->u.array.count);
		return 0;
	}
	if (args[0].defined && v->type == VALUE_MAP) {
		rule_set_integer(out, (int64_t)v->u.map.count);
		return 0;
	}
	rc = rule_to_text(e, &args[0], &t);
	if (rc == 1)
		rule_set_integer(out, (int64_t)characters(t.data, t.len));
	return rc < 0 ? rc : 0;
}

/* All items of the arrays among them, and the others, as one array. */
static int join_arrays(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		       struct rule_result *out)
{
	struct value *items;
	size_t n = 0;
	void *room;
	int rc;

	for (size_t i = 0; i < count; i++)
		n += args[i].value.type == VALUE_ARRAY ? args[i].value.u.array.count : 1;
	rc = rule_alloc(e, n * sizeof(*items), &room);
	if (rc)
		return rc;
	items = room;
	for (size_t i = 0; i < count; i++) {
		const struct value *v = &args[i].value;

		if (v->type != VALUE_ARRAY) {
			*items++ = *v;
			continue;
		}
		memcpy(items, v->u.array.items, v->u.array.count * sizeof(*items));
		items += v->u.array.count;
	}
	out->defined = true;
	out->value.type = VALUE_ARRAY;
	out->value.u.array.items = room;
	out->value.u.array.count = n;
	return 0;
}

static int join_texts(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		      struct rule_result *out)
{
	struct rule_text t[RULE_ARGUMENTS_MAX];
	size_t len = 0;
	char *all, *to;
	int rc = texts_of(e, args, count, t);

	if (rc != 1)
		return rc;
	for (size_t i = 0; i < count; i++)
		len += t[i].len;
	rc = rule_alloc_text(e, len, &all);
	if (rc)
		return rc;
	to = all;
	for (size_t i = 0; i < count; i++) {
		memcpy(to, t[i].data, t[i].len);
		to += t[i].len;
	}
	rule_set_text(out, all, len);
	return 0;
}

int rule_call_concat(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		     struct rule_result *out)
{
	bool has_array = false;

	for (size_t i = 0; i < count; i++) {
		if (!args[i].defined)
			return 0;
		has_array |= args[i].value.type == VALUE_ARRAY;
	}
	return has_array ? join_arrays(e, args, count, out) : join_texts(e, args, count, out);
}

/* --- Parts --- */

/* A place in a text: what is outside is moved to the nearest end. */
static bool place(const struct rule_result *r, size_t *out)
{
	double x;

	if (!rule_to_double(r, &x))
		return false;
	x = floor(x);
	*out = x < 0 ? 0 : x > RULE_RESULT_MAX ? RULE_RESULT_MAX : (size_t)x;
	return true;
}

static const char *skip_characters(const char *s, const char *end, size_t n)
{
	while (n-- > 0 && s < end)
		s += character(s, end);
	return s;
}

int rule_call_substring(struct rule_evaluation *e, const struct rule_result *args, size_t count,
			struct rule_result *out)
{
	size_t from, to = SIZE_MAX;
	const char *s, *end;
	struct rule_text t;
	int rc = rule_to_text(e, &args[0], &t);

	if (rc != 1)
		return rc;
	if (!place(&args[1], &from) || (count == 3 && !place(&args[2], &to)))
		return 0;
	end = t.data + t.len;
	s = skip_characters(t.data, end, from);
	if (to != SIZE_MAX)
		end = skip_characters(s, end, to > from ? to - from : 0);
	rule_set_text(out, s, (size_t)(end - s));
	return 0;
}

int rule_call_startswith(struct rule_evaluation *e, const struct rule_result *args, size_t count,
			 struct rule_result *out)
{
	struct rule_text t[2];
	int rc = texts_of(e, args, 2, t);

	(void)count;
	if (rc == 1)
		rule_set_boolean(out, t[0].len >= t[1].len &&
					      memcmp(t[0].data, t[1].data, t[1].len) == 0);
	return rc < 0 ? rc : 0;
}

int rule_call_endswith(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		       struct rule_result *out)
{
	struct rule_text t[2];
	int rc = texts_of(e, args, 2, t);

	(void)count;
	if (rc == 1)
		rule_set_boolean(out,
				 t[0].len >= t[1].len && memcmp(t[0].data + t[0].len - t[1].len,
								t[1].data, t[1].len) == 0);
	return rc < 0 ? rc : 0;
}

int rule_call_indexof(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		      struct rule_result *out)
{
	struct rule_text t[2];
	const char *s;
	int rc = texts_of(e, args, 2, t);

	(void)count;
	if (rc != 1)
		return rc;
	s = memmem(t[0].data, t[0].len, t[1].data, t[1].len);
	rule_set_integer(out, s ? (int64_t)characters(t[0].data, (size_t)(s - t[0].data)) : -1);
	return 0;
}

/* --- Replacing --- */

static size_t count_of(const struct rule_text *t, const struct rule_text *what)
{
	const char *s = t->data, *end = s + t->len;
	size_t n = 0;

	while ((s = memmem(s, (size_t)(end - s), what->data, what->len))) {
		s += what->len;
		n++;
	}
	return n;
}

static void put(char **to, const char *data, size_t len)
{
	memcpy(*to, data, len);
	*to += len;
}

int rule_call_replace(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		      struct rule_result *out)
{
	struct rule_text t[3];
	const char *s, *next, *end;
	char *all, *to;
	size_t n, len;
	int rc = texts_of(e, args, 3, t);

	(void)count;
	if (rc != 1)
		return rc;
	n = t[1].len > 0 ? count_of(&t[0], &t[1]) : 0;
	len = t[0].len - n * t[1].len + n * t[2].len;
	rc = rule_alloc_text(e, len, &all);
	if (rc)
		return rc;
	to = all;
	s = t[0].data;
	end = s + t[0].len;
	for (; n > 0; n--) {
		next = memmem(s, (size_t)(end - s), t[1].data, t[1].len);
		put(&to, s, (size_t)(next - s));
		put(&to, t[2].data, t[2].len);
		s = next + t[1].len;
	}
	put(&to, s, (size_t)(end - s));
	rule_set_text(out, all, len);
	return 0;
}

/* --- Spaces --- */

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static int strip(struct rule_evaluation *e, const struct rule_result *arg, bool left, bool right,
		 struct rule_result *out)
{
	struct rule_text t;
	int rc = rule_to_text(e, arg, &t);

	if (rc != 1)
		return rc;
	for (; left && t.len > 0 && is_space(t.data[0]); t.len--)
		t.data++;
	while (right && t.len > 0 && is_space(t.data[t.len - 1]))
		t.len--;
	rule_set_text(out, t.data, t.len);
	return 0;
}

int rule_call_trim(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		   struct rule_result *out)
{
	(void)count;
	return strip(e, &args[0], true, true, out);
}

int rule_call_ltrim(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		    struct rule_result *out)
{
	(void)count;
	return strip(e, &args[0], true, false, out);
}

int rule_call_rtrim(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		    struct rule_result *out)
{
	(void)count;
	return strip(e, &args[0], false, true, out);
}

static int pad(struct rule_evaluation *e, const struct rule_result *args, bool left,
	       struct rule_result *out)
{
	struct rule_text t;
	size_t spaces;
	char *all;
	int rc = rule_to_text(e, &args[0], &t);

	if (rc != 1 || !place(&args[1], &spaces))
		return rc < 0 ? rc : 0;
	if (spaces > PAD_MAX)
		spaces = PAD_MAX;
	rc = rule_alloc_text(e, t.len + spaces, &all);
	if (rc)
		return rc;
	memcpy(all + (left ? spaces : 0), t.data, t.len);
	memset(all + (left ? 0 : t.len), ' ', spaces);
	rule_set_text(out, all, t.len + spaces);
	return 0;
}

int rule_call_lpad(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		   struct rule_result *out)
{
	(void)count;
	return pad(e, args, true, out);
}

int rule_call_rpad(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		   struct rule_result *out)
{
	(void)count;
	return pad(e, args, false, out);
}

/* --- One character --- */

static size_t encode_character(char s[4], unsigned c)
{
	if (c < 0x80) {
		s[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		s[0] = (char)(0xc0 | c >> 6);
		s[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		s[0] = (char)(0xe0 | c >> 12);
		s[1] = (char)(0x80 | (c >> 6 & 0x3f));
		s[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	s[0] = (char)(0xf0 | c >> 18);
	s[1] = (char)(0x80 | (c >> 12 & 0x3f));
	s[2] = (char)(0x80 | (c >> 6 & 0x3f));
	s[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/* By its code point. NUL is no character of any text here, and surrogates are none at all. */
int rule_call_chr(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		  struct rule_result *out)
{
	int64_t c;
	char *s;
	int rc;

	(void)count;
	if (!rule_to_integer(&args[0], &c) || c < 1 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	rc = rule_alloc_text(e, 4, &s);
	if (rc)
		return rc;
	rule_set_text(out, s, encode_character(s, (unsigned)c));
	return 0;
}
