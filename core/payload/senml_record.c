/* SPDX-License-Identifier: Apache-2.0 */
#include "core/payload/senml_record.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/payload/timestamp.h"

#define VERSION 10 /* RFC 8428 section 4.1 */

enum kind {
	KIND_TEXT,
	KIND_BOOL,
	KIND_NUMBER,
	KIND_DATA,
	KIND_VERSION,
};

/* RFC 8428 section 4.3, table 1. */
static const struct {
	const char *key;
	int64_t label;
	enum kind kind;
} fields[SENML_COUNT] = {
	[SENML_BVER] = {"bver", -1, KIND_VERSION}, [SENML_BN] = {"bn", -2, KIND_TEXT},
	[SENML_BT] = {"bt", -3, KIND_NUMBER},	   [SENML_BU] = {"bu", -4, KIND_TEXT},
	[SENML_BV] = {"bv", -5, KIND_NUMBER},	   [SENML_BS] = {"bs", -6, KIND_NUMBER},
	[SENML_N] = {"n", 0, KIND_TEXT},	   [SENML_U] = {"u", 1, KIND_TEXT},
	[SENML_V] = {"v", 2, KIND_NUMBER},	   [SENML_VS] = {"vs", 3, KIND_TEXT},
	[SENML_VB] = {"vb", 4, KIND_BOOL},	   [SENML_VD] = {"vd", 8, KIND_DATA},
	[SENML_S] = {"s", 5, KIND_NUMBER},	   [SENML_T] = {"t", 6, KIND_NUMBER},
	[SENML_UT] = {"ut", 7, KIND_NUMBER},
};

/* Where we are, for the reason. */
struct place {
	struct decoder *d;
	size_t number;
};

static int record_fail(const struct place *p, int error, const char *key, const char *what)
{
	return decoder_fail(p->d, error, "SenML: record %zu: \"%s\" %s", p->number, key, what);
}

enum senml_field senml_field_of(const struct member *m)
{
	enum senml_field f;

	for (f = 0; f < SENML_COUNT; f++) {
		if (m->is_label ? m->label == fields[f].label
				: m->key_len == strlen(fields[f].key) &&
					  memcmp(m->key, fields[f].key, m->key_len) == 0)
			break;
	}
	return f;
}

/* A decimal fraction (RFC 8949 section 3.4.4; its tag is skipped by then): [exponent, mantissa]. */
static bool read_decimal_fraction(const struct value *v, struct value *out)
{
	const struct value *item = v->u.array.items;
	char s[48];

	if (v->u.array.count != 2 || item[0].type != VALUE_INTEGER || item[1].type != VALUE_INTEGER)
		return false;
	snprintf(s, sizeof(s), "%" PRId64 "e%" PRId64, item[1].u.integer, item[0].u.integer);
	out->type = VALUE_NUMBER;
	out->u.number = strtod(s, NULL);
	return isfinite(out->u.number);
}

static bool read_field(enum kind kind, const struct value *v, struct value *out)
{
	*out = *v;
	switch (kind) {
	case KIND_TEXT:
		return v->type == VALUE_TEXT;
	case KIND_BOOL:
		return v->type == VALUE_BOOL;
	case KIND_DATA:
		return v->type == VALUE_TEXT || v->type == VALUE_BYTES;
	case KIND_VERSION:
		return v->type == VALUE_INTEGER && v->u.integer > 0;
	case KIND_NUMBER:
		break;
	}
	if (v->type == VALUE_ARRAY)
		return read_decimal_fraction(v, out);
	return v->type == VALUE_INTEGER || v->type == VALUE_NUMBER || v->type == VALUE_NULL;
}

static int read_member(const struct place *p, const struct member *m, struct senml_record *r,
		       bool *given)
{
	enum senml_field f = senml_field_of(m);

	if (f == SENML_COUNT) {
		if (!m->is_label && m->key_len > 0 && m->key[m->key_len - 1] == '_')
			return decoder_fail(p->d, -EBADMSG,
					    "SenML: record %zu: \"%.*s\" must be understood, and "
					    "is not",
					    p->number, (int)m->key_len, m->key);
		return 0;
	}
	if (given[f])
		return record_fail(p, -EBADMSG, fields[f].key, "is given twice");
	given[f] = true;
	r->has[f] = true;
	if (!read_field(fields[f].kind, &m->value, &r->field[f]))
		return record_fail(p, -EBADMSG, fields[f].key, "has a value of the wrong type");
	if (f == SENML_BVER && r->field[f].u.integer > VERSION)
		return record_fail(p, -EBADMSG, fields[f].key,
				   "is a newer version of SenML than 10");
	return 0;
}

/* a + b, as an integer where both are. False: out of a double's range. */
static bool add_numbers(const struct value *a, const struct value *b, struct value *sum)
{
	double x, y;

	if (a->type == VALUE_NULL || b->type == VALUE_NULL) {
		sum->type = VALUE_NULL;
		return true;
	}
	if (a->type == VALUE_INTEGER && b->type == VALUE_INTEGER &&
	    !__builtin_add_overflow(a->u.integer, b->u.integer, &sum->u.integer)) {
		sum->type = VALUE_INTEGER;
		return true;
	}
	x = a->type == VALUE_INTEGER ? (double)a->u.integer : a->u.number;
	y = b->type == VALUE_INTEGER ? (double)b->u.integer : b->u.number;
	sum->type = VALUE_NUMBER;
	sum->u.number = x + y;
	return isfinite(sum->u.number);
}

/* Apply a base to the field it is added to; either may be missing, and counts as 0 then. */
static int resolve_number(const struct place *p, struct senml_record *r, enum senml_field base,
			  enum senml_field f)
{
	if (!r->has[base])
		return 0;
	if (!r->has[f])
		r->field[f] = r->field[base];
	else if (!add_numbers(&r->field[base], &r->field[f], &r->field[f]))
		return record_fail(p, -EBADMSG, fields[f].key, "with its base is out of range");
	r->has[f] = true;
	return 0;
}

/* Base time and time are rounded each, because their sum as one double would be less exact. */
static int resolve_time(const struct place *p, struct senml_record *r)
{
	const enum senml_field parts[] = {SENML_BT, SENML_T};

	r->ts_us = 0;
	for (size_t i = 0; i < 2; i++) {
		int64_t us;

		if (!r->has[parts[i]])
			continue;
		if (!timestamp_scale(&r->field[parts[i]], US_PER_S, &us))
			return record_fail(p, -EBADMSG, fields[parts[i]].key,
					   "is not a time in seconds");
		r->ts_us += us;
	}
	if (r->ts_us <= -TIMESTAMP_LIMIT_US || r->ts_us >= TIMESTAMP_LIMIT_US)
		return record_fail(p, -EBADMSG, "t", "with its base is out of range");
	return 0;
}

/* A record of base fields alone measures nothing. Any other has one value, or a sum, or both. */
static int resolve_values(const struct place *p, struct senml_record *r, const bool *given)
{
	int values = given[SENML_V] + given[SENML_VS] + given[SENML_VB] + given[SENML_VD];

	for (size_t f = SENML_N; f < SENML_COUNT; f++)
		r->is_measurement |= given[f];
	if (!r->is_measurement)
		return 0;
	if (values > 1)
		return record_fail(p, -EBADMSG, "v", "is not the only value");
	if (values == 0 && !given[SENML_S] && !r->has[SENML_BV] && !r->has[SENML_BS])
		return record_fail(p, -EBADMSG, "v", "is missing, and so is every other value");
	if (given[SENML_V] || (values == 0 && !given[SENML_S])) {
		int rc = resolve_number(p, r, SENML_BV, SENML_V);

		if (rc)
			return rc;
	}
	return resolve_number(p, r, SENML_BS, SENML_S);
}

int senml_record_read(struct decoder *d, size_t number, const struct value *map,
		      const struct senml_record *before, struct senml_record *r)
{
	const struct place p = {.d = d, .number = number};
	bool given[SENML_COUNT] = {false};
	int rc = 0;

	memset(r->has, 0, sizeof(r->has));
	r->is_measurement = false;
	for (size_t f = 0; before && f < SENML_N; f++) {
		r->has[f] = before->has[f];
		r->field[f] = before->field[f];
	}
	for (size_t i = 0; rc == 0 && i < map->u.map.count; i++)
		rc = read_member(&p, &map->u.map.members[i], r, given);
	if (rc)
		return rc;
	if (before && before->has[SENML_BVER] &&
	    before->field[SENML_BVER].u.integer != r->field[SENML_BVER].u.integer)
		return record_fail(&p, -EBADMSG, "bver", "is not that of the records before");
	rc = resolve_values(&p, r, given);
	return rc || !r->is_measurement ? rc : resolve_time(&p, r);
}
