/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap/coap_bytes.h"

#include <assert.h>
#include <string.h>

static void put(struct coap_bytes *b, const void *data, size_t len)
{
	assert(b->len + len <= sizeof(b->data));
	if (len > 0)
		memcpy(b->data + b->len, data, len);
	b->len += len;
}

static void put_byte(struct coap_bytes *b, unsigned v)
{
	uint8_t byte = (uint8_t)v;

	put(b, &byte, 1);
}

void bytes_begin(struct coap_bytes *b, unsigned type, unsigned code, uint16_t mid,
		 const char *token)
{
	b->len = 0;
	b->option = 0;
	put_byte(b, 1u << 6 | type << 4 | (unsigned)strlen(token));
	put_byte(b, code);
	put_byte(b, mid >> 8);
	put_byte(b, mid & 255u);
	put(b, token, strlen(token));
}

static unsigned nibble(unsigned v)
{
	return v < 13 ? v : v < 269 ? 13 : 14;
}

static void put_extended(struct coap_bytes *b, unsigned v)
{
	if (v >= 269) {
		put_byte(b, (v - 269) >> 8);
		put_byte(b, (v - 269) & 255u);
	} else if (v >= 13) {
		put_byte(b, v - 13);
	}
}

void bytes_option(struct coap_bytes *b, unsigned number, const void *value, size_t len)
{
	unsigned delta = number - b->option;

	assert(number >= b->option);
	put_byte(b, nibble(delta) << 4 | nibble((unsigned)len));
	put_extended(b, delta);
	put_extended(b, (unsigned)len);
	put(b, value, len);
	b->option = number;
}

void bytes_number(struct coap_bytes *b, unsigned number, uint32_t value)
{
	uint8_t bytes[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8),
			    (uint8_t)value};
	size_t zeros = 0;

	while (zeros < 4 && bytes[zeros] == 0)
		zeros++;
	bytes_option(b, number, bytes + zeros, 4 - zeros);
}

void bytes_path(struct coap_bytes *b, const char *path)
{
	for (;;) {
		size_t len = strcspn(path, "/");

		bytes_option(b, OPT_URI_PATH, path, len);
		if (path[len] == '\0')
			return;
		path += len + 1;
	}
}

uint32_t block_value(uint32_t num, bool more, unsigned szx)
{
	return num << 4 | (more ? 8u : 0u) | szx;
}

void bytes_block(struct coap_bytes *b, unsigned number, uint32_t num, bool more, unsigned szx)
{
	bytes_number(b, number, block_value(num, more, szx));
}

void bytes_payload(struct coap_bytes *b, const void *payload, size_t len)
{
	put_byte(b, 255);
	put(b, payload, len);
}

static bool extended(const uint8_t **p, const uint8_t *end, unsigned *v)
{
	if (*v == 15 || (size_t)(end - *p) < (*v < 13 ? 0u : *v - 12u))
		return false;
	if (*v == 13) {
		*v = *(*p)++ + 13u;
	} else if (*v == 14) {
		*v = ((unsigned)(*p)[0] << 8 | (*p)[1]) + 269u;
		*p += 2;
	}
	return true;
}

static bool is_number(unsigned option)
{
	return option == OPT_OBSERVE || option == OPT_CONTENT_FORMAT || option == OPT_MAX_AGE ||
	       option == OPT_BLOCK1 || option == OPT_BLOCK2 || option == OPT_SIZE1 ||
	       option == OPT_SIZE2;
}

bool coap_see(struct coap_seen *seen, const uint8_t *data, size_t len)
{
	const uint8_t *p = data, *end = data + len;
	unsigned number = 0;

	memset(seen, 0, sizeof(*seen));
	if (len < 4 || data[0] >> 6 != 1)
		return false;
	seen->type = data[0] >> 4 & 3;
	seen->code = data[1];
	seen->mid = (uint16_t)(data[2] << 8 | data[3]);
	seen->token_len = data[0] & 15;
	if (seen->token_len > 8 || len < 4 + seen->token_len)
		return false;
	p += 4;
	memcpy(seen->token, p, seen->token_len);
	p += seen->token_len;
	while (p < end && *p != 255) {
		unsigned delta = *p >> 4, size = *p & 15;

		p++;
		if (!extended(&p, end, &delta) || !extended(&p, end, &size) ||
		    size > (size_t)(end - p) || seen->option_count == 32)
			return false;
		number += delta;
		if (is_number(number) && size > 0 && *p == 0)
			return false;
		seen->option[seen->option_count].number = number;
		seen->option[seen->option_count].len = size;
		seen->option[seen->option_count++].value = p;
		p += size;
	}
	if (p == end)
		return true;
	seen->payload = p + 1;
	seen->payload_len = (size_t)(end - p) - 1;
	return seen->payload_len > 0;
}

int64_t seen_number(const struct coap_seen *seen, unsigned number)
{
	for (size_t i = 0; i < seen->option_count; i++) {
		int64_t v = 0;

		if (seen->option[i].number != number)
			continue;
		for (size_t j = 0; j < seen->option[i].len; j++)
			v = v << 8 | seen->option[i].value[j];
		return v;
	}
	return -1;
}

bool seen_has(const struct coap_seen *seen, unsigned number)
{
	return seen_number(seen, number) >= 0;
}

bool seen_token(const struct coap_seen *seen, const char *token)
{
	return seen->token_len == strlen(token) && memcmp(seen->token, token, seen->token_len) == 0;
}

bool seen_text(const struct coap_seen *seen, const char *payload)
{
	return seen->payload_len == strlen(payload) &&
	       (seen->payload_len == 0 || memcmp(seen->payload, payload, seen->payload_len) == 0);
}
