/* SPDX-License-Identifier: Apache-2.0 */
/* coap-server/coap: observers (RFC 7641). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
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

static void send_observe(struct session *s, const char *token, const char *path, uint32_t observe)
{
	struct coap_bytes b;

	bytes_begin(&b, B_CON, CODE(0, 1), next_mid++, token);
	bytes_number(&b, OPT_OBSERVE, observe);
	bytes_path(&b, path);
	deliver(s, &b);
}

static void value(struct fixture *f, const char *payload)
{
	reply_with(f, FG_COAP_CODE(2, 5), payload);
	f->reply.observe_key = "key";
}

static struct coap_seen observe(struct session *s, const char *token)
{
	send_observe(s, token, "state", 0);
	return expect(s);
}

static void change(struct fixture *f, const char *payload)
{
	if (payload != NULL)
		value(f, payload);
	coap_server_changed(f->server, "key");
	coap_server_tick(f->server);
}

static struct coap_seen expect_notification(struct session *s, const char *token,
					    const char *payload)
{
	struct coap_seen seen = expect(s);

	assert_int_equal(seen.type, B_CON);
	assert_int_equal(seen.code, CODE(2, 5));
	assert_true(seen_token(&seen, token));
	assert_true(seen_has(&seen, OPT_OBSERVE));
	assert_true(seen_text(&seen, payload));
	return seen;
}

/* RFC 7641 section 3.4, within 128 s */
static bool newer(int64_t v2, int64_t v1)
{
	return (v1 < v2 && v2 - v1 < 1 << 23) || (v1 > v2 && v1 - v2 > 1 << 23);
}

static void test_a_change_is_a_confirmable_notification_with_the_same_token(void **state)
{
	struct fixture *f = *state;
	struct coap_seen first, seen;

	value(f, "1");
	first = observe(f->a, "tok");
	assert_int_equal(first.type, B_ACK);
	assert_true(seen_has(&first, OPT_OBSERVE));
	assert_true(f->last.observe);
	assert_int_equal(stats_of(f).observations, 1);
	assert_non_null(f->a->peer);

	value(f, "2");
	coap_server_changed(f->server, "key");
	expect_nothing(f->a);
	coap_server_tick(f->server);
	seen = expect_notification(f->a, "tok", "2");
	assert_true(newer(seen_number(&seen, OPT_OBSERVE), seen_number(&first, OPT_OBSERVE)));
	assert_true(f->last.notification);
	assert_int_equal(f->notified, 1);
	assert_string_equal(f->path, "state");
	assert_ptr_equal(f->last.session, f->a);
	send_empty(f->a, B_ACK, seen.mid);
	fixture_run(f, 200 * US_PER_S);
	expect_nothing(f->a);
	assert_int_equal(stats_of(f).observations, 1);
	assert_int_equal(stats_of(f).notifications, 1);
}

static void test_observe_numbers_rise_over_days(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;
	int64_t last;

	value(f, "x");
	seen = observe(f->a, "t");
	last = seen_number(&seen, OPT_OBSERVE);
	for (int i = 0; i < 4000; i++) {
		change(f, "x");
		seen = expect(f->a);
		send_empty(f->a, B_ACK, seen.mid);
		assert_true(newer(seen_number(&seen, OPT_OBSERVE), last));
		last = seen_number(&seen, OPT_OBSERVE);
		/* many within a millisecond, and with pauses up to what 24 bits can tell */
		if (i % 3 == 0)
			fixture_run(f, i % 7 == 0 ? 120 * US_PER_S : 1);
	}
}

static void test_several_changes_at_once_are_one_notification(void **state)
{
	struct fixture *f = *state;

	value(f, "1");
	observe(f->a, "t");
	for (int i = 0; i < 5; i++)
		coap_server_changed(f->server, "key");
	value(f, "6");
	coap_server_tick(f->server);
	expect_notification(f->a, "t", "6");
	expect_nothing(f->a);
}

static void test_other_keys_are_not_notified(void **state)
{
	struct fixture *f = *state;

	value(f, "1");
	observe(f->a, "t");
	f->reply.observe_key = "another key";
	observe(f->b, "t");
	change(f, "2");
	expect(f->a);
	expect_nothing(f->b);
	coap_server_changed(f->server, "nobody's");
	coap_server_changed(f->server, "ke");
	assert_true(coap_server_tick(f->server) > fixture_now());
	assert_int_equal(f->notified, 1);
}

static void test_changes_that_may_have_been_missed_notify_all(void **state)
{
	struct fixture *f = *state;

	value(f, "1");
	observe(f->a, "t");
	f->reply.observe_key = "another key";
	observe(f->b, "t");
	coap_server_changed_all(f->server);
	coap_server_tick(f->server);
	expect(f->a);
	expect(f->b);
	assert_int_equal(f->notified, 2);
}

static void test_observe_1_deregisters(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	value(f, "1");
	observe(f->a, "t");
	send_observe(f->a, "other", "state", 1);
	expect(f->a);
	assert_int_equal(stats_of(f).observations, 1);
	send_observe(f->a, "t", "state", 1);
	seen = expect(f->a);
	assert_int_equal(seen.code, CODE(2, 5));
	assert_false(seen_has(&seen, OPT_OBSERVE));
	assert_false(f->last.observe);
	assert_int_equal(stats_of(f).observations, 0);
	assert_null(f->a->peer);
	change(f, "2");
	expect_nothing(f->a);
}

static void test_a_reset_cancels(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	value(f, "1");
	observe(f->a, "t");
	change(f, "2");
	seen = expect(f->a);
	send_empty(f->a, B_RST, seen.mid);
	assert_int_equal(stats_of(f).observations, 0);
	assert_null(f->a->peer);
	change(f, "3");
	expect_nothing(f->a);
	assert_int_equal(coap_server_tick(f->server), INT64_MAX);
}

static void test_a_notification_that_is_never_acknowledged_cancels(void **state)
{
	struct fixture *f = *state;

	value(f, "1");
	observe(f->a, "t");
	change(f, "2");
	fixture_run(f, 100 * US_PER_S);
	for (int i = 0; i < 5; i++)
		expect_notification(f->a, "t", "2");
	expect_nothing(f->a);
	assert_int_equal(stats_of(f).observations, 0);
	assert_null(f->a->peer);
}

static void test_registering_again_with_the_same_token_replaces(void **state)
{
	struct fixture *f = *state;

	value(f, "1");
	observe(f->a, "t");
	observe(f->a, "t");
	assert_int_equal(stats_of(f).observations, 1);
	change(f, "2");
	expect_notification(f->a, "t", "2");
	expect_nothing(f->a);
	f->reply.observe_key = "another key";
	observe(f->a, "t");
	assert_int_equal(stats_of(f).observations, 1);
	value(f, "3");
	coap_server_changed(f->server, "key");
	coap_server_tick(f->server);
	assert_int_equal(f->notified, 1);
}

static void test_registering_again_in_vain_ends_what_was_observed(void **state)
{
	struct fixture *f = *state;

	value(f, "1");
	observe(f->a, "t");
	value(f, NULL);
	f->reply.code = FG_COAP_CODE(4, 4);
	observe(f->a, "t");
	assert_int_equal(stats_of(f).observations, 0);
	assert_null(f->a->peer);
}

static void test_two_tokens_are_two_observations(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	value(f, "1");
	observe(f->a, "x");
	observe(f->a, "y");
	assert_int_equal(stats_of(f).observations, 2);
	change(f, "2");
	seen = expect_notification(f->a, "x", "2");
	expect_nothing(f->a); /* NSTART is 1 */
	send_empty(f->a, B_ACK, seen.mid);
	expect_notification(f->a, "y", "2");
}

static void test_a_session_has_max_observations_at_most(void **state)
{
	struct fixture *f = *state;
	char token[2] = "a";

	value(f, "1");
	for (int i = 0; i < 4; i++, token[0]++) {
		struct coap_seen seen = observe(f->a, token);

		assert_true(seen_has(&seen, OPT_OBSERVE));
	}

	struct coap_seen seen = observe(f->a, token);

	assert_int_equal(seen.code, CODE(2, 5));
	assert_false(seen_has(&seen, OPT_OBSERVE));
	assert_int_equal(stats_of(f).observations, 4);
	seen = observe(f->a, "a"); /* again, in its own place */
	assert_true(seen_has(&seen, OPT_OBSERVE));
}

static void test_a_resource_has_max_observers_and_the_oldest_makes_room(void **state)
{
	enum { MAX = 12 };
	struct fixture *f = *state;
	struct session *s[MAX];

	value(f, "1");
	observe(f->a, "t");
	change(f, "2");
	expect_notification(f->a, "t", "2"); /* which it does not acknowledge */
	for (size_t i = 0; i < MAX; i++) {
		struct coap_seen seen;

		s[i] = session_new_small(f, 100 + i);
		seen = observe(s[i], "t");
		assert_true(seen_has(&seen, OPT_OBSERVE));
	}
	assert_int_equal(stats_of(f).observations, MAX);
	assert_int_equal(stats_of(f).peers, MAX);
	fixture_run(f, 100 * US_PER_S);
	expect_nothing(f->a);
	for (size_t i = 0; i < MAX; i++)
		session_end(s[i]);
}

static void test_the_handler_decides_whether_it_is_observed(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	value(f, "1");
	f->reply.observe_key = NULL;
	seen = observe(f->a, "t");
	assert_false(seen_has(&seen, OPT_OBSERVE));
	value(f, NULL);
	f->reply.code = FG_COAP_CODE(4, 4);
	seen = observe(f->a, "t");
	assert_int_equal(seen.code, CODE(4, 4));
	assert_false(seen_has(&seen, OPT_OBSERVE));
	assert_int_equal(stats_of(f).observations, 0);
	assert_null(f->a->peer);
}

static void test_a_route_that_is_not_observable_is_answered_plainly(void **state)
{
	struct fixture *f = *state;
	struct coap_bytes b;

	value(f, "1");
	bytes_begin(&b, B_CON, CODE(0, 2), next_mid++, "t");
	bytes_number(&b, OPT_OBSERVE, 0);
	bytes_path(&b, "msg");
	deliver(f->a, &b);
	expect(f->a);
	assert_false(f->last.observe);
	assert_int_equal(stats_of(f).observations, 0);
}

static void test_an_error_is_the_last_notification(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	value(f, "1");
	observe(f->a, "t");
	value(f, NULL);
	f->reply.code = FG_COAP_CODE(4, 4);
	change(f, NULL);
	seen = expect(f->a);
	assert_int_equal(seen.type, B_CON);
	assert_int_equal(seen.code, CODE(4, 4));
	assert_true(seen_token(&seen, "t"));
	assert_false(seen_has(&seen, OPT_OBSERVE));
	assert_int_equal(stats_of(f).observations, 0);
	send_empty(f->a, B_ACK, seen.mid);
	assert_null(f->a->peer);
}

static void test_the_end_of_a_session_ends_its_observations(void **state)
{
	struct fixture *f = *state;

	value(f, "1");
	observe(f->a, "x");
	observe(f->a, "y");
	observe(f->b, "z");
	coap_server_changed(f->server, "key");
	coap_server_forget(f->server, &f->a->peer);
	assert_int_equal(stats_of(f).observations, 1);
	coap_server_tick(f->server);
	expect_nothing(f->a);
	expect(f->b);
}

static void end_session(struct fixture *f, const struct coap_call *call)
{
	if (call->notification)
		coap_server_forget(f->server, &f->a->peer);
}

static void test_a_handler_may_end_the_session_of_its_notification(void **state)
{
	struct fixture *f = *state;

	value(f, "1");
	observe(f->a, "x");
	observe(f->a, "y");
	f->in_handler = end_session;
	change(f, "2");
	expect_nothing(f->a);
	assert_null(f->a->peer);
	assert_int_equal(f->notified, 1);
	assert_int_equal(stats_of(f).observations, 0);
}

/* --- What changes while a notification is under way: RFC 7641 section 4.5.2 --- */

static void test_a_newer_state_takes_the_place_of_one_that_is_not_acknowledged(void **state)
{
	struct fixture *f = *state;
	struct coap_seen first, second;

	value(f, "1");
	observe(f->a, "t");
	change(f, "2");
	first = expect_notification(f->a, "t", "2");
	change(f, "3");
	change(f, "4");
	expect_nothing(f->a);
	fixture_run(f, 3 * US_PER_S);
	second = expect_notification(f->a, "t", "4");
	assert_int_not_equal(first.mid, second.mid);
	expect_nothing(f->a);
	/* The attempts go on counting: three more, and it is given up. */
	fixture_run(f, 100 * US_PER_S);
	for (int i = 0; i < 3; i++)
		expect_notification(f->a, "t", "4");
	expect_nothing(f->a);
	assert_int_equal(stats_of(f).observations, 0);
}

static void test_a_newer_state_goes_when_the_older_is_acknowledged(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	value(f, "1");
	observe(f->a, "t");
	change(f, "2");
	seen = expect_notification(f->a, "t", "2");
	change(f, "3");
	expect_nothing(f->a);
	send_empty(f->a, B_ACK, seen.mid);
	seen = expect_notification(f->a, "t", "3");
	send_empty(f->a, B_ACK, seen.mid);
	fixture_run(f, 100 * US_PER_S);
	expect_nothing(f->a);
	assert_int_equal(stats_of(f).observations, 1);
}

static void test_a_reset_of_the_older_cancels_too(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	value(f, "1");
	observe(f->a, "t");
	change(f, "2");
	seen = expect(f->a);
	change(f, "3");
	send_empty(f->a, B_RST, seen.mid);
	assert_int_equal(stats_of(f).observations, 0);
	assert_null(f->a->peer);
}

/* --- Late ones --- */

static void test_a_registration_may_be_answered_later(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	f->done = COAP_LATER;
	send_observe(f->a, "t", "state", 0);
	assert_int_equal(expect(f->a).code, 0);
	assert_int_equal(stats_of(f).observations, 0);
	value(f, "1");
	coap_server_answer(f->server, f->exchange[0], &f->reply);
	seen = expect_notification(f->a, "t", "1");
	send_empty(f->a, B_ACK, seen.mid);
	assert_int_equal(stats_of(f).observations, 1);
	change(f, "2");
	expect_notification(f->a, "t", "2");
}

static void test_a_notification_may_be_answered_later(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	value(f, "1");
	observe(f->a, "t");
	f->done = COAP_LATER;
	change(f, NULL);
	change(f, NULL); /* while it waits */
	assert_int_equal(f->notified, 1);
	expect_nothing(f->a);
	value(f, "2");
	f->done = COAP_LATER;
	coap_server_answer(f->server, f->exchange[0], &f->reply);
	seen = expect_notification(f->a, "t", "2");
	send_empty(f->a, B_ACK, seen.mid);
	/* It has changed again meanwhile. */
	assert_true(coap_server_tick(f->server) > fixture_now());
	assert_int_equal(f->notified, 2);
	value(f, "3");
	coap_server_answer(f->server, f->exchange[1], &f->reply);
	expect_notification(f->a, "t", "3");
	assert_int_equal(stats_of(f).exchanges, 0);
}

static void test_a_late_notification_of_an_observation_that_is_gone_is_dropped(void **state)
{
	struct fixture *f = *state;

	value(f, "1");
	observe(f->a, "t");
	f->done = COAP_LATER;
	change(f, NULL);
	value(f, "2");
	send_observe(f->a, "t", "state", 1);
	expect(f->a);
	coap_server_answer(f->server, f->exchange[0], &f->reply);
	expect_nothing(f->a);
	assert_null(f->a->peer);
}

/* Notifications wait while there are too many exchanges; none is lost. */
static void test_notifications_wait_for_room(void **state)
{
	struct fixture *f = *state;

	value(f, "1");
	observe(f->a, "t");
	f->done = COAP_LATER;
	for (size_t i = 0; i < 16; i++) {
		send_request(f->b, B_CON, CODE(0, 1), (uint16_t)(1000 + i), "t", "state", NULL);
		expect(f->b);
	}
	value(f, "2");
	change(f, NULL);
	expect_nothing(f->a);
	for (size_t i = 0; i < 16; i++)
		coap_server_answer(f->server, f->exchange[i], &f->reply);
	for (int i = 0; i < 16; i++)
		send_empty(f->b, B_ACK, expect(f->b).mid);
	assert_true(coap_server_tick(f->server) <= fixture_now() + US_PER_S);
	assert_int_equal(stats_of(f).notifications, 0);
	fixture_run(f, US_PER_S);
	expect_notification(f->a, "t", "2");
}

/* Everybody is to be asked again, and each answer waits for the database. */
static void test_notifications_leave_half_of_the_exchanges_to_requests(void **state)
{
	struct fixture *f = *state;
	struct session *s[12];

	value(f, "1");
	for (size_t i = 0; i < 12; i++) {
		s[i] = session_new_small(f, 100 + i);
		observe(s[i], "t");
	}
	f->done = COAP_LATER;
	coap_server_changed_all(f->server);
	fixture_run(f, US_PER_S);
	assert_int_equal(f->notified, 9);
	send_request(f->a, B_CON, CODE(0, 1), 1, "t", "state", NULL);
	assert_int_equal(expect(f->a).code, 0);
	value(f, "2");
	f->done = COAP_LATER;
	for (size_t i = 0; i < 9; i++)
		coap_server_answer(f->server, f->exchange[i], &f->reply);
	fixture_run(f, US_PER_S);
	assert_int_equal(f->notified, 12);
	for (size_t i = 0; i < 12; i++)
		session_end(s[i]);
}

/* --- Large ones: RFC 7959 section 2.6 --- */

static void test_a_large_notification_is_its_first_block_and_the_rest_by_get(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;
	struct coap_bytes b;
	char large[3000];

	for (size_t i = 0; i < sizeof(large); i++)
		large[i] = (char)(i * 13);
	value(f, "1");
	observe(f->a, "t");
	value(f, NULL);
	f->reply.payload = large;
	f->reply.payload_len = sizeof(large);
	change(f, NULL);
	seen = expect(f->a);
	assert_int_equal(seen.type, B_CON);
	assert_true(seen_has(&seen, OPT_OBSERVE));
	assert_int_equal(seen_number(&seen, OPT_BLOCK2), block_value(0, true, 6));
	assert_int_equal(seen.payload_len, 1024);

	int64_t etag = seen_number(&seen, OPT_ETAG);

	send_empty(f->a, B_ACK, seen.mid);
	for (uint32_t num = 1; num < 3; num++) {
		bytes_begin(&b, B_CON, CODE(0, 1), next_mid++, "rest");
		bytes_path(&b, "state");
		bytes_block(&b, OPT_BLOCK2, num, false, 6);
		deliver(f->a, &b);
		seen = expect(f->a);
		assert_int_equal(seen.code, CODE(2, 5));
		assert_false(seen_has(&seen, OPT_OBSERVE));
		assert_int_equal(seen_number(&seen, OPT_ETAG), etag);
		assert_memory_equal(seen.payload, large + num * 1024, seen.payload_len);
	}
	assert_int_equal(f->called, 2);
	assert_int_equal(stats_of(f).observations, 1);
}

/* --- Many --- */

static char many_key[16];

static void key_of_session(struct fixture *f, const struct coap_call *call)
{
	const struct session *s = call->session;

	snprintf(many_key, sizeof(many_key), "dev-%u", (unsigned)s->id);
	value(f, "x");
	f->reply.observe_key = many_key;
}

/* All devices observe the one path `state`. */
static void test_a_change_costs_its_own_observers_of_10000(void **state)
{
	enum { MANY = 10000 };
	struct fixture *f = *state;
	struct session **s = calloc(MANY, sizeof(struct session *));

	assert_non_null(s);
	f->in_handler = key_of_session;
	for (unsigned i = 0; i < MANY; i++) {
		s[i] = session_new_small(f, 1000 + i);
		send_observe(s[i], "t", "state", 0);
		expect(s[i]);
	}
	assert_int_equal(stats_of(f).observations, MANY);
	for (unsigned i = 0; i < MANY; i += 7) {
		char key[16];
		unsigned called = f->called;

		snprintf(key, sizeof(key), "dev-%u", 1000 + i);
		coap_server_changed(f->server, key);
		coap_server_tick(f->server);
		assert_int_equal(f->called, called + 1);
		send_empty(s[i], B_ACK, expect(s[i]).mid);
	}
	for (unsigned i = 0; i < MANY; i++)
		session_end(s[i]);
	assert_int_equal(stats_of(f).observations, 0);
	assert_int_equal(stats_of(f).peers, 0);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_change_is_a_confirmable_notification_with_the_same_token),
		TEST(test_observe_numbers_rise_over_days),
		TEST(test_several_changes_at_once_are_one_notification),
		TEST(test_other_keys_are_not_notified),
		TEST(test_changes_that_may_have_been_missed_notify_all),
		TEST(test_observe_1_deregisters),
		TEST(test_a_reset_cancels),
		TEST(test_a_notification_that_is_never_acknowledged_cancels),
		TEST(test_registering_again_with_the_same_token_replaces),
		TEST(test_registering_again_in_vain_ends_what_was_observed),
		TEST(test_two_tokens_are_two_observations),
		TEST(test_a_session_has_max_observations_at_most),
		TEST(test_a_resource_has_max_observers_and_the_oldest_makes_room),
		TEST(test_the_handler_decides_whether_it_is_observed),
		TEST(test_a_route_that_is_not_observable_is_answered_plainly),
		TEST(test_an_error_is_the_last_notification),
		TEST(test_the_end_of_a_session_ends_its_observations),
		TEST(test_a_handler_may_end_the_session_of_its_notification),
		TEST(test_a_newer_state_takes_the_place_of_one_that_is_not_acknowledged),
		TEST(test_a_newer_state_goes_when_the_older_is_acknowledged),
		TEST(test_a_reset_of_the_older_cancels_too),
		TEST(test_a_registration_may_be_answered_later),
		TEST(test_a_notification_may_be_answered_later),
		TEST(test_a_late_notification_of_an_observation_that_is_gone_is_dropped),
		TEST(test_notifications_wait_for_room),
		TEST(test_notifications_leave_half_of_the_exchanges_to_requests),
		TEST(test_a_large_notification_is_its_first_block_and_the_rest_by_get),
		TEST(test_a_change_costs_its_own_observers_of_10000),
	};

	fixture_defaults();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
