/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap-client/message.h"

#include <errno.h>
#include <string.h>

#define PAYLOAD_MARKER 0xff

struct cursor {
	const uint8_t *at, *end;
};

/* Delta or length of an option: a nibble, or one or two bytes more (section 3.1). */
static int take_extended(struct cursor *c, unsigned nibble, unsigned *out)
{
	size_t more = nibble < 13 ? 0 : nibble - 12;

	if (nibble == 15 || (size_t)(c->end - c->at) < more)
		return -EBADMSG;
	*out = nibble;
	if (more == 1)
		*out = 13U + c->at[0];
	else if (more == 2)
		*out = 269U + ((unsigned)c->at[0] << 8 | c->at[1]);
	c->at += more;
	return 0;
}

static int take_option(struct message *m, struct cursor *c, unsigned *number)
{
	unsigned head = *c->at++, delta, len;

	if (take_extended(c, head >> 4, &delta) != 0 || take_extended(c, head & 15, &len) != 0 ||
	    (size_t)(c->end - c->at) < len)
		return -EBADMSG;
	*number += delta;
	if (message_add(m, *number, c->at, len) != 0)
		return -EBADMSG;
	c->at += len;
	return 0;
}

int message_decode(struct message *m, const uint8_t *data, size_t len)
{
	struct cursor c = {data + 4, data + len};
	unsigned number = 0;

	memset(m, 0, sizeof(*m));
	if (len < 4 || data[0] >> 6 != 1 || (data[0] & 15) > MESSAGE_TOKEN_MAX)
		return -EBADMSG;
	m->type = data[0] >> 4 & 3;
	m->token_len = data[0] & 15;
	m->code = data[1];
	m->mid = (uint16_t)(data[2] << 8 | data[3]);
	if ((size_t)(c.end - c.at) < m->token_len)
		return -EBADMSG;
	memcpy(m->token, c.at, m->token_len);
	c.at += m->token_len;
	while (c.at < c.end && *c.at != PAYLOAD_MARKER)
		if (take_option(m, &c, &number) != 0)
			return -EBADMSG;
	if (c.at == c.end)
		return 0;
	m->payload = c.at + 1;
	m->payload_len = (size_t)(c.end - m->payload);
	return m->payload_len ? 0 : -EBADMSG;
}

struct buffer {
	uint8_t *at, *end;
	bool full;
};

static void put(struct buffer *b, const void *bytes, size_t len)
{
	if ((size_t)(b->end - b->at) < len) {
		b->full = true;
		return;
	}
	if (len)
		memcpy(b->at, bytes, len);
	b->at += len;
}

static void put_byte(struct buffer *b, unsigned v)
{
	uint8_t byte = (uint8_t)v;

	put(b, &byte, 1);
}

static unsigned nibble_of(size_t v)
{
	return v < 13 ? (unsigned)v : v < 269 ? 13 : 14;
}

static void put_extended(struct buffer *b, size_t v)
{
	if (v >= 269) {
		put_byte(b, (unsigned)(v - 269) >> 8);
		put_byte(b, (unsigned)(v - 269) & 255);
	} else if (v >= 13) {
		put_byte(b, (unsigned)v - 13);
	}
}

static void put_option(struct buffer *b, const struct message_option *o, unsigned *last)
{
	unsigned delta = o->number - *last;

	put_byte(b, nibble_of(delta) << 4 | nibble_of(o->len));
	put_extended(b, delta);
	put_extended(b, o->len);
	put(b, o->value, o->len);
	*last = o->number;
}

static void put_options(struct buffer *b, const struct message *m)
{
	const struct message_option *sorted[MESSAGE_OPTIONS_MAX];
	unsigned last = 0;

	for (size_t i = 0; i < m->option_count; i++) {
		size_t at = i;

		for (; at > 0 && sorted[at - 1]->number > m->options[i].number; at--)
			sorted[at] = sorted[at - 1];
		sorted[at] = &m->options[i];
	}
	for (size_t i = 0; i < m->option_count; i++)
		put_option(b, sorted[i], &last);
}

size_t message_encode(const struct message *m, uint8_t *out, size_t size)
{
	struct buffer b = {out, out + size, false};

	put_byte(&b, 1U << 6 | (unsigned)m->type << 4 | (unsigned)m->token_len);
	put_byte(&b, m->code);
	put_byte(&b, m->mid >> 8);
	put_byte(&b, m->mid & 255);
	put(&b, m->token, m->token_len);
	put_options(&b, m);
	if (m->payload_len) {
		put_byte(&b, PAYLOAD_MARKER);
		put(&b, m->payload, m->payload_len);
	}
	return b.full ? 0 : (size_t)(b.at - out);
}

int message_add(struct message *m, unsigned number, const void *value, size_t len)
{
	if (m->option_count == MESSAGE_OPTIONS_MAX)
		return -ENOBUFS;
	m->options[m->option_count++] = (struct message_option){number, len, value};
	return 0;
}

const struct message_option *message_find(const struct message *m, unsigned number)
{
	for (size_t i = 0; i < m->option_count; i++)
		if (m->options[i].number == number)
			return &m->options[i];
	return NULL;
}

uint32_t message_uint(const struct message_option *o)
{
	uint32_t v = 0;

	for (size_t i = 0; i < o->len && i < 4; i++)
		v = v << 8 | o->value[i];
	return v;
}

size_t message_put_uint(uint8_t value[4], uint32_t number)
{
	size_t len = number == 0	 ? 0
		     : number < 1U << 8	 ? 1
		     : number < 1U << 16 ? 2
		     : number < 1U << 24 ? 3
					 : 4;

	for (size_t i = 0; i < len; i++)
		value[i] = (uint8_t)(number >> 8 * (len - 1 - i));
	return len;
}
