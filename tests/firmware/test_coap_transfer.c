/* SPDX-License-Identifier: Apache-2.0 */
/* The client's message layer: bodies in blocks (RFC 7959) and observation (RFC 7641). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/firmware/coap_world.h"

#define MORE	 8
#define SZX_64	 2
#define SZX_32	 1
#define NO_BLOCK UINT32_MAX

static struct world w;
static char body[FG_COAP_BODY_MAX + 1024];
static uint8_t observed_token[4];
static uint16_t server_id;

static int setup(void **state)
{
	(void)state;
	world_open(&w);
	for (size_t i = 0; i < sizeof(body); i++)
		body[i] = (char)('a' + i * 7 / 3 % 26);
	server_id = 0x5000;
	return 0;
}

static uint32_t asked_block(void)
{
	struct fg_coap_message m = world_last(&w);

	return fg_coap_find_uint(&m, FG_COAP_OPTION_BLOCK2, NO_BLOCK);
}

static void get(const char *path)
{
	struct fg_coap_request r = world_get(path);

	world_request(&w, &r);
}

/* Block `number` of the body of `length` bytes, in answer to the last request. */
static void give_block(uint32_t number, unsigned szx, size_t length, const char *etag)
{
	size_t size = (size_t)16 << szx, at = number * size;
	struct world_reply r = world_ack(&w, "");

	r.etag = etag;
	r.block = number << 4 | szx | (at + size < length ? MORE : 0);
	r.payload = body + at;
	r.length = at + size < length ? size : length - at;
	world_deliver(&w, &r);
}

static void expect_body(enum fg_coap_outcome outcome, size_t length)
{
	assert_int_equal(w.given_count, 1);
	assert_int_equal(world_given(&w)->outcome, outcome);
	assert_int_equal(world_given(&w)->response.length, length);
	assert_memory_equal(world_given(&w)->payload, body, length);
	assert_false(fg_coap_client_busy(&w.client));
}

static void expect_outcome(enum fg_coap_outcome outcome)
{
	assert_int_equal(w.given_count, 1);
	assert_int_equal(world_given(&w)->outcome, outcome);
	assert_false(fg_coap_client_busy(&w.client));
	w.given_count = 0;
}

/* ---- blocks */

static void test_body_in_blocks_is_given_whole(void **state)
{
	(void)state;
	get("state");
	for (uint32_t n = 0; n < 3; n++) {
		assert_int_equal(w.given_count, 0);
		give_block(n, SZX_64, 150, "v1");
	}
	expect_body(FG_COAP_RESPONSE, 150);
	assert_int_equal(w.sent_count, 3);
	assert_memory_equal(world_given(&w)->etag, "v1", 2);
	assert_int_equal(w.client.requests, 1);
}

static void test_single_block_is_given_however_long(void **state)
{
	struct world_reply r;

	(void)state;
	get("state");
	r = world_ack(&w, "");
	r.block = 6;
	r.payload = body;
	r.length = 1024;
	world_deliver(&w, &r);
	expect_body(FG_COAP_RESPONSE, 1024);
}

static void test_request_for_a_block_is_the_request_without_payload(void **state)
{
	static const uint8_t etag[] = {9};
	struct fg_coap_request r = world_get("a/b");
	struct fg_coap_message m;
	struct fg_coap_option o;

	(void)state;
	r.method = FG_COAP_FETCH;
	r.query = "x=1&y";
	r.format = FG_COAP_FORMAT_CBOR;
	r.accept = FG_COAP_FORMAT_JSON;
	r.etag = etag;
	r.etag_length = 1;
	r.payload = body;
	r.length = 100;
	world_request(&w, &r);
	give_block(0, SZX_32, 70, NULL);
	m = world_last(&w);
	static const uint8_t expected[] = {0x41, 9,   0x71, 'a', 0x01, 'b', 0x43, 'x',
					   '=',	 '1', 0x01, 'y', 0x21, 50,  0x61, 1 << 4 | SZX_32};
	assert_int_equal(m.type, FG_COAP_CON);
	assert_int_equal(m.code, FG_COAP_FETCH);
	assert_int_equal(m.options_length, sizeof(expected));
	assert_memory_equal(m.options, expected, sizeof(expected));
	assert_int_equal(m.payload_length, 0);
	assert_int_not_equal(m.id, world_sent(&w, 0).id);
	assert_memory_not_equal(m.token, world_sent(&w, 0).token, 4);
	give_block(1, SZX_32, 70, NULL);
	m = world_last(&w);
	assert_int_equal(m.options_length, sizeof(expected));
	assert_memory_equal(m.options, expected, sizeof(expected) - 1);
	assert_true(fg_coap_find_option(&m, FG_COAP_OPTION_BLOCK2, &o));
	assert_int_equal(o.value[0], 2 << 4 | SZX_32);
	give_block(2, SZX_32, 70, NULL);
	expect_body(FG_COAP_RESPONSE, 70);
}

static void test_request_for_a_block_is_sent_again(void **state)
{
	(void)state;
	get("state");
	give_block(0, SZX_64, 100, NULL);
	assert_in_range(world_wait(&w), 2000, 3000);
	assert_int_equal(w.sent_count, 3);
	assert_memory_equal(w.sent[2].bytes, w.sent[1].bytes, w.sent[1].length);
	give_block(1, SZX_64, 100, NULL);
	expect_body(FG_COAP_RESPONSE, 100);
	assert_int_equal(world_given(&w)->response.transmissions, 2);
}

static void test_block_that_does_not_come_is_no_answer(void **state)
{
	(void)state;
	get("state");
	give_block(0, SZX_64, 100, NULL);
	while (fg_coap_client_busy(&w.client))
		world_wait(&w);
	expect_outcome(FG_COAP_NO_ANSWER);
	assert_int_equal(w.sent_count, 6);
}

static void test_server_may_make_its_blocks_smaller(void **state)
{
	(void)state;
	get("state");
	give_block(0, SZX_64, 150, NULL);
	assert_int_equal(asked_block(), 1 << 4 | SZX_64);
	give_block(2, SZX_32, 150, NULL);
	assert_int_equal(asked_block(), 3 << 4 | SZX_32);
	give_block(3, SZX_32, 150, NULL);
	give_block(4, SZX_32, 150, NULL);
	expect_body(FG_COAP_RESPONSE, 150);
}

static void test_block_may_come_as_a_separate_response(void **state)
{
	struct world_reply r, ack;

	(void)state;
	get("state");
	give_block(0, SZX_64, 100, NULL);
	ack = world_ack(&w, "");
	ack.code = FG_COAP_EMPTY;
	ack.token = NULL;
	world_deliver(&w, &ack);
	r = world_message(FG_COAP_CON, 5, w.sent[1].bytes + FG_COAP_HEADER);
	r.block = 1 << 4 | SZX_64;
	r.payload = body + 64;
	r.length = 36;
	world_deliver(&w, &r);
	expect_body(FG_COAP_RESPONSE, 100);
	assert_int_equal(world_last(&w).type, FG_COAP_ACK);
}

static void test_late_answer_to_an_earlier_block_is_ignored(void **state)
{
	struct world_reply first;

	(void)state;
	get("state");
	first = world_message(FG_COAP_NON, 7, w.sent[0].bytes + FG_COAP_HEADER);
	first.block = SZX_64 | MORE;
	first.payload = body;
	first.length = 64;
	give_block(0, SZX_64, 100, NULL);
	world_deliver(&w, &first);
	assert_int_equal(w.sent_count, 2);
	give_block(1, SZX_64, 100, NULL);
	expect_body(FG_COAP_RESPONSE, 100);
}

static void test_longest_body_is_given_and_a_longer_one_is_unreadable(void **state)
{
	(void)state;
	get("state");
	for (uint32_t n = 0; n < FG_COAP_BODY_MAX / 64; n++)
		give_block(n, SZX_64, FG_COAP_BODY_MAX, NULL);
	expect_body(FG_COAP_RESPONSE, FG_COAP_BODY_MAX);
	w.given_count = 0;
	get("state");
	for (uint32_t n = 0; n <= FG_COAP_BODY_MAX / 64; n++)
		give_block(n, SZX_64, FG_COAP_BODY_MAX + 1, NULL);
	expect_outcome(FG_COAP_UNREADABLE);
}

static void give_wrong(int64_t block, size_t length)
{
	struct world_reply r;

	get("state");
	give_block(0, SZX_64, 150, NULL);
	r = world_ack(&w, "");
	r.block = block;
	r.payload = body;
	r.length = length;
	world_deliver(&w, &r);
	expect_outcome(FG_COAP_UNREADABLE);
}

static void test_blocks_out_of_order_or_of_wrong_length_are_unreadable(void **state)
{
	struct world_reply r;

	(void)state;
	give_wrong(2 << 4 | MORE | SZX_64, 64);
	give_wrong(0 << 4 | MORE | SZX_64, 64);
	give_wrong(1 << 4 | MORE | SZX_64, 63);
	give_wrong(1 << 4 | MORE | SZX_64, 65);
	give_wrong(1 << 4 | MORE | SZX_64, 0);
	give_wrong(1 << 4 | MORE | SZX_32, 32);
	give_wrong(0xfffff << 4 | MORE | SZX_64, 64);
	give_wrong(1 << 4 | MORE | 7, 64);
	give_wrong(1 << 4 | 7, 64);
	/* And a first answer that is not the first block. */
	get("state");
	r = world_ack(&w, "x");
	r.block = 1 << 4 | SZX_64;
	world_deliver(&w, &r);
	expect_outcome(FG_COAP_UNREADABLE);
}

static void test_two_block_options_or_a_long_one_are_unreadable(void **state)
{
	static const uint8_t twice[] = {0xd1, 10, SZX_64, 0x01, SZX_64, 0xff, 'x'};
	static const uint8_t too_long[] = {0xd4, 10, 0, 0, 0, SZX_64, 0xff, 'x'};
	uint8_t bytes[32];

	(void)state;
	get("state");
	memcpy(bytes, w.sent[0].bytes, 8);
	bytes[0] = 0x64;
	bytes[1] = FG_COAP_CODE(2, 5);
	memcpy(bytes + 8, twice, sizeof(twice));
	world_bytes(&w, bytes, 8 + sizeof(twice));
	expect_outcome(FG_COAP_UNREADABLE);
	get("state");
	memcpy(bytes, w.sent[1].bytes, 8);
	bytes[0] = 0x64;
	bytes[1] = FG_COAP_CODE(2, 5);
	memcpy(bytes + 8, too_long, sizeof(too_long));
	world_bytes(&w, bytes, 8 + sizeof(too_long));
	expect_outcome(FG_COAP_UNREADABLE);
}

static void test_error_in_the_middle_is_the_response(void **state)
{
	struct world_reply r;

	(void)state;
	get("state");
	give_block(0, SZX_64, 150, NULL);
	r = world_ack(&w, "gone");
	r.code = FG_COAP_CODE(4, 4);
	world_deliver(&w, &r);
	assert_int_equal(world_given(&w)->response.code, FG_COAP_CODE(4, 4));
	expect_outcome(FG_COAP_RESPONSE);
}

static void test_changed_representation_is_fetched_anew_once(void **state)
{
	(void)state;
	get("state");
	give_block(0, SZX_64, 150, "v1");
	give_block(1, SZX_64, 150, "v2");
	assert_int_equal(asked_block(), SZX_64);
	give_block(0, SZX_64, 150, "v2");
	give_block(1, SZX_64, 150, "v2");
	give_block(2, SZX_64, 150, "v2");
	expect_body(FG_COAP_RESPONSE, 150);
	w.given_count = 0;
	get("state");
	give_block(0, SZX_64, 150, "v1");
	give_block(1, SZX_64, 150, "v2");
	give_block(0, SZX_64, 150, "v2");
	give_block(1, SZX_64, 150, "v3");
	expect_outcome(FG_COAP_UNREADABLE);
}

static void test_etag_that_is_lost_is_a_change(void **state)
{
	(void)state;
	get("state");
	give_block(0, SZX_64, 150, "v1");
	give_block(1, SZX_64, 150, NULL);
	assert_int_equal(asked_block(), SZX_64);
}

static void test_answer_to_a_post_is_not_asked_for_twice(void **state)
{
	struct fg_coap_request r = world_get("rpc");

	(void)state;
	r.method = FG_COAP_POST;
	world_request(&w, &r);
	give_block(0, SZX_64, 150, "v1");
	give_block(1, SZX_64, 150, "v2");
	expect_outcome(FG_COAP_UNREADABLE);
}

static void test_request_for_a_block_that_does_not_fit_is_unreadable(void **state)
{
	static char path[FG_COAP_BLOCK_REQUEST_MAX + 700];
	struct fg_coap_request r = world_get(path);

	(void)state;
	memset(path, 'p', sizeof(path) - 1);
	world_request(&w, &r);
	give_block(0, SZX_64, 150, "v1");
	expect_outcome(FG_COAP_UNREADABLE);
}

/* ---- observation */

static struct fg_coap_request observe_request(void)
{
	struct fg_coap_request r = world_get("msg/c2d");

	r.observe = true;
	r.accept = FG_COAP_FORMAT_CBOR;
	return r;
}

static void observe(int64_t seq)
{
	struct fg_coap_request r = observe_request();
	struct world_reply reply;

	world_request(&w, &r);
	memcpy(observed_token, world_last(&w).token, 4);
	reply = world_ack(&w, "first");
	reply.observe = seq;
	world_deliver(&w, &reply);
	assert_int_equal(world_given(&w)->outcome, FG_COAP_RESPONSE);
	assert_true(world_given(&w)->response.observed);
	w.given_count = 0;
}

static struct world_reply notification(enum fg_coap_type type, int64_t seq)
{
	struct world_reply r = world_message(type, server_id++, observed_token);

	r.observe = seq;
	r.payload = "note";
	r.length = 4;
	return r;
}

static void notify(enum fg_coap_type type, int64_t seq)
{
	struct world_reply r = notification(type, seq);

	world_deliver(&w, &r);
}

static void expect_notifications(size_t count)
{
	assert_int_equal(w.given_count, count);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(w.given[i].outcome, FG_COAP_NOTIFICATION);
}

static void test_notifications_are_acknowledged_and_given(void **state)
{
	struct fg_coap_message m;

	(void)state;
	observe(10);
	m = world_sent(&w, 0);
	assert_int_equal(fg_coap_find_uint(&m, FG_COAP_OPTION_OBSERVE, 9), 0);
	notify(FG_COAP_CON, 11);
	expect_notifications(1);
	assert_int_equal(world_last(&w).type, FG_COAP_ACK);
	assert_int_equal(world_last(&w).id, 0x5000);
	assert_true(world_given(&w)->response.observed);
	assert_int_equal(world_given(&w)->response.elapsed_ms, 0);
	notify(FG_COAP_NON, 12);
	expect_notifications(2);
	assert_int_equal(w.sent_count, 2);
	assert_true(fg_coap_client_poll(&w.client, w.now_ms) == INT64_MAX);
}

static void test_notifications_come_while_a_request_is_under_way(void **state)
{
	struct world_reply r;

	(void)state;
	observe(10);
	get("time");
	r = world_ack(&w, "now");
	notify(FG_COAP_CON, 11);
	expect_notifications(1);
	assert_true(w.sent[w.sent_count - 1].expects_answer);
	world_deliver(&w, &r);
	assert_int_equal(w.given_count, 2);
	assert_int_equal(world_given(&w)->outcome, FG_COAP_RESPONSE);
}

static void test_old_notifications_are_acknowledged_and_not_given(void **state)
{
	size_t sent;

	(void)state;
	observe(10);
	sent = w.sent_count;
	notify(FG_COAP_CON, 10);
	notify(FG_COAP_CON, 9);
	notify(FG_COAP_CON, 10 + (1 << 23));
	notify(FG_COAP_NON, 9);
	expect_notifications(0);
	assert_int_equal(w.sent_count, sent + 3);
	notify(FG_COAP_CON, 10 + (1 << 23) - 1);
	expect_notifications(1);
	notify(FG_COAP_CON, 2);
	expect_notifications(2);
}

static void test_sequence_numbers_wrap(void **state)
{
	(void)state;
	observe(0xffffff);
	notify(FG_COAP_CON, 0);
	notify(FG_COAP_CON, 0xffffff);
	expect_notifications(1);
}

static void test_any_number_is_new_after_128_seconds(void **state)
{
	(void)state;
	observe(10);
	w.now_ms += 126000;
	notify(FG_COAP_CON, 5);
	expect_notifications(0);
	w.now_ms += 4000;
	notify(FG_COAP_CON, 5);
	expect_notifications(1);
}

static void test_repeated_notification_is_given_once(void **state)
{
	struct world_reply r;

	(void)state;
	observe(10);
	r = notification(FG_COAP_CON, 11);
	world_deliver(&w, &r);
	world_deliver(&w, &r);
	expect_notifications(1);
	assert_int_equal(w.sent_count, 3);
	assert_int_equal(w.client.repeats, 1);
}

static void test_response_without_observe_is_no_observation(void **state)
{
	struct fg_coap_request r = observe_request();
	struct world_reply reply;

	(void)state;
	world_request(&w, &r);
	memcpy(observed_token, world_last(&w).token, 4);
	reply = world_ack(&w, "x");
	world_deliver(&w, &reply);
	assert_false(world_given(&w)->response.observed);
	notify(FG_COAP_CON, 11);
	assert_int_equal(world_last(&w).type, FG_COAP_RST);
	assert_int_equal(w.given_count, 1);
}

static void test_error_or_message_without_observe_ends_the_observation(void **state)
{
	struct world_reply r;

	(void)state;
	observe(10);
	r = notification(FG_COAP_CON, -1);
	r.code = FG_COAP_CODE(4, 3);
	world_deliver(&w, &r);
	expect_notifications(1);
	assert_false(world_given(&w)->response.observed);
	notify(FG_COAP_CON, 12);
	assert_int_equal(world_last(&w).type, FG_COAP_RST);
	expect_notifications(1);
	world_open(&w);
	observe(10);
	notify(FG_COAP_CON, -1);
	expect_notifications(1);
	assert_false(world_given(&w)->response.observed);
}

static void test_unwanted_notifications_are_reset(void **state)
{
	(void)state;
	observe(10);
	fg_coap_client_stop_observing(&w.client);
	notify(FG_COAP_CON, 11);
	assert_int_equal(world_last(&w).type, FG_COAP_RST);
	notify(FG_COAP_NON, 12);
	assert_int_equal(w.sent_count, 3);
	assert_int_equal(world_last(&w).type, FG_COAP_RST);
	expect_notifications(0);
	world_open(&w);
	observe(10);
	fg_coap_client_reset(&w.client);
	notify(FG_COAP_CON, 11);
	assert_int_equal(world_last(&w).type, FG_COAP_RST);
}

static void test_unreadable_notification_is_rejected_and_told(void **state)
{
	struct world_reply r;

	(void)state;
	observe(10);
	r = notification(FG_COAP_CON, 11);
	r.extra = 29;
	world_deliver(&w, &r);
	assert_int_equal(world_last(&w).type, FG_COAP_RST);
	expect_outcome(FG_COAP_NOTIFICATION_LOST);
	notify(FG_COAP_CON, 12);
	assert_int_equal(world_last(&w).type, FG_COAP_RST);
	assert_int_equal(w.given_count, 0);
}

static void test_observation_is_renewed_under_its_token(void **state)
{
	struct fg_coap_request r = observe_request();
	struct world_reply reply;

	(void)state;
	observe(10);
	world_request(&w, &r);
	assert_memory_equal(world_last(&w).token, observed_token, 4);
	reply = world_ack(&w, "again");
	reply.observe = 12;
	/* An old one that is late is not the answer. */
	notify(FG_COAP_NON, 9);
	assert_int_equal(w.given_count, 0);
	world_deliver(&w, &reply);
	assert_int_equal(world_given(&w)->outcome, FG_COAP_RESPONSE);
	notify(FG_COAP_CON, 11);
	assert_int_equal(w.given_count, 1);
	notify(FG_COAP_CON, 13);
	assert_int_equal(w.given_count, 2);
}

static void test_observing_something_else_ends_the_first_observation(void **state)
{
	struct fg_coap_request r = observe_request();
	struct world_reply reply;

	(void)state;
	observe(10);
	r.path = "state";
	world_request(&w, &r);
	assert_memory_not_equal(world_last(&w).token, observed_token, 4);
	reply = world_ack(&w, "");
	reply.observe = 1;
	world_deliver(&w, &reply);
	notify(FG_COAP_CON, 11);
	assert_int_equal(world_last(&w).type, FG_COAP_RST);
}

static void test_target_that_cannot_be_kept_is_not_observed(void **state)
{
	static char path[FG_COAP_OBSERVED_MAX];
	struct fg_coap_request r = world_get(path);

	(void)state;
	observe(10);
	memset(path, 'p', sizeof(path) - 1);
	r.observe = true;
	assert_int_equal(fg_coap_client_request(&w.client, &r, w.now_ms), -EMSGSIZE);
	notify(FG_COAP_CON, 11);
	expect_notifications(1);
}

/* ---- long notifications */

static struct world_reply long_notification(enum fg_coap_type type, int64_t seq)
{
	struct world_reply r = notification(type, seq);

	r.etag = "n";
	r.block = MORE | SZX_64;
	r.payload = body;
	r.length = 64;
	return r;
}

static void expect_fetch(uint32_t block)
{
	struct fg_coap_message m = world_last(&w);
	struct fg_coap_option o;

	assert_true(fg_coap_client_busy(&w.client));
	assert_int_equal(m.code, FG_COAP_GET);
	assert_false(fg_coap_find_option(&m, FG_COAP_OPTION_OBSERVE, &o));
	assert_memory_not_equal(m.token, observed_token, 4);
	assert_true(fg_coap_find_option(&m, FG_COAP_OPTION_URI_PATH, &o));
	assert_memory_equal(o.value, "msg", 3);
	assert_int_equal(fg_coap_find_uint(&m, FG_COAP_OPTION_ACCEPT, 0), FG_COAP_FORMAT_CBOR);
	assert_int_equal(asked_block(), block);
}

static void test_rest_of_a_long_notification_is_fetched(void **state)
{
	struct world_reply r;

	(void)state;
	observe(10);
	r = long_notification(FG_COAP_CON, 11);
	world_deliver(&w, &r);
	assert_int_equal(world_sent(&w, 1).type, FG_COAP_ACK);
	expect_fetch(1 << 4 | SZX_64);
	give_block(1, SZX_64, 150, "n");
	give_block(2, SZX_64, 150, "n");
	expect_body(FG_COAP_NOTIFICATION, 150);
	assert_true(world_given(&w)->response.observed);
	notify(FG_COAP_CON, 12);
	expect_notifications(2);
}

static void test_registration_may_be_answered_in_blocks(void **state)
{
	struct fg_coap_request request = observe_request();
	struct world_reply r;

	(void)state;
	world_request(&w, &request);
	memcpy(observed_token, world_last(&w).token, 4);
	r = world_ack(&w, "");
	r.observe = 3;
	r.block = MORE | SZX_64;
	r.payload = body;
	r.length = 64;
	world_deliver(&w, &r);
	expect_fetch(1 << 4 | SZX_64);
	give_block(1, SZX_64, 100, NULL);
	expect_body(FG_COAP_RESPONSE, 100);
	assert_true(world_given(&w)->response.observed);
	notify(FG_COAP_CON, 4);
	assert_int_equal(w.given_count, 2);
}

static void test_long_notification_waits_for_the_request_under_way(void **state)
{
	struct world_reply r, answer;

	(void)state;
	observe(10);
	get("time");
	answer = world_ack(&w, "now");
	r = long_notification(FG_COAP_CON, 11);
	world_deliver(&w, &r);
	assert_int_equal(world_last(&w).type, FG_COAP_ACK);
	world_deliver(&w, &answer);
	assert_int_equal(w.given_count, 1);
	assert_true(fg_coap_client_busy(&w.client));
	assert_true(fg_coap_client_poll(&w.client, w.now_ms) > w.now_ms);
	expect_fetch(NO_BLOCK);
	w.given_count = 0;
	for (uint32_t n = 0; n < 3; n++)
		give_block(n, SZX_64, 150, "n");
	expect_body(FG_COAP_NOTIFICATION, 150);
}

static void test_newer_notification_takes_the_place_of_one_that_is_fetched(void **state)
{
	struct world_reply r;

	(void)state;
	observe(10);
	r = long_notification(FG_COAP_CON, 11);
	world_deliver(&w, &r);
	r = world_ack(&w, "");
	r.block = 1 << 4 | SZX_64;
	notify(FG_COAP_CON, 12);
	expect_notifications(1);
	assert_false(fg_coap_client_busy(&w.client));
	world_deliver(&w, &r);
	expect_notifications(1);
	/* And a long one that of another long one. */
	r = long_notification(FG_COAP_CON, 13);
	world_deliver(&w, &r);
	r = long_notification(FG_COAP_CON, 14);
	r.etag = "m";
	world_deliver(&w, &r);
	expect_fetch(1 << 4 | SZX_64);
	give_block(1, SZX_64, 100, "m");
	expect_notifications(2);
	assert_int_equal(world_given(&w)->response.length, 100);
}

static void test_newer_notification_takes_the_place_of_one_that_waits(void **state)
{
	struct world_reply r, answer;

	(void)state;
	observe(10);
	get("time");
	answer = world_ack(&w, "now");
	r = long_notification(FG_COAP_CON, 11);
	world_deliver(&w, &r);
	notify(FG_COAP_CON, 12);
	expect_notifications(1);
	world_deliver(&w, &answer);
	assert_false(fg_coap_client_busy(&w.client));
	assert_int_equal(w.given_count, 2);
}

static void test_notification_that_cannot_be_fetched_is_told(void **state)
{
	struct world_reply r;

	(void)state;
	observe(10);
	r = long_notification(FG_COAP_CON, 11);
	world_deliver(&w, &r);
	while (fg_coap_client_busy(&w.client))
		world_wait(&w);
	expect_outcome(FG_COAP_NOTIFICATION_LOST);
	r = long_notification(FG_COAP_CON, 12);
	world_deliver(&w, &r);
	r = world_ack(&w, "gone");
	r.code = FG_COAP_CODE(4, 8);
	world_deliver(&w, &r);
	expect_outcome(FG_COAP_NOTIFICATION_LOST);
	notify(FG_COAP_CON, 13);
	expect_notifications(1);
}

static void test_nothing_is_fetched_for_an_observation_that_was_stopped(void **state)
{
	struct world_reply r;

	(void)state;
	observe(10);
	r = long_notification(FG_COAP_CON, 11);
	world_deliver(&w, &r);
	fg_coap_client_stop_observing(&w.client);
	assert_false(fg_coap_client_busy(&w.client));
	assert_true(fg_coap_client_poll(&w.client, w.now_ms + 1000000) == INT64_MAX);
	assert_int_equal(w.given_count, 0);
}

static void test_stopping_to_observe_leaves_a_request_alone(void **state)
{
	struct world_reply r, answer;

	(void)state;
	observe(10);
	r = long_notification(FG_COAP_CON, 11);
	world_deliver(&w, &r);
	give_block(1, SZX_64, 100, "n");
	w.given_count = 0;
	get("time");
	answer = world_ack(&w, "now");
	fg_coap_client_stop_observing(&w.client);
	assert_true(fg_coap_client_busy(&w.client));
	world_deliver(&w, &answer);
	expect_outcome(FG_COAP_RESPONSE);
}

#define TEST(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_body_in_blocks_is_given_whole),
		TEST(test_single_block_is_given_however_long),
		TEST(test_request_for_a_block_is_the_request_without_payload),
		TEST(test_request_for_a_block_is_sent_again),
		TEST(test_block_that_does_not_come_is_no_answer),
		TEST(test_server_may_make_its_blocks_smaller),
		TEST(test_block_may_come_as_a_separate_response),
		TEST(test_late_answer_to_an_earlier_block_is_ignored),
		TEST(test_longest_body_is_given_and_a_longer_one_is_unreadable),
		TEST(test_blocks_out_of_order_or_of_wrong_length_are_unreadable),
		TEST(test_two_block_options_or_a_long_one_are_unreadable),
		TEST(test_error_in_the_middle_is_the_response),
		TEST(test_changed_representation_is_fetched_anew_once),
		TEST(test_etag_that_is_lost_is_a_change),
		TEST(test_answer_to_a_post_is_not_asked_for_twice),
		TEST(test_request_for_a_block_that_does_not_fit_is_unreadable),
		TEST(test_notifications_are_acknowledged_and_given),
		TEST(test_notifications_come_while_a_request_is_under_way),
		TEST(test_old_notifications_are_acknowledged_and_not_given),
		TEST(test_sequence_numbers_wrap),
		TEST(test_any_number_is_new_after_128_seconds),
		TEST(test_repeated_notification_is_given_once),
		TEST(test_response_without_observe_is_no_observation),
		TEST(test_error_or_message_without_observe_ends_the_observation),
		TEST(test_unwanted_notifications_are_reset),
		TEST(test_unreadable_notification_is_rejected_and_told),
		TEST(test_observation_is_renewed_under_its_token),
		TEST(test_observing_something_else_ends_the_first_observation),
		TEST(test_target_that_cannot_be_kept_is_not_observed),
		TEST(test_rest_of_a_long_notification_is_fetched),
		TEST(test_registration_may_be_answered_in_blocks),
		TEST(test_long_notification_waits_for_the_request_under_way),
		TEST(test_newer_notification_takes_the_place_of_one_that_is_fetched),
		TEST(test_newer_notification_takes_the_place_of_one_that_waits),
		TEST(test_notification_that_cannot_be_fetched_is_told),
		TEST(test_nothing_is_fetched_for_an_observation_that_was_stopped),
		TEST(test_stopping_to_observe_leaves_a_request_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
