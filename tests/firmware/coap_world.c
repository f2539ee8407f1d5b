/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/firmware/coap_world.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define START_MS 5000

static int send_datagram(void *ctx, const void *datagram, size_t length, bool expects_answer)
{
	struct world *w = ctx;

	if (w->send_error)
		return w->send_error;
	assert_true(w->sent_count < WORLD_KEPT && length <= WORLD_DATAGRAM);
	memcpy(w->sent[w->sent_count].bytes, datagram, length);
	w->sent[w->sent_count].length = length;
	w->sent[w->sent_count++].expects_answer = expects_answer;
	return 0;
}

static void random_bytes(void *ctx, void *out, size_t length)
{
	struct world *w = ctx;
	uint8_t *p = out;

	while (length-- > 0) {
		w->random = w->random * 1664525 + 1013904223;
		*p++ = (uint8_t)(w->random >> 24);
	}
}

static void handle(void *ctx, enum fg_coap_outcome outcome, const struct fg_coap_response *r)
{
	struct world *w = ctx;
	struct world_given *g = &w->given[w->given_count++];
	const struct fg_coap_request *next = w->follow_up;

	assert_true(w->given_count < WORLD_KEPT);
	memset(g, 0, sizeof(*g));
	g->outcome = outcome;
	assert_int_equal(r != NULL, outcome == FG_COAP_RESPONSE || outcome == FG_COAP_NOTIFICATION);
	if (r) {
		g->response = *r;
		memcpy(g->token, r->token, r->token_length);
		if (r->etag_length > 0)
			memcpy(g->etag, r->etag, r->etag_length);
		if (r->length > 0)
			memcpy(g->payload, r->payload, r->length);
	}
	w->follow_up = NULL;
	if (next)
		assert_int_equal(fg_coap_client_request(&w->client, next, w->now_ms), 0);
}

void world_open(struct world *w)
{
	memset(w, 0, sizeof(*w));
	w->client = (struct fg_coap_client){
		.settings = &fg_coap_defaults,
		.send = send_datagram,
		.random = random_bytes,
		.handle = handle,
		.ctx = w,
	};
	w->now_ms = START_MS;
	fg_coap_client_init(&w->client);
}

struct fg_coap_request world_get(const char *path)
{
	return (struct fg_coap_request){.method = FG_COAP_GET,
					.path = path,
					.format = FG_COAP_FORMAT_NONE,
					.accept = FG_COAP_FORMAT_NONE};
}

void world_request(struct world *w, const struct fg_coap_request *r)
{
	assert_int_equal(fg_coap_client_request(&w->client, r, w->now_ms), 0);
}

struct fg_coap_message world_sent(const struct world *w, size_t i)
{
	struct fg_coap_message m;

	assert_true(i < w->sent_count);
	assert_int_equal(fg_coap_parse(&m, w->sent[i].bytes, w->sent[i].length), 0);
	return m;
}

struct fg_coap_message world_last(const struct world *w)
{
	return world_sent(w, w->sent_count - 1);
}

const struct world_given *world_given(const struct world *w)
{
	assert_true(w->given_count > 0);
	return &w->given[w->given_count - 1];
}

struct world_reply world_message(enum fg_coap_type type, uint16_t id, const uint8_t *token)
{
	return (struct world_reply){.type = type,
				    .code = FG_COAP_CODE(2, 5),
				    .id = id,
				    .token = token,
				    .observe = -1,
				    .block = -1};
}

struct world_reply world_ack(const struct world *w, const char *text)
{
	const uint8_t *request = w->sent[w->sent_count - 1].bytes;
	struct world_reply r =
		world_message(FG_COAP_ACK, world_last(w).id, request + FG_COAP_HEADER);

	r.payload = text;
	r.length = strlen(text);
	return r;
}

void world_bytes(struct world *w, const void *bytes, size_t length)
{
	/* A copy of just its size, so that reading beyond it is seen. */
	uint8_t *copy = malloc(length ? length : 1);

	assert_non_null(copy);
	memcpy(copy, bytes, length);
	fg_coap_client_receive(&w->client, copy, length, w->now_ms);
	free(copy);
}

void world_deliver(struct world *w, const struct world_reply *r)
{
	uint8_t bytes[WORLD_DATAGRAM];
	struct fg_coap_writer out;

	fg_coap_begin(&out, bytes, sizeof(bytes), r->type, r->code, r->id, r->token,
		      r->token ? FG_COAP_TOKEN_LENGTH : 0);
	if (r->etag)
		fg_coap_option(&out, FG_COAP_OPTION_ETAG, r->etag, strlen(r->etag));
	if (r->observe >= 0)
		fg_coap_option_uint(&out, FG_COAP_OPTION_OBSERVE, (uint32_t)r->observe);
	if (r->block >= 0)
		fg_coap_option_uint(&out, FG_COAP_OPTION_BLOCK2, (uint32_t)r->block);
	if (r->extra)
		fg_coap_option(&out, r->extra, NULL, 0);
	fg_coap_payload(&out, r->payload, r->length);
	assert_false(out.full);
	world_bytes(w, bytes, out.length);
}

void world_poll(struct world *w, int64_t passed_ms)
{
	w->now_ms += passed_ms;
	fg_coap_client_poll(&w->client, w->now_ms);
}

int64_t world_wait(struct world *w)
{
	int64_t before = w->now_ms, at = fg_coap_client_poll(&w->client, w->now_ms);

	assert_true(at != INT64_MAX);
	if (at > w->now_ms)
		w->now_ms = at;
	fg_coap_client_poll(&w->client, w->now_ms);
	return w->now_ms - before;
}
