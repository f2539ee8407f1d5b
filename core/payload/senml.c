/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two passes. The first reads each record's fields, lets the base fields in force fill what is
 * missing, and strings records of one time together; the second makes one sample of each such
 * string.
 */
#include "core/payload/senml.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/clock.h"
#include "core/payload/key_map.h"
#include "core/payload/timestamp.h"

#define VERSION		   10				   /* RFC 8428 section 4.1 */
#define ABSOLUTE_FROM_US   ((INT64_C(1) << 28) * US_PER_S) /* section 4.5.3 */
#define READINGS_OF_RECORD 4				   /* value, unit, sum, update time */
#define NONE		   SIZE_MAX

enum field {
	FIELD_BVER,
	FIELD_BN,
	FIELD_BT,
	FIELD_BU,
	FIELD_BV,
	FIELD_BS,
	FIELD_N, /* from here on regular fields */
	FIELD_U,
	FIELD_V,
	FIELD_VS,
	FIELD_VB,
	FIELD_VD,
	FIELD_S,
	FIELD_T,
	FIELD_UT,
	FIELD_COUNT,
};

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
} fields[FIELD_COUNT] = {
	[FIELD_BVER] = {"bver", -1, KIND_VERSION}, [FIELD_BN] = {"bn", -2, KIND_TEXT},
	[FIELD_BT] = {"bt", -3, KIND_NUMBER},	   [FIELD_BU] = {"bu", -4, KIND_TEXT},
	[FIELD_BV] = {"bv", -5, KIND_NUMBER},	   [FIELD_BS] = {"bs", -6, KIND_NUMBER},
	[FIELD_N] = {"n", 0, KIND_TEXT},	   [FIELD_U] = {"u", 1, KIND_TEXT},
	[FIELD_V] = {"v", 2, KIND_NUMBER},	   [FIELD_VS] = {"vs", 3, KIND_TEXT},
	[FIELD_VB] = {"vb", 4, KIND_BOOL},	   [FIELD_VD] = {"vd", 8, KIND_DATA},
	[FIELD_S] = {"s", 5, KIND_NUMBER},	   [FIELD_T] = {"t", 6, KIND_NUMBER},
	[FIELD_UT] = {"ut", 7, KIND_NUMBER},
};

struct record {
	struct value field[FIELD_COUNT]; /* numbers are VALUE_INTEGER, VALUE_NUMBER or VALUE_NULL */
	bool has[FIELD_COUNT];
	bool is_measurement;
	int64_t ts_us;
	size_t next; /* record of the same sample, or NONE */
};

/* The records of one time. */
struct moment {
	size_t first, last, count;
};

struct pack {
	struct decoder *d;
	struct record *records;
	size_t record_count;
	struct moment *moments;
	size_t moment_count;
};

static int record_fail(const struct pack *p, int error, const char *key, const char *what)
{
	return decoder_fail(p->d, error, "SenML: record %zu: \"%s\" %s", p->record_count + 1, key,
			    what);
}

static enum field field_of(const struct member *m)
{
	enum field f;

	for (f = 0; f < FIELD_COUNT; f++) {
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

static int read_member(const struct pack *p, const struct member *m, struct record *r, bool *given)
{
	enum field f = field_of(m);

	if (f == FIELD_COUNT) {
		if (!m->is_label && m->key_len > 0 && m->key[m->key_len - 1] == '_')
			return decoder_fail(p->d, -EBADMSG,
					    "SenML: record %zu: \"%.*s\" must be understood, and "
					    "is not",
					    p->record_count + 1, (int)m->key_len, m->key);
		return 0;
	}
	if (given[f])
		return record_fail(p, -EBADMSG, fields[f].key, "is given twice");
	given[f] = true;
	r->has[f] = true;
	if (!read_field(fields[f].kind, &m->value, &r->field[f]))
		return record_fail(p, -EBADMSG, fields[f].key, "has a value of the wrong type");
	if (f == FIELD_BVER && r->field[f].u.integer > VERSION)
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
static int resolve_number(const struct pack *p, struct record *r, enum field base, enum field f)
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
static int resolve_time(const struct pack *p, struct record *r)
{
	const enum field parts[] = {FIELD_BT, FIELD_T};

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
static int resolve_values(const struct pack *p, struct record *r, const bool *given)
{
	int values = given[FIELD_V] + given[FIELD_VS] + given[FIELD_VB] + given[FIELD_VD];

	for (size_t f = FIELD_N; f < FIELD_COUNT; f++)
		r->is_measurement |= given[f];
	if (!r->is_measurement)
		return 0;
	if (values > 1)
		return record_fail(p, -EBADMSG, "v", "is not the only value");
	if (values == 0 && !given[FIELD_S] && !r->has[FIELD_BV] && !r->has[FIELD_BS])
		return record_fail(p, -EBADMSG, "v", "is missing, and so is every other value");
	if (given[FIELD_V] || (values == 0 && !given[FIELD_S])) {
		int rc = resolve_number(p, r, FIELD_BV, FIELD_V);

		if (rc)
			return rc;
	}
	return resolve_number(p, r, FIELD_BS, FIELD_S);
}

/* Read and resolve one record; base: the record before, whose base fields are still in force. */
static int read_record(const struct pack *p, const struct value *map, const struct record *base,
		       struct record *r)
{
	bool given[FIELD_COUNT] = {false};

	memset(r->has, 0, sizeof(r->has));
	r->is_measurement = false;
	r->next = NONE;
	for (size_t f = 0; base && f < FIELD_N; f++) {
		r->has[f] = base->has[f];
		r->field[f] = base->field[f];
	}
	for (size_t i = 0; i < map->u.map.count; i++) {
		int rc = read_member(p, &map->u.map.members[i], r, given);

		if (rc)
			return rc;
	}
	if (base && base->has[FIELD_BVER] &&
	    base->field[FIELD_BVER].u.integer != r->field[FIELD_BVER].u.integer)
		return record_fail(p, -EBADMSG, "bver", "is not that of the records before");
	return resolve_values(p, r, given);
}

/* Put the record at the end of its moment; moments keep the order of their first records. */
static void join_moment(struct pack *p, struct key_map *times, size_t i)
{
	struct record *r = &p->records[i];
	size_t at = p->moment_count;
	struct moment *m;

	if (key_map_put(times, (const char *)&r->ts_us, sizeof(r->ts_us), &at)) {
		p->moments[p->moment_count++] = (struct moment){.first = i, .last = i, .count = 1};
		return;
	}
	m = &p->moments[at];
	p->records[m->last].next = i;
	m->last = i;
	m->count++;
}

static int read_records(struct pack *p, const struct value *pack)
{
	size_t count = pack->u.array.count;
	struct key_map times;

	p->records = arena_alloc(p->d->arena, count * sizeof(*p->records));
	p->moments = arena_alloc(p->d->arena, count * sizeof(*p->moments));
	if (!p->records || !p->moments || key_map_init(&times, p->d->arena, count))
		return decoder_out_of_memory(p->d);
	for (size_t i = 0; i < count; i++, p->record_count++) {
		struct record *r = &p->records[i];
		int rc = read_record(p, &pack->u.array.items[i], i ? r - 1 : NULL, r);

		if (rc)
			return rc;
		if (!r->is_measurement)
			continue;
		rc = resolve_time(p, r);
		if (rc)
			return rc;
		join_moment(p, &times, i);
	}
	return 0;
}

static size_t text_len(const struct record *r, enum field f)
{
	return r->has[f] ? r->field[f].u.text.len : 0;
}

static bool is_urn(const struct value *text)
{
	return text->u.text.len >= 4 && strncasecmp(text->u.text.data, "urn:", 4) == 0;
}

/* What stands behind the last ':' or '/', one at the end left out. */
static int name_last_segment(struct decoder *d, struct name *n, const char *text, size_t len)
{
	size_t from;

	while (len > 0 && (text[len - 1] == ':' || text[len - 1] == '/'))
		len--;
	from = len;
	while (from > 0 && text[from - 1] != ':' && text[from - 1] != '/')
		from--;
	return name_append(d, n, text + from, len - from);
}

static int name_joined(struct decoder *d, struct name *n, const struct value *base,
		       const struct value *name)
{
	size_t base_len = base->u.text.len;
	size_t len = base_len + name->u.text.len;
	char joined[READING_NAME_MAX];

	if (len > sizeof(joined))
		return decoder_fail(d, -EMSGSIZE, "SenML: a name longer than %d bytes",
				    READING_NAME_MAX);
	memcpy(joined, base->u.text.data, base_len);
	memcpy(joined + base_len, name->u.text.data, len - base_len);
	return name_append(d, n, joined, len);
}

static int record_name(struct decoder *d, const struct record *r, struct name *n)
{
	const struct value *base = &r->field[FIELD_BN], *name = &r->field[FIELD_N];
	size_t base_len = text_len(r, FIELD_BN), name_len = text_len(r, FIELD_N);

	n->len = 0;
	if (base_len == 0 && name_len == 0)
		return decoder_fail(d, -EBADMSG, "SenML: a record has neither name nor base name");
	if (name_len == 0)
		return name_last_segment(d, n, base->u.text.data, base_len);
	if (base_len == 0 || is_urn(base))
		return name_append(d, n, name->u.text.data, name_len);
	return name_joined(d, n, base, name);
}

/* The unit in force, or NULL. */
static const struct value *record_unit(const struct record *r)
{
	enum field f = r->has[FIELD_U] ? FIELD_U : FIELD_BU;

	return text_len(r, f) > 0 ? &r->field[f] : NULL;
}

/* The name that the unit gives, if the record's own names only the device. */
static const char *coordinate(const struct record *r, const struct value *unit)
{
	bool device_only = text_len(r, FIELD_N) == 0 ||
			   (text_len(r, FIELD_BN) == 0 && is_urn(&r->field[FIELD_N]));

	if (!unit || !device_only || unit->u.text.len != 3)
		return NULL;
	if (memcmp(unit->u.text.data, "lat", 3) == 0)
		return "latitude";
	return memcmp(unit->u.text.data, "lon", 3) == 0 ? "longitude" : NULL;
}

/* Add one reading. *again, if asked for, says that the name is taken and nothing was added. */
static int add_reading(struct decoder *d, struct sample *s, struct key_map *names, struct name *n,
		       const struct value *v, bool *again)
{
	struct reading *r = &s->readings[s->reading_count];
	size_t ignored = 0;
	int rc = flatten(d, s, n, v);

	if (rc)
		return rc;
	if (key_map_put(names, r->name, r->name_len, &ignored))
		return 0;
	if (!again)
		return decoder_fail(d, -EBADMSG, "duplicate reading %s", r->name);
	s->reading_count--;
	d->reading_count--;
	*again = true;
	return 0;
}

static int add_suffixed(struct decoder *d, struct sample *s, struct key_map *names,
			const struct name *n, const char *suffix, const struct value *v)
{
	struct name longer = *n;
	int rc = name_append(d, &longer, suffix, strlen(suffix));

	return rc ? rc : add_reading(d, s, names, &longer, v, NULL);
}

/* The record's value; *n gets the name that it has in the end, *unit NULL if the name says it. */
static int add_value(struct decoder *d, struct sample *s, struct key_map *names, struct name *n,
		     const struct value **unit, const struct value *v)
{
	bool again = false;
	int rc = add_reading(d, s, names, n, v, *unit ? &again : NULL);

	if (rc || !again)
		return rc;
	rc = name_append(d, n, (*unit)->u.text.data, (*unit)->u.text.len);
	*unit = NULL;
	return rc ? rc : add_reading(d, s, names, n, v, NULL);
}

static int add_record(struct decoder *d, struct sample *s, struct key_map *names,
		      const struct record *r)
{
	const enum field values[] = {FIELD_V, FIELD_VS, FIELD_VB, FIELD_VD};
	const struct value *unit = record_unit(r);
	const char *named_by_unit = coordinate(r, unit);
	struct name n = {.len = 0};
	int rc = named_by_unit ? name_append(d, &n, named_by_unit, strlen(named_by_unit))
			       : record_name(d, r, &n);

	if (named_by_unit)
		unit = NULL;
	for (size_t i = 0; rc == 0 && i < 4; i++)
		if (r->has[values[i]])
			rc = add_value(d, s, names, &n, &unit, &r->field[values[i]]);
	if (rc == 0 && r->has[FIELD_S])
		rc = add_suffixed(d, s, names, &n, "sum", &r->field[FIELD_S]);
	if (rc == 0 && unit)
		rc = add_suffixed(d, s, names, &n, "unit", unit);
	if (rc == 0 && r->has[FIELD_UT])
		rc = add_suffixed(d, s, names, &n, "update_time", &r->field[FIELD_UT]);
	return rc;
}

/* A time of 0 is "now", which is what a message without a time means too (RFC 8428 section 4.5.3).
 */
static void set_time(struct sample *s, int64_t ts_us)
{
	if (ts_us == 0)
		return;
	s->ts_us = ts_us;
	s->time = ts_us < ABSOLUTE_FROM_US ? SAMPLE_TIME_RELATIVE : SAMPLE_TIME_DEVICE;
}

static int make_sample(const struct pack *p, const struct moment *m, struct sample *s)
{
	size_t capacity = m->count * READINGS_OF_RECORD;
	struct key_map names;
	int rc = sample_begin(p->d, s, capacity);

	if (rc)
		return rc;
	if (key_map_init(&names, p->d->arena, capacity))
		return decoder_out_of_memory(p->d);
	set_time(s, p->records[m->first].ts_us);
	for (size_t i = m->first; i != NONE; i = p->records[i].next) {
		rc = add_record(p->d, s, &names, &p->records[i]);
		if (rc)
			return rc;
	}
	return sample_end(p->d, s, false);
}

int senml_decode(struct decoder *d, const struct value *pack, struct payload *out)
{
	struct pack p = {.d = d};
	int rc;

	for (size_t i = 0; pack->type == VALUE_ARRAY && i < pack->u.array.count; i++)
		if (pack->u.array.items[i].type != VALUE_MAP)
			return decoder_fail(d, -EBADMSG, "SenML: record %zu is not a map", i + 1);
	if (pack->type != VALUE_ARRAY)
		return decoder_fail(d, -EBADMSG, "SenML: the pack is not an array");
	rc = read_records(&p, pack);
	if (rc)
		return rc;
	if (p.moment_count == 0)
		return decoder_fail(d, -EBADMSG, "no readings");
	out->samples = arena_alloc(d->arena, p.moment_count * sizeof(*out->samples));
	if (!out->samples)
		return decoder_out_of_memory(d);
	out->sample_count = p.moment_count;
	for (size_t i = 0; i < p.moment_count && rc == 0; i++)
		rc = make_sample(&p, &p.moments[i], &out->samples[i]);
	return rc;
}

bool senml_is_pack(const struct value *array)
{
	const struct value *first = array->u.array.items;
	bool has[FIELD_COUNT + 1] = {false};
	bool only_base = first->u.map.count > 0;

	for (size_t i = 0; i < first->u.map.count; i++) {
		const struct member *m = &first->u.map.members[i];
		enum field f = field_of(m);

		only_base &= f < FIELD_N;
		if ((f == FIELD_BN || f == FIELD_N) && m->value.type != VALUE_TEXT)
			return false;
		has[f] = true;
	}
	if (only_base || has[FIELD_BN])
		return true;
	return has[FIELD_N] &&
	       (has[FIELD_V] || has[FIELD_VS] || has[FIELD_VB] || has[FIELD_VD] || has[FIELD_S]);
}
