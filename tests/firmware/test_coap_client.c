/* SPDX-License-Identifier: Apache-2.0 */
/* The client's message layer: requests, RFC 7252 sections 4 and 5. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/firmware/coap_world.h"

#define EXCHANGE_LIFETIME_MS 247000

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

static void empty(enum fg_coap_type type, uint16_t id)
{
	struct world_reply r = world_message(type, id, NULL);

	r.code = FG_COAP_EMPTY;
	world_deliver(&w, &r);
}

static struct world_reply separate(enum fg_coap_type type, uint16_t id)
{
	return world_message(type, id, w.sent[0].bytes + FG_COAP_HEADER);
}

static void expect_response(const char *text)
{
	assert_int_equal(w.given_count, 1);
	assert_int_equal(world_given(&w)->outcome, FG_COAP_RESPONSE);
	assert_int_equal(world_given(&w)->response.length, strlen(text));
	assert_memory_equal(world_given(&w)->payload, text, strlen(text));
	assert_false(fg_coap_client_busy(&w.client));
	assert_true(fg_coap_client_poll(&w.client, w.now_ms) == INT64_MAX);
}

static void expect_nothing_given(void)
{
	assert_int_equal(w.given_count, 0);
	assert_true(fg_coap_client_busy(&w.client));
}

/* ---- what a request looks like */

static void test_request_has_its_options_and_payload(void **state)
{
	static const uint8_t etag[] = {1}, if_match[] = {2, 3};
	const struct fg_coap_request r = {
		.method = FG_COAP_PUT,
		.path = "store/x",
		.query = "a=1&b",
		.format = FG_COAP_FORMAT_CBOR,
		.accept = FG_COAP_FORMAT_JSON,
		.etag = etag,
		.etag_length = 1,
		.if_match = if_match,
		.if_match_length = 2,
		.payload = "body",
		.length = 4,
	};
	static const uint8_t expected[] = {0x12, 2,    3,   0x31, 1,   0x75, 's', 't', 'o', 'r',
					   'e',	 0x01, 'x', 0x11, 60,  0x33, 'a', '=', '1', 0x01,
					   'b',	 0x21, 50,  0xff, 'b', 'o',  'd', 'y'};

	(void)state;
	world_request(&w, &r);
	assert_int_equal(w.sent[0].bytes[0], 0x44);
	assert_int_equal(w.sent[0].bytes[1], FG_COAP_PUT);
	assert_int_equal(w.sent[0].length, 8 + sizeof(expected));
	assert_memory_equal(w.sent[0].bytes + 8, expected, sizeof(expected));
	assert_true(w.sent[0].expects_answer);
}

static int write_abc(void *arg, uint8_t *out, size_t room)
{
	assert_true(room > 3);
	memcpy(out, arg, 3);
	return 3;
}

static int write_too_much(void *arg, uint8_t *out, size_t room)
{
	(void)arg;
	(void)out;
	return (int)room + 1;
}

static int write_nothing(void *arg, uint8_t *out, size_t room)
{
	(void)arg;
	(void)out;
	(void)room;
	return -ENODATA;
}

static void test_composed_payload_is_written_in_place(void **state)
{
	struct fg_coap_request r = world_get("a");
	char abc[] = "abc";

	(void)state;
	assert_int_equal(fg_coap_client_compose(&w.client, &r, write_abc, abc, w.now_ms), 0);
	assert_int_equal(world_last(&w).payload_length, 3);
	assert_memory_equal(world_last(&w).payload, "abc", 3);
}

static void test_what_cannot_be_composed_is_refused_and_nothing_is_under_way(void **state)
{
	struct fg_coap_request r = world_get("a");
	static char body[FG_COAP_REQUEST_MAX];

	(void)state;
	assert_int_equal(fg_coap_client_compose(&w.client, &r, write_too_much, NULL, w.now_ms),
			 -EMSGSIZE);
	assert_int_equal(fg_coap_client_compose(&w.client, &r, write_nothing, NULL, w.now_ms),
			 -ENODATA);
	r.payload = body;
	r.length = sizeof(body) - 10;
	assert_int_equal(fg_coap_client_request(&w.client, &r, w.now_ms), -EMSGSIZE);
	assert_false(fg_coap_client_busy(&w.client));
	assert_int_equal(w.sent_count, 0);
	r.length--;
	assert_int_equal(fg_coap_client_request(&w.client, &r, w.now_ms), 0);
	assert_int_equal(w.sent[0].length, FG_COAP_REQUEST_MAX);
}

static void test_one_request_at_a_time(void **state)
{
	struct fg_coap_request r = world_get("b");

	(void)state;
	get("a");
	assert_int_equal(fg_coap_client_request(&w.client, &r, w.now_ms), -EBUSY);
	assert_int_equal(w.sent_count, 1);
}

/* ---- retransmission */

static void test_request_is_sent_again_with_doubled_timeouts_and_given_up(void **state)
{
	int64_t first, waited;

	(void)state;
	get("time");
	first = waited = world_wait(&w);
	assert_in_range(first, 2000, 3000);
	for (size_t n = 2; n <= 5; n++) {
		assert_int_equal(w.sent_count, n);
		assert_int_equal(w.sent[n - 1].length, w.sent[0].length);
		assert_memory_equal(w.sent[n - 1].bytes, w.sent[0].bytes, w.sent[0].length);
		expect_nothing_given();
		waited *= 2;
		assert_int_equal(world_wait(&w), waited);
	}
	assert_int_equal(w.sent_count, 5);
	assert_int_equal(w.given_count, 1);
	assert_int_equal(world_given(&w)->outcome, FG_COAP_NO_ANSWER);
	assert_int_equal(w.client.retransmissions, 4);
	assert_int_equal(w.client.requests, 1);
}

static void test_first_timeout_is_spread_over_the_random_factor(void **state)
{
	int64_t least = INT64_MAX, most = 0;

	(void)state;
	for (uint32_t seed = 0; seed < 500; seed++) {
		int64_t waited;

		world_open(&w);
		w.random = seed * 2654435761u;
		get("time");
		waited = world_wait(&w);
		assert_in_range(waited, 2000, 3000);
		least = waited < least ? waited : least;
		most = waited > most ? waited : most;
	}
	assert_true(least < 2050 && most > 2950);
}

static void test_poll_before_the_deadline_does_nothing(void **state)
{
	(void)state;
	get("time");
	world_poll(&w, 1999);
	assert_int_equal(w.sent_count, 1);
}

static void test_a_long_sleep_is_one_missed_timeout(void **state)
{
	(void)state;
	get("time");
	for (size_t n = 2; n <= 5; n++) {
		world_poll(&w, INT64_C(365) * 86400 * 1000);
		assert_int_equal(w.sent_count, n);
	}
	world_poll(&w, INT64_C(365) * 86400 * 1000);
	assert_int_equal(world_given(&w)->outcome, FG_COAP_NO_ANSWER);
}

static void test_settings_say_how_long_and_how_often(void **state)
{
	static const struct fg_coap_settings settings = {
		.ack_timeout_ms = 10000, .max_retransmit = 1, .response_timeout_ms = 5000};

	(void)state;
	w.client.settings = &settings;
	get("time");
	assert_in_range(world_wait(&w), 10000, 15000);
	world_wait(&w);
	assert_int_equal(w.sent_count, 2);
	assert_int_equal(world_given(&w)->outcome, FG_COAP_NO_ANSWER);
	get("time");
	empty(FG_COAP_ACK, world_last(&w).id);
	assert_int_equal(world_wait(&w), 5000);
	assert_int_equal(w.given_count, 2);
}

/* ---- responses */

static void test_piggybacked_response_is_given_once(void **state)
{
	struct world_reply r;

	(void)state;
	get("time");
	r = world_ack(&w, "now");
	w.now_ms += 70;
	world_deliver(&w, &r);
	expect_response("now");
	assert_int_equal(world_given(&w)->response.code, FG_COAP_CODE(2, 5));
	assert_int_equal(world_given(&w)->response.elapsed_ms, 70);
	assert_int_equal(world_given(&w)->response.transmissions, 1);
	assert_int_equal(world_given(&w)->response.max_age_s, 60);
	assert_int_equal(world_given(&w)->response.format, FG_COAP_FORMAT_NONE);
	assert_int_equal(world_given(&w)->response.etag_length, 0);
	assert_false(world_given(&w)->response.observed);
	assert_memory_equal(world_given(&w)->token, w.sent[0].bytes + FG_COAP_HEADER, 4);
	world_deliver(&w, &r);
	expect_response("now");
	assert_int_equal(w.sent_count, 1);
}

static void test_response_tells_how_often_it_was_asked(void **state)
{
	struct world_reply r;

	(void)state;
	get("time");
	world_wait(&w);
	world_wait(&w);
	r = world_ack(&w, "now");
	world_deliver(&w, &r);
	assert_int_equal(world_given(&w)->response.transmissions, 3);
	get("time");
	r = world_ack(&w, "now");
	world_deliver(&w, &r);
	assert_int_equal(world_given(&w)->response.transmissions, 1);
}

static void test_options_of_the_response_are_given(void **state)
{
	/* ETag, Content-Format, Max-Age, Size2, and one that is elective and unknown. */
	static const uint8_t rest[] = {0x42, 7, 8,  0x81, 60,	0x22, 0x0e, 0x10,
				       0xd1, 1, 99, 0xe0, 0x06, 0xb1, 0xff, 'x'};
	uint8_t bytes[8 + sizeof(rest)];

	(void)state;
	get("time");
	memcpy(bytes, w.sent[0].bytes, 8);
	bytes[0] = 0x64;
	bytes[1] = FG_COAP_CODE(2, 5);
	memcpy(bytes + 8, rest, sizeof(rest));
	world_bytes(&w, bytes, sizeof(bytes));
	expect_response("x");
	assert_int_equal(world_given(&w)->response.format, FG_COAP_FORMAT_CBOR);
	assert_int_equal(world_given(&w)->response.max_age_s, 3600);
	assert_int_equal(world_given(&w)->response.etag_length, 2);
	assert_memory_equal(world_given(&w)->etag, "\7\10", 2);
}

static void test_elective_options_of_wrong_length_are_not_there(void **state)
{
	/* An ETag of 9 bytes, a Content-Format of 3, a Max-Age of 5. */
	static const uint8_t rest[] = {0x49, 1, 2,  3,	  4, 5, 6, 7, 8, 9,    0x83,
				       1,    0, 60, 0x25, 0, 0, 0, 0, 1, 0xff, 'x'};
	uint8_t bytes[8 + sizeof(rest)];

	(void)state;
	get("time");
	memcpy(bytes, w.sent[0].bytes, 8);
	bytes[0] = 0x64;
	bytes[1] = FG_COAP_CODE(2, 5);
	memcpy(bytes + 8, rest, sizeof(rest));
	world_bytes(&w, bytes, sizeof(bytes));
	expect_response("x");
	assert_int_equal(world_given(&w)->response.format, FG_COAP_FORMAT_NONE);
	assert_int_equal(world_given(&w)->response.max_age_s, 60);
	assert_int_equal(world_given(&w)->response.etag_length, 0);
}

static void test_errors_are_responses(void **state)
{
	static const uint8_t codes[] = {FG_COAP_CODE(4, 1), FG_COAP_CODE(4, 4), FG_COAP_CODE(5, 3),
					FG_COAP_CODE(2, 31)};

	(void)state;
	for (size_t i = 0; i < sizeof(codes); i++) {
		struct world_reply r;

		get("time");
		r = world_ack(&w, "");
		r.code = codes[i];
		world_deliver(&w, &r);
		assert_int_equal(world_given(&w)->outcome, FG_COAP_RESPONSE);
		assert_int_equal(world_given(&w)->response.code, codes[i]);
	}
}

static void test_acknowledgement_with_another_token_or_id_or_code_is_ignored(void **state)
{
	struct world_reply good, r;

	(void)state;
	get("time");
	good = world_ack(&w, "now");
	r = good;
	r.token = (const uint8_t *)"abcd";
	world_deliver(&w, &r);
	r.token = NULL;
	world_deliver(&w, &r);
	r = good;
	r.id++;
	world_deliver(&w, &r);
	for (unsigned class = 0; class < 8; class ++)
		if (class != 2 && class != 4 && class != 5) {
			r = good;
			r.code = FG_COAP_CODE(class, 5);
			world_deliver(&w, &r);
			r.type = FG_COAP_RST;
			world_deliver(&w, &r);
		}
	expect_nothing_given();
	assert_int_equal(w.sent_count, 1);
	assert_int_equal(w.client.state, 1);
	world_deliver(&w, &good);
	expect_response("now");
}

static void test_separate_response_is_acknowledged_each_time_and_given_once(void **state)
{
	struct world_reply r;

	(void)state;
	get("msg/c2d");
	r = separate(FG_COAP_CON, 0x7777);
	empty(FG_COAP_ACK, world_last(&w).id);
	world_poll(&w, 20000);
	assert_int_equal(w.sent_count, 1);
	for (size_t n = 1; n <= 3; n++) {
		world_deliver(&w, &r);
		assert_int_equal(w.sent_count, 1 + n);
		assert_int_equal(w.sent[n].length, FG_COAP_HEADER);
		assert_int_equal(world_last(&w).type, FG_COAP_ACK);
		assert_int_equal(world_last(&w).code, FG_COAP_EMPTY);
		assert_int_equal(world_last(&w).id, 0x7777);
		expect_response("");
	}
	assert_int_equal(w.client.repeats, 2);
}

static void test_separate_response_may_be_non_confirmable(void **state)
{
	struct world_reply r;

	(void)state;
	get("msg/c2d");
	r = separate(FG_COAP_NON, 0x7777);
	empty(FG_COAP_ACK, world_last(&w).id);
	world_deliver(&w, &r);
	world_deliver(&w, &r);
	expect_response("");
	assert_int_equal(w.sent_count, 1);
}

static void test_separate_response_before_the_acknowledgement_ends_the_request(void **state)
{
	struct world_reply r;
	uint16_t id;

	(void)state;
	get("msg/c2d");
	id = world_last(&w).id;
	r = separate(FG_COAP_CON, 0x7777);
	world_deliver(&w, &r);
	expect_response("");
	empty(FG_COAP_ACK, id);
	world_poll(&w, 100000);
	expect_response("");
	assert_int_equal(w.sent_count, 2);
}

static void test_no_response_after_the_acknowledgement_is_no_answer(void **state)
{
	(void)state;
	get("msg/c2d");
	empty(FG_COAP_ACK, world_last(&w).id);
	world_poll(&w, 20000);
	empty(FG_COAP_ACK, world_last(&w).id); /* again: it does not wait longer for it */
	assert_int_equal(world_wait(&w), 10000);
	assert_int_equal(world_given(&w)->outcome, FG_COAP_NO_ANSWER);
	assert_int_equal(w.sent_count, 1);
}

static void test_response_that_comes_too_late_is_reset(void **state)
{
	struct world_reply r;

	(void)state;
	get("msg/c2d");
	r = separate(FG_COAP_CON, 0x7777);
	empty(FG_COAP_ACK, world_last(&w).id);
	world_wait(&w);
	world_deliver(&w, &r);
	assert_int_equal(world_last(&w).type, FG_COAP_RST);
	assert_int_equal(world_last(&w).id, 0x7777);
	assert_int_equal(w.given_count, 1);
}

static void test_reset_is_refusal(void **state)
{
	(void)state;
	get("time");
	empty(FG_COAP_RST, (uint16_t)(world_last(&w).id + 1));
	expect_nothing_given();
	empty(FG_COAP_RST, world_last(&w).id);
	assert_int_equal(w.given_count, 1);
	assert_int_equal(world_given(&w)->outcome, FG_COAP_REFUSED);
	assert_false(fg_coap_client_busy(&w.client));
}

static void test_unknown_critical_option_makes_a_response_unreadable(void **state)
{
	struct world_reply r;

	(void)state;
	get("time");
	r = world_ack(&w, "now");
	r.extra = 29;
	world_deliver(&w, &r);
	assert_int_equal(world_given(&w)->outcome, FG_COAP_UNREADABLE);
	assert_int_equal(w.sent_count, 1);
	world_open(&w);
	get("time");
	r = separate(FG_COAP_CON, 5);
	r.extra = 29;
	world_deliver(&w, &r);
	world_deliver(&w, &r);
	assert_int_equal(w.sent_count, 3);
	assert_int_equal(world_sent(&w, 1).type, FG_COAP_RST);
	assert_int_equal(world_sent(&w, 2).type, FG_COAP_RST);
	assert_int_equal(w.given_count, 1);
}

static void test_unknown_elective_option_is_ignored(void **state)
{
	struct world_reply r;

	(void)state;
	get("time");
	r = world_ack(&w, "now");
	r.extra = 30;
	world_deliver(&w, &r);
	expect_response("now");
}

/* ---- what nobody asked for */

static void expect_answer(enum fg_coap_type type, uint16_t id)
{
	assert_int_equal(w.sent_count, 1);
	assert_int_equal(world_last(&w).type, type);
	assert_int_equal(world_last(&w).code, FG_COAP_EMPTY);
	assert_int_equal(world_last(&w).id, id);
	assert_false(w.sent[0].expects_answer);
	assert_int_equal(w.given_count, 0);
	w.sent_count = 0;
}

static void test_ping_is_answered_with_reset(void **state)
{
	(void)state;
	empty(FG_COAP_CON, 0x1234);
	expect_answer(FG_COAP_RST, 0x1234);
	empty(FG_COAP_CON, 0x1234);
	expect_answer(FG_COAP_RST, 0x1234);
	empty(FG_COAP_NON, 0x1234);
	empty(FG_COAP_ACK, 0x1234);
	empty(FG_COAP_RST, 0x1234);
	assert_int_equal(w.sent_count, 0);
}

static void test_unknown_messages_are_reset_if_confirmable_and_ignored_if_not(void **state)
{
	static const uint8_t codes[] = {FG_COAP_GET, FG_COAP_CODE(1, 1), FG_COAP_CODE(2, 5),
					FG_COAP_CODE(6, 0), FG_COAP_CODE(7, 1)};

	(void)state;
	for (size_t i = 0; i < sizeof(codes); i++)
		for (int type = FG_COAP_CON; type <= FG_COAP_RST; type++) {
			struct world_reply r =
				world_message((enum fg_coap_type)type, 9, (const uint8_t *)"abcd");

			r.code = codes[i];
			world_deliver(&w, &r);
			if (type == FG_COAP_CON)
				expect_answer(FG_COAP_RST, 9);
			assert_int_equal(w.sent_count, 0);
		}
}

static void test_malformed_confirmable_message_is_reset_and_others_are_ignored(void **state)
{
	static const uint8_t marker[] = {0x40, 0x45, 0x12, 0x34, 0xff};
	uint8_t bytes[sizeof(marker)];

	(void)state;
	for (uint8_t type = 0; type < 4; type++) {
		memcpy(bytes, marker, sizeof(bytes));
		bytes[0] |= (uint8_t)(type << 4);
		world_bytes(&w, bytes, sizeof(bytes));
		if (type == FG_COAP_CON)
			expect_answer(FG_COAP_RST, 0x1234);
		assert_int_equal(w.sent_count, 0);
	}
	world_bytes(&w, bytes, 3);
	world_bytes(&w, "\200\1\1\1", 4); /* version 2 */
	assert_int_equal(w.sent_count, 0);
}

/* ---- message ids and repeats */

static void test_message_id_of_the_server_may_come_again_after_exchange_lifetime(void **state)
{
	struct world_reply r;

	(void)state;
	get("a");
	r = separate(FG_COAP_CON, 0x7777);
	world_deliver(&w, &r);
	w.now_ms += EXCHANGE_LIFETIME_MS - 1;
	world_deliver(&w, &r);
	assert_int_equal(world_last(&w).type, FG_COAP_ACK);
	w.now_ms += 3000;
	world_deliver(&w, &r);
	assert_int_equal(world_last(&w).type, FG_COAP_RST);
}

static void test_message_ids_are_not_used_again_within_exchange_lifetime(void **state)
{
	static int64_t used_at[65536];
	size_t waited = 0;

	(void)state;
	for (size_t i = 0; i < 65536; i++)
		used_at[i] = INT64_MIN / 2;
	for (size_t i = 0; i < 300000; i++) {
		struct world_reply r;

		w.sent_count = w.given_count = 0;
		get("a");
		if (w.sent_count == 0) {
			waited += world_wait(&w) > 0;
			assert_int_equal(w.sent_count, 1);
			assert_int_equal(w.client.retransmissions, 0);
		}
		r = world_ack(&w, "");
		assert_true(w.now_ms - used_at[r.id] >= EXCHANGE_LIFETIME_MS);
		used_at[r.id] = w.now_ms;
		world_deliver(&w, &r);
		expect_response("");
		assert_int_equal(world_given(&w)->response.transmissions, 1);
		w.now_ms += 1;
	}
	assert_in_range(waited, 5, 12);
	/* No more than what the ids allow was lost. */
	assert_true(w.now_ms < 12 * EXCHANGE_LIFETIME_MS);
}

static void test_tokens_differ(void **state)
{
	(void)state;
	for (size_t i = 0; i < 100; i++) {
		struct world_reply r;

		get("a");
		r = world_ack(&w, "");
		world_deliver(&w, &r);
		for (size_t j = 0; j < i; j++)
			assert_memory_not_equal(w.sent[i].bytes + 4, w.sent[j].bytes + 4, 4);
	}
}

/* ---- beginning from inside, failing, forgetting */

static void test_next_request_may_begin_from_inside(void **state)
{
	struct fg_coap_request next = world_get("b");
	struct world_reply r;

	(void)state;
	get("a");
	w.follow_up = &next;
	r = world_ack(&w, "1");
	world_deliver(&w, &r);
	assert_int_equal(w.sent_count, 2);
	assert_true(fg_coap_client_busy(&w.client));
	r = world_ack(&w, "2");
	world_deliver(&w, &r);
	assert_int_equal(w.given_count, 2);
	get("c");
	w.follow_up = &next;
	while (w.given_count < 3)
		world_wait(&w);
	assert_int_equal(world_given(&w)->outcome, FG_COAP_NO_ANSWER);
	assert_true(fg_coap_client_busy(&w.client));
	assert_int_equal(world_wait(&w) > 0, 1);
}

static void test_request_that_cannot_be_sent_is_told_by_the_next_poll(void **state)
{
	struct fg_coap_request next = world_get("b");

	(void)state;
	w.send_error = -ENOTCONN;
	w.follow_up = &next;
	get("a");
	expect_nothing_given();
	assert_int_equal(fg_coap_client_poll(&w.client, w.now_ms), w.now_ms);
	assert_int_equal(w.given_count, 1);
	assert_int_equal(world_given(&w)->outcome, FG_COAP_NOT_SENT);
	fg_coap_client_poll(&w.client, w.now_ms);
	assert_int_equal(w.given_count, 2);
	assert_true(fg_coap_client_poll(&w.client, w.now_ms) == INT64_MAX);
}

static void test_retransmission_that_cannot_be_sent_ends_the_request(void **state)
{
	(void)state;
	get("a");
	w.send_error = -ENOTCONN;
	world_wait(&w);
	fg_coap_client_poll(&w.client, w.now_ms);
	assert_int_equal(w.given_count, 1);
	assert_int_equal(world_given(&w)->outcome, FG_COAP_NOT_SENT);
}

static void test_reset_forgets_the_request_without_a_word(void **state)
{
	struct world_reply r;

	(void)state;
	get("a");
	r = world_ack(&w, "");
	fg_coap_client_reset(&w.client);
	assert_false(fg_coap_client_busy(&w.client));
	world_deliver(&w, &r);
	assert_true(fg_coap_client_poll(&w.client, w.now_ms + 1000000) == INT64_MAX);
	assert_int_equal(w.given_count, 0);
	assert_int_equal(w.sent_count, 1);
	get("b");
	assert_int_not_equal(world_last(&w).id, r.id);
}

static void test_message_ids_begin_anywhere(void **state)
{
	uint16_t first;

	(void)state;
	get("a");
	first = world_last(&w).id;
	memset(&w, 0, sizeof(w));
	world_open(&w);
	w.random = 12345;
	fg_coap_client_init(&w.client);
	get("a");
	assert_int_not_equal(world_last(&w).id, first);
}

/* Wherever they have begun: there is nothing before them that could be mistaken for them. */
static void test_first_message_ids_are_not_waited_for(void **state)
{
	(void)state;
	w.now_ms = 0;
	fg_coap_client_init(&w.client);
	for (size_t i = 0; i < 0x8000; i++) {
		struct world_reply r;

		w.sent_count = w.given_count = 0;
		get("a");
		assert_int_equal(w.sent_count, 1);
		r = world_ack(&w, "");
		world_deliver(&w, &r);
		w.now_ms += 1;
	}
}

#define TEST(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_request_has_its_options_and_payload),
		TEST(test_composed_payload_is_written_in_place),
		TEST(test_what_cannot_be_composed_is_refused_and_nothing_is_under_way),
		TEST(test_one_request_at_a_time),
		TEST(test_request_is_sent_again_with_doubled_timeouts_and_given_up),
		TEST(test_first_timeout_is_spread_over_the_random_factor),
		TEST(test_poll_before_the_deadline_does_nothing),
		TEST(test_a_long_sleep_is_one_missed_timeout),
		TEST(test_settings_say_how_long_and_how_often),
		TEST(test_piggybacked_response_is_given_once),
		TEST(test_response_tells_how_often_it_was_asked),
		TEST(test_options_of_the_response_are_given),
		TEST(test_elective_options_of_wrong_length_are_not_there),
		TEST(test_errors_are_responses),
		TEST(test_acknowledgement_with_another_token_or_id_or_code_is_ignored),
		TEST(test_separate_response_is_acknowledged_each_time_and_given_once),
		TEST(test_separate_response_may_be_non_confirmable),
		TEST(test_separate_response_before_the_acknowledgement_ends_the_request),
		TEST(test_no_response_after_the_acknowledgement_is_no_answer),
		TEST(test_response_that_comes_too_late_is_reset),
		TEST(test_reset_is_refusal),
		TEST(test_unknown_critical_option_makes_a_response_unreadable),
		TEST(test_unknown_elective_option_is_ignored),
		TEST(test_ping_is_answered_with_reset),
		TEST(test_unknown_messages_are_reset_if_confirmable_and_ignored_if_not),
		TEST(test_malformed_confirmable_message_is_reset_and_others_are_ignored),
		TEST(test_message_id_of_the_server_may_come_again_after_exchange_lifetime),
		TEST(test_message_ids_are_not_used_again_within_exchange_lifetime),
		TEST(test_tokens_differ),
		TEST(test_next_request_may_begin_from_inside),
		TEST(test_request_that_cannot_be_sent_is_told_by_the_next_poll),
		TEST(test_retransmission_that_cannot_be_sent_ends_the_request),
		TEST(test_reset_forgets_the_request_without_a_word),
		TEST(test_message_ids_begin_anywhere),
		TEST(test_first_message_ids_are_not_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
