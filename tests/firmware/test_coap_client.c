/* SPDX-License-Identifier: Apache-2.0 */
/* The client's message layer: the rules of RFC 7252 section 4 and 5, one by one. */
#include "tests/firmware/coap_world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct world w;

static int setup(void **state)
{
	(void)state;
	world_open(&w);
	return 0;
}

static void get(const char *path)
{
	struct fg_coap_request r = world_get(path);

	world_request(&w, &r);
}

static void expect_given(size_t count, enum fg_coap_outcome outcome)
{
	assert_int_equal(w.given_count, count);
	assert_int_equal(world_given(&w)->outcome, outcome);
}

static void expect_sent(size_t count, enum fg_coap_type type, uint8_t code, uint16_t id)
{
	assert_int_equal(w.sent_count, count);
	assert_int_equal(world_last(&w).type, type);
	assert_int_equal(world_last(&w).code, code);
	assert_int_equal(world_last(&w).id, id);
}

static void expect_text(const char *text)
{
	assert_int_equal(world_given(&w)->response.length, strlen(text));
	assert_memory_equal(world_given(&w)->payload, text, strlen(text));
}

static void test_piggybacked_response_is_given(void **state)
{
	struct world_reply r;

	(void)state;
	get("time");
	r = world_ack(&w, "now");
	w.now_ms += 70;
	world_deliver(&w, &r);
	expect_given(1, FG_COAP_RESPONSE);
	expect_text("now");
	assert_int_equal(world_given(&w)->response.elapsed_ms, 70);
	assert_int_equal(world_given(&w)->response.transmissions, 1);
	assert_int_equal(world_given(&w)->response.max_age_s, 60);
	assert_int_equal(world_given(&w)->response.format, FG_COAP_FORMAT_NONE);
	assert_false(fg_coap_client_busy(&w.client));
	assert_true(fg_coap_client_poll(&w.client, w.now_ms) == INT64_MAX);
	world_deliver(&w, &r);
	expect_given(1, FG_COAP_RESPONSE);
}

static void test_request_is_sent_again_with_doubled_timeouts_and_given_up(void **state)
{
	int64_t first, waited;

	(void)state;
	get("time");
	first = waited = world_wait(&w);
	assert_in_range(first, 2000, 3000);
	for (size_t n = 2; n <= 5; n++) {
		assert_int_equal(w.sent_count, n);
		assert_memory_equal(w.sent[n - 1].bytes, w.sent[0].bytes, w.sent[0].length);
		assert_int_equal(w.given_count, 0);
		waited *= 2;
		assert_int_equal(world_wait(&w), waited);
	}
	assert_int_equal(w.sent_count, 5);
	expect_given(1, FG_COAP_NO_ANSWER);
	assert_int_equal(w.client.retransmissions, 4);
}

static void test_separate_response_is_acknowledged_and_given_once(void **state)
{
	struct world_reply ack, r;

	(void)state;
	get("msg/c2d");
	ack = world_message(FG_COAP_ACK, world_last(&w).id, NULL);
	ack.code = FG_COAP_EMPTY;
	r = world_message(FG_COAP_CON, 0x7777, w.sent[0].bytes + FG_COAP_HEADER);
	world_deliver(&w, &ack);
	world_poll(&w, 20000);
	assert_int_equal(w.sent_count, 1);
	world_deliver(&w, &r);
	expect_sent(2, FG_COAP_ACK, FG_COAP_EMPTY, 0x7777);
	expect_given(1, FG_COAP_RESPONSE);
	world_deliver(&w, &r);
	expect_sent(3, FG_COAP_ACK, FG_COAP_EMPTY, 0x7777);
	expect_given(1, FG_COAP_RESPONSE);
	assert_int_equal(w.client.repeats, 1);
}

static void test_response_in_blocks_is_given_whole(void **state)
{
	struct world_reply r;
	char text[65];

	(void)state;
	memset(text, 'a', 64);
	memset(text + 32, 'b', 32);
	text[64] = '\0';
	get("state");
	r = world_ack(&w, "");
	r.etag = "1";
	r.block = 0 << 4 | 8 | 1;
	r.payload = text;
	r.length = 32;
	world_deliver(&w, &r);
	assert_int_equal(w.sent_count, 2);
	struct fg_coap_message m = world_last(&w);
	assert_int_equal(fg_coap_find_uint(&m, FG_COAP_OPTION_BLOCK2, 99), 1 << 4 | 1);
	r = world_ack(&w, text + 32);
	r.etag = "1";
	r.block = 1 << 4 | 1;
	world_deliver(&w, &r);
	expect_given(1, FG_COAP_RESPONSE);
	expect_text(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_piggybacked_response_is_given, setup),
		cmocka_unit_test_setup(
			test_request_is_sent_again_with_doubled_timeouts_and_given_up, setup),
		cmocka_unit_test_setup(test_separate_response_is_acknowledged_and_given_once,
				       setup),
		cmocka_unit_test_setup(test_response_in_blocks_is_given_whole, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
