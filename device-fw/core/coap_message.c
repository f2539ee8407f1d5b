/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options are a run of (delta, length, value), RFC 7252 section 3.1: a nibble each for the first
 * two, or one or two bytes more. step() is the only reader of them, fg_coap_option() the only
 * writer.
 */
#include "device-fw/core/coap_message.h"

#include <errno.h>
#include <string.h>

#define VERSION_1      (1 << 6)
#define PAYLOAD_MARKER 0xff
#define ONE_BYTE       13 /* section 3.1: nibbles that say how many bytes follow with the rest */
#define TWO_BYTES      14
#define ONE_BYTE_FROM  13
#define TWO_BYTES_FROM 269
#define OPTIONS_CLOSED UINT16_MAX /* for last_option: a payload has begun */

static void put(struct fg_coap_writer *w, const void *bytes, size_t length)
{
	if (w->full || length > w->size - w->length) {
		w->full = true;
		return;
	}
	/* The request of a block is made of the request before it, in the same buffer. */
	if (length > 0)
		memmove(w->buffer + w->length, bytes, length);
	w->length += length;
}

void fg_coap_begin(struct fg_coap_writer *w, void *buffer, size_t size, enum fg_coap_type type,
		   uint8_t code, uint16_t id, const uint8_t *token, uint8_t token_length)
{
	uint8_t header[FG_COAP_HEADER] = {(uint8_t)(VERSION_1 | (unsigned)type << 4 | token_length),
					  code, (uint8_t)(id >> 8), (uint8_t)id};

	w->buffer = buffer;
	w->size = size;
	w->length = 0;
	w->last_option = 0;
	w->full = token_length > FG_COAP_TOKEN_MAX;
	put(w, header, sizeof(header));
	put(w, token, token_length);
}

void fg_coap_option(struct fg_coap_writer *w, uint16_t number, const void *value, size_t length)
{
	size_t numbers[] = {(size_t)number - w->last_option, length};
	uint8_t head[5];
	size_t end = 1;
	unsigned nibbles = 0;

	if (number < w->last_option || length > UINT16_MAX) {
		w->full = true;
		return;
	}
	w->last_option = number;
	for (size_t i = 0; i < 2; i++) {
		size_t n = numbers[i], nibble = n;

		if (n >= TWO_BYTES_FROM) {
			nibble = TWO_BYTES;
			n -= TWO_BYTES_FROM;
			head[end++] = (uint8_t)(n >> 8);
			head[end++] = (uint8_t)n;
		} else if (n >= ONE_BYTE_FROM) {
			nibble = ONE_BYTE;
			head[end++] = (uint8_t)(n - ONE_BYTE_FROM);
		}
		nibbles = nibbles << 4 | (unsigned)nibble;
	}
	head[0] = (uint8_t)nibbles;
	put(w, head, end);
	put(w, value, length);
}

void fg_coap_option_uint(struct fg_coap_writer *w, uint16_t number, uint32_t value)
{
	uint8_t bytes[4];
	size_t at = sizeof(bytes);

	for (; value > 0; value >>= 8)
		bytes[--at] = (uint8_t)value;
	fg_coap_option(w, number, bytes + at, sizeof(bytes) - at);
}

void fg_coap_option_split(struct fg_coap_writer *w, uint16_t number, const char *text,
			  char separator)
{
	const char *end = text;

	if (!text || !*text)
		return;
	do {
		for (text = end; *end && *end != separator; end++)
			;
		fg_coap_option(w, number, text, (size_t)(end - text));
	} while (*end++);
}

uint8_t *fg_coap_payload_begin(struct fg_coap_writer *w, size_t *room)
{
	size_t left = w->size - w->length; /* beginning with the marker */

	w->last_option = OPTIONS_CLOSED;
	*room = 0;
	if (w->full || left == 0)
		return w->buffer;
	*room = left - 1;
	return w->buffer + w->length + 1;
}

void fg_coap_payload_end(struct fg_coap_writer *w, size_t length)
{
	if (length == 0)
		return;
	if (w->full || length >= w->size - w->length) {
		w->full = true;
		return;
	}
	w->buffer[w->length] = PAYLOAD_MARKER;
	w->length += 1 + length;
}

void fg_coap_payload(struct fg_coap_writer *w, const void *payload, size_t length)
{
	size_t room;
	uint8_t *out = fg_coap_payload_begin(w, &room);

	if (length > 0 && length <= room)
		memcpy(out, payload, length);
	fg_coap_payload_end(w, length);
}

/* What follows option *o at `at` becomes *o. 1, 0 at the end or the payload's marker, -EBADMSG. */
static int step(struct fg_coap_option *o, const uint8_t *at, const uint8_t *end)
{
	unsigned numbers[2];

	if (at == end || *at == PAYLOAD_MARKER)
		return 0;
	numbers[0] = *at >> 4;
	numbers[1] = *at++ & 15;
	for (size_t i = 0; i < 2; i++) {
		unsigned n = numbers[i];
		ptrdiff_t more = n < ONE_BYTE ? 0 : (ptrdiff_t)n - ONE_BYTE + 1;

		if (n > TWO_BYTES || end - at < more)
			return -EBADMSG;
		if (more == 1)
			n += at[0];
		else if (more == 2)
			n = TWO_BYTES_FROM + ((unsigned)at[0] << 8 | at[1]);
		at += more;
		numbers[i] = n;
	}
	if (numbers[0] > (unsigned)UINT16_MAX - o->number || numbers[1] > (size_t)(end - at))
		return -EBADMSG;
	o->number = (uint16_t)(o->number + numbers[0]);
	o->value = at;
	o->length = numbers[1];
	return 1;
}

int fg_coap_parse(struct fg_coap_message *m, const void *datagram, size_t length)
{
	const uint8_t *at = datagram, *end = at + length;
	struct fg_coap_option o = {0};
	int more;

	*m = (struct fg_coap_message){.type = FG_COAP_ACK};
	/* Of another version nothing is known, not even whether an answer is wanted. */
	if (length < FG_COAP_HEADER || (at[0] & 0xc0) != VERSION_1)
		return -EBADMSG;
	m->type = (enum fg_coap_type)(at[0] >> 4 & 3);
	m->token_length = at[0] & 15;
	m->code = at[1];
	m->id = (uint16_t)(at[2] << 8 | at[3]);
	at += FG_COAP_HEADER;
	if (m->token_length > FG_COAP_TOKEN_MAX || m->token_length > end - at ||
	    (m->code == FG_COAP_EMPTY && length > FG_COAP_HEADER)) {
		m->token_length = 0;
		return -EBADMSG;
	}
	memcpy(m->token, at, m->token_length);
	at += m->token_length;
	m->options = at;
	while ((more = step(&o, at, end)) > 0)
		at = o.value + o.length;
	m->options_length = (size_t)(at - m->options);
	if (more < 0 || end - at == 1) /* a marker, and nothing after it */
		return -EBADMSG;
	at += at < end;
	m->payload = at;
	m->payload_length = (size_t)(end - at);
	return 0;
}

bool fg_coap_next_option(const struct fg_coap_message *m, struct fg_coap_option *o)
{
	return step(o, o->value ? o->value + o->length : m->options,
		    m->options + m->options_length) > 0;
}

bool fg_coap_find_option(const struct fg_coap_message *m, uint16_t number, struct fg_coap_option *o)
{
	*o = (struct fg_coap_option){0};
	while (fg_coap_next_option(m, o))
		if (o->number == number)
			return true;
	return false;
}

uint32_t fg_coap_option_number(const struct fg_coap_option *o)
{
	uint32_t value = 0;

	for (size_t i = 0; i < o->length; i++)
		value = value << 8 | o->value[i];
	return value;
}

uint32_t fg_coap_find_uint(const struct fg_coap_message *m, uint16_t number, uint32_t otherwise)
{
	struct fg_coap_option o;

	return fg_coap_find_option(m, number, &o) && o.length <= sizeof(uint32_t)
		       ? fg_coap_option_number(&o)
		       : otherwise;
}
