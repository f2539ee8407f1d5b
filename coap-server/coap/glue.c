/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/coap/glue.h"

#include <coap3/coap.h>

#include <string.h>

#if LIBCOAP_VERSION != 4003005ULL
#error "glue.c was read against libcoap 4.3.5: read coap_opt_parse and coap_opt_encode again"
#endif

#define VERSION	       1u
#define PAYLOAD_MARKER 0xffu

/* --- Reading --- */

static uint32_t number(const coap_option_t *o)
{
	return coap_decode_var_bytes(o->value, o->length);
}

/* RFC 7252 section 5.4.1: an option that is not understood, has a length it cannot have (5.4.3) or
 * comes twice (5.4.5) is a mistake if its number is odd, and not there if it is even. */
static void not_understood(struct message *m, uint16_t option)
{
	if ((option & 1) != 0 && m->bad_option == 0)
		m->bad_option = option;
}

static void append(char *text, size_t max, const coap_option_t *o, char separator, bool first,
		   bool *impossible)
{
	size_t used = strlen(text), need = o->length + (first ? 0 : 1);

	if (used + need > max) {
		*impossible = true;
		return;
	}
	if (!first)
		text[used++] = separator;
	memcpy(text + used, o->value, o->length);
	text[used + o->length] = '\0';
}

/* Segments are joined by '/', so one that holds it, or the end of a string, would be read as
 * something else than what was sent. */
static void add_segment(struct message *m, const coap_option_t *o, bool first)
{
	if (memchr(o->value, '/', o->length) != NULL || memchr(o->value, '\0', o->length) != NULL ||
	    (o->length == 1 && o->value[0] == '.') ||
	    (o->length == 2 && memcmp(o->value, "..", 2) == 0))
		m->path_impossible = true;
	else
		append(m->path, FG_COAP_PATH_MAX, o, '/', first, &m->path_impossible);
}

static void add_query(struct message *m, const coap_option_t *o, bool first)
{
	bool impossible = memchr(o->value, '\0', o->length) != NULL;

	if (!impossible)
		append(m->query, QUERY_MAX, o, '&', first, &impossible);
	if (impossible)
		m->bad_request = "the query is too long or holds a zero byte";
}

static void read_block(struct message *m, struct block *b, const coap_option_t *o)
{
	uint32_t v = number(o);

	*b = (struct block){
		.present = true, .num = v >> 4, .more = (v & 8) != 0, .szx = (uint8_t)(v & 7)};
	if (b->szx > BLOCK_SZX_MAX)
		m->block_reserved = true;
}

/* What a request may carry (RFC 7252 section 5.10; 7641, 7959, 9175). */
static const struct understood {
	uint16_t number;
	uint8_t min, max;
	bool repeatable;
} understood[] = {
	{COAP_OPTION_IF_MATCH, 0, FG_COAP_ETAG_MAX, true},
	{COAP_OPTION_URI_HOST, 1, 255, false},
	{COAP_OPTION_ETAG, 1, FG_COAP_ETAG_MAX, true},
	{COAP_OPTION_IF_NONE_MATCH, 0, 0, false},
	{COAP_OPTION_OBSERVE, 0, 3, false},
	{COAP_OPTION_URI_PORT, 0, 2, false},
	{COAP_OPTION_URI_PATH, 0, 255, true},
	{COAP_OPTION_CONTENT_FORMAT, 0, 2, false},
	{COAP_OPTION_URI_QUERY, 0, 255, true},
	{COAP_OPTION_ACCEPT, 0, 2, false},
	{COAP_OPTION_BLOCK2, 0, 3, false},
	{COAP_OPTION_BLOCK1, 0, 3, false},
	{COAP_OPTION_SIZE1, 0, 4, false},
	{COAP_OPTION_RTAG, 0, REQUEST_TAG_MAX, false},
};

static const struct understood *find_understood(uint16_t option, size_t len)
{
	for (size_t i = 0; i < sizeof(understood) / sizeof(*understood); i++)
		if (understood[i].number == option)
			return len >= understood[i].min && len <= understood[i].max ? &understood[i]
										    : NULL;
	return NULL;
}

static void set_tag(struct coap_call *call, const coap_option_t *o)
{
	memcpy(call->etag, o->value, o->length);
	call->etag_len = o->length;
}

static void take_option(struct message *m, uint16_t option, const coap_option_t *o, bool first)
{
	struct coap_call *call = &m->call;

	if (option == COAP_OPTION_PROXY_URI || option == COAP_OPTION_PROXY_SCHEME) {
		m->proxy = true;
		return;
	}

	const struct understood *u = find_understood(option, o->length);

	if (u == NULL || (!first && !u->repeatable)) {
		not_understood(m, option);
		return;
	}
	switch (option) {
	case COAP_OPTION_IF_MATCH:
		call->if_match = true;
		if (first)
			set_tag(call, o);
		break;
	case COAP_OPTION_ETAG:
		if (first && !call->if_match)
			set_tag(call, o);
		break;
	case COAP_OPTION_IF_NONE_MATCH:
		call->if_none_match = true;
		break;
	case COAP_OPTION_OBSERVE:
		m->observe = (int)number(o);
		break;
	case COAP_OPTION_URI_PATH:
		add_segment(m, o, first);
		break;
	case COAP_OPTION_CONTENT_FORMAT:
		call->format = (int)number(o);
		break;
	case COAP_OPTION_URI_QUERY:
		add_query(m, o, first);
		break;
	case COAP_OPTION_ACCEPT:
		call->accept = (int)number(o);
		break;
	case COAP_OPTION_BLOCK2:
		read_block(m, &m->block2, o);
		break;
	case COAP_OPTION_BLOCK1:
		read_block(m, &m->block1, o);
		break;
	case COAP_OPTION_SIZE1:
		m->has_size1 = true;
		m->size1 = number(o);
		break;
	case COAP_OPTION_RTAG:
		/* An empty tag is not the same as none. */
		m->request_tag_len = (uint8_t)(o->length + 1);
		memcpy(m->request_tag, o->value, o->length);
		break;
	default: /* Uri-Host, Uri-Port: one endpoint, one host */
		break;
	}
}

static enum message_read read_options(struct message *m, const uint8_t *data, size_t len)
{
	uint32_t option = 0;
	bool any = false;

	while (len > 0 && *data != PAYLOAD_MARKER) {
		coap_option_t o;
		size_t size = coap_opt_parse(data, len, &o);
		uint32_t before = option;

		if (size == 0 || size > len)
			return MESSAGE_READ_ERROR;
		option += o.delta;
		if (option > UINT16_MAX)
			return MESSAGE_READ_ERROR;
		take_option(m, (uint16_t)option, &o, !any || option != before);
		any = true;
		data += size;
		len -= size;
	}
	if (len == 0)
		return MESSAGE_READ_OK;
	if (len == 1) /* RFC 7252 section 3: a marker and no payload */
		return MESSAGE_READ_ERROR;
	m->call.payload = data + 1;
	m->call.payload_len = len - 1;
	return MESSAGE_READ_OK;
}

static void message_init(struct message *m)
{
	memset(m, 0, offsetof(struct message, path));
	m->path[0] = '\0';
	m->query[0] = '\0';
	m->observe = -1;
	m->call.path = m->path;
	m->call.query = m->query;
	m->call.rest = "";
	m->call.format = FG_COAP_FORMAT_NONE;
	m->call.accept = FG_COAP_FORMAT_NONE;
}

enum message_read message_read(struct message *m, const uint8_t *data, size_t len)
{
	if (len < MESSAGE_HEADER || data[0] >> 6 != VERSION)
		return MESSAGE_READ_NOTHING;

	size_t token_len = data[0] & 15;

	message_init(m);
	m->id.type = data[0] >> 4 & 3;
	m->id.mid = message_mid(data);
	m->code = data[1];
	if (m->code == 0) /* an empty message is its header (RFC 7252 section 4.1) */
		return len == MESSAGE_HEADER && token_len == 0 ? MESSAGE_READ_OK
							       : MESSAGE_READ_ERROR;
	if (token_len > MESSAGE_TOKEN_MAX || MESSAGE_HEADER + token_len > len)
		return MESSAGE_READ_ERROR;
	m->id.token_len = (uint8_t)token_len;
	memcpy(m->id.token, data + MESSAGE_HEADER, token_len);
	m->call.method = m->code;
	return read_options(m, data + MESSAGE_HEADER + token_len, len - MESSAGE_HEADER - token_len);
}

/* --- Writing --- */

struct writer {
	uint8_t *out;
	size_t used;
	uint16_t option; /* the last one: they are written as differences */
};

static void put_option(struct writer *w, uint16_t option, const uint8_t *value, size_t len)
{
	w->used += coap_opt_encode(w->out + w->used, MESSAGE_MAX - w->used,
				   (uint16_t)(option - w->option), value, len);
	w->option = option;
}

/* In as few bytes as it takes, zero in none (RFC 7252 section 3.2). */
static void put_number(struct writer *w, uint16_t option, uint32_t v)
{
	uint8_t bytes[4];
	size_t len = coap_encode_var_safe(bytes, sizeof(bytes), v);

	put_option(w, option, bytes, len);
}

static void put_block(struct writer *w, uint16_t option, const struct block *b)
{
	if (b->present)
		put_number(w, option, b->num << 4 | (b->more ? 8u : 0u) | b->szx);
}

static size_t put_header(uint8_t *out, const struct message_id *id, uint8_t code)
{
	out[0] = (uint8_t)(VERSION << 6 | (unsigned)id->type << 4 | id->token_len);
	out[1] = code;
	message_set_mid(out, id->mid);
	memcpy(out + MESSAGE_HEADER, id->token, id->token_len);
	return MESSAGE_HEADER + id->token_len;
}

size_t message_write(uint8_t out[MESSAGE_MAX], const struct answer *a)
{
	struct writer w = {.out = out, .used = put_header(out, &a->id, a->code)};

	if (a->etag_len != 0)
		put_option(&w, COAP_OPTION_ETAG, a->etag, a->etag_len);
	if (a->observe)
		put_number(&w, COAP_OPTION_OBSERVE, a->observe_number);
	if (a->format != FG_COAP_FORMAT_NONE)
		put_number(&w, COAP_OPTION_CONTENT_FORMAT, (uint32_t)a->format);
	if (a->max_age_s >= 0)
		put_number(&w, COAP_OPTION_MAXAGE,
			   a->max_age_s > UINT32_MAX ? UINT32_MAX : (uint32_t)a->max_age_s);
	put_block(&w, COAP_OPTION_BLOCK2, &a->block2);
	put_block(&w, COAP_OPTION_BLOCK1, &a->block1);
	if (a->size2 >= 0)
		put_number(&w, COAP_OPTION_SIZE2, (uint32_t)a->size2);
	if (a->size1 >= 0)
		put_number(&w, COAP_OPTION_SIZE1, (uint32_t)a->size1);
	if (a->payload_len > 0) {
		size_t room = MESSAGE_MAX - w.used - 1;
		size_t len = a->payload_len < room ? a->payload_len : room;

		out[w.used++] = PAYLOAD_MARKER;
		memcpy(out + w.used, a->payload, len);
		w.used += len;
	}
	return w.used;
}

void answer_init(struct answer *a, const struct message_id *request, uint8_t code)
{
	*a = (struct answer){.id = *request,
			     .code = code,
			     .format = FG_COAP_FORMAT_NONE,
			     .max_age_s = -1,
			     .size1 = -1,
			     .size2 = -1};
}

void message_write_empty(uint8_t out[MESSAGE_HEADER], enum message_type type, uint16_t mid)
{
	put_header(out, &(struct message_id){.type = type, .mid = mid}, 0);
}

void message_set_mid(uint8_t *message, uint16_t mid)
{
	message[2] = (uint8_t)(mid >> 8);
	message[3] = (uint8_t)mid;
}

uint16_t message_mid(const uint8_t *message)
{
	return (uint16_t)(message[2] << 8 | message[3]);
}
