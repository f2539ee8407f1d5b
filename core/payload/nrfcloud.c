/* SPDX-License-Identifier: Apache-2.0 */
#include "core/payload/nrfcloud.h"

#include <errno.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/payload/timestamp.h"

enum field {
	FIELD_NONE,
	FIELD_APP_ID,
	FIELD_DATA,
	FIELD_TS,
	FIELD_MESSAGE_TYPE,
	FIELD_SEQ,
};

/* A key of the message or of its position, in JSON and in CBOR. */
struct key {
	const char *key;
	int64_t label; /* 0: none */
};

static const struct key fields[] = {
	[FIELD_APP_ID] = {"appId", 1}, [FIELD_DATA] = {"data", 2},
	[FIELD_TS] = {"ts", 3},	       [FIELD_MESSAGE_TYPE] = {"messageType", 0},
	[FIELD_SEQ] = {"seq", 0},
};

static const struct {
	const char *app_id;
	const char *name;
} columns[] = {
	{"TEMP", "temperature"},     {"HUMID", "humidity"}, {"AIR_PRESS", "pressure"},
	{"AIR_QUAL", "air_quality"}, {"LIGHT", "light"},    {"RSRP", "rsrp"},
	{"BATTERY", "battery"},
};

/* A position: "pvt", for position, velocity and time. */
static const struct {
	struct key key;
	const char *name;
} position[] = {
	{{"lat", 4}, "latitude"}, {{"lng", 5}, "longitude"}, {{"acc", 6}, "accuracy"},
	{{"spd", 7}, "speed"},	  {{"hdg", 8}, "heading"},   {{"alt", 9}, "altitude"},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static bool text_is(const struct value *v, const char *text)
{
	return v->u.text.len == strlen(text) && memcmp(v->u.text.data, text, v->u.text.len) == 0;
}

static bool key_is(const struct member *m, const struct key *k)
{
	if (m->is_label)
		return k->label != 0 && m->label == k->label;
	return m->key_len == strlen(k->key) && memcmp(m->key, k->key, m->key_len) == 0;
}

static enum field field_of(const struct member *m)
{
	for (enum field f = FIELD_APP_ID; f < COUNT(fields); f++)
		if (key_is(m, &fields[f]))
			return f;
	return FIELD_NONE;
}

static const struct value *get_field(const struct value *map, enum field f)
{
	for (size_t i = 0; i < map->u.map.count; i++)
		if (key_is(&map->u.map.members[i], &fields[f]))
			return &map->u.map.members[i].value;
	return NULL;
}

bool nrfcloud_is_message(const struct value *map)
{
	const struct value *app_id = get_field(map, FIELD_APP_ID);
	const struct value *type;

	if (!app_id || app_id->type != VALUE_TEXT || !get_field(map, FIELD_DATA))
		return false;
	type = get_field(map, FIELD_MESSAGE_TYPE);
	return !type || (type->type == VALUE_TEXT && text_is(type, "DATA"));
}

/* The reading's name: the column's if there is one for this data, else the application id in lower
 * case. */
static int name_of(struct decoder *d, const struct value *app_id, const struct value *data,
		   struct name *n)
{
	int rc;

	n->len = 0;
	for (size_t i = 0; data->type != VALUE_MAP && i < COUNT(columns); i++)
		if (text_is(app_id, columns[i].app_id))
			return name_append(d, n, columns[i].name, strlen(columns[i].name));
	rc = name_append(d, n, app_id->u.text.data, app_id->u.text.len);
	for (size_t i = 0; i < n->len; i++)
		if (n->text[i] >= 'A' && n->text[i] <= 'Z')
			n->text[i] = (char)(n->text[i] - 'A' + 'a');
	return rc;
}

/* Nordic's client sends a sensor's number as text: "data":"22.5". */
static int number_from_text(struct decoder *d, struct value *data)
{
	const struct decode_limits limits = {.max_bytes = 64};
	struct value number;
	char ignored[8];
	char first;
	int rc;

	if (data->type != VALUE_TEXT || data->u.text.len == 0)
		return 0;
	first = data->u.text.data[0];
	if (first != '-' && (first < '0' || first > '9'))
		return 0;
	rc = json_decode(d->arena, data->u.text.data, data->u.text.len, &limits, &number, ignored,
			 sizeof(ignored));
	if (rc == -ENOMEM)
		return decoder_out_of_memory(d);
	if (rc == 0)
		*data = number;
	return 0;
}

/* A position's members become columns; one that is not known stays under the application id. */
static int add_position(struct decoder *d, struct sample *s, const struct name *app,
			const struct value *map)
{
	for (size_t i = 0; i < map->u.map.count; i++) {
		const struct member *m = &map->u.map.members[i];
		struct name n = {.len = 0};
		size_t k = 0;
		int rc;

		while (k < COUNT(position) && !key_is(m, &position[k].key))
			k++;
		if (k < COUNT(position)) {
			rc = name_append(d, &n, position[k].name, strlen(position[k].name));
		} else {
			n = *app;
			rc = name_append_key(d, &n, m);
		}
		if (rc == 0)
			rc = flatten(d, s, &n, &m->value);
		if (rc)
			return rc;
	}
	return 0;
}

static int add_data(struct decoder *d, struct sample *s, const struct value *app_id,
		    const struct value *from)
{
	struct value data = *from;
	struct name n;
	int rc = name_of(d, app_id, &data, &n);

	if (rc)
		return rc;
	if (data.type == VALUE_MAP && (text_is(app_id, "GNSS") || text_is(app_id, "GPS")))
		return add_position(d, s, &n, &data);
	rc = number_from_text(d, &data);
	return rc ? rc : flatten(d, s, &n, &data);
}

/* What is not part of nRF Cloud's message is an ordinary reading. */
static int add_other(struct decoder *d, struct sample *s, const struct member *m)
{
	struct name n = {.len = 0};
	int rc = name_append_key(d, &n, m);

	return rc ? rc : flatten(d, s, &n, &m->value);
}

static int add_member(struct decoder *d, struct sample *s, const struct member *m,
		      const struct value *app_id)
{
	switch (field_of(m)) {
	case FIELD_APP_ID:
	case FIELD_MESSAGE_TYPE:
		return 0;
	case FIELD_DATA:
		return add_data(d, s, app_id, &m->value);
	case FIELD_TS:
		if (!timestamp_scale(&m->value, US_PER_MS, &s->ts_us))
			break;
		s->time = SAMPLE_TIME_DEVICE;
		return 0;
	case FIELD_SEQ:
		if (!sample_take_seq(s, &m->value))
			break;
		return 0;
	case FIELD_NONE:
		break;
	}
	return add_other(d, s, m);
}

int nrfcloud_sample(struct decoder *d, struct sample *s, const struct value *map)
{
	const struct value *app_id = get_field(map, FIELD_APP_ID);
	int rc = sample_begin(d, s, flatten_count(map));

	for (size_t i = 0; rc == 0 && i < map->u.map.count; i++)
		rc = add_member(d, s, &map->u.map.members[i], app_id);
	return rc ? rc : sample_end(d, s, true);
}
