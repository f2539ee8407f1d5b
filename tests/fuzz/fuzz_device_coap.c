/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any datagrams to the device's CoAP client, in whatever state requests, time and the datagrams
 * before have brought it; and the writer of messages against their parser. Datagrams may be written
 * for the client: with the message id and token that it waits for, or those of what it observes.
 * Seeds, which also say how an input is read: tests/fuzz/fuzz_device_coap_seeds.py DIRECTORY.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device-fw/core/coap_client.h"

#define DATAGRAM_MAX 1500

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* --- The input --- */

static const uint8_t *at;
static size_t left;

static uint8_t take_byte(void)
{
	if (left == 0)
		return 0;
	left--;
	return *at++;
}

static const uint8_t *take_bytes(size_t *length)
{
	const uint8_t *bytes = at;

	if (*length > left)
		*length = left;
	at += *length;
	left -= *length;
	return bytes;
}

/* --- The client, and what must be true of it --- */

static struct fg_coap_client client;
static int64_t now_ms;
static uint32_t random_state;
static bool sending_fails, asks_from_inside;
static unsigned sent, under_way; /* datagrams since the last call; requests of ours, 0 or 1 */
static uint8_t last[FG_COAP_REQUEST_MAX]; /* the last request that was sent */

static int send_datagram(void *ctx, const void *datagram, size_t length, bool expects_answer)
{
	struct fg_coap_message m;

	(void)ctx;
	(void)expects_answer;
	sent++;
	CHECK(length >= FG_COAP_HEADER && length <= FG_COAP_REQUEST_MAX);
	CHECK(fg_coap_parse(&m, datagram, length) == 0);
	if (m.code == FG_COAP_EMPTY) {
		CHECK(length == FG_COAP_HEADER);
		CHECK(m.type == FG_COAP_ACK || m.type == FG_COAP_RST);
	} else {
		CHECK(m.type == FG_COAP_CON && m.token_length == FG_COAP_TOKEN_LENGTH);
		CHECK(m.code <= FG_COAP_PATCH);
		memcpy(last, datagram, length);
	}
	return sending_fails ? -ENOTCONN : 0;
}

static void random_bytes(void *ctx, void *out, size_t length)
{
	uint8_t *p = out;

	(void)ctx;
	for (; length > 0; length--) {
		random_state = random_state * 1664525 + 1013904223;
		*p++ = (uint8_t)(random_state >> 24);
	}
}

static void begin(uint8_t choice);

static void handle(void *ctx, enum fg_coap_outcome outcome, const struct fg_coap_response *r)
{
	static uint8_t read[DATAGRAM_MAX];

	(void)ctx;
	if (outcome == FG_COAP_NOTIFICATION || outcome == FG_COAP_NOTIFICATION_LOST) {
		CHECK(outcome == FG_COAP_NOTIFICATION_LOST || client.observed_length > 0);
	} else {
		CHECK(under_way == 1);
		under_way = 0;
	}
	CHECK((r != NULL) == (outcome == FG_COAP_RESPONSE || outcome == FG_COAP_NOTIFICATION));
	if (r) {
		unsigned class = r->code >> 5;

		CHECK(class == 2 || class == 4 || class == 5);
		CHECK(r->token_length == FG_COAP_TOKEN_LENGTH);
		CHECK(r->etag_length <= FG_COAP_ETAG_MAX);
		CHECK(r->format >= FG_COAP_FORMAT_NONE && r->format <= 65535);
		CHECK(r->length <= DATAGRAM_MAX);
		/* All of it can be read. */
		memcpy(read, r->payload, r->length);
		memcpy(read, r->etag, r->etag_length);
		memcpy(read, r->token, r->token_length);
	}
	if (asks_from_inside) {
		asks_from_inside = false;
		begin((uint8_t)outcome);
	}
}

/* What a call may have done: at most an acknowledgement, a request and one more of `handle`. */
static void check_after_call(void)
{
	CHECK(sent <= 3);
	sent = 0;
	CHECK(under_way == 0 || fg_coap_client_busy(&client));
	CHECK(client.request_length <= FG_COAP_REQUEST_MAX);
	CHECK(client.body_length <= FG_COAP_BODY_MAX);
}

/* --- What an input may do --- */

static int write_payload(void *arg, uint8_t *out, size_t room)
{
	size_t length = *(const uint8_t *)arg * 5u;

	if (length > room)
		return -EMSGSIZE;
	memset(out, 'p', length);
	return (int)length;
}

static void begin(uint8_t choice)
{
	static const char *const paths[] = {"msg/c2d", "state", "a//b", "msg/d2c/bulk"};
	struct fg_coap_request r = {
		.method = (uint8_t)(1 + (choice & 7) % 6),
		.path = paths[choice >> 3 & 3],
		.query = choice & 32 ? "a=1&b" : NULL,
		.format = choice & 64 ? FG_COAP_FORMAT_CBOR : FG_COAP_FORMAT_NONE,
		.accept = choice & 128 ? FG_COAP_FORMAT_JSON : FG_COAP_FORMAT_NONE,
		.etag = (const uint8_t *)"12345678",
		.etag_length = choice % 9,
	};
	int rc;

	r.observe = r.method == FG_COAP_GET && choice & 8;
	if (r.method == FG_COAP_POST)
		rc = fg_coap_client_compose(&client, &r, write_payload, &choice, now_ms);
	else
		rc = fg_coap_client_request(&client, &r, now_ms);
	if (rc == 0) {
		CHECK(under_way == 0);
		under_way = 1;
	}
	CHECK(rc == 0 || rc == -EBUSY || rc == -EMSGSIZE);
}

static void receive(const uint8_t *bytes, size_t length)
{
	/* A copy of just its size, so that reading beyond it is seen. */
	uint8_t *copy = malloc(length ? length : 1);

	CHECK(copy != NULL);
	if (length > 0)
		memcpy(copy, bytes, length);
	fg_coap_client_receive(&client, copy, length, now_ms);
	free(copy);
}

/* A datagram that begins as an answer would; type and code are the input's. */
static void answer(uint8_t how, uint8_t code, size_t length)
{
	uint8_t bytes[FG_COAP_HEADER + FG_COAP_TOKEN_LENGTH + 255];
	const uint8_t *rest = take_bytes(&length);
	const uint8_t *token = how & 4 ? client.observed : last;

	bytes[0] = (uint8_t)(0x44 | (how & 3) << 4);
	bytes[1] = code;
	memcpy(bytes + 2, how & 8 ? last + 2 : &how, how & 8 ? 2 : 1);
	if (!(how & 8))
		bytes[3] = (uint8_t)(how >> 4);
	memcpy(bytes + 4, token + 4, FG_COAP_TOKEN_LENGTH);
	if (length > 0)
		memcpy(bytes + 8, rest, length);
	receive(bytes, code ? 8 + length : FG_COAP_HEADER);
}

static void pass_time(uint8_t how)
{
	int64_t next = fg_coap_client_poll(&client, now_ms);

	if (how == 255)
		now_ms += INT64_C(40) * 86400 * 1000; /* a long sleep */
	else if (how & 1 && next != INT64_MAX)
		now_ms = next > now_ms ? next : now_ms;
	else
		now_ms += how * 97;
	fg_coap_client_poll(&client, now_ms);
}

static void act(uint8_t what)
{
	uint8_t a, b;

	switch (what & 7) {
	case 0:
		begin(take_byte());
		break;
	case 1: {
		size_t length = take_byte();
		const uint8_t *bytes = take_bytes(&length);

		receive(bytes, length);
		break;
	}
	case 2:
	case 3:
	case 4:
		a = take_byte();
		b = take_byte();
		answer(a, b, take_byte());
		break;
	case 5:
		pass_time(take_byte());
		break;
	case 6:
		sending_fails = what & 8;
		asks_from_inside = what & 16;
		break;
	default:
		if (what & 8) {
			fg_coap_client_reset(&client);
			under_way = 0;
		} else {
			fg_coap_client_stop_observing(&client);
		}
		break;
	}
}

/* The client comes to rest, and has told of each request. */
static void settle(void)
{
	sending_fails = asks_from_inside = false;
	for (size_t polls = 0;; polls++) {
		int64_t next = fg_coap_client_poll(&client, now_ms);

		check_after_call();
		if (next == INT64_MAX)
			break;
		CHECK(polls < 50);
		now_ms = next > now_ms ? next : now_ms;
	}
	CHECK(under_way == 0 && !fg_coap_client_busy(&client));
}

/* --- Writer against parser --- */

static void rewrite(const uint8_t *bytes, size_t length)
{
	uint8_t written[DATAGRAM_MAX + 8], again[DATAGRAM_MAX + 8];
	struct fg_coap_message m, n;
	struct fg_coap_option o = {0}, p = {0};
	struct fg_coap_writer w;

	if (length > DATAGRAM_MAX || fg_coap_parse(&m, bytes, length) < 0)
		return;
	fg_coap_begin(&w, written, sizeof(written), m.type, m.code, m.id, m.token, m.token_length);
	while (fg_coap_next_option(&m, &o))
		fg_coap_option(&w, o.number, o.value, o.length);
	fg_coap_payload(&w, m.payload, m.payload_length);
	CHECK(!w.full &&
	      w.length <= length); /* numbers may have been written longer than need be */
	CHECK(fg_coap_parse(&n, written, w.length) == 0);
	CHECK(m.type == n.type && m.code == n.code && m.id == n.id);
	CHECK(m.token_length == n.token_length && memcmp(m.token, n.token, m.token_length) == 0);
	CHECK(m.payload_length == n.payload_length &&
	      memcmp(m.payload, n.payload, m.payload_length) == 0);
	o = p;
	while (fg_coap_next_option(&m, &o)) {
		CHECK(fg_coap_next_option(&n, &p));
		CHECK(o.number == p.number && o.length == p.length &&
		      memcmp(o.value, p.value, o.length) == 0);
	}
	CHECK(!fg_coap_next_option(&n, &p));
	/* With one byte less it is full. */
	fg_coap_begin(&w, again, w.length - 1, m.type, m.code, m.id, m.token, m.token_length);
	for (o = (struct fg_coap_option){0}; fg_coap_next_option(&m, &o);)
		fg_coap_option(&w, o.number, o.value, o.length);
	fg_coap_payload(&w, m.payload, m.payload_length);
	CHECK(w.full);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct fg_coap_settings patient = {
		.ack_timeout_ms = 60000, .max_retransmit = 8, .response_timeout_ms = 600000};

	at = data;
	left = size;
	if (size > 0 && take_byte() & 1) {
		rewrite(at, left);
		return 0;
	}
	client = (struct fg_coap_client){
		.settings = size > 0 && data[0] & 2 ? &patient : &fg_coap_defaults,
		.send = send_datagram,
		.random = random_bytes,
		.handle = handle,
	};
	random_state = size > 0 ? data[0] : 0;
	now_ms = 0;
	sending_fails = asks_from_inside = false;
	under_way = sent = 0;
	memset(last, 0, sizeof(last));
	fg_coap_client_init(&client);
	while (left > 0) {
		act(take_byte());
		check_after_call();
	}
	settle();
	return 0;
}
