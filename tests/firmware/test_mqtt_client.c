/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device's MQTT client against bytes written by hand, as a broker sends them; sections are
 * those of MQTT 3.1.1. Each byte string is received whole and, where it matters, cut everywhere.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "device-fw/core/mqtt_client.h"

#define SENT_MAX    8192
#define EVENTS_MAX  32
#define TIMEOUT_MS  10000
#define KEEPALIVE_S 60
#define FILTER	    "m/d/dev-1/c2d/#"
#define TOPIC	    "m/d/dev-1/d2c"

/* A string literal with its length, NULs and all. */
#define BYTES(literal) (literal), (sizeof(literal) - 1)

struct told {
	enum fg_mqtt_outcome outcome;
	struct fg_mqtt_event event;
	char topic[600], payload[600];
	size_t sent_before; /* bytes that had been sent when it was told */
};

struct fixture {
	struct fg_mqtt_client client;
	uint8_t sent[SENT_MAX];
	size_t sent_length;
	size_t checked; /* of what was sent */
	struct told told[EVENTS_MAX];
	size_t told_count;
	bool last_expects_answer;
	int send_result;
	void (*in_handle)(struct fixture *f, enum fg_mqtt_outcome outcome);
};

static int keep_sent(void *ctx, const void *bytes, size_t length, bool expects_answer)
{
	struct fixture *f = ctx;

	if (f->send_result < 0)
		return f->send_result;
	assert_true(length <= sizeof(f->sent) - f->sent_length);
	memcpy(f->sent + f->sent_length, bytes, length);
	f->sent_length += length;
	f->last_expects_answer = expects_answer;
	return 0;
}

static void copy_text(char *out, size_t size, const void *bytes, size_t length)
{
	assert_true(length < size);
	if (length > 0)
		memcpy(out, bytes, length);
	out[length] = '\0';
}

static void keep_told(void *ctx, enum fg_mqtt_outcome outcome, const struct fg_mqtt_event *event)
{
	struct fixture *f = ctx;
	struct told *t = &f->told[f->told_count];

	assert_true(f->told_count < EVENTS_MAX);
	f->told_count++;
	t->outcome = outcome;
	t->event = *event;
	t->sent_before = f->sent_length;
	if (outcome == FG_MQTT_MESSAGE) {
		copy_text(t->topic, sizeof(t->topic), event->topic, event->topic_length);
		copy_text(t->payload, sizeof(t->payload), event->payload, event->length);
	}
	if (f->in_handle)
		f->in_handle(f, outcome);
}

/* There is one at a time, in memory that was something else before. */
static struct fixture *fixture(void)
{
	static struct fixture f;

	memset(&f, 0, sizeof(f));
	memset(&f.client, 0xa5, sizeof(f.client));
	f.client.client_id = "dev-1";
	f.client.subscription = FILTER;
	f.client.keepalive_s = KEEPALIVE_S;
	f.client.clean_session = false;
	f.client.answer_timeout_ms = TIMEOUT_MS;
	f.client.send = keep_sent;
	f.client.handle = keep_told;
	f.client.ctx = &f;
	fg_mqtt_client_init(&f.client);
	return &f;
}

/* Time is 1000 ms where it does not matter. */
static void receive(struct fixture *f, const char *bytes, size_t length)
{
	fg_mqtt_client_receive(&f->client, bytes, length, 1000);
}

/* What was sent since the last look is this, and nothing more. */
static void expect_sent(struct fixture *f, const char *bytes, size_t length)
{
	assert_int_equal(f->sent_length - f->checked, length);
	assert_memory_equal(f->sent + f->checked, bytes, length);
	f->checked = f->sent_length;
}

static void expect_nothing_sent(struct fixture *f)
{
	assert_int_equal(f->sent_length, f->checked);
}

/* The next thing told is this, and nothing after it. */
static const struct told *expect_told(struct fixture *f, enum fg_mqtt_outcome outcome)
{
	assert_int_equal(f->told_count, 1);
	assert_int_equal(f->told[0].outcome, outcome);
	f->told_count = 0;
	return &f->told[0];
}

static void expect_nothing_told(struct fixture *f)
{
	assert_int_equal(f->told_count, 0);
}

/* Neither bytes, nor time, nor calls make it say anything more. */
static void expect_ended(struct fixture *f)
{
	size_t told = f->told_count;

	f->checked = f->sent_length;
	receive(f, BYTES("\x20\x02\0\0"));
	receive(f, BYTES("\xff\xff\xff\xff\xff"));
	assert_true(fg_mqtt_client_poll(&f->client, INT64_C(1) << 60) == INT64_MAX);
	assert_false(fg_mqtt_client_busy(&f->client));
	fg_mqtt_client_close(&f->client);
	expect_nothing_sent(f);
	assert_int_equal(f->told_count, told);
}

static void accept(struct fixture *f)
{
	receive(f, BYTES("\x20\x02\0\0"));
	receive(f, BYTES("\x90\x03\0\x01\x01"));
}

/* Connected and subscribed at 1000 ms. */
static struct fixture *running(void)
{
	struct fixture *f = fixture();

	fg_mqtt_client_open(&f->client, 1000);
	accept(f);
	expect_told(f, FG_MQTT_CONNECTED);
	f->checked = f->sent_length;
	return f;
}

static int write_text(void *arg, uint8_t *out, size_t room)
{
	size_t length = strlen(arg);

	assert_true(room < FG_MQTT_PACKET_MAX);
	if (length > room)
		return -EMSGSIZE;
	memcpy(out, arg, length);
	return (int)length;
}

static int publish_at(struct fixture *f, const char *payload, bool duplicate, int64_t now_ms)
{
	char text[FG_MQTT_PACKET_MAX];

	snprintf(text, sizeof(text), "%s", payload);
	return fg_mqtt_client_publish(&f->client, TOPIC, write_text, text, duplicate, now_ms);
}

static int publish(struct fixture *f, const char *payload)
{
	return publish_at(f, payload, false, 1000);
}

/* --- CONNECT and CONNACK (sections 3.1, 3.2) --- */

static void test_connect_is_as_section_3_1_has_it(void **state)
{
	struct fixture *f = fixture();

	(void)state;
	fg_mqtt_client_open(&f->client, 0);
	expect_sent(f, BYTES("\x10\x11\0\x04MQTT\x04\0\0\x3c\0\x05"
			     "dev-1"));
	assert_true(f->last_expects_answer);
	assert_true(fg_mqtt_client_busy(&f->client));
	expect_nothing_told(f);
}

static void test_connect_can_ask_for_a_clean_session_without_keep_alive(void **state)
{
	struct fixture *f = fixture();

	(void)state;
	f->client.clean_session = true;
	f->client.keepalive_s = 0;
	fg_mqtt_client_open(&f->client, 0);
	expect_sent(f, BYTES("\x10\x11\0\x04MQTT\x04\x02\0\0\0\x05"
			     "dev-1"));
}

static void test_connected_is_told_when_the_subscription_is_granted(void **state)
{
	struct fixture *f = fixture();
	const struct told *t;

	(void)state;
	fg_mqtt_client_open(&f->client, 0);
	f->checked = f->sent_length;
	receive(f, BYTES("\x20\x02\0\0"));
	expect_sent(f, BYTES("\x82\x14\0\x01\0\x0f" FILTER "\x01"));
	expect_nothing_told(f);
	assert_int_equal(publish(f, "x"), -EBUSY);
	receive(f, BYTES("\x90\x03\0\x01\x01"));
	t = expect_told(f, FG_MQTT_CONNECTED);
	assert_false(t->event.session_present);
	assert_false(fg_mqtt_client_busy(&f->client));
}

static void test_it_subscribes_also_when_the_session_is_present(void **state)
{
	struct fixture *f = fixture();

	(void)state;
	fg_mqtt_client_open(&f->client, 0);
	f->checked = f->sent_length;
	receive(f, BYTES("\x20\x02\x01\0"));
	expect_sent(f, BYTES("\x82\x14\0\x01\0\x0f" FILTER "\x01"));
	receive(f, BYTES("\x90\x03\0\x01\0"));
	assert_true(expect_told(f, FG_MQTT_CONNECTED)->event.session_present);
}

static void test_without_a_subscription_connack_is_enough(void **state)
{
	struct fixture *f = fixture();

	(void)state;
	f->client.subscription = NULL;
	fg_mqtt_client_open(&f->client, 0);
	f->checked = f->sent_length;
	receive(f, BYTES("\x20\x02\x01\0"));
	assert_true(expect_told(f, FG_MQTT_CONNECTED)->event.session_present);
	expect_nothing_sent(f);
	assert_int_equal(publish(f, "x"), 0);
}

static void test_each_return_code_of_connack_but_0_is_a_refusal(void **state)
{
	(void)state;
	for (unsigned code = 1; code < 256; code++) {
		struct fixture *f = fixture();
		const char connack[] = {0x20, 2, 0, (char)code};

		fg_mqtt_client_open(&f->client, 0);
		receive(f, connack, sizeof(connack));
		assert_int_equal(expect_told(f, FG_MQTT_REFUSED)->event.return_code, code);
		expect_ended(f);
	}
}

static void test_a_refused_subscription_is_a_refusal(void **state)
{
	struct fixture *f = fixture();

	(void)state;
	fg_mqtt_client_open(&f->client, 0);
	receive(f, BYTES("\x20\x02\0\0\x90\x03\0\x01\x80"));
	assert_int_equal(expect_told(f, FG_MQTT_REFUSED)->event.return_code, 0x80);
	expect_ended(f);
}

static void test_settings_that_fit_into_no_packet_are_not_sent(void **state)
{
	char longest[FG_MQTT_PACKET_MAX + 1];
	struct fixture *f = fixture();

	(void)state;
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	f->client.client_id = longest;
	fg_mqtt_client_open(&f->client, 0);
	expect_told(f, FG_MQTT_NOT_SENT);
	expect_ended(f);

	f = fixture();
	f->client.subscription = longest;
	fg_mqtt_client_open(&f->client, 0);
	receive(f, BYTES("\x20\x02\0\0"));
	expect_told(f, FG_MQTT_NOT_SENT);
	expect_ended(f);
}

/* --- PUBLISH of ours (sections 3.3, 3.4) --- */

static void test_publish_has_qos_1_and_an_identifier(void **state)
{
	struct fixture *f = running();

	(void)state;
	assert_int_equal(publish(f, "hello"), 0);
	expect_sent(f, BYTES("\x32\x16\0\x0d" TOPIC "\0\x02hello"));
	assert_true(f->last_expects_answer);
	assert_true(fg_mqtt_client_busy(&f->client));
	expect_nothing_told(f);
}

static void test_puback_acknowledges_and_says_how_long_it_took(void **state)
{
	struct fixture *f = running();

	(void)state;
	publish(f, "hello");
	fg_mqtt_client_receive(&f->client, BYTES("\x40\x02\0\x02"), 1234);
	assert_int_equal(expect_told(f, FG_MQTT_ACKNOWLEDGED)->event.elapsed_ms, 234);
	assert_false(fg_mqtt_client_busy(&f->client));
	assert_int_equal(publish(f, "more"), 0);
}

static void test_one_publish_is_under_way_at_a_time(void **state)
{
	struct fixture *f = running();

	(void)state;
	publish(f, "hello");
	f->checked = f->sent_length;
	assert_int_equal(publish(f, "more"), -EBUSY);
	expect_nothing_sent(f);
}

static void test_puback_of_another_identifier_acknowledges_nothing(void **state)
{
	struct fixture *f = running();

	(void)state;
	receive(f, BYTES("\x40\x02\0\x02"));
	publish(f, "hello");
	receive(f, BYTES("\x40\x02\0\x01"));
	receive(f, BYTES("\x40\x02\x02\0"));
	expect_nothing_told(f);
	receive(f, BYTES("\x40\x02\0\x02\x40\x02\0\x02"));
	expect_told(f, FG_MQTT_ACKNOWLEDGED);
}

static void test_identifiers_go_round_and_are_never_0(void **state)
{
	struct fixture *f = running();
	unsigned wanted = 2;

	(void)state;
	for (unsigned n = 0; n < 2 * 65536; n++) {
		const uint8_t *id = f->sent + 2 + 2 + strlen(TOPIC);
		char puback[] = {0x40, 2, 0, 0};

		f->sent_length = 0;
		assert_int_equal(publish(f, ""), 0);
		assert_int_equal(id[0] << 8 | id[1], wanted);
		memcpy(puback + 2, id, 2);
		receive(f, puback, sizeof(puback));
		expect_told(f, FG_MQTT_ACKNOWLEDGED);
		wanted = wanted == 0xffff ? 1 : wanted + 1;
	}
}

static void test_a_long_publish_has_two_bytes_of_length_and_the_longest_fits_exactly(void **state)
{
	const size_t room = FG_MQTT_PACKET_MAX - 3 - 2 - strlen(TOPIC) - 2;
	char payload[FG_MQTT_PACKET_MAX];

	(void)state;
	for (size_t n = 0; n <= room + 1; n++) {
		struct fixture *f = running();
		size_t body = 2 + strlen(TOPIC) + 2 + n, head = body < 128 ? 2 : 3;

		memset(payload, 'p', n);
		payload[n] = '\0';
		if (n == room + 1) {
			assert_int_equal(publish(f, payload), -EMSGSIZE);
			expect_nothing_sent(f);
			assert_int_equal(publish(f, "shorter"), 0);
			break;
		}
		assert_int_equal(publish(f, payload), 0);
		assert_int_equal(f->sent_length - f->checked, head + body);
		assert_int_equal(f->sent[f->checked], 0x32);
		if (head == 3) {
			assert_int_equal(f->sent[f->checked + 1], 0x80 | (body & 0x7f));
			assert_int_equal(f->sent[f->checked + 2], body >> 7);
		}
		assert_memory_equal(f->sent + f->sent_length - n, payload, n);
	}
}

static void test_a_topic_that_does_not_fit_is_not_published(void **state)
{
	char topic[2 * FG_MQTT_PACKET_MAX];
	struct fixture *f = running();

	(void)state;
	memset(topic, 't', sizeof(topic));
	for (size_t length = FG_MQTT_PACKET_MAX - 7; length < sizeof(topic); length += 7) {
		topic[length] = '\0';
		assert_int_equal(
			fg_mqtt_client_publish(&f->client, topic, write_text, "x", false, 1000),
			-EMSGSIZE);
		topic[length] = 't';
	}
	expect_nothing_sent(f);
}

static int refuse_to_write(void *arg, uint8_t *out, size_t room)
{
	(void)arg, (void)out, (void)room;
	return -ENODATA;
}

static void test_what_the_writer_refuses_is_returned_and_nothing_is_sent(void **state)
{
	struct fixture *f = running();

	(void)state;
	assert_int_equal(
		fg_mqtt_client_publish(&f->client, TOPIC, refuse_to_write, NULL, false, 1000),
		-ENODATA);
	expect_nothing_sent(f);
	assert_false(fg_mqtt_client_busy(&f->client));
}

static int write_too_much(void *arg, uint8_t *out, size_t room)
{
	(void)arg, (void)out;
	return (int)room + 1;
}

static void test_a_writer_that_says_more_than_fits_is_not_believed(void **state)
{
	struct fixture *f = running();

	(void)state;
	assert_int_equal(
		fg_mqtt_client_publish(&f->client, TOPIC, write_too_much, NULL, false, 1000),
		-EMSGSIZE);
	expect_nothing_sent(f);
	assert_false(fg_mqtt_client_busy(&f->client));
}

/* Each attempt takes one, also when its writer refuses. */
static void test_the_identifier_of_what_is_not_acknowledged_is_not_given_again(void **state)
{
	struct fixture *f = running();

	(void)state;
	publish(f, "hello");
	fg_mqtt_client_open(&f->client, 1000);
	receive(f, BYTES("\x20\x02\x01\0\x90\x03\0\x03\x01"));
	for (unsigned id = 4; id <= 65536; id++) /* the last one is 1 */
		fg_mqtt_client_publish(&f->client, TOPIC, refuse_to_write, NULL, false, 1000);
	f->checked = f->sent_length;
	publish(f, "other");
	expect_sent(f, BYTES("\x32\x16\0\x0d" TOPIC "\0\x03other"));
}

static void test_a_repeat_over_the_next_connection_has_dup_and_the_same_identifier(void **state)
{
	struct fixture *f = running();

	(void)state;
	publish(f, "hello");
	fg_mqtt_client_open(&f->client, 1000);
	assert_int_equal(publish_at(f, "hello", true, 1000), -EBUSY);
	receive(f, BYTES("\x20\x02\x01\0\x90\x03\0\x03\x01"));
	expect_told(f, FG_MQTT_CONNECTED);
	f->checked = f->sent_length;
	assert_int_equal(publish_at(f, "hello", true, 1000), 0);
	expect_sent(f, BYTES("\x3a\x16\0\x0d" TOPIC "\0\x02hello"));
	receive(f, BYTES("\x40\x02\0\x02"));
	expect_told(f, FG_MQTT_ACKNOWLEDGED);
	publish(f, "next");
	expect_sent(f, BYTES("\x32\x15\0\x0d" TOPIC "\0\x04next"));
	receive(f, BYTES("\x40\x02\0\x04"));
	publish_at(f, "5th", true, 1000);
	expect_sent(f, BYTES("\x3a\x14\0\x0d" TOPIC "\0\x05"
			     "5th"));
}

static void test_another_publish_over_the_next_connection_has_another_identifier(void **state)
{
	struct fixture *f = running();

	(void)state;
	publish(f, "hello");
	fg_mqtt_client_open(&f->client, 1000);
	receive(f, BYTES("\x20\x02\x01\0\x90\x03\0\x03\x01"));
	f->told_count = 0;
	f->checked = f->sent_length;
	publish(f, "other");
	expect_sent(f, BYTES("\x32\x16\0\x0d" TOPIC "\0\x04other"));
	receive(f, BYTES("\x40\x02\0\x02"));
	expect_nothing_told(f);
}

static void test_a_repeat_after_a_reboot_has_dup_and_a_new_identifier(void **state)
{
	struct fixture *f = running();

	(void)state;
	assert_int_equal(publish_at(f, "hello", true, 1000), 0);
	expect_sent(f, BYTES("\x3a\x16\0\x0d" TOPIC "\0\x02hello"));
}

/* --- PUBLISH of the broker (section 3.3) --- */

static void test_a_message_of_qos_0_is_given_and_not_acknowledged(void **state)
{
	struct fixture *f = running();
	const struct told *t;

	(void)state;
	receive(f, BYTES("\x30\x0a\0\x05"
			 "a/b/c"
			 "xyz"));
	t = expect_told(f, FG_MQTT_MESSAGE);
	assert_string_equal(t->topic, "a/b/c");
	assert_string_equal(t->payload, "xyz");
	assert_false(t->event.duplicate);
	expect_nothing_sent(f);
}

static void test_a_message_of_qos_1_is_acknowledged_after_it_was_taken(void **state)
{
	struct fixture *f = running();
	const struct told *t;

	(void)state;
	receive(f, BYTES("\x32\x0c\0\x05"
			 "a/b/c"
			 "\x12\x34xyz"));
	t = expect_told(f, FG_MQTT_MESSAGE);
	assert_string_equal(t->topic, "a/b/c");
	assert_string_equal(t->payload, "xyz");
	assert_int_equal(t->sent_before, f->checked);
	expect_sent(f, BYTES("\x40\x02\x12\x34"));
	assert_false(f->last_expects_answer);
}

static void test_a_repeated_message_is_told_as_such_and_acknowledged_again(void **state)
{
	struct fixture *f = running();

	(void)state;
	receive(f, BYTES("\x3b\x07\0\x01"
			 "a"
			 "\0\x07xy"));
	assert_true(expect_told(f, FG_MQTT_MESSAGE)->event.duplicate);
	expect_sent(f, BYTES("\x40\x02\0\x07"));
}

static void test_a_message_without_payload_is_one(void **state)
{
	struct fixture *f = running();

	(void)state;
	receive(f, BYTES("\x30\x03\0\x01"
			 "a"));
	assert_int_equal(expect_told(f, FG_MQTT_MESSAGE)->event.length, 0);
	receive(f, BYTES("\x32\x05\0\x01"
			 "a"
			 "\0\x07"));
	assert_int_equal(expect_told(f, FG_MQTT_MESSAGE)->event.length, 0);
	expect_sent(f, BYTES("\x40\x02\0\x07"));
}

static void test_messages_of_a_kept_session_may_come_before_suback(void **state)
{
	struct fixture *f = fixture();

	(void)state;
	fg_mqtt_client_open(&f->client, 1000);
	receive(f, BYTES("\x20\x02\x01\0"));
	f->checked = f->sent_length;
	receive(f, BYTES("\x32\x06\0\x01"
			 "a"
			 "\0\x07x"));
	expect_told(f, FG_MQTT_MESSAGE);
	expect_sent(f, BYTES("\x40\x02\0\x07"));
	receive(f, BYTES("\x90\x03\0\x01\x01"));
	expect_told(f, FG_MQTT_CONNECTED);
}

static void test_acknowledging_does_not_disturb_a_publish_under_way(void **state)
{
	struct fixture *f = running();

	(void)state;
	publish(f, "hello");
	f->checked = f->sent_length;
	receive(f, BYTES("\x32\x06\0\x01"
			 "a"
			 "\0\x02x"));
	expect_told(f, FG_MQTT_MESSAGE);
	expect_sent(f, BYTES("\x40\x02\0\x02"));
	assert_true(f->last_expects_answer);
	assert_true(fg_mqtt_client_busy(&f->client));
	receive(f, BYTES("\x40\x02\0\x02"));
	expect_told(f, FG_MQTT_ACKNOWLEDGED);
}

/* A publish of QoS 1, identifier 0x0a0b, with a body of `remaining` bytes. */
static size_t long_publish(char *out, size_t topic_length, size_t remaining)
{
	size_t at = 0, left = remaining;

	out[at++] = 0x32;
	do {
		out[at++] = (char)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
		left >>= 7;
	} while (left > 0);
	out[at++] = (char)(topic_length >> 8);
	out[at++] = (char)topic_length;
	memset(out + at, 't', topic_length);
	at += topic_length;
	out[at++] = 0x0a;
	out[at++] = 0x0b;
	memset(out + at, 'p', remaining - topic_length - 4);
	return at + remaining - topic_length - 4;
}

static void test_the_longest_message_that_fits_is_given(void **state)
{
	char packet[FG_MQTT_RECEIVE_MAX + 8];
	struct fixture *f = running();
	const struct told *t;

	(void)state;
	receive(f, packet, long_publish(packet, 5, FG_MQTT_RECEIVE_MAX));
	t = expect_told(f, FG_MQTT_MESSAGE);
	assert_int_equal(t->event.length, FG_MQTT_RECEIVE_MAX - 9);
	assert_string_equal(t->topic, "ttttt");
	expect_sent(f, BYTES("\x40\x02\x0a\x0b"));
}

static void test_a_longer_message_is_passed_over_and_acknowledged(void **state)
{
	static const size_t lengths[] = {FG_MQTT_RECEIVE_MAX + 1, 16383, 16384, 70000};
	static char packet[100000];

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct fixture *f = running();
		size_t length = long_publish(packet, 5, lengths[i]);
		const struct told *t;

		packet[length++] = 0x30; /* and the next one is understood */
		memcpy(packet + length,
		       "\x04\0\x01"
		       "ax",
		       5);
		receive(f, packet, length + 5);
		assert_int_equal(f->told_count, 2);
		t = &f->told[0];
		assert_int_equal(t->outcome, FG_MQTT_TOO_LONG);
		assert_int_equal(t->event.length, lengths[i] - 9);
		assert_null(t->event.payload);
		assert_int_equal(t->sent_before, f->checked);
		assert_int_equal(f->told[1].outcome, FG_MQTT_MESSAGE);
		assert_string_equal(f->told[1].payload, "x");
		expect_sent(f, BYTES("\x40\x02\x0a\x0b"));
	}
}

/* The identifier of a message with a long topic is at or behind the end of the buffer. */
static void test_a_message_with_a_long_topic_is_acknowledged_as_what_it_is(void **state)
{
	static char packet[100000];

	(void)state;
	for (size_t topic = FG_MQTT_RECEIVE_MAX - 8; topic < 65536;
	     topic += topic < 600 ? 1 : 21645) {
		struct fixture *f = running();

		receive(f, packet, long_publish(packet, topic, topic + 20));
		expect_told(f, FG_MQTT_TOO_LONG);
		expect_sent(f, BYTES("\x40\x02\x0a\x0b"));
	}
}

static void test_a_longer_message_of_qos_0_is_passed_over_in_silence(void **state)
{
	char packet[FG_MQTT_RECEIVE_MAX + 100];
	struct fixture *f = running();
	size_t length = long_publish(packet, 5, FG_MQTT_RECEIVE_MAX + 1);

	(void)state;
	packet[0] = 0x30;
	receive(f, packet, length);
	assert_int_equal(expect_told(f, FG_MQTT_TOO_LONG)->event.length,
			 FG_MQTT_RECEIVE_MAX + 1 - 7);
	expect_nothing_sent(f);
}

/* --- Streams --- */

#define CONVERSATION                                                                               \
	"\x20\x02\x01\0"                                                                           \
	"\x32\x06\0\x01"                                                                           \
	"a"                                                                                        \
	"\0\x05x"                                                                                  \
	"\x90\x03\0\x01\x01"                                                                       \
	"\x30\x05\0\x01"                                                                           \
	"bxy"                                                                                      \
	"\xd0\0"                                                                                   \
	"\x3a\x86\0\0\x01"                                                                         \
	"c"                                                                                        \
	"\xff\xffz"                                                                                \
	"\x40\x02\0\x02"

#define ANSWERS                                                                                    \
	"\x82\x14\0\x01\0\x0f" FILTER "\x01"                                                       \
	"\x40\x02\0\x05"                                                                           \
	"\x32\x11\0\x0d" TOPIC "\0\x02"                                                            \
	"\x40\x02\xff\xff"

static void publish_when_connected(struct fixture *f, enum fg_mqtt_outcome outcome)
{
	if (outcome == FG_MQTT_CONNECTED)
		assert_int_equal(publish(f, ""), 0);
}

static void expect_conversation(struct fixture *f)
{
	static const enum fg_mqtt_outcome wanted[] = {FG_MQTT_MESSAGE, FG_MQTT_CONNECTED,
						      FG_MQTT_MESSAGE, FG_MQTT_MESSAGE,
						      FG_MQTT_ACKNOWLEDGED};

	assert_int_equal(f->told_count, 5);
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(f->told[i].outcome, wanted[i]);
	assert_string_equal(f->told[0].payload, "x");
	assert_string_equal(f->told[2].payload, "xy");
	assert_string_equal(f->told[3].payload, "z");
	expect_sent(f, BYTES(ANSWERS));
}

static void test_packets_may_be_cut_and_joined_anywhere(void **state)
{
	static const char stream[] = CONVERSATION;
	const size_t length = sizeof(stream) - 1;

	(void)state;
	for (size_t first = 0; first <= length; first++) {
		for (size_t second = first; second <= length; second++) {
			struct fixture *f = fixture();

			f->in_handle = publish_when_connected;
			fg_mqtt_client_open(&f->client, 1000);
			f->checked = f->sent_length;
			receive(f, stream, first);
			receive(f, stream + first, second - first);
			receive(f, stream + second, length - second);
			expect_conversation(f);
		}
	}
}

static void test_packets_may_come_byte_by_byte(void **state)
{
	static const char stream[] = CONVERSATION;
	struct fixture *f = fixture();

	(void)state;
	f->in_handle = publish_when_connected;
	fg_mqtt_client_open(&f->client, 1000);
	f->checked = f->sent_length;
	for (size_t i = 0; i < sizeof(stream) - 1; i++)
		receive(f, stream + i, 1);
	expect_conversation(f);
}

static void test_half_a_packet_of_an_old_connection_is_forgotten(void **state)
{
	struct fixture *f = running();

	(void)state;
	receive(f, BYTES("\x32\x06\0\x01"));
	fg_mqtt_client_open(&f->client, 1000);
	receive(f, BYTES("\x20\x02\0\0\x90\x03\0\x02\x01"));
	expect_told(f, FG_MQTT_CONNECTED);
}

/* --- What handle does --- */

static void publish_in_handle(struct fixture *f, enum fg_mqtt_outcome outcome)
{
	if (outcome == FG_MQTT_MESSAGE)
		assert_int_equal(publish(f, "answer"), 0);
}

static void test_handle_may_publish(void **state)
{
	struct fixture *f = running();

	(void)state;
	f->in_handle = publish_in_handle;
	receive(f, BYTES("\x32\x06\0\x01"
			 "a"
			 "\0\x05x"));
	assert_string_equal(expect_told(f, FG_MQTT_MESSAGE)->payload, "x");
	expect_sent(f, BYTES("\x32\x17\0\x0d" TOPIC "\0\x02"
			     "answer\x40\x02\0\x05"));
	assert_true(f->last_expects_answer);
}

static void publish_next(struct fixture *f, enum fg_mqtt_outcome outcome)
{
	if (outcome == FG_MQTT_ACKNOWLEDGED)
		assert_int_equal(publish(f, "next"), 0);
}

static void test_handle_may_publish_the_next_when_one_is_acknowledged(void **state)
{
	struct fixture *f = running();

	(void)state;
	f->in_handle = publish_next;
	publish(f, "first");
	f->checked = f->sent_length;
	receive(f, BYTES("\x40\x02\0\x02"));
	expect_told(f, FG_MQTT_ACKNOWLEDGED);
	expect_sent(f, BYTES("\x32\x15\0\x0d" TOPIC "\0\x03next"));
	assert_true(fg_mqtt_client_busy(&f->client));
	receive(f, BYTES("\x40\x02\0\x03"));
	expect_told(f, FG_MQTT_ACKNOWLEDGED);
}

static void close_in_handle(struct fixture *f, enum fg_mqtt_outcome outcome)
{
	(void)outcome;
	fg_mqtt_client_close(&f->client);
}

static void test_what_is_closed_in_handle_is_not_acknowledged(void **state)
{
	struct fixture *f = running();

	(void)state;
	f->in_handle = close_in_handle;
	receive(f, BYTES("\x32\x06\0\x01"
			 "a"
			 "\0\x05x\x32\x06\0\x01"
			 "b"
			 "\0\x06x"));
	expect_told(f, FG_MQTT_MESSAGE);
	expect_sent(f, BYTES("\xe0\0"));
	expect_ended(f);
}

/* --- What is no MQTT --- */

static void expect_malformed(struct fixture *f, const char *bytes, size_t length)
{
	f->checked = f->sent_length;
	receive(f, bytes, length);
	expect_told(f, FG_MQTT_MALFORMED);
	expect_nothing_sent(f);
	expect_ended(f);
}

static struct fixture *connecting(void)
{
	struct fixture *f = fixture();

	fg_mqtt_client_open(&f->client, 1000);
	return f;
}

static struct fixture *subscribing(void)
{
	struct fixture *f = connecting();

	receive(f, BYTES("\x20\x02\0\0"));
	return f;
}

static void test_only_these_headers_are_allowed(void **state)
{
	static const struct {
		struct fixture *(*in)(void);
		const char *allowed;
	} cases[] = {
		{connecting, "\x20"},
		{subscribing, "\x90\x40\xd0\x30\x31\x32\x33\x3a\x3b"},
		{running, "\x40\xd0\x30\x31\x32\x33\x3a\x3b"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (unsigned header = 0; header < 256; header++) {
			struct fixture *f = cases[i].in();
			const char byte = (char)header;

			if (header > 0 && strchr(cases[i].allowed, (int)byte)) {
				receive(f, &byte, 1);
				expect_nothing_told(f);
			} else {
				expect_malformed(f, &byte, 1);
			}
		}
	}
}

static void test_packets_of_a_wrong_length_are_malformed(void **state)
{
	(void)state;
	expect_malformed(connecting(), BYTES("\x20\x01"));
	expect_malformed(connecting(), BYTES("\x20\x03"));
	expect_malformed(connecting(), BYTES("\x20\x82\x01"));
	expect_malformed(subscribing(), BYTES("\x90\x02"));
	expect_malformed(subscribing(), BYTES("\x90\x04"));
	expect_malformed(running(), BYTES("\x40\0"));
	expect_malformed(running(), BYTES("\x40\x03"));
	expect_malformed(running(), BYTES("\xd0\x01"));
	expect_malformed(running(), BYTES("\x30\0"));
	expect_malformed(running(), BYTES("\x30\x02"));
	expect_malformed(running(), BYTES("\x32\x04"));
}

static void test_a_remaining_length_of_more_than_four_bytes_is_malformed(void **state)
{
	struct fixture *f = running();

	(void)state;
	receive(f, BYTES("\x30\xff\xff\xff\x7f"));
	expect_nothing_told(f);
	expect_malformed(running(), BYTES("\x30\xff\xff\xff\x80"));
	expect_malformed(running(), BYTES("\x30\x84\x80\x80\x80"));
}

static void test_a_connack_that_cannot_be_is_malformed(void **state)
{
	(void)state;
	expect_malformed(connecting(), BYTES("\x20\x02\x02\0"));
	expect_malformed(connecting(), BYTES("\x20\x02\x80\0"));
	expect_malformed(connecting(), BYTES("\x20\x02\x01\x05"));
}

static void test_a_suback_that_cannot_be_is_malformed(void **state)
{
	(void)state;
	expect_malformed(subscribing(), BYTES("\x90\x03\0\x02\x01"));
	expect_malformed(subscribing(), BYTES("\x90\x03\x01\x01\x01"));
	expect_malformed(subscribing(), BYTES("\x90\x03\0\x01\x02"));
	expect_malformed(subscribing(), BYTES("\x90\x03\0\x01\x7f"));
	expect_malformed(subscribing(), BYTES("\x90\x03\0\x01\xff"));
}

static void test_identifier_0_is_malformed(void **state)
{
	struct fixture *f = running();

	(void)state;
	publish(f, "hello");
	expect_malformed(f, BYTES("\x40\x02\0\0"));
	expect_malformed(running(), BYTES("\x32\x06\0\x01"
					  "a"
					  "\0\0x"));
}

/* What is in the buffer from before is no part of a topic. */
static void test_a_topic_that_is_longer_than_its_packet_is_malformed(void **state)
{
	static const struct {
		const char *bytes;
		size_t length;
	} cases[] = {
		{BYTES("\x30\x03\0\x02"
		       "a")},
		{BYTES("\x32\x06\0\x03"
		       "a\0\x01x")},
		{BYTES("\x30\x06\xff\xff"
		       "abcd")},
	};
	char packet[FG_MQTT_RECEIVE_MAX + 100];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fixture *f = running();

		receive(f, packet, long_publish(packet, 5, FG_MQTT_RECEIVE_MAX));
		expect_told(f, FG_MQTT_MESSAGE);
		expect_malformed(f, cases[i].bytes, cases[i].length);
	}
}

static void test_a_topic_that_is_longer_than_a_long_packet_is_malformed(void **state)
{
	static const char headers[] = {0x30, 0x32};
	char packet[FG_MQTT_RECEIVE_MAX + 100];

	(void)state;
	for (size_t i = 0; i < sizeof(headers); i++) {
		size_t length = long_publish(packet, 5, FG_MQTT_RECEIVE_MAX + 10);

		packet[0] = headers[i];
		packet[3] = packet[4] = (char)0xff;
		expect_malformed(running(), packet, length);
	}
}

static void test_a_topic_that_is_none_is_malformed(void **state)
{
	(void)state;
	expect_malformed(running(), BYTES("\x30\x03\0\0"
					  "a"));
	expect_malformed(running(), BYTES("\x30\x05\0\x03"
					  "a/+"));
	expect_malformed(running(), BYTES("\x30\x05\0\x03"
					  "a/#"));
	expect_malformed(running(), BYTES("\x30\x05\0\x03"
					  "a\0b"));
}

/* --- Time --- */

static void test_no_connack_in_time_is_silence(void **state)
{
	struct fixture *f = connecting();

	(void)state;
	assert_int_equal(fg_mqtt_client_poll(&f->client, 1000), 1000 + TIMEOUT_MS);
	assert_int_equal(fg_mqtt_client_poll(&f->client, 999 + TIMEOUT_MS), 1000 + TIMEOUT_MS);
	expect_nothing_told(f);
	fg_mqtt_client_poll(&f->client, 1000 + TIMEOUT_MS);
	expect_told(f, FG_MQTT_SILENT);
	expect_ended(f);
}

static void test_no_suback_in_time_is_silence(void **state)
{
	struct fixture *f = connecting();

	(void)state;
	fg_mqtt_client_receive(&f->client, BYTES("\x20\x02\0\0"), 5000);
	assert_int_equal(fg_mqtt_client_poll(&f->client, 5000), 5000 + TIMEOUT_MS);
	fg_mqtt_client_poll(&f->client, 5000 + TIMEOUT_MS);
	expect_told(f, FG_MQTT_SILENT);
	expect_ended(f);
}

static void test_no_puback_in_time_is_silence(void **state)
{
	struct fixture *f = running();

	(void)state;
	publish_at(f, "hello", false, 7000);
	assert_int_equal(fg_mqtt_client_poll(&f->client, 7000), 7000 + TIMEOUT_MS);
	fg_mqtt_client_poll(&f->client, 7000 + TIMEOUT_MS);
	expect_told(f, FG_MQTT_SILENT);
	expect_ended(f);
}

static void test_a_ping_is_sent_when_nothing_was_for_as_long_as_keep_alive(void **state)
{
	const int64_t due = 1000 + KEEPALIVE_S * 1000;
	struct fixture *f = running();

	(void)state;
	assert_int_equal(fg_mqtt_client_poll(&f->client, 1000), due);
	assert_int_equal(fg_mqtt_client_poll(&f->client, due - 1), due);
	expect_nothing_sent(f);
	assert_int_equal(fg_mqtt_client_poll(&f->client, due), due + TIMEOUT_MS);
	expect_sent(f, BYTES("\xc0\0"));
	assert_true(f->last_expects_answer);
	assert_true(fg_mqtt_client_busy(&f->client));
	fg_mqtt_client_receive(&f->client, BYTES("\xd0\0"), due + 50);
	assert_false(fg_mqtt_client_busy(&f->client));
	assert_int_equal(fg_mqtt_client_poll(&f->client, due + 50), due + KEEPALIVE_S * 1000);
	expect_nothing_told(f);
}

static void test_keep_alive_counts_from_the_last_packet_of_ours_not_of_the_broker(void **state)
{
	struct fixture *f = running();

	(void)state;
	fg_mqtt_client_receive(&f->client,
			       BYTES("\x30\x04\0\x01"
				     "ax"),
			       30000);
	assert_int_equal(fg_mqtt_client_poll(&f->client, 30000), 1000 + KEEPALIVE_S * 1000);
	fg_mqtt_client_receive(&f->client,
			       BYTES("\x32\x06\0\x01"
				     "a"
				     "\0\x05x"),
			       40000);
	assert_int_equal(fg_mqtt_client_poll(&f->client, 40000), 40000 + KEEPALIVE_S * 1000);
	publish_at(f, "x", false, 50000);
	fg_mqtt_client_receive(&f->client, BYTES("\x40\x02\0\x02"), 50100);
	assert_int_equal(fg_mqtt_client_poll(&f->client, 50100), 50000 + KEEPALIVE_S * 1000);
}

static void test_no_pingresp_in_time_is_silence_whatever_else_comes(void **state)
{
	const int64_t due = 1000 + KEEPALIVE_S * 1000;
	struct fixture *f = running();

	(void)state;
	fg_mqtt_client_poll(&f->client, due);
	fg_mqtt_client_receive(&f->client,
			       BYTES("\x32\x06\0\x01"
				     "a"
				     "\0\x05x"),
			       due + 5);
	expect_told(f, FG_MQTT_MESSAGE);
	assert_int_equal(fg_mqtt_client_poll(&f->client, due + 5), due + TIMEOUT_MS);
	fg_mqtt_client_poll(&f->client, due + TIMEOUT_MS);
	expect_told(f, FG_MQTT_SILENT);
	expect_ended(f);
}

static void test_one_ping_is_under_way_at_a_time(void **state)
{
	const int64_t due = 1000 + 5 * 1000;
	struct fixture *f = fixture();

	(void)state;
	f->client.keepalive_s = 5;
	fg_mqtt_client_open(&f->client, 1000);
	accept(f);
	f->checked = f->sent_length;
	fg_mqtt_client_poll(&f->client, due);
	expect_sent(f, BYTES("\xc0\0"));
	assert_int_equal(fg_mqtt_client_poll(&f->client, due + 5000), due + TIMEOUT_MS);
	expect_nothing_sent(f);
}

/* Mosquitto ends a connection over a ping that comes before it has said CONNACK. */
static void test_there_is_no_ping_before_connack(void **state)
{
	struct fixture *f = fixture();

	(void)state;
	f->client.keepalive_s = 1;
	fg_mqtt_client_open(&f->client, 1000);
	f->checked = f->sent_length;
	assert_int_equal(fg_mqtt_client_poll(&f->client, 5000), 1000 + TIMEOUT_MS);
	expect_nothing_sent(f);
}

static void test_without_keep_alive_there_is_no_ping(void **state)
{
	struct fixture *f = fixture();

	(void)state;
	f->client.keepalive_s = 0;
	fg_mqtt_client_open(&f->client, 1000);
	accept(f);
	f->checked = f->sent_length;
	assert_true(fg_mqtt_client_poll(&f->client, INT64_C(1) << 40) == INT64_MAX);
	expect_nothing_sent(f);
}

static void test_after_a_jump_of_time_there_is_one_ping(void **state)
{
	const int64_t month = INT64_C(31) * 86400 * 1000;
	struct fixture *f = running();

	(void)state;
	assert_true(fg_mqtt_client_poll(&f->client, month) == month + TIMEOUT_MS);
	expect_sent(f, BYTES("\xc0\0"));
	expect_nothing_told(f);
}

static void test_an_answer_that_was_there_before_a_jump_of_time_counts(void **state)
{
	const int64_t years = INT64_C(100) * 366 * 86400 * 1000;
	struct fixture *f = running();

	(void)state;
	publish(f, "hello");
	fg_mqtt_client_receive(&f->client, BYTES("\x40\x02\0\x02"), years);
	assert_int_equal(expect_told(f, FG_MQTT_ACKNOWLEDGED)->event.elapsed_ms, UINT32_MAX);
}

/* --- Send that fails, and the end --- */

static void test_a_send_that_fails_is_told_once(void **state)
{
	struct fixture *f = fixture();

	(void)state;
	f->send_result = -EPIPE;
	fg_mqtt_client_open(&f->client, 1000);
	expect_told(f, FG_MQTT_NOT_SENT);
	expect_ended(f);

	f = connecting();
	f->send_result = -EPIPE;
	accept(f);
	expect_told(f, FG_MQTT_NOT_SENT);
	expect_ended(f);

	f = running();
	f->send_result = -EPIPE;
	assert_int_equal(publish(f, "hello"), 0);
	expect_told(f, FG_MQTT_NOT_SENT);
	expect_ended(f);

	f = running();
	f->send_result = -EPIPE;
	fg_mqtt_client_poll(&f->client, 1000 + KEEPALIVE_S * 1000);
	expect_told(f, FG_MQTT_NOT_SENT);
	expect_ended(f);

	f = running();
	f->send_result = -EPIPE;
	receive(f, BYTES("\x32\x06\0\x01"
			 "a"
			 "\0\x05x\x32\x06\0\x01"
			 "a"
			 "\0\x05x"));
	assert_int_equal(f->told_count, 2);
	assert_int_equal(f->told[0].outcome, FG_MQTT_MESSAGE);
	assert_int_equal(f->told[1].outcome, FG_MQTT_NOT_SENT);
	expect_ended(f);
}

static void test_a_publish_that_was_not_sent_is_repeated_with_its_identifier(void **state)
{
	struct fixture *f = running();

	(void)state;
	f->send_result = -EPIPE;
	publish(f, "hello");
	f->send_result = 0;
	f->told_count = 0;
	fg_mqtt_client_open(&f->client, 1000);
	receive(f, BYTES("\x20\x02\x01\0\x90\x03\0\x03\x01"));
	f->checked = f->sent_length;
	publish_at(f, "hello", true, 1000);
	expect_sent(f, BYTES("\x3a\x16\0\x0d" TOPIC "\0\x02hello"));
}

static void test_close_says_goodbye_once(void **state)
{
	struct fixture *f = running();

	(void)state;
	fg_mqtt_client_close(&f->client);
	expect_sent(f, BYTES("\xe0\0"));
	assert_false(f->last_expects_answer);
	expect_nothing_told(f);
	expect_ended(f);
}

static void test_a_goodbye_that_cannot_be_sent_is_nothing_to_tell(void **state)
{
	struct fixture *f = running();

	(void)state;
	f->send_result = -EPIPE;
	fg_mqtt_client_close(&f->client);
	expect_nothing_told(f);
	expect_ended(f);
}

static void test_before_open_nothing_happens(void **state)
{
	struct fixture *f = fixture();

	(void)state;
	assert_int_equal(publish(f, "x"), -EBUSY);
	expect_ended(f);
	expect_nothing_told(f);
}

/* --- Topics --- */

static void test_topics_are_those_of_docs_messages(void **state)
{
	char out[32];

	(void)state;
	assert_int_equal(fg_topic_d2c(out, sizeof(out), "dev-1", NULL), 13);
	assert_string_equal(out, "m/d/dev-1/d2c");
	assert_int_equal(fg_topic_d2c(out, sizeof(out), "dev-1", "bulk"), 18);
	assert_string_equal(out, "m/d/dev-1/d2c/bulk");
	assert_int_equal(fg_topic_c2d_filter(out, sizeof(out), "dev-1"), 15);
	assert_string_equal(out, "m/d/dev-1/c2d/#");
}

static void test_a_topic_that_does_not_fit_is_said_so(void **state)
{
	char out[32];

	(void)state;
	for (size_t size = 0; size <= 18; size++)
		assert_int_equal(fg_topic_d2c(out, size, "dev-1", "bulk"), -EMSGSIZE);
	assert_int_equal(fg_topic_d2c(out, 19, "dev-1", "bulk"), 18);
	assert_int_equal(fg_topic_c2d_filter(out, 15, "dev-1"), -EMSGSIZE);
	assert_int_equal(fg_topic_c2d_filter(out, 16, "dev-1"), 15);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connect_is_as_section_3_1_has_it),
		cmocka_unit_test(test_connect_can_ask_for_a_clean_session_without_keep_alive),
		cmocka_unit_test(test_connected_is_told_when_the_subscription_is_granted),
		cmocka_unit_test(test_it_subscribes_also_when_the_session_is_present),
		cmocka_unit_test(test_without_a_subscription_connack_is_enough),
		cmocka_unit_test(test_each_return_code_of_connack_but_0_is_a_refusal),
		cmocka_unit_test(test_a_refused_subscription_is_a_refusal),
		cmocka_unit_test(test_settings_that_fit_into_no_packet_are_not_sent),
		cmocka_unit_test(test_publish_has_qos_1_and_an_identifier),
		cmocka_unit_test(test_puback_acknowledges_and_says_how_long_it_took),
		cmocka_unit_test(test_one_publish_is_under_way_at_a_time),
		cmocka_unit_test(test_puback_of_another_identifier_acknowledges_nothing),
		cmocka_unit_test(test_identifiers_go_round_and_are_never_0),
		cmocka_unit_test(
			test_a_long_publish_has_two_bytes_of_length_and_the_longest_fits_exactly),
		cmocka_unit_test(test_a_topic_that_does_not_fit_is_not_published),
		cmocka_unit_test(test_what_the_writer_refuses_is_returned_and_nothing_is_sent),
		cmocka_unit_test(test_a_writer_that_says_more_than_fits_is_not_believed),
		cmocka_unit_test(
			test_the_identifier_of_what_is_not_acknowledged_is_not_given_again),
		cmocka_unit_test(
			test_a_repeat_over_the_next_connection_has_dup_and_the_same_identifier),
		cmocka_unit_test(
			test_another_publish_over_the_next_connection_has_another_identifier),
		cmocka_unit_test(test_a_repeat_after_a_reboot_has_dup_and_a_new_identifier),
		cmocka_unit_test(test_a_message_of_qos_0_is_given_and_not_acknowledged),
		cmocka_unit_test(test_a_message_of_qos_1_is_acknowledged_after_it_was_taken),
		cmocka_unit_test(test_a_repeated_message_is_told_as_such_and_acknowledged_again),
		cmocka_unit_test(test_a_message_without_payload_is_one),
		cmocka_unit_test(test_messages_of_a_kept_session_may_come_before_suback),
		cmocka_unit_test(test_acknowledging_does_not_disturb_a_publish_under_way),
		cmocka_unit_test(test_the_longest_message_that_fits_is_given),
		cmocka_unit_test(test_a_longer_message_is_passed_over_and_acknowledged),
		cmocka_unit_test(test_a_message_with_a_long_topic_is_acknowledged_as_what_it_is),
		cmocka_unit_test(test_a_longer_message_of_qos_0_is_passed_over_in_silence),
		cmocka_unit_test(test_packets_may_be_cut_and_joined_anywhere),
		cmocka_unit_test(test_packets_may_come_byte_by_byte),
		cmocka_unit_test(test_half_a_packet_of_an_old_connection_is_forgotten),
		cmocka_unit_test(test_handle_may_publish),
		cmocka_unit_test(test_handle_may_publish_the_next_when_one_is_acknowledged),
		cmocka_unit_test(test_what_is_closed_in_handle_is_not_acknowledged),
		cmocka_unit_test(test_only_these_headers_are_allowed),
		cmocka_unit_test(test_packets_of_a_wrong_length_are_malformed),
		cmocka_unit_test(test_a_remaining_length_of_more_than_four_bytes_is_malformed),
		cmocka_unit_test(test_a_connack_that_cannot_be_is_malformed),
		cmocka_unit_test(test_a_suback_that_cannot_be_is_malformed),
		cmocka_unit_test(test_identifier_0_is_malformed),
		cmocka_unit_test(test_a_topic_that_is_longer_than_its_packet_is_malformed),
		cmocka_unit_test(test_a_topic_that_is_longer_than_a_long_packet_is_malformed),
		cmocka_unit_test(test_a_topic_that_is_none_is_malformed),
		cmocka_unit_test(test_no_connack_in_time_is_silence),
		cmocka_unit_test(test_no_suback_in_time_is_silence),
		cmocka_unit_test(test_no_puback_in_time_is_silence),
		cmocka_unit_test(test_a_ping_is_sent_when_nothing_was_for_as_long_as_keep_alive),
		cmocka_unit_test(
			test_keep_alive_counts_from_the_last_packet_of_ours_not_of_the_broker),
		cmocka_unit_test(test_no_pingresp_in_time_is_silence_whatever_else_comes),
		cmocka_unit_test(test_one_ping_is_under_way_at_a_time),
		cmocka_unit_test(test_there_is_no_ping_before_connack),
		cmocka_unit_test(test_without_keep_alive_there_is_no_ping),
		cmocka_unit_test(test_after_a_jump_of_time_there_is_one_ping),
		cmocka_unit_test(test_an_answer_that_was_there_before_a_jump_of_time_counts),
		cmocka_unit_test(test_a_send_that_fails_is_told_once),
		cmocka_unit_test(test_a_publish_that_was_not_sent_is_repeated_with_its_identifier),
		cmocka_unit_test(test_close_says_goodbye_once),
		cmocka_unit_test(test_a_goodbye_that_cannot_be_sent_is_nothing_to_tell),
		cmocka_unit_test(test_before_open_nothing_happens),
		cmocka_unit_test(test_topics_are_those_of_docs_messages),
		cmocka_unit_test(test_a_topic_that_does_not_fit_is_said_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
