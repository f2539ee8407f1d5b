/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as what a broker sends to the device's MQTT client, in each of its states. The first
 * byte chooses the state, the second what `handle` does; the rest is the stream. It is received
 * whole, byte by byte, and cut in two at every place: what is sent and told must be the same. What
 * is sent is MQTT, and after the end there is silence. Seeds: tests/fuzz/fuzz_device_mqtt_seeds.py
 * DIRECTORY.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device-fw/core/mqtt_client.h"

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#define TOPIC	    "m/d/dev-1/d2c"
#define CUTS_MAX    200 /* longer streams are cut at fewer places */
#define KEEPALIVE_S 60
#define TIMEOUT_MS  10000
#define MONTH_MS    (INT64_C(31) * 86400 * 1000)

enum prelude {
	NOT_OPEN,
	CONNECTING,
	SUBSCRIBING,
	RUNNING,
	PUBLISHING,
	PINGING,
	OPENED_AGAIN, /* with a publish of before that is not acknowledged */
	PRELUDES,
};

enum {
	PUBLISHES = 1 << 0,  /* handle, at everything that it is told */
	CLOSES = 1 << 1,     /* handle, at the first message */
	SEND_FAILS = 1 << 2, /* the second packet of the run */
	CLEAN_SESSION = 1 << 3,
	WITHOUT_FILTER = 1 << 4,
};

/* What one run has shown. */
struct trace {
	struct fg_mqtt_client client;
	unsigned behaviour;
	int64_t now_ms;
	uint64_t hash; /* of all that was sent and told, in order */
	unsigned sent, published, acknowledged;
	bool ended, closing;
};

static void note(struct trace *t, const void *bytes, size_t length)
{
	const uint8_t *byte = bytes;

	for (size_t i = 0; i < length; i++)
		t->hash = (t->hash ^ byte[i]) * UINT64_C(0x100000001b3);
	t->hash = (t->hash ^ length) * UINT64_C(0x100000001b3);
}

/* --- What it does to the outside --- */

/* One whole packet that a client may send, with the length that it says. */
static void check_packet(const uint8_t *packet, size_t length)
{
	size_t remaining, head = 2;

	CHECK(length >= 2);
	remaining = packet[1] & 0x7f;
	if (packet[1] & 0x80) {
		CHECK(length >= 3 && packet[2] > 0 && packet[2] < 0x80);
		remaining |= (size_t)packet[2] << 7;
		head = 3;
	}
	CHECK(length == head + remaining);
	switch (packet[0]) {
	case 0x10: /* CONNECT */
	case 0x82: /* SUBSCRIBE */
	case 0x32: /* PUBLISH, QoS 1 */
	case 0x3a: /* and DUP */
		break;
	case 0x40: /* PUBACK */
		CHECK(remaining == 2 && (packet[2] || packet[3]));
		break;
	case 0xc0: /* PINGREQ */
	case 0xe0: /* DISCONNECT */
		CHECK(remaining == 0);
		break;
	default:
		CHECK(packet[0] == 0xe0); /* nothing else is sent by a client */
	}
}

static int send_packet(void *ctx, const void *bytes, size_t length, bool expects_answer)
{
	struct trace *t = ctx;
	const uint8_t *packet = bytes;

	CHECK(!t->ended);
	check_packet(packet, length);
	if (packet[0] != 0x40 && packet[0] != 0xe0)
		CHECK(expects_answer);
	note(t, bytes, length);
	note(t, &expects_answer, sizeof(expects_answer));
	return (t->behaviour & SEND_FAILS) && ++t->sent == 2 ? -EPIPE : 0;
}

static int write_payload(void *arg, uint8_t *out, size_t room)
{
	(void)arg;
	CHECK(room >= 4);
	memcpy(out, "data", 4);
	return 4;
}

static void publish(struct trace *t, bool duplicate)
{
	int rc = fg_mqtt_client_publish(&t->client, TOPIC, write_payload, NULL, duplicate,
					t->now_ms);

	CHECK(rc == 0 || rc == -EBUSY);
	if (rc == 0)
		t->published++;
}

static void check_message(const struct fg_mqtt_event *event)
{
	const uint8_t *in = (const uint8_t *)event->topic;

	CHECK(event->topic_length > 0);
	CHECK(2 + event->topic_length + event->length <= FG_MQTT_RECEIVE_MAX);
	CHECK(event->payload >= in + event->topic_length);
	CHECK(!memchr(in, '#', event->topic_length) && !memchr(in, '\0', event->topic_length));
}

static void handle(void *ctx, enum fg_mqtt_outcome outcome, const struct fg_mqtt_event *event)
{
	struct trace *t = ctx;

	CHECK(!t->ended && !t->closing);
	note(t, &outcome, sizeof(outcome));
	note(t, &event->return_code, sizeof(event->return_code));
	note(t, &event->session_present, sizeof(event->session_present));
	note(t, &event->duplicate, sizeof(event->duplicate));
	note(t, &event->length, sizeof(event->length));
	switch (outcome) {
	case FG_MQTT_MESSAGE:
		check_message(event);
		note(t, event->topic, event->topic_length);
		note(t, event->payload, event->length);
		break;
	case FG_MQTT_ACKNOWLEDGED:
		CHECK(++t->acknowledged <= t->published);
		break;
	case FG_MQTT_REFUSED:
		CHECK(event->return_code != 0);
		t->ended = true;
		break;
	case FG_MQTT_SILENT:
	case FG_MQTT_MALFORMED:
	case FG_MQTT_NOT_SENT:
		t->ended = true;
		break;
	default:
		break;
	}
	if (t->behaviour & PUBLISHES)
		publish(t, false);
	if ((t->behaviour & CLOSES) && outcome == FG_MQTT_MESSAGE) {
		t->closing = true;
		fg_mqtt_client_close(&t->client);
		t->ended = true;
	}
}

/* --- A run --- */

/* In memory of exactly that length. */
static void receive(struct trace *t, const uint8_t *bytes, size_t length)
{
	uint8_t *copy = malloc(length > 0 ? length : 1);

	CHECK(copy);
	memcpy(copy, bytes, length);
	fg_mqtt_client_receive(&t->client, copy, length, t->now_ms);
	free(copy);
}

static void receive_text(struct trace *t, const char *bytes, size_t length)
{
	receive(t, (const uint8_t *)bytes, length);
}

static void bring_into(struct trace *t, enum prelude prelude)
{
	if (prelude == NOT_OPEN)
		return;
	fg_mqtt_client_open(&t->client, t->now_ms);
	if (prelude >= SUBSCRIBING)
		receive_text(t, "\x20\x02\0\0", 4);
	if (prelude >= RUNNING && t->client.subscription)
		receive_text(t, "\x90\x03\0\x01\x01", 5);
	if (prelude == PUBLISHING || prelude == OPENED_AGAIN)
		publish(t, true);
	if (prelude == PINGING) {
		t->now_ms += KEEPALIVE_S * 1000;
		fg_mqtt_client_poll(&t->client, t->now_ms);
	}
	if (prelude == OPENED_AGAIN && !t->ended) {
		fg_mqtt_client_open(&t->client, t->now_ms);
		receive_text(t, "\x20\x02\x01\0", 4);
	}
}

/* Its own time goes on until it wants nothing any more, or asks for a ping once more. */
static void let_time_pass(struct trace *t)
{
	for (unsigned i = 0; i < 4; i++) {
		int64_t next = fg_mqtt_client_poll(&t->client, t->now_ms);

		CHECK(next > t->now_ms);
		if (next == INT64_MAX)
			break;
		CHECK(next <= t->now_ms + KEEPALIVE_S * 1000);
		t->now_ms = next;
	}
	fg_mqtt_client_poll(&t->client, t->now_ms + MONTH_MS);
}

static uint64_t run(enum prelude prelude, unsigned behaviour, const uint8_t *stream, size_t length,
		    size_t cut, bool bytewise)
{
	static struct trace t;

	t = (struct trace){
		.behaviour = behaviour,
		.now_ms = 1000,
		.client = {.client_id = "dev-1",
			   .subscription = behaviour & WITHOUT_FILTER ? NULL : "m/d/dev-1/c2d/#",
			   .keepalive_s = KEEPALIVE_S,
			   .clean_session = behaviour & CLEAN_SESSION,
			   .answer_timeout_ms = TIMEOUT_MS,
			   .send = send_packet,
			   .handle = handle,
			   .ctx = &t}};
	fg_mqtt_client_init(&t.client);
	bring_into(&t, prelude);
	if (bytewise) {
		for (size_t i = 0; i < length; i++)
			receive(&t, stream + i, 1);
	} else {
		receive(&t, stream, cut);
		receive(&t, stream + cut, length - cut);
	}
	let_time_pass(&t);
	t.closing = true;
	fg_mqtt_client_close(&t.client);
	t.ended = true;
	receive(&t, stream, length);
	CHECK(fg_mqtt_client_poll(&t.client, t.now_ms) == INT64_MAX);
	CHECK(!fg_mqtt_client_busy(&t.client));
	return t.hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum prelude prelude;
	unsigned behaviour;
	size_t step;
	uint64_t whole;

	if (size < 2)
		return 0;
	prelude = data[0] % PRELUDES;
	behaviour = data[1];
	data += 2;
	size -= 2;
	whole = run(prelude, behaviour, data, size, size, false);
	CHECK(run(prelude, behaviour, data, size, 0, true) == whole);
	step = size / CUTS_MAX + 1;
	for (size_t cut = step; cut < size; cut += step)
		CHECK(run(prelude, behaviour, data, size, cut, false) == whole);
	return 0;
}
