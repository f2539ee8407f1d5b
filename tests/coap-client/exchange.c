/* SPDX-License-Identifier: Apache-2.0 */
/* What a request says, block by block, and what becomes of the blocks that come back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "tests/coap-client/die.h"
#include "tests/coap-client/events.h"
#include "tests/coap-client/request_internal.h"

#define DEFAULT_BLOCK 1024
#define BODY_MAX      (4U << 20)

static const struct {
	const char *name;
	uint8_t code;
} methods[] = {
	{"GET", 1},   {"POST", 2},  {"PUT", 3},	   {"DELETE", 4},
	{"FETCH", 5}, {"PATCH", 6}, {"IPATCH", 7},
};

struct request *request_new(struct device *d, json_t *in, json_int_t id)
{
	struct request *q = calloc(1, sizeof(*q));

	if (!q)
		die("out of memory");
	q->device = d;
	q->id = id;
	q->type = arg_bool(in, "confirmable", true) ? MESSAGE_CON : MESSAGE_NON;
	q->observe = NO_OBSERVE;
	q->chosen_mid = (int)arg_int(in, "mid", -1);
	q->begun_us = clock_monotonic_us();
	q->end_us = q->begun_us + arg_int(in, "timeout_ms", 30000) * US_PER_MS;
	q->retransmit = q->type == MESSAGE_CON && arg_bool(in, "retransmit", true);
	q->ack_timeout_us = arg_int(in, "ack_timeout_ms", 2000) * US_PER_MS;
	q->max_retransmit = (unsigned)arg_int(in, "max_retransmit", 4);
	return q;
}

void request_free(struct request *q)
{
	for (struct request **at = &q->device->requests; *at; at = &(*at)->next)
		if (*at == q) {
			*at = q->next;
			break;
		}
	for (size_t i = 0; i < q->option_count; i++)
		free((void *)q->options[i].value);
	free(q->body);
	free(q->got);
	free(q);
}

static int add(struct request *q, unsigned number, const void *value, size_t len)
{
	struct message_option *o = &q->options[q->option_count];
	uint8_t *copy;

	if (q->option_count == MESSAGE_OPTIONS_MAX - 4)
		return -1;
	copy = malloc(len + 1);
	if (!copy)
		die("out of memory");
	if (len)
		memcpy(copy, value, len);
	o->number = number;
	o->len = len;
	o->value = copy;
	q->option_count++;
	return 0;
}

static int add_uint(struct request *q, unsigned number, json_t *in, const char *name)
{
	json_int_t v = arg_int(in, name, -1);
	uint8_t value[4];

	return v < 0 ? 0 : add(q, number, value, message_put_uint(value, (uint32_t)v));
}

/* The parts of a text between separators, each an option. "" has none. */
static int add_parts(struct request *q, unsigned number, const char *text, char separator)
{
	while (*text) {
		const char *end = strchrnul(text, separator);

		if (add(q, number, text, (size_t)(end - text)) != 0)
			return -1;
		text = *end ? end + 1 : end;
	}
	return 0;
}

/* A list of hexadecimal texts, each an option; or of [number, hexadecimal text]. */
static int add_list(struct request *q, unsigned number, json_t *list)
{
	size_t i;
	json_t *one;

	json_array_foreach(list, i, one)
	{
		const char *text =
			json_string_value(json_is_array(one) ? json_array_get(one, 1) : one);
		size_t len;
		uint8_t *value = text ? hex_bytes(text, &len) : NULL;
		int r = -1;

		if (json_is_array(one))
			number = (unsigned)json_integer_value(json_array_get(one, 0));
		if (value)
			r = add(q, number, value, len);
		free(value);
		if (r != 0)
			return r;
	}
	return 0;
}

static int take_options(struct request *q, json_t *in)
{
	if (add_parts(q, OPTION_URI_PATH, arg_text(in, "path", ""), '/') != 0 ||
	    add_parts(q, OPTION_URI_QUERY, arg_text(in, "query", ""), '&') != 0 ||
	    add_uint(q, OPTION_CONTENT_FORMAT, in, "format") != 0 ||
	    add_uint(q, OPTION_ACCEPT, in, "accept") != 0 ||
	    add_list(q, OPTION_ETAG, json_object_get(in, "etag")) != 0 ||
	    add_list(q, OPTION_IF_MATCH, json_object_get(in, "if_match")) != 0 ||
	    add_list(q, 0, json_object_get(in, "options")) != 0)
		return -1;
	if (arg_bool(in, "if_none_match", false))
		return add(q, OPTION_IF_NONE_MATCH, "", 0);
	return 0;
}

static int read_file(struct request *q, const char *path)
{
	FILE *f = fopen(path, "rbe");
	size_t n;

	if (!f)
		return -1;
	q->body = malloc(BODY_MAX);
	if (!q->body)
		die("out of memory");
	n = fread(q->body, 1, BODY_MAX, f);
	q->body_len = n;
	return fclose(f) == 0 && n < BODY_MAX ? 0 : -1;
}

static int take_body(struct request *q, json_t *in)
{
	const char *file = arg_text(in, "payload_file", NULL);

	if (file)
		return read_file(q, file);
	if (!json_object_get(in, "payload"))
		return 0;
	q->body = arg_hex(in, "payload", &q->body_len);
	return q->body ? 0 : -1;
}

static int take_method(struct request *q, json_t *in)
{
	const char *name = arg_text(in, "method", "GET");

	q->method = (uint8_t)arg_int(in, "code", 0);
	for (size_t i = 0; !q->method && i < sizeof(methods) / sizeof(*methods); i++)
		if (strcmp(methods[i].name, name) == 0)
			q->method = methods[i].code;
	return q->method ? 0 : -1;
}

static int take_token(struct request *q, json_t *in)
{
	struct device *d = q->device;
	size_t len = 0;
	uint8_t *chosen = arg_hex(in, "token", &len);

	if (!json_object_get(in, "token")) {
		uint64_t token = d->next_token++;

		q->token_len = sizeof(token);
		memcpy(q->token, &token, sizeof(token));
		return 0;
	}
	if (!chosen || len > sizeof(q->token)) {
		free(chosen);
		return -1;
	}
	memcpy(q->token, chosen, len);
	q->token_len = len;
	free(chosen);
	return 0;
}

static int take_block(struct request *q, json_t *in)
{
	json_int_t size = arg_int(in, "block", DEFAULT_BLOCK);

	while (q->szx < 7 && size > INT64_C(16) << q->szx)
		q->szx++;
	if (q->szx > 6 || size != INT64_C(16) << q->szx)
		return -1;
	q->blocks = q->body_len > (size_t)size || arg_bool(in, "always_block", false);
	q->ask_small = json_object_get(in, "block") != NULL;
	q->whole = arg_bool(in, "whole", true);
	return 0;
}

struct request *request_parse(struct device *d, json_t *in, json_int_t id, char *err,
			      size_t err_len)
{
	struct request *q = request_new(d, in, id);
	const char *wrong = take_method(q, in)	  ? "method"
			    : take_options(q, in) ? "an option"
			    : take_body(q, in)	  ? "payload"
			    : take_token(q, in)	  ? "token"
			    : take_block(q, in)	  ? "block"
						  : NULL;

	q->observe = (int)arg_int(in, "observe", NO_OBSERVE);
	if (!wrong)
		return q;
	snprintf(err, err_len, "request: %s cannot be used", wrong);
	request_free(q);
	return NULL;
}

static size_t block_size(const struct request *q)
{
	return (size_t)16 << q->szx;
}

static void add_block(struct message *m, unsigned number, uint32_t num, bool more, unsigned szx,
		      uint8_t value[4])
{
	message_add(m, number, value,
		    message_put_uint(value, num << 4 | (uint32_t)more << 3 | szx));
}

int request_encode(struct request *q)
{
	struct message m = {.type = q->type, .code = q->method, .token_len = q->token_len};
	uint8_t observe[4], block1[4], block2[4];
	size_t size = block_size(q), left = q->body_len - q->sent;

	m.mid = q->messages == 0 && q->chosen_mid >= 0 ? (uint16_t)q->chosen_mid
						       : q->device->next_mid++;
	q->mid = m.mid;
	memcpy(m.token, q->token, q->token_len);
	memcpy(m.options, q->options, q->option_count * sizeof(*q->options));
	m.option_count = q->option_count;
	if (q->observe != NO_OBSERVE && !q->fetching)
		message_add(&m, OPTION_OBSERVE, observe,
			    message_put_uint(observe, (uint32_t)q->observe));
	if (q->fetching) {
		add_block(&m, OPTION_BLOCK2, (uint32_t)(q->got_len / size), false, q->szx, block2);
	} else if (q->blocks) {
		m.payload = q->body + q->sent;
		m.payload_len = left < size ? left : size;
		add_block(&m, OPTION_BLOCK1, (uint32_t)(q->sent / size), left > size, q->szx,
			  block1);
	} else {
		m.payload = q->body;
		m.payload_len = q->body_len;
		if (q->ask_small && !q->is_ping)
			add_block(&m, OPTION_BLOCK2, 0, false, q->szx, block2);
	}
	q->wire_len = message_encode(&m, q->wire, sizeof(q->wire));
	if (q->messages == 0) {
		memcpy(q->first_wire, q->wire, q->wire_len);
		q->first_wire_len = q->wire_len;
	}
	return q->wire_len ? 0 : -1;
}

static json_t *code_text(uint8_t code)
{
	return json_sprintf("%u.%02u", code >> 5, code & 31U);
}

json_t *request_describe(const struct message *m)
{
	static const char *const types[] = {"CON", "NON", "ACK", "RST"};
	json_t *options = json_array();

	for (size_t i = 0; i < m->option_count; i++)
		json_array_append_new(options,
				      json_pack("[I, o]", (json_int_t)m->options[i].number,
						json_hex(m->options[i].value, m->options[i].len)));
	return json_pack("{s:o, s:s, s:i, s:o, s:o, s:o}", "code", code_text(m->code), "type",
			 types[m->type], "mid", m->mid, "token", json_hex(m->token, m->token_len),
			 "options", options, "payload", json_hex(m->payload, m->payload_len));
}

json_t *request_report(const struct request *q)
{
	return json_pack("{s:f, s:i, s:i, s:i, s:b, s:o}", "ms",
			 (double)(clock_monotonic_us() - q->begun_us) / US_PER_MS, "messages",
			 q->messages, "transmissions", q->transmissions, "retransmissions",
			 q->retransmissions, "separate", q->separate, "message",
			 json_hex(q->first_wire, q->first_wire_len));
}

static void finish(struct request *q, const struct message *m)
{
	json_t *o = request_describe(m);

	json_object_set_new(o, "payload", json_hex(q->got, q->got_len));
	json_object_update_new(o, request_report(q));
	reply(q->id, o);
	if (!q->observed) {
		request_free(q);
		return;
	}
	q->observing = true;
	q->fetching = false;
	free(q->got);
	q->got = NULL;
	q->got_len = 0;
}

static void broken(struct request *q, const char *why)
{
	reply_error(q->id, request_report(q), "blocks", "%s: %s", q->device->name, why);
	request_free(q);
}

static void keep(struct request *q, const struct message *m)
{
	uint8_t *more = realloc(q->got, q->got_len + m->payload_len + 1);

	if (!more || q->got_len > BODY_MAX)
		die("out of memory, or a response without an end");
	if (m->payload_len)
		memcpy(more + q->got_len, m->payload, m->payload_len);
	q->got = more;
	q->got_len += m->payload_len;
}

static bool same_etag(struct request *q, const struct message *m)
{
	const struct message_option *etag = message_find(m, OPTION_ETAG);
	size_t len = etag ? etag->len : 0;

	if (len > sizeof(q->etag))
		return false;
	if (!q->fetching) {
		q->etag_len = len;
		if (len)
			memcpy(q->etag, etag->value, len);
	}
	return q->etag_len == len && (len == 0 || memcmp(q->etag, etag->value, len) == 0);
}

/* A block of the response (RFC 7959 section 2.4). */
static void take_block2(struct request *q, const struct message *m, uint32_t block2)
{
	if ((size_t)(block2 >> 4) << ((block2 & 7) + 4) != q->got_len) {
		broken(q, "a block of the response is not the one that was asked for");
		return;
	}
	if (!same_etag(q, m)) {
		broken(q, "the response has changed between its blocks");
		return;
	}
	keep(q, m);
	if (!(block2 & 8) || !q->whole) {
		finish(q, m);
		return;
	}
	q->fetching = true;
	q->szx = block2 & 7;
	if (request_send_next(q) != 0)
		broken(q, "too large");
}

/* The server wants the next block of the request, or smaller ones (section 2.3 and 2.9). true: it
 * was that. */
static bool take_block1(struct request *q, const struct message *m)
{
	const struct message_option *o = message_find(m, OPTION_BLOCK1);
	uint32_t block1 = o ? message_uint(o) : 0;

	if (!o || !q->blocks || q->fetching)
		return false;
	if (m->code == CODE(4, 13) && (block1 & 7) < q->szx && q->sent == 0) {
		q->szx = block1 & 7;
	} else if (m->code == CODE(2, 31) && (block1 >> 4) == q->sent / block_size(q)) {
		q->sent += block_size(q);
		/* A smaller size from now on: what was sent is then a whole number of those. */
		if ((block1 & 7) < q->szx)
			q->szx = block1 & 7;
	} else {
		return false;
	}
	if (q->sent >= q->body_len || request_send_next(q) != 0)
		broken(q, "the server asks for a block that there is not");
	return true;
}

static void notification(struct request *q, const struct message *m)
{
	event("notification", q->device->name, request_describe(m));
	/* An answer without the option ends the observation (RFC 7641 section 4.2). */
	if (!message_find(m, OPTION_OBSERVE))
		request_free(q);
}

void request_response(struct request *q, const struct message *m)
{
	const struct message_option *block2 = message_find(m, OPTION_BLOCK2);

	if (!q->fetching && q->observe == 0 && message_find(m, OPTION_OBSERVE))
		q->observed = true;
	if (q->observing) {
		notification(q, m);
	} else if (take_block1(q, m)) {
		return;
	} else if (block2) {
		take_block2(q, m, message_uint(block2));
	} else {
		keep(q, m);
		finish(q, m);
	}
}
