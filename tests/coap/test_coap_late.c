/* SPDX-License-Identifier: Apache-2.0 */
/* coap-server/coap: answers that are put off (RFC 7252 sections 4.2, 5.2.2), and held ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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

static void get_later(struct session *s, unsigned type, uint16_t mid, const char *token)
{
	s->f->done = COAP_LATER;
	send_request(s, type, CODE(0, 1), mid, token, "state", NULL);
}

static void answer(struct fixture *f, size_t n, const char *payload)
{
	reply_with(f, FG_COAP_CODE(2, 5), payload);
	coap_server_answer(f->server, f->exchange[n], &f->reply);
}

static void test_a_late_answer_is_a_message_of_its_own(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	get_later(f->a, B_CON, 7, "tok");
	seen = expect(f->a);
	assert_int_equal(seen.type, B_ACK);
	assert_int_equal(seen.code, 0);
	assert_int_equal(seen.mid, 7);
	assert_int_equal(stats_of(f).exchanges, 1);
	answer(f, 0, "value");
	seen = expect(f->a);
	assert_int_equal(seen.type, B_CON);
	assert_int_equal(seen.code, CODE(2, 5));
	assert_true(seen_token(&seen, "tok"));
	assert_true(seen_text(&seen, "value"));
	assert_non_null(f->a->peer);
	send_empty(f->a, B_ACK, seen.mid);
	assert_null(f->a->peer);
	fixture_run(f, 300 * US_PER_S);
	expect_nothing(f->a);
	assert_int_equal(stats_of(f).answers_late, 1);
	assert_int_equal(stats_of(f).exchanges, 0);
}

/* RFC 7252 section 4.8: after 2 to 3 s, doubled each time, four times; then it gives up. */
static void test_a_late_answer_is_retransmitted_until_it_is_hopeless(void **state)
{
	struct fixture *f = *state;
	int64_t first_us = 0, gap_us, last_us = fixture_now();
	struct coap_seen seen, first;

	get_later(f->a, B_CON, 7, "t");
	expect(f->a);
	answer(f, 0, "value");
	first = expect(f->a);
	fixture_run(f, 1999 * US_PER_MS);
	expect_nothing(f->a);
	for (int i = 0; i < 4; i++) {
		const struct sent *m;
		int guard = 0;

		while ((m = take(f->a)) == NULL && guard++ < 60000)
			fixture_run(f, US_PER_MS);
		assert_non_null(m);
		assert_true(coap_see(&seen, m->data, m->len));
		assert_int_equal(seen.mid, first.mid);
		assert_int_equal(seen.type, B_CON);
		gap_us = fixture_now() - last_us;
		if (i == 0) {
			first_us = gap_us;
			assert_in_range(gap_us, 2 * US_PER_S, 3 * US_PER_S + US_PER_MS);
		} else {
			int64_t want = first_us << i;

			assert_in_range(gap_us, want - 20 * US_PER_MS, want + 20 * US_PER_MS);
		}
		last_us = fixture_now();
	}
	assert_non_null(f->a->peer);
	fixture_run(f, 50 * US_PER_S);
	expect_nothing(f->a);
	assert_null(f->a->peer);
	assert_int_equal(stats_of(f).retransmissions, 4);
	assert_int_equal(coap_server_tick(f->server), INT64_MAX);
}

static void test_an_acknowledgement_ends_the_retransmissions(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	get_later(f->a, B_CON, 7, "t");
	expect(f->a);
	answer(f, 0, "value");
	seen = expect(f->a);
	fixture_run(f, 4 * US_PER_S);
	expect(f->a);
	send_empty(f->a, B_ACK, (uint16_t)(seen.mid + 1)); /* of something else */
	send_empty(f->b, B_ACK, seen.mid);		   /* of somebody else */
	assert_non_null(f->a->peer);
	send_empty(f->a, B_ACK, seen.mid);
	assert_null(f->a->peer);
	fixture_run(f, 100 * US_PER_S);
	expect_nothing(f->a);
}

static void test_a_reset_ends_them_too(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	get_later(f->a, B_CON, 7, "t");
	expect(f->a);
	answer(f, 0, "value");
	seen = expect(f->a);
	send_empty(f->a, B_RST, seen.mid);
	fixture_run(f, 100 * US_PER_S);
	expect_nothing(f->a);
	assert_null(f->a->peer);
}

static void test_a_record_that_cannot_be_sent_is_tried_again(void **state)
{
	struct fixture *f = *state;

	get_later(f->a, B_CON, 7, "t");
	expect(f->a);
	f->a->unreachable = true;
	answer(f, 0, "value");
	expect(f->a);
	f->a->unreachable = false;
	fixture_run(f, 3 * US_PER_S);
	assert_int_equal(expect(f->a).type, B_CON);
}

static void test_a_late_answer_to_a_non_confirmable_request_is_sent_once(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	get_later(f->a, B_NON, 7, "t");
	expect_nothing(f->a);
	answer(f, 0, "value");
	seen = expect(f->a);
	assert_int_equal(seen.type, B_NON);
	assert_true(seen_token(&seen, "t"));
	assert_null(f->a->peer);
	fixture_run(f, 100 * US_PER_S);
	expect_nothing(f->a);
}

static void test_the_answer_of_a_session_that_is_gone_is_dropped(void **state)
{
	struct fixture *f = *state;

	get_later(f->a, B_CON, 7, "t");
	expect(f->a);
	coap_server_forget(f->server, &f->a->peer);
	assert_null(f->a->peer);
	assert_int_equal(stats_of(f).peers, 0);
	answer(f, 0, "value");
	expect_nothing(f->a);
	assert_int_equal(stats_of(f).exchanges, 0);
}

/* NSTART is 1: RFC 7252 section 4.7 */
static void test_late_answers_of_a_session_go_one_after_the_other(void **state)
{
	struct fixture *f = *state;
	struct coap_seen first, second;

	get_later(f->a, B_CON, 7, "x");
	get_later(f->a, B_CON, 8, "y");
	get_later(f->b, B_CON, 7, "z");
	expect(f->a);
	expect(f->a);
	expect(f->b);
	answer(f, 1, "y");
	answer(f, 0, "x");
	answer(f, 2, "z");
	first = expect(f->a);
	assert_true(seen_token(&first, "y"));
	expect_nothing(f->a);
	expect(f->b);
	send_empty(f->a, B_ACK, first.mid);
	second = expect(f->a);
	assert_true(seen_token(&second, "x"));
	assert_int_not_equal(first.mid, second.mid);
	send_empty(f->a, B_ACK, second.mid);
	assert_null(f->a->peer);
}

static void test_the_next_goes_when_the_first_is_hopeless(void **state)
{
	struct fixture *f = *state;

	get_later(f->a, B_CON, 7, "x");
	get_later(f->a, B_CON, 8, "y");
	expect(f->a);
	expect(f->a);
	answer(f, 0, "x");
	answer(f, 1, "y");
	fixture_run(f, 200 * US_PER_S);
	assert_int_equal(f->a->sent_count, 2 + 10);
	assert_null(f->a->peer);
}

/* 5.03 before the handler is called, once it is known to put answers off. */
static void test_more_than_max_exchanges_are_refused(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	for (uint16_t i = 0; i < 16; i++) {
		get_later(i % 2 == 0 ? f->a : f->b, B_CON, i, "t");
		expect(i % 2 == 0 ? f->a : f->b);
	}
	get_later(f->a, B_CON, 100, "t");
	seen = expect(f->a);
	assert_int_equal(seen.code, CODE(5, 3));
	assert_int_equal(seen_number(&seen, OPT_MAX_AGE), 5);
	assert_int_equal(f->called, 16);

	/* Other routes are not hurt. */
	reply_with(f, FG_COAP_CODE(2, 4), NULL);
	send_request(f->a, B_CON, CODE(0, 2), 101, "t", "msg", "x");
	assert_int_equal(expect(f->a).code, CODE(2, 4));

	/* An answer counts until it is acknowledged. */
	answer(f, 1, "x");
	seen = expect(f->b);
	get_later(f->a, B_CON, 102, "t");
	assert_int_equal(expect(f->a).code, CODE(5, 3));
	send_empty(f->b, B_ACK, seen.mid);
	get_later(f->a, B_CON, 102, "t");
	assert_int_equal(expect(f->a).code, 0);
}

static enum coap_done answer_inside(void *arg, const struct coap_call *call,
				    struct coap_reply *reply, struct coap_exchange *e)
{
	struct fixture *f = arg;

	(void)call;
	(void)reply;
	reply_with(f, FG_COAP_CODE(2, 5), "at once");
	coap_server_answer(f->server, e, &f->reply);
	return COAP_LATER;
}

static void test_an_answer_may_come_before_the_handler_returns(void **state)
{
	static const struct coap_route route = {
		.path = "now", .methods = FG_COAP_METHOD(FG_COAP_GET), .handler = answer_inside};
	struct fixture *f = *state;
	struct coap_seen one, two;

	fixture_free(f);
	fixture_options.routes = &route;
	fixture_options.route_count = 1;
	f = *state = fixture_new();
	send_request(f->a, B_CON, CODE(0, 1), 7, "t", "now", NULL);
	one = expect(f->a);
	two = expect(f->a);
	assert_int_equal(one.type, B_CON);
	assert_true(seen_text(&one, "at once"));
	assert_int_equal(two.type, B_ACK);
	assert_int_equal(two.code, 0);
	send_empty(f->a, B_ACK, one.mid);
	assert_null(f->a->peer);
}

/* --- Held --- */

static unsigned kept;

static void keep(void *arg, void *session)
{
	(void)arg;
	(void)session;
	kept++;
}

static void post_held(struct session *s, unsigned type, uint16_t mid, const char *token,
		      uint64_t ticket)
{
	reply_with(s->f, FG_COAP_CODE(2, 4), NULL);
	s->f->reply.hold = ticket;
	send_request(s, type, CODE(0, 2), mid, token, "msg", "x");
}

static void test_held_replies_go_with_their_ticket(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	post_held(f->a, B_CON, 1, "x", 10);
	post_held(f->b, B_CON, 1, "y", 12);
	post_held(f->a, B_NON, 2, "z", 11);
	expect_nothing(f->a);
	assert_int_equal(stats_of(f).held, 3);
	coap_server_release(f->server, 9, true);
	expect_nothing(f->a);
	coap_server_release(f->server, 11, true);
	seen = expect(f->a);
	assert_int_equal(seen.type, B_ACK);
	assert_int_equal(seen.mid, 1);
	assert_true(seen_token(&seen, "x"));
	seen = expect(f->a);
	assert_int_equal(seen.type, B_NON);
	assert_true(seen_token(&seen, "z"));
	expect_nothing(f->b);
	assert_null(f->a->peer);
	coap_server_release(f->server, 100, true);
	assert_int_equal(expect(f->b).code, CODE(2, 4));
	assert_int_equal(stats_of(f).held, 0);
	assert_int_equal(stats_of(f).peers, 0);
}

static void test_tickets_that_come_out_of_order_are_put_in_order(void **state)
{
	struct fixture *f = *state;

	post_held(f->a, B_CON, 1, "t", 12);
	post_held(f->a, B_CON, 2, "t", 10);
	post_held(f->a, B_CON, 3, "t", 11);
	coap_server_release(f->server, 11, true);
	assert_int_equal(expect(f->a).mid, 2);
	assert_int_equal(expect(f->a).mid, 3);
	expect_nothing(f->a);
}

/* The request then counts as not done: it is run again, with the same message ID or a new one. */
static void test_replies_that_could_not_be_made_durable_are_5_03(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	post_held(f->a, B_CON, 1, "token", 10);
	post_held(f->a, B_NON, 2, "non", 10);
	coap_server_release(f->server, 10, false);
	seen = expect(f->a);
	assert_int_equal(seen.type, B_ACK);
	assert_int_equal(seen.code, CODE(5, 3));
	assert_int_equal(seen.mid, 1);
	assert_true(seen_token(&seen, "token"));
	assert_int_equal(seen_number(&seen, OPT_MAX_AGE), 1);
	assert_int_equal(seen.option_count, 1);
	seen = expect(f->a);
	assert_int_equal(seen.type, B_NON);
	assert_int_equal(seen.code, CODE(5, 3));
	assert_int_equal(f->called, 2);

	post_held(f->a, B_CON, 1, "token", 0);
	assert_int_equal(expect(f->a).code, CODE(2, 4));
	post_held(f->a, B_CON, 3, "token", 0);
	assert_int_equal(expect(f->a).code, CODE(2, 4));
	assert_int_equal(f->called, 4);
}

static int set_up_keeping(void **state)
{
	fixture_options.keep = keep;
	kept = 0;
	return set_up(state);
}

/* Killed before the disk has answered: the request was run, and is not run again. */
static void test_a_held_reply_survives_in_a_note(void **state)
{
	struct fixture *f = *state, *after;
	uint8_t note[48];
	size_t len;

	post_held(f->a, B_CON, 1, "x", 10);
	expect_nothing(f->a);
	assert_int_equal(kept, 1);
	len = coap_peer_save(f->server, 1, note, sizeof(note));
	assert_in_range(len, 1, sizeof(note));
	post_held(f->a, B_CON, 1, "x", 10);
	expect_nothing(f->a);
	fixture_free(f);

	after = fixture_new();
	*state = after;
	coap_peer_load(after->server, 1, note, len);
	post_held(after->a, B_CON, 1, "x", 10);
	assert_int_equal(expect(after->a).code, CODE(2, 4));
	assert_int_equal(after->called, 0);
}

static void test_a_note_of_what_did_not_become_durable_is_taken_back(void **state)
{
	struct fixture *f = *state;
	uint8_t note[48];

	post_held(f->a, B_CON, 1, "x", 10);
	coap_server_release(f->server, 10, false);
	assert_int_equal(expect(f->a).code, CODE(5, 3));
	assert_int_equal(coap_peer_save(f->server, 1, note, sizeof(note)), 0);
}

static void test_held_replies_of_a_session_that_ends_are_dropped(void **state)
{
	struct fixture *f = *state;

	post_held(f->a, B_CON, 1, "x", 10);
	post_held(f->b, B_CON, 1, "y", 10);
	coap_server_forget(f->server, &f->a->peer);
	assert_int_equal(stats_of(f).held, 1);
	coap_server_release(f->server, 10, true);
	expect_nothing(f->a);
	expect(f->b);
}

static void test_a_late_answer_can_be_held_too(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	get_later(f->a, B_CON, 7, "x");
	get_later(f->a, B_CON, 8, "y");
	expect(f->a);
	expect(f->a);
	for (size_t i = 0; i < 2; i++) {
		reply_with(f, FG_COAP_CODE(2, 4), NULL);
		f->reply.hold = 5 + i;
		coap_server_answer(f->server, f->exchange[i], &f->reply);
	}
	expect_nothing(f->a);
	coap_server_release(f->server, 5, true);
	seen = expect(f->a);
	assert_int_equal(seen.type, B_CON);
	assert_int_equal(seen.code, CODE(2, 4));
	assert_true(seen_token(&seen, "x"));
	send_empty(f->a, B_ACK, seen.mid);
	coap_server_release(f->server, 6, false);
	seen = expect(f->a);
	assert_int_equal(seen.type, B_CON);
	assert_int_equal(seen.code, CODE(5, 3));
	assert_true(seen_token(&seen, "y"));
	send_empty(f->a, B_ACK, seen.mid);
	assert_null(f->a->peer);
}

/* NSTART of the device is one; a session that asks on and on without waiting is bounded. */
static void test_a_session_cannot_have_more_than_64_answers_outstanding(void **state)
{
	struct fixture *f = *state;

	for (uint16_t i = 0; i < 64; i++)
		post_held(f->a, B_NON, i, "t", 10);
	expect_nothing(f->a);
	post_held(f->a, B_NON, 100, "t", 10);
	assert_int_equal(expect(f->a).code, CODE(5, 3));
	assert_int_equal(f->called, 64);
	coap_server_release(f->server, 10, true);
	for (int i = 0; i < 64; i++)
		assert_int_equal(expect(f->a).code, CODE(2, 4));
	assert_null(f->a->peer);
}

/* --- The acknowledgement waits for the answer for a while --- */

static int set_up_patient(void **state)
{
	fixture_defaults();
	fixture_options.acknowledge_after_us = 500 * US_PER_MS;
	*state = fixture_new();
	fixture_defaults();
	return 0;
}

#define PATIENT(f) cmocka_unit_test_setup_teardown(f, set_up_patient, tear_down)

static void test_a_quick_answer_travels_with_the_acknowledgement(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	get_later(f->a, B_CON, 7, "tok");
	fixture_run(f, 400 * US_PER_MS);
	expect_nothing(f->a);
	get_later(f->a, B_CON, 7, "tok");
	expect_nothing(f->a);
	answer(f, 0, "value");
	seen = expect(f->a);
	assert_int_equal(seen.type, B_ACK);
	assert_int_equal(seen.mid, 7);
	assert_int_equal(seen.code, CODE(2, 5));
	assert_true(seen_token(&seen, "tok"));
	assert_true(seen_text(&seen, "value"));
	assert_null(f->a->peer);
	fixture_run(f, 100 * US_PER_S);
	expect_nothing(f->a);
	/* The repeat gets the same, and nothing is run again. */
	get_later(f->a, B_CON, 7, "tok");
	seen = expect(f->a);
	assert_int_equal(seen.code, CODE(2, 5));
	assert_int_equal(stats_of(f).requests, 1);
}

static void test_a_slow_answer_finds_its_request_acknowledged(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	get_later(f->a, B_CON, 7, "tok");
	fixture_run(f, 501 * US_PER_MS);
	seen = expect(f->a);
	assert_int_equal(seen.type, B_ACK);
	assert_int_equal(seen.code, 0);
	assert_int_equal(seen.mid, 7);
	answer(f, 0, "value");
	seen = expect(f->a);
	assert_int_equal(seen.type, B_CON);
	assert_int_equal(seen.code, CODE(2, 5));
}

static void test_the_end_of_the_session_ends_the_wait(void **state)
{
	struct fixture *f = *state;

	get_later(f->a, B_CON, 7, "tok");
	coap_server_forget(f->server, &f->a->peer);
	fixture_run(f, 10 * US_PER_S);
	expect_nothing(f->a);
	answer(f, 0, "value");
	expect_nothing(f->a);
	assert_int_equal(stats_of(f).exchanges, 0);
}

static void test_a_quick_answer_can_be_held(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	get_later(f->a, B_CON, 7, "tok");
	reply_with(f, FG_COAP_CODE(2, 4), NULL);
	f->reply.hold = 5;
	coap_server_answer(f->server, f->exchange[0], &f->reply);
	fixture_run(f, 10 * US_PER_S);
	expect_nothing(f->a);
	coap_server_release(f->server, 5, true);
	seen = expect(f->a);
	assert_int_equal(seen.type, B_ACK);
	assert_int_equal(seen.mid, 7);
	assert_int_equal(seen.code, CODE(2, 4));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_late_answer_is_a_message_of_its_own),
		PATIENT(test_a_quick_answer_travels_with_the_acknowledgement),
		PATIENT(test_a_slow_answer_finds_its_request_acknowledged),
		PATIENT(test_the_end_of_the_session_ends_the_wait),
		PATIENT(test_a_quick_answer_can_be_held),
		TEST(test_a_late_answer_is_retransmitted_until_it_is_hopeless),
		TEST(test_an_acknowledgement_ends_the_retransmissions),
		TEST(test_a_reset_ends_them_too),
		TEST(test_a_record_that_cannot_be_sent_is_tried_again),
		TEST(test_a_late_answer_to_a_non_confirmable_request_is_sent_once),
		TEST(test_the_answer_of_a_session_that_is_gone_is_dropped),
		TEST(test_late_answers_of_a_session_go_one_after_the_other),
		TEST(test_the_next_goes_when_the_first_is_hopeless),
		TEST(test_more_than_max_exchanges_are_refused),
		TEST(test_an_answer_may_come_before_the_handler_returns),
		TEST(test_held_replies_go_with_their_ticket),
		TEST(test_tickets_that_come_out_of_order_are_put_in_order),
		TEST(test_replies_that_could_not_be_made_durable_are_5_03),
		cmocka_unit_test_setup_teardown(test_a_held_reply_survives_in_a_note,
						set_up_keeping, tear_down),
		TEST(test_a_note_of_what_did_not_become_durable_is_taken_back),
		TEST(test_held_replies_of_a_session_that_ends_are_dropped),
		TEST(test_a_late_answer_can_be_held_too),
		TEST(test_a_session_cannot_have_more_than_64_answers_outstanding),
	};

	fixture_defaults();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
