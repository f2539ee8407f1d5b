/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two passes. The first resolves each record, and strings those of one time together; the second
 * makes one sample of each such string.
 */
#include "core/payload/senml.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "core/base/clock.h"
#include "core/payload/key_map.h"
#include "core/payload/senml_record.h"

#define ABSOLUTE_FROM_US   ((INT64_C(1) << 28) * US_PER_S) /* RFC 8428 section 4.5.3 */
#define READINGS_OF_RECORD 4				   /* value, unit, sum, update time */
#define NONE		   SIZE_MAX

/* The records of one time. */
struct moment {
	size_t first, last, count;
};

struct pack {
	struct decoder *d;
	struct senml_record *records;
	size_t *next; /* the next record of the same moment, or NONE */
	struct moment *moments;
	size_t moment_count;
};

/* Put the record at the end of its moment; moments keep the order of their first records. */
static void join_moment(struct pack *p, struct key_map *times, size_t i)
{
	struct senml_record *r = &p->records[i];
	size_t at = p->moment_count;
	struct moment *m;

	p->next[i] = NONE;
	if (key_map_put(times, (const char *)&r->ts_us, sizeof(r->ts_us), &at)) {
		p->moments[p->moment_count++] = (struct moment){.first = i, .last = i, .count = 1};
		return;
	}
	m = &p->moments[at];
	p->next[m->last] = i;
	m->last = i;
	m->count++;
}

static int read_records(struct pack *p, const struct value *pack)
{
	size_t count = pack->u.array.count;
	struct key_map times;

	p->records = arena_alloc(p->d->arena, count * sizeof(*p->records));
	p->next = arena_alloc(p->d->arena, count * sizeof(*p->next));
	p->moments = arena_alloc(p->d->arena, count * sizeof(*p->moments));
	if (!p->records || !p->next || !p->moments || key_map_init(&times, p->d->arena, count))
		return decoder_out_of_memory(p->d);
	for (size_t i = 0; i < count; i++) {
		struct senml_record *r = &p->records[i];
		int rc = senml_record_read(p->d, i + 1, &pack->u.array.items[i], i ? r - 1 : NULL,
					   r);

		if (rc)
			return rc;
		if (r->is_measurement)
			join_moment(p, &times, i);
	}
	return 0;
}

static size_t text_len(const struct senml_record *r, enum senml_field f)
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

static int record_name(struct decoder *d, const struct senml_record *r, struct name *n)
{
	const struct value *base = &r->field[SENML_BN], *name = &r->field[SENML_N];
	size_t base_len = text_len(r, SENML_BN), name_len = text_len(r, SENML_N);

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
static const struct value *record_unit(const struct senml_record *r)
{
	enum senml_field f = r->has[SENML_U] ? SENML_U : SENML_BU;

	return text_len(r, f) > 0 ? &r->field[f] : NULL;
}

/* The name that the unit gives, if the record's own names only the device. */
static const char *coordinate(const struct senml_record *r, const struct value *unit)
{
	bool device_only = text_len(r, SENML_N) == 0 ||
			   (text_len(r, SENML_BN) == 0 && is_urn(&r->field[SENML_N]));

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
		      const struct senml_record *r)
{
	const enum senml_field values[] = {SENML_V, SENML_VS, SENML_VB, SENML_VD};
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
	if (rc == 0 && r->has[SENML_S])
		rc = add_suffixed(d, s, names, &n, "sum", &r->field[SENML_S]);
	if (rc == 0 && unit)
		rc = add_suffixed(d, s, names, &n, "unit", unit);
	if (rc == 0 && r->has[SENML_UT])
		rc = add_suffixed(d, s, names, &n, "update_time", &r->field[SENML_UT]);
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
	for (size_t i = m->first; i != NONE; i = p->next[i]) {
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
	bool has[SENML_COUNT + 1] = {false};
	bool only_base = first->u.map.count > 0;

	for (size_t i = 0; i < first->u.map.count; i++) {
		const struct member *m = &first->u.map.members[i];
		enum senml_field f = senml_field_of(m);

		only_base &= f < SENML_N;
		if ((f == SENML_BN || f == SENML_N) && m->value.type != VALUE_TEXT)
			return false;
		has[f] = true;
	}
	if (only_base || has[SENML_BN])
		return true;
	return has[SENML_N] &&
	       (has[SENML_V] || has[SENML_VS] || has[SENML_VB] || has[SENML_VD] || has[SENML_S]);
}
