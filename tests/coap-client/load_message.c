/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap-client/load_message.h"

#include <string.h>

#include "tests/coap-client/message.h"

#define FORMAT_TEXT 0
#define FORMAT_CBOR 60
#define POST	    2
#define PUT	    3

static const struct load_options *options;

static const char *const names[] = {"light",   "temperature", "humidity", "pressure",
				    "battery", "rsrp",	      "altitude", "air_quality"};

#define NAME_COUNT (sizeof(names) / sizeof(*names))

void load_message_setup(const struct load_options *o)
{
	options = o;
}

void load_message_token(uint32_t seq, uint8_t token[LOAD_TOKEN_LEN])
{
	for (int i = 0; i < LOAD_TOKEN_LEN; i++)
		token[i] = (uint8_t)(seq >> 8 * (LOAD_TOKEN_LEN - 1 - i));
}

static size_t encode(struct message *m, const char *path, uint8_t format, uint8_t *out)
{
	uint8_t value[4];

	while (*path) {
		const char *end = strchrnul(path, '/');

		message_add(m, OPTION_URI_PATH, path, (size_t)(end - path));
		path = *end ? end + 1 : end;
	}
	message_add(m, OPTION_CONTENT_FORMAT, value, message_put_uint(value, format));
	m->token_len = LOAD_TOKEN_LEN;
	return message_encode(m, out, LOAD_MESSAGE_MAX);
}

size_t load_message_ping(uint16_t mid, uint8_t out[LOAD_MESSAGE_MAX])
{
	struct message m = {.type = MESSAGE_CON, .mid = mid};

	return message_encode(&m, out, LOAD_MESSAGE_MAX);
}

size_t load_message_jwt(uint16_t mid, const char *jwt, uint8_t out[LOAD_MESSAGE_MAX])
{
	struct message m = {
		.type = MESSAGE_CON,
		.code = POST,
		.mid = mid,
		.payload = (const uint8_t *)jwt,
		.payload_len = strlen(jwt),
	};

	load_message_token(LOAD_TOKEN_JWT, m.token);
	return encode(&m, "auth/jwt", FORMAT_TEXT, out);
}

struct writer {
	uint8_t *at;
};

static void put_head(struct writer *w, uint8_t head, uint64_t v, size_t bytes)
{
	*w->at++ = head;
	while (bytes-- > 0)
		*w->at++ = (uint8_t)(v >> 8 * bytes);
}

static void put_name(struct writer *w, const char *name)
{
	size_t len = strlen(name);

	put_head(w, (uint8_t)(0x60 + len), 0, 0);
	memcpy(w->at, name, len);
	w->at += len;
}

static void put_float(struct writer *w, float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	put_head(w, 0xfa, bits, 4);
}

size_t load_message_post(uint16_t mid, uint32_t seq, int64_t ts_ms, uint8_t out[LOAD_MESSAGE_MAX])
{
	size_t readings = options->small ? 1 : NAME_COUNT;
	uint8_t payload[256];
	struct writer w = {payload};
	struct message m = {.type = MESSAGE_CON,
			    .code = options->put ? PUT : POST,
			    .mid = mid,
			    .payload = payload};

	put_head(&w, (uint8_t)(0xa0 + readings + !options->no_seq + (ts_ms != 0)), 0, 0);
	if (!options->no_seq) {
		put_name(&w, "seq");
		put_head(&w, 0x1a, seq, 4);
	}
	if (ts_ms) {
		put_name(&w, "ts");
		put_head(&w, 0x1b, (uint64_t)ts_ms, 8);
	}
	for (size_t i = 0; i < readings; i++) {
		put_name(&w, names[i]);
		if (i == 0 && options->no_seq)
			put_float(&w, (float)seq);
		else
			put_float(&w, 20.0F + (float)(seq % 100) / 8 + (float)i);
	}
	m.payload_len = (size_t)(w.at - payload);
	load_message_token(seq, m.token);
	return encode(&m, options->path, FORMAT_CBOR, out);
}
