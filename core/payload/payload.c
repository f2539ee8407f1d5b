/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From bytes to a tree (json.c, cbor.c), from the tree to samples: which kind of message it is
 * shows in its shape, so that the same code serves JSON and CBOR.
 */
#include "core/payload/payload.h"

#include <errno.h>
#include <string.h>

#include "core/payload/decoder.h"
#include "core/payload/nrfcloud.h"
#include "core/payload/senml.h"

static const char byte_order_mark[] = "\xef\xbb\xbf";

static int one_sample(struct decoder *d, const struct value *map, struct sample *s)
{
	bool nested = false;
	int rc;

	if (nrfcloud_is_message(map))
		return nrfcloud_sample(d, s, map);
	for (size_t i = 0; i < map->u.map.count; i++)
		nested |= map->u.map.members[i].value.type == VALUE_MAP;
	rc = sample_begin(d, s, flatten_count(map));
	if (rc == 0)
		rc = flatten_message(d, s, map);
	return rc ? rc : sample_end(d, s, nested);
}

/* A message that has no names of its own. */
static int bare_value(struct decoder *d, const struct value *v, struct sample *s)
{
	struct name n = {.len = 0};
	int rc = sample_begin(d, s, 1);

	if (rc == 0 && v->type != VALUE_NULL)
		rc = name_append(d, &n, "value", strlen("value"));
	if (rc == 0 && v->type != VALUE_NULL)
		rc = flatten(d, s, &n, v);
	return rc ? rc : sample_end(d, s, false);
}

static bool is_array_of_maps(const struct value *v)
{
	for (size_t i = 0; v->type == VALUE_ARRAY && i < v->u.array.count; i++)
		if (v->u.array.items[i].type != VALUE_MAP)
			return false;
	return v->type == VALUE_ARRAY;
}

static int each_map(struct decoder *d, const struct value *array, struct payload *out)
{
	size_t count = array->u.array.count;

	out->samples = arena_alloc(d->arena, count * sizeof(*out->samples));
	if (!out->samples)
		return decoder_out_of_memory(d);
	out->sample_count = count;
	for (size_t i = 0; i < count; i++) {
		int rc = one_sample(d, &array->u.array.items[i], &out->samples[i]);

		if (rc)
			return rc;
	}
	return 0;
}

static int interpret(struct decoder *d, enum payload_format format, const struct value *v,
		     struct payload *out)
{
	if (format == PAYLOAD_SENML_JSON || format == PAYLOAD_SENML_CBOR)
		return senml_decode(d, v, out);
	if (is_array_of_maps(v)) {
		if (v->u.array.count == 0)
			return decoder_fail(d, -EBADMSG, "no readings");
		return senml_is_pack(v) ? senml_decode(d, v, out) : each_map(d, v, out);
	}
	out->samples = arena_alloc(d->arena, sizeof(*out->samples));
	if (!out->samples)
		return decoder_out_of_memory(d);
	out->sample_count = 1;
	return v->type == VALUE_MAP ? one_sample(d, v, out->samples)
				    : bare_value(d, v, out->samples);
}

static bool could_be_json(const char *s, size_t len)
{
	size_t i = 0;

	if (len >= 3 && memcmp(s, byte_order_mark, 3) == 0)
		return true;
	while (i < len && (s[i] == ' ' || s[i] == '\t' || s[i] == '\n' || s[i] == '\r'))
		i++;
	return i < len && s[i] != '\0' && strchr("{[\"-0123456789tfn", s[i]);
}

/*
 * Neither JSON nor CBOR: which did the sender mean? '{', '[' and '"' begin next to no CBOR, and
 * CBOR has bytes that are not printable.
 */
static bool was_meant_as_json(const char *s, size_t len)
{
	if (memchr("{[\"\xef", s[0], 4))
		return true;
	for (size_t i = 0; i < len; i++) {
		bool space = s[i] == ' ' || s[i] == '\t' || s[i] == '\n' || s[i] == '\r';

		if (!space && (s[i] <= ' ' || s[i] >= 0x7f))
			return false;
	}
	return true;
}

static int decode_auto(struct decoder *d, const void *data, size_t len, struct value *v)
{
	char cbor_reason[256];
	bool try_json = could_be_json(data, len);
	int json = -EBADMSG, cbor;

	if (try_json)
		json = json_decode(d->arena, data, len, d->limits, v, d->reason, d->reason_len);
	if (try_json && json != -EBADMSG)
		return json;
	cbor = cbor_decode(d->arena, data, len, d->limits, v, cbor_reason, sizeof(cbor_reason));
	if (cbor == 0)
		return 0;
	if (was_meant_as_json(data, len)) {
		/* Text that is no JSON from its first byte on has no reason yet. */
		return try_json ? json
				: json_decode(d->arena, data, len, d->limits, v, d->reason,
					      d->reason_len);
	}
	return decoder_fail(d, cbor, "%s", cbor_reason);
}

int payload_parse(struct arena *a, enum payload_format format, const void *data, size_t len,
		  const struct decode_limits *limits, struct value *out, char *reason,
		  size_t reason_len)
{
	struct decoder d = {
		.arena = a, .limits = limits, .reason = reason, .reason_len = reason_len};

	if (len == 0)
		return decoder_fail(&d, -EBADMSG, "no bytes");
	switch (format) {
	case PAYLOAD_AUTO:
		return decode_auto(&d, data, len, out);
	case PAYLOAD_JSON:
	case PAYLOAD_SENML_JSON:
		return json_decode(a, data, len, limits, out, reason, reason_len);
	case PAYLOAD_CBOR:
	case PAYLOAD_SENML_CBOR:
		return cbor_decode(a, data, len, limits, out, reason, reason_len);
	}
	return -EINVAL;
}

int payload_interpret(struct arena *a, enum payload_format format, const struct value *v,
		      const struct decode_limits *limits, struct payload *out, char *reason,
		      size_t reason_len)
{
	struct decoder d = {
		.arena = a, .limits = limits, .reason = reason, .reason_len = reason_len};

	return interpret(&d, format, v, out);
}

int payload_decode(struct arena *a, enum payload_format format, const void *data, size_t len,
		   const struct decode_limits *limits, struct payload *out, char *reason,
		   size_t reason_len)
{
	struct value v = {.type = VALUE_NULL};
	int rc = payload_parse(a, format, data, len, limits, &v, reason, reason_len);

	return rc ? rc : payload_interpret(a, format, &v, limits, out, reason, reason_len);
}
