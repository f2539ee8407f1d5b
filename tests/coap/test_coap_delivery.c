/* SPDX-License-Identifier: Apache-2.0 */
/* coap-server/coap: what a device has acknowledged, and notifications that say nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "tests/coap/coap_fixture.h"

static int set_up(void **state)
{
	*state = fixture_new();
	return 0;
}

static int tear_down(void **state)
{
	fixture_free(*state);
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

static uint16_t next_mid = 1;

static void send_get(struct session *s, const char *token, int observe)
{
	struct coap_bytes b;

	bytes_begin(&b, B_CON, CODE(0, 1), next_mid++, token);
	if (observe >= 0)
		bytes_number(&b, OPT_OBSERVE, (uint32_t)observe);
	bytes_path(&b, "state");
	deliver(s, &b);
}

/* What the handler answers from now on: a message with this number, or the empty answer. */
static void head(struct fixture *f, const char *payload, int64_t delivery)
{
	enum coap_done done = f->done;

	reply_with(f, FG_COAP_CODE(2, 5), payload);
	f->done = done;
	f->reply.observe_key = "key";
	f->reply.delivery = delivery;
}

static void nothing(struct fixture *f)
{
	head(f, NULL, 0);
	f->reply.tell = COAP_NOTHING;
}

/* Registers while nothing waits. */
static void observe(struct fixture *f, struct session *s, const char *token)
{
	head(f, NULL, 0);
	send_get(s, token, 0);
	assert_int_equal(expect(s).type, B_ACK);
}

static void change(struct fixture *f)
{
	coap_server_changed(f->server, "key");
	coap_server_tick(f->server);
}

static struct coap_seen expect_message(struct session *s, const char *token, const char *payload)
{
	struct coap_seen seen = expect(s);

	assert_int_equal(seen.type, B_CON);
	assert_int_equal(seen.code, CODE(2, 5));
	assert_true(seen_token(&seen, token));
	assert_true(seen_text(&seen, payload));
	return seen;
}

static void assert_told(const struct fixture *f, unsigned times, int64_t delivery,
			enum coap_delivery how)
{
	assert_int_equal(f->delivered, times);
	assert_int_equal(f->delivery, delivery);
	assert_int_equal(f->how, how);
	assert_ptr_equal(f->delivered_to, f->a);
}

/* --- What is told --- */

static void test_the_acknowledgement_of_a_notification_is_told_once(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	observe(f, f->a, "t");
	head(f, "one", 7);
	change(f);
	seen = expect_message(f->a, "t", "one");
	send_empty(f->b, B_ACK, seen.mid);
	send_empty(f->a, B_ACK, (uint16_t)(seen.mid + 1));
	assert_int_equal(f->delivered, 0);
	send_empty(f->a, B_ACK, seen.mid);
	assert_told(f, 1, 7, COAP_ACKNOWLEDGED);
	send_empty(f->a, B_ACK, seen.mid);
	assert_int_equal(f->delivered, 1);
	assert_int_equal(stats_of(f).observations, 1);
}

static void test_what_has_no_number_is_not_told(void **state)
{
	struct fixture *f = *state;

	observe(f, f->a, "t");
	head(f, "one", 0);
	change(f);
	send_empty(f->a, B_ACK, expect_message(f->a, "t", "one").mid);
	assert_int_equal(f->delivered, 0);
}

static void test_an_error_brings_nothing(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	observe(f, f->a, "t");
	head(f, NULL, 7);
	f->reply.code = FG_COAP_CODE(4, 6);
	change(f);
	seen = expect(f->a);
	assert_int_equal(seen.code, CODE(4, 6));
	send_empty(f->a, B_ACK, seen.mid);
	assert_int_equal(f->delivered, 0);
}

static void test_a_retransmitted_notification_is_told_when_it_is_acknowledged(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	observe(f, f->a, "t");
	head(f, "one", 7);
	change(f);
	expect_message(f->a, "t", "one");
	fixture_run(f, 4 * US_PER_S);
	seen = expect_message(f->a, "t", "one");
	assert_int_equal(f->delivered, 0);
	send_empty(f->a, B_ACK, seen.mid);
	assert_told(f, 1, 7, COAP_ACKNOWLEDGED);
}

static void test_a_reset_is_told_and_ends_the_observation(void **state)
{
	struct fixture *f = *state;

	observe(f, f->a, "t");
	head(f, "one", 7);
	change(f);
	send_empty(f->a, B_RST, expect_message(f->a, "t", "one").mid);
	assert_told(f, 1, 7, COAP_REJECTED);
	assert_int_equal(stats_of(f).observations, 0);
	assert_null(f->a->peer);
}

static void test_silence_is_told_and_ends_the_observation(void **state)
{
	struct fixture *f = *state;

	observe(f, f->a, "t");
	head(f, "one", 7);
	change(f);
	fixture_run(f, 100 * US_PER_S);
	assert_told(f, 1, 7, COAP_TIMED_OUT);
	assert_int_equal(stats_of(f).observations, 0);
	assert_null(f->a->peer);
}

static void test_the_end_of_a_session_is_not_told(void **state)
{
	struct fixture *f = *state;

	observe(f, f->a, "t");
	head(f, "one", 7);
	change(f);
	coap_server_forget(f->server, &f->a->peer);
	fixture_run(f, 200 * US_PER_S);
	assert_int_equal(f->delivered, 0);
}

static void test_an_answer_of_its_own_is_told_when_it_is_acknowledged(void **state)
{
	struct fixture *f = *state;

	f->done = COAP_LATER;
	send_get(f->a, "t", -1);
	assert_int_equal(expect(f->a).code, 0);
	head(f, "one", 7);
	coap_server_answer(f->server, f->exchange[0], &f->reply);
	send_empty(f->a, B_ACK, expect_message(f->a, "t", "one").mid);
	assert_told(f, 1, 7, COAP_ACKNOWLEDGED);
	assert_int_equal(stats_of(f).exchanges, 0);
	assert_null(f->a->peer);
}

/* It may be lost, and nobody would hear of that. */
static void test_an_answer_that_travels_with_the_acknowledgement_is_not_told(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	head(f, "one", 7);
	send_get(f->a, "t", -1);
	seen = expect(f->a);
	assert_int_equal(seen.type, B_ACK);
	assert_true(seen_text(&seen, "one"));
	send_empty(f->a, B_ACK, seen.mid);
	assert_int_equal(f->delivered, 0);
}

static void test_a_part_of_an_answer_of_its_own_is_not_told(void **state)
{
	struct fixture *f = *state;
	char large[1100];

	memset(large, 'x', sizeof(large));
	f->done = COAP_LATER;
	send_get(f->a, "t", -1);
	expect(f->a);
	head(f, NULL, 7);
	f->reply.payload = large;
	f->reply.payload_len = sizeof(large);
	coap_server_answer(f->server, f->exchange[0], &f->reply);
	send_empty(f->a, B_ACK, expect(f->a).mid);
	assert_int_equal(f->delivered, 0);
	assert_int_equal(stats_of(f).exchanges, 0);
}

static void test_a_part_is_not_told(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;
	char large[1100];

	memset(large, 'x', sizeof(large));
	observe(f, f->a, "t");
	head(f, NULL, 7);
	f->reply.payload = large;
	f->reply.payload_len = sizeof(large);
	change(f);
	seen = expect(f->a);
	assert_int_equal(seen_number(&seen, OPT_BLOCK2), block_value(0, true, 6));
	send_empty(f->a, B_ACK, seen.mid);
	assert_int_equal(f->delivered, 0);
	/* It is not for the taking of the first part that it never comes again. */
	change(f);
	seen = expect(f->a);
	assert_int_equal(seen_number(&seen, OPT_BLOCK2), block_value(0, true, 6));
	/* While it is under way it is not sent for the second time. */
	change(f);
	send_empty(f->a, B_ACK, seen.mid);
	expect_nothing(f->a);
	assert_int_equal(f->delivered, 0);
}

/* --- Registrations --- */

static void test_what_a_registration_brings_is_a_message_of_its_own(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	head(f, "one", 7);
	send_get(f->a, "t", 0);
	seen = expect(f->a);
	assert_int_equal(seen.type, B_ACK);
	assert_int_equal(seen.code, 0);
	seen = expect_message(f->a, "t", "one");
	assert_true(seen_has(&seen, OPT_OBSERVE));
	assert_int_equal(stats_of(f).observations, 1);
	send_empty(f->a, B_ACK, seen.mid);
	assert_told(f, 1, 7, COAP_ACKNOWLEDGED);

	head(f, "two", 8);
	change(f);
	assert_int_equal(f->last.acknowledged, 7);
	expect_message(f->a, "t", "two");
}

static void test_a_registration_that_is_repeated_gets_the_empty_acknowledgement_again(void **state)
{
	struct fixture *f = *state;
	uint16_t mid;

	head(f, "one", 7);
	send_get(f->a, "t", 0);
	mid = (uint16_t)(next_mid - 1);
	assert_int_equal(expect(f->a).mid, mid);
	expect_message(f->a, "t", "one");
	next_mid = mid;
	send_get(f->a, "t", 0);
	assert_int_equal(expect(f->a).mid, mid);
	expect_nothing(f->a);
	assert_int_equal(f->called, 1);
}

static void test_a_registration_that_is_not_taken_is_answered_as_any_request(void **state)
{
	struct fixture *f = *state;
	char token[2] = "a";

	for (int i = 0; i < 4; i++, token[0]++)
		observe(f, f->a, token);
	head(f, "one", 7);
	send_get(f->a, token, 0);
	assert_int_equal(expect(f->a).type, B_ACK);
}

static void test_what_the_registration_brought_is_not_notified_while_it_is_under_way(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	head(f, "one", 7);
	send_get(f->a, "t", 0);
	expect(f->a);
	seen = expect_message(f->a, "t", "one");
	change(f);
	send_empty(f->a, B_ACK, seen.mid);
	expect_nothing(f->a);
}

/* --- What comes again, and what does not --- */

static void test_the_handler_hears_what_its_observation_has_brought(void **state)
{
	struct fixture *f = *state;

	observe(f, f->a, "t");
	observe(f, f->b, "t");
	head(f, "one", 7);
	change(f);
	assert_int_equal(f->last.acknowledged, 0);
	send_empty(f->a, B_ACK, expect_message(f->a, "t", "one").mid);
	send_empty(f->b, B_RST, expect_message(f->b, "t", "one").mid);
	observe(f, f->b, "t");
	head(f, "two", 8);
	change(f);
	assert_ptr_equal(f->last.session, f->b);
	assert_int_equal(f->last.acknowledged, 0);
	expect_message(f->b, "t", "two");
	send_empty(f->a, B_ACK, expect_message(f->a, "t", "two").mid);
	send_get(f->b, "t", 1);
	expect(f->b);
	change(f);
	assert_int_equal(f->last.acknowledged, 8);
}

static void test_what_is_under_way_is_not_sent_again_for_a_change(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	observe(f, f->a, "t");
	head(f, "one", 7);
	change(f);
	seen = expect_message(f->a, "t", "one");
	change(f);
	change(f);
	expect_nothing(f->a);
	send_empty(f->a, B_ACK, seen.mid);
	expect_nothing(f->a);
	assert_told(f, 1, 7, COAP_ACKNOWLEDGED);
	assert_int_equal(stats_of(f).notifications, 1);
}

/* The database was asked before the acknowledgement came, and answers after it. */
static void test_an_answer_that_the_acknowledgement_has_overtaken_is_not_sent(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	observe(f, f->a, "t");
	head(f, "one", 7);
	change(f);
	seen = expect_message(f->a, "t", "one");
	f->done = COAP_LATER;
	change(f);
	send_empty(f->a, B_ACK, seen.mid);
	coap_server_answer(f->server, f->exchange[0], &f->reply);
	expect_nothing(f->a);
	assert_int_equal(stats_of(f).observations, 1);
}

static void changed_in_delivered(struct fixture *f)
{
	coap_server_changed(f->server, "key");
}

static void test_messages_follow_each_other_as_they_are_acknowledged(void **state)
{
	struct fixture *f = *state;
	char text[2] = "0";

	f->in_delivered = changed_in_delivered;
	observe(f, f->a, "t");
	head(f, text, 1);
	change(f);
	for (int i = 1; i < 9; i++) {
		struct coap_seen seen = expect_message(f->a, "t", text);

		text[0]++;
		head(f, text, i + 1);
		send_empty(f->a, B_ACK, seen.mid);
		coap_server_tick(f->server);
		assert_int_equal(f->last.acknowledged, i);
	}
	nothing(f);
	send_empty(f->a, B_ACK, expect_message(f->a, "t", text).mid);
	coap_server_tick(f->server);
	expect_nothing(f->a);
	assert_int_equal(f->delivered, 9);
	assert_int_equal(stats_of(f).observations, 1);
}

static void test_a_message_whose_place_was_taken_is_told_all_the_same(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	observe(f, f->a, "t");
	head(f, "one", 7);
	change(f);
	seen = expect_message(f->a, "t", "one");
	head(f, "two", 8);
	change(f);
	send_empty(f->a, B_ACK, seen.mid);
	assert_told(f, 1, 7, COAP_ACKNOWLEDGED);
	send_empty(f->a, B_ACK, expect_message(f->a, "t", "two").mid);
	assert_told(f, 2, 8, COAP_ACKNOWLEDGED);
}

/* --- Nothing, and not now --- */

static void test_nothing_to_tell_sends_nothing_and_the_observation_goes_on(void **state)
{
	struct fixture *f = *state;

	observe(f, f->a, "t");
	nothing(f);
	change(f);
	assert_int_equal(f->notified, 1);
	expect_nothing(f->a);
	assert_int_equal(stats_of(f).notifications, 0);
	assert_int_equal(stats_of(f).observations, 1);
	assert_int_equal(stats_of(f).exchanges, 0);
	assert_int_equal(coap_server_tick(f->server), INT64_MAX);
	head(f, "one", 7);
	change(f);
	expect_message(f->a, "t", "one");
}

static void test_nothing_to_tell_may_be_answered_later(void **state)
{
	struct fixture *f = *state;

	observe(f, f->a, "t");
	f->done = COAP_LATER;
	change(f);
	nothing(f);
	coap_server_answer(f->server, f->exchange[0], &f->reply);
	expect_nothing(f->a);
	assert_int_equal(stats_of(f).observations, 1);
	assert_int_equal(stats_of(f).exchanges, 0);
}

static void test_nothing_takes_back_what_is_not_acknowledged(void **state)
{
	struct fixture *f = *state;

	observe(f, f->a, "t");
	head(f, "one", 7);
	change(f);
	expect_message(f->a, "t", "one");
	nothing(f);
	change(f);
	fixture_run(f, 200 * US_PER_S);
	expect_nothing(f->a);
	assert_int_equal(f->delivered, 0);
	assert_int_equal(stats_of(f).observations, 1);
}

static void test_not_now_asks_again_soon_and_leaves_what_is_under_way(void **state)
{
	struct fixture *f = *state;
	unsigned called;

	observe(f, f->a, "t");
	head(f, "one", 7);
	change(f);
	expect_message(f->a, "t", "one");
	head(f, NULL, 0);
	f->reply.tell = COAP_NOT_NOW;
	change(f);
	called = f->called;
	assert_true(coap_server_tick(f->server) > fixture_now());
	fixture_run(f, COAP_NOT_NOW_US - 1);
	assert_int_equal(f->called, called);
	send_empty(f->a, B_ACK, expect_message(f->a, "t", "one").mid);
	assert_told(f, 1, 7, COAP_ACKNOWLEDGED);
	fixture_run(f, 2);
	assert_int_equal(f->called, called + 1);
	head(f, "two", 8);
	fixture_run(f, 2 * COAP_NOT_NOW_US);
	assert_int_equal(f->called, called + 2);
	send_empty(f->a, B_ACK, expect_message(f->a, "t", "two").mid);
	fixture_run(f, 10 * COAP_NOT_NOW_US);
	assert_int_equal(f->called, called + 2);
}

static void test_a_change_asks_at_once_who_was_to_be_asked_later(void **state)
{
	struct fixture *f = *state;

	observe(f, f->a, "t");
	head(f, NULL, 0);
	f->reply.tell = COAP_NOT_NOW;
	change(f);
	head(f, "one", 7);
	change(f);
	send_empty(f->a, B_ACK, expect_message(f->a, "t", "one").mid);
	assert_int_equal(f->notified, 2);
	fixture_run(f, 10 * COAP_NOT_NOW_US);
	assert_int_equal(f->notified, 2);
}

static void test_what_has_changed_before_not_now_was_said_is_asked_at_once(void **state)
{
	struct fixture *f = *state;

	observe(f, f->a, "t");
	f->done = COAP_LATER;
	change(f);
	change(f);
	head(f, NULL, 0);
	f->reply.tell = COAP_NOT_NOW;
	coap_server_answer(f->server, f->exchange[0], &f->reply);
	f->done = COAP_DONE;
	head(f, "one", 7);
	fixture_run(f, 1);
	send_empty(f->a, B_ACK, expect_message(f->a, "t", "one").mid);
	fixture_run(f, 10 * COAP_NOT_NOW_US);
	assert_int_equal(f->notified, 2);
}

static void test_who_was_to_be_asked_later_may_be_gone(void **state)
{
	struct fixture *f = *state;

	observe(f, f->a, "t");
	observe(f, f->b, "t");
	head(f, NULL, 0);
	f->reply.tell = COAP_NOT_NOW;
	change(f);
	coap_server_forget(f->server, &f->a->peer);
	fixture_run(f, COAP_NOT_NOW_US);
	assert_int_equal(f->notified, 3);
	assert_ptr_equal(f->last.session, f->b);
}

/* --- The callback may do what it likes --- */

static void end_in_delivered(struct fixture *f)
{
	coap_server_forget(f->server, &f->a->peer);
}

static void test_the_session_may_end_when_a_message_is_told(void **state)
{
	struct fixture *f = *state;

	for (int how = COAP_ACKNOWLEDGED; how <= COAP_TIMED_OUT; how++) {
		observe(f, f->a, "t");
		head(f, "one", 7);
		change(f);

		struct coap_seen seen = expect_message(f->a, "t", "one");

		f->in_delivered = end_in_delivered;
		if (how == COAP_TIMED_OUT)
			fixture_run(f, 100 * US_PER_S);
		else
			send_empty(f->a, how == COAP_ACKNOWLEDGED ? B_ACK : B_RST, seen.mid);
		assert_told(f, (unsigned)how + 1, 7, (enum coap_delivery)how);
		assert_null(f->a->peer);
		assert_int_equal(stats_of(f).observations, 0);
		f->in_delivered = NULL;
		f->a->taken = f->a->sent_count;
	}
}

static void answer_in_delivered(struct fixture *f)
{
	head(f, "two", 8);
	coap_server_answer(f->server, f->exchange[0], &f->reply);
}

static void test_another_answer_may_come_when_a_message_is_told(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	observe(f, f->a, "t");
	head(f, "one", 7);
	change(f);
	seen = expect_message(f->a, "t", "one");
	f->done = COAP_LATER;
	change(f);
	f->in_delivered = answer_in_delivered;
	send_empty(f->a, B_ACK, seen.mid);
	f->in_delivered = NULL;
	send_empty(f->a, B_ACK, expect_message(f->a, "t", "two").mid);
	assert_told(f, 2, 8, COAP_ACKNOWLEDGED);
	expect_nothing(f->a);
}

/* --- Validation --- */

/* A device that collects blocks may say which representation they are to be of. */
static void test_the_etag_of_a_later_block_is_not_the_handlers(void **state)
{
	struct fixture *f = *state;
	struct coap_bytes b;

	head(f, "one", 7);
	for (uint32_t num = 0; num < 2; num++) {
		bytes_begin(&b, B_CON, CODE(0, 1), next_mid++, "t");
		bytes_option(&b, OPT_ETAG, "\7", 1);
		bytes_path(&b, "state");
		bytes_block(&b, OPT_BLOCK2, num, false, 6);
		deliver(f->a, &b);
		expect(f->a);
		assert_int_equal(f->called, num + 1);
		assert_int_equal(f->last.etag_len, num == 0 ? 1 : 0);
	}
}

static void test_the_session_of_an_exchange_is_known_until_it_ends(void **state)
{
	struct fixture *f = *state;

	f->done = COAP_LATER;
	send_get(f->a, "t", -1);
	assert_ptr_equal(coap_exchange_session(f->exchange[0]), f->a);
	coap_server_forget(f->server, &f->a->peer);
	assert_null(coap_exchange_session(f->exchange[0]));
	coap_server_answer(f->server, f->exchange[0], &f->reply);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_the_acknowledgement_of_a_notification_is_told_once),
		TEST(test_what_has_no_number_is_not_told),
		TEST(test_an_error_brings_nothing),
		TEST(test_a_retransmitted_notification_is_told_when_it_is_acknowledged),
		TEST(test_a_reset_is_told_and_ends_the_observation),
		TEST(test_silence_is_told_and_ends_the_observation),
		TEST(test_the_end_of_a_session_is_not_told),
		TEST(test_an_answer_of_its_own_is_told_when_it_is_acknowledged),
		TEST(test_an_answer_that_travels_with_the_acknowledgement_is_not_told),
		TEST(test_a_part_of_an_answer_of_its_own_is_not_told),
		TEST(test_a_part_is_not_told),
		TEST(test_what_a_registration_brings_is_a_message_of_its_own),
		TEST(test_a_registration_that_is_repeated_gets_the_empty_acknowledgement_again),
		TEST(test_a_registration_that_is_not_taken_is_answered_as_any_request),
		TEST(test_what_the_registration_brought_is_not_notified_while_it_is_under_way),
		TEST(test_the_handler_hears_what_its_observation_has_brought),
		TEST(test_what_is_under_way_is_not_sent_again_for_a_change),
		TEST(test_an_answer_that_the_acknowledgement_has_overtaken_is_not_sent),
		TEST(test_messages_follow_each_other_as_they_are_acknowledged),
		TEST(test_a_message_whose_place_was_taken_is_told_all_the_same),
		TEST(test_nothing_to_tell_sends_nothing_and_the_observation_goes_on),
		TEST(test_nothing_to_tell_may_be_answered_later),
		TEST(test_nothing_takes_back_what_is_not_acknowledged),
		TEST(test_not_now_asks_again_soon_and_leaves_what_is_under_way),
		TEST(test_a_change_asks_at_once_who_was_to_be_asked_later),
		TEST(test_what_has_changed_before_not_now_was_said_is_asked_at_once),
		TEST(test_who_was_to_be_asked_later_may_be_gone),
		TEST(test_the_session_may_end_when_a_message_is_told),
		TEST(test_another_answer_may_come_when_a_message_is_told),
		TEST(test_the_etag_of_a_later_block_is_not_the_handlers),
		TEST(test_the_session_of_an_exchange_is_known_until_it_ends),
	};

	fixture_defaults();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
