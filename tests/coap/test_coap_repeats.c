/* SPDX-License-Identifier: Apache-2.0 */
/* coap-server/coap: a message that is sent again is not run again (RFC 7252 section 4.5). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "coap-server/coap/dedup.h"
#include "core/base/clock.h"
#include "tests/coap/coap_lossy.h"

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

static void post(struct session *s, uint16_t mid)
{
	send_request(s, B_CON, CODE(0, 2), mid, "t", "msg", "x");
}

static void expect_same(const struct sent *a, const struct sent *b)
{
	assert_non_null(a);
	assert_non_null(b);
	assert_int_equal(a->len, b->len);
	assert_memory_equal(a->data, b->data, a->len);
}

static void test_a_repeat_gets_the_first_answer_byte_for_byte(void **state)
{
	struct fixture *f = *state;
	const struct sent *first, *again;

	reply_with(f, FG_COAP_CODE(2, 4), "one");
	post(f->a, 7);
	assert_null(f->a->peer);
	reply_with(f, FG_COAP_CODE(4, 0), "two");
	first = take(f->a);
	for (int i = 0; i < 3; i++) {
		post(f->a, 7);
		again = take(f->a);
		expect_same(first, again);
	}
	assert_int_equal(f->called, 1);
	assert_int_equal(stats_of(f).repeats, 3);
	assert_int_equal(f->admit_asked, 1);
}

static void test_error_answers_are_repeated_too(void **state)
{
	struct fixture *f = *state;
	const struct sent *first;

	send_request(f->a, B_CON, CODE(0, 1), 7, "t", "nothing", NULL);
	first = take(f->a);
	send_request(f->a, B_CON, CODE(0, 1), 7, "t", "nothing", NULL);
	expect_same(first, take(f->a));
	assert_int_equal(stats_of(f).repeats, 1);
}

static void test_a_repeated_non_confirmable_request_is_ignored(void **state)
{
	struct fixture *f = *state;

	send_request(f->a, B_NON, CODE(0, 2), 7, "t", "msg", "x");
	expect(f->a);
	send_request(f->a, B_NON, CODE(0, 2), 7, "t", "msg", "x");
	expect_nothing(f->a);
	assert_int_equal(f->called, 1);
}

static void test_the_same_message_id_of_another_session_is_another_message(void **state)
{
	struct fixture *f = *state;

	post(f->a, 7);
	post(f->b, 7);
	assert_int_equal(f->called, 2);
	expect(f->b);
}

/* The endpoint and the message ID are what a message is known by: section 4.5. */
static void test_another_request_with_a_used_message_id_and_token_is_a_repeat(void **state)
{
	struct fixture *f = *state;
	const struct sent *first;

	post(f->a, 7);
	first = take(f->a);
	send_request(f->a, B_CON, CODE(0, 3), 7, "t", "store/x", "y");
	expect_same(first, take(f->a));
	assert_int_equal(f->called, 1);
}

/* A device that was reset, and has its session still, may count its messages from the beginning. It
 * must not be told that what it says now is done. */
static void test_a_used_message_id_with_another_token_is_another_request(void **state)
{
	struct fixture *f = *state;
	const struct sent *first;
	struct coap_seen seen;

	post(f->a, 7);
	expect(f->a);
	send_request(f->a, B_CON, CODE(0, 2), 7, "other", "msg", "y");
	first = take(f->a);
	assert_int_equal(f->called, 2);
	send_request(f->a, B_CON, CODE(0, 2), 7, "other", "msg", "y");
	expect_same(first, take(f->a));
	assert_int_equal(f->called, 2);
	send_request(f->a, B_CON, CODE(0, 2), 7, "", "msg", "z");
	seen = expect(f->a);
	assert_true(seen_token(&seen, ""));
	assert_int_equal(f->called, 3);
}

static void test_what_was_not_admitted_is_asked_again(void **state)
{
	struct fixture *f = *state;

	f->admit = false;
	post(f->a, 7);
	assert_int_equal(expect(f->a).code, CODE(4, 1));
	f->admit = true;
	post(f->a, 7);
	assert_int_equal(expect(f->a).code, CODE(2, 4));
	assert_int_equal(f->called, 1);
}

static void test_entries_expire(void **state)
{
	struct fixture *f = *state;

	post(f->a, 7);
	send_request(f->a, B_NON, CODE(0, 2), 8, "t", "msg", "x");
	fixture_pass(144 * US_PER_S);
	send_request(f->a, B_NON, CODE(0, 2), 8, "t", "msg", "x");
	assert_int_equal(f->called, 2);
	fixture_pass(2 * US_PER_S);
	send_request(f->a, B_NON, CODE(0, 2), 8, "t", "msg", "x");
	assert_int_equal(f->called, 3);
	fixture_pass(100 * US_PER_S);
	post(f->a, 7);
	assert_int_equal(f->called, 3);
	fixture_pass(2 * US_PER_S);
	post(f->a, 7);
	assert_int_equal(f->called, 4);
}

/* From when the message was first seen, as the device counts: section 4.8.2. */
static void test_a_repeat_does_not_prolong_the_lifetime(void **state)
{
	struct fixture *f = *state;

	post(f->a, 7);
	fixture_pass(200 * US_PER_S);
	post(f->a, 7);
	fixture_pass(48 * US_PER_S);
	post(f->a, 7);
	assert_int_equal(f->called, 2);
}

static void test_the_last_answers_of_a_session_are_kept(void **state)
{
	struct fixture *f = *state;

	post(f->b, 1);
	for (uint16_t mid = 0; mid < 20; mid++)
		post(f->a, mid);
	assert_int_equal(f->called, 21);
	assert_int_equal(stats_of(f).dedup_entries, 17);
	for (uint16_t mid = 4; mid < 20; mid++)
		post(f->a, mid);
	post(f->b, 1);
	assert_int_equal(f->called, 21);
	post(f->a, 3);
	assert_int_equal(f->called, 22);
}

static void test_a_repeat_while_the_answer_is_put_off_gets_the_empty_one_again(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	f->done = COAP_LATER;
	post(f->a, 7);
	expect(f->a);
	post(f->a, 7);
	seen = expect(f->a);
	assert_int_equal(seen.type, B_ACK);
	assert_int_equal(seen.code, 0);
	assert_int_equal(seen.mid, 7);
	expect_nothing(f->a);
	coap_server_answer(f->server, f->exchange[0], &f->reply);
	seen = expect(f->a);
	assert_int_equal(seen.type, B_CON);
	send_empty(f->a, B_ACK, seen.mid);
	post(f->a, 7);
	assert_int_equal(expect(f->a).code, 0);
	assert_int_equal(f->called, 1);
}

static void test_a_repeat_while_the_answer_is_held_gets_nothing_and_then_it(void **state)
{
	struct fixture *f = *state;
	const struct sent *first;

	f->reply.hold = 5;
	post(f->a, 7);
	post(f->a, 7);
	expect_nothing(f->a);
	coap_server_release(f->server, 5, true);
	first = take(f->a);
	assert_non_null(first);
	expect_nothing(f->a);
	post(f->a, 7);
	expect_same(first, take(f->a));
	assert_int_equal(f->called, 1);
	assert_null(f->a->peer);
}

/* --- Through a bad network --- */

enum { POSTS = 300 };

static unsigned char ran[2][POSTS];

/* Answered at once, held, or put off. */
static void count_run(struct fixture *f, const struct coap_call *call)
{
	unsigned who = call->session == f->b, n;

	assert_int_equal(call->payload_len, 2);
	n = call->payload[0] * 256u + call->payload[1];
	assert_true(n < POSTS);
	ran[who][n]++;
	reply_with(f, FG_COAP_CODE(2, 4), NULL);
	if (n % 3 == 1)
		f->reply.hold = 1;
	f->done = n % 3 == 2 ? COAP_LATER : COAP_DONE;
}

static void post_next(struct net *n, struct client *c, unsigned number)
{
	const uint8_t payload[2] = {(uint8_t)(number >> 8), (uint8_t)number};

	client_begin(n, c, CODE(0, 2));
	bytes_path(&c->request, "msg");
	bytes_payload(&c->request, payload, 2);
	client_send(n, c);
}

/* 30 % of what both sides send is lost, a fifth doubled, all of it reordered. */
static void test_every_post_runs_once_and_is_answered(void **state)
{
	struct fixture *f = *state;
	struct net *n = net_new(f, 99);
	struct client c[2];
	unsigned next[2] = {0, 0}, given_up = 0;

	n->loss = 30;
	n->doubling = 20;
	n->delay = 5;
	f->in_handler = count_run;
	memset(ran, 0, sizeof(ran));
	for (unsigned i = 0; i < 2; i++) {
		net_add(n, &c[i], i == 0 ? f->a : f->b, i == 0 ? "a" : "b");
		post_next(n, &c[i], next[i]++);
	}
	for (unsigned step = 0; step < 50000 && (next[0] <= POSTS || next[1] <= POSTS); step++) {
		net_step(n);
		coap_server_release(f->server, 1, true);
		while (f->exchanges > 0) {
			reply_with(f, FG_COAP_CODE(2, 4), NULL);
			coap_server_answer(f->server, f->exchange[--f->exchanges], &f->reply);
		}
		for (unsigned i = 0; i < 2; i++) {
			struct coap_seen seen;

			if ((!c[i].answered && !c[i].given_up) || next[i] > POSTS)
				continue;
			if (c[i].answered) {
				assert_true(coap_see(&seen, c[i].answer.data, c[i].answer.len));
				assert_int_equal(seen.code, CODE(2, 4));
			} else {
				given_up++;
			}
			/* A token of its own for each: a late copy of the last answer is none. */
			c[i].token[1] = (char)('a' + next[i] % 26);
			c[i].token[2] = (char)('a' + next[i] / 26);
			if (next[i] < POSTS)
				post_next(n, &c[i], next[i]);
			next[i]++;
		}
	}
	for (unsigned i = 0; i < POSTS; i++) {
		assert_int_equal(ran[0][i], 1);
		assert_int_equal(ran[1][i], 1);
	}
	assert_true(stats_of(f).repeats > 100);
	assert_true(given_up < POSTS / 10);
	net_free(n);
}

/* --- The store by itself --- */

static void put(struct dedup *d, uint64_t session, uint16_t mid, size_t len)
{
	uint8_t answer[2000];

	memset(answer, (int)(mid & 255), sizeof(answer));
	dedup_put(d, session, mid, true, 0, answer, len);
}

static bool has(struct dedup *d, uint64_t session, uint16_t mid, size_t len)
{
	const uint8_t *answer;
	size_t n;

	if (dedup_find(d, session, mid, 0, &answer, &n) != DEDUP_ANSWERED)
		return false;
	assert_int_equal(n, len);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(answer[i], mid & 255);
	return true;
}

/* In all: the entry, and its share of the table. */
static void test_an_answer_without_payload_takes_64_bytes_at_most(void **state)
{
	struct dedup *d = dedup_new(1 << 20, 8);
	size_t table = (1 << 20) / 64 * sizeof(uint64_t), n = 0, each;

	(void)state;
	assert_non_null(d);
	/* header and a token of 8 bytes */
	for (; dedup_bytes(d) + 64 <= 1 << 20; n++)
		put(d, n, 1, 12);
	assert_int_equal(dedup_entries(d), n);
	each = n == 0 ? SIZE_MAX : ((1 << 20) + table) / n;
	print_message("%zu entries in %d bytes: %zu each\n", n, 1 << 20, each);
	assert_true(each <= 64);
	dedup_free(d);
}

static void test_the_oldest_of_all_go_first(void **state)
{
	struct dedup *d = dedup_new(4096, 8);
	size_t kept;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		put(d, i, 1, 12);
		assert_true(dedup_bytes(d) <= 4096);
		assert_true(has(d, i, 1, 12));
	}
	kept = dedup_entries(d);
	assert_true(kept >= 90);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(has(d, i, 1, 12), i >= 1000 - kept);
	dedup_free(d);
}

/* Against a list that remembers everything: what is found is right, and the last ones are found. */
static void test_many_entries_of_many_lengths(void **state)
{
	struct dedup *d = dedup_new(100000, 4);
	struct {
		uint64_t session;
		uint16_t mid;
		size_t len;
	} recent[32] = {0};
	unsigned seed = 7;

	(void)state;
	for (unsigned i = 0; i < 50000; i++) {
		uint64_t session = (unsigned)rand_r(&seed) % 40;
		uint16_t mid = (uint16_t)((unsigned)rand_r(&seed) % 1000);
		size_t len = 4 + (unsigned)rand_r(&seed) % (i % 5 == 0 ? 1200 : 20);
		unsigned newer = 0;

		put(d, session, mid, len);
		recent[i % 32].session = session;
		recent[i % 32].mid = mid;
		recent[i % 32].len = len;
		for (unsigned j = 0; j < 32 && j <= i; j++) {
			unsigned k = (i - j) % 32;

			if (recent[k].session == session && newer++ < 1)
				assert_true(has(d, session, recent[k].mid, recent[k].len));
		}
		assert_true(dedup_entries(d) <= 160);
		if (i % 100 == 0) {
			dedup_drop(d, session, mid, 0);
			assert_false(has(d, session, mid, len));
		}
	}
	dedup_free(d);
}

static void test_expired_entries_give_their_room_back(void **state)
{
	struct dedup *d = dedup_new(1 << 16, 8);
	uint8_t answer[12] = {0};

	(void)state;
	for (unsigned i = 0; i < 500; i++)
		dedup_put(d, i, 1, true, 0, answer, sizeof(answer));
	dedup_put(d, 1000, 1, true, 300 * US_PER_S, answer, sizeof(answer));
	assert_int_equal(dedup_entries(d), 1);
	assert_true(dedup_bytes(d) <= 64);
	dedup_free(d);
}

static void test_non_confirmable_messages_do_not_push_out_an_answer(void **state)
{
	struct dedup *d = dedup_new(1 << 16, 2);
	uint8_t answer[12] = {0};
	const uint8_t *found;
	size_t len;

	(void)state;
	dedup_put(d, 1, 1, true, 0, answer, sizeof(answer));
	for (uint16_t mid = 2; mid < 10; mid++)
		dedup_put(d, 1, mid, false, 0, NULL, 0);
	assert_int_equal(dedup_find(d, 1, 1, 0, &found, &len), DEDUP_ANSWERED);
	assert_int_equal(dedup_entries(d), 3);
	dedup_free(d);
}

/* It was run, and nobody has seen its answer: a repeat is certain to come. */
static void test_a_request_without_its_answer_yet_is_not_pushed_out(void **state)
{
	struct dedup *d = dedup_new(1 << 16, 2);
	uint8_t answer[12] = {0};
	const uint8_t *found;
	size_t len;

	(void)state;
	dedup_hold(d, 1, 1, 0, answer, sizeof(answer));
	dedup_put(d, 1, 2, true, 0, NULL, 0);
	for (uint16_t mid = 3; mid < 10; mid++)
		dedup_put(d, 1, mid, true, 0, answer, sizeof(answer));
	assert_int_equal(dedup_find(d, 1, 1, 0, &found, &len), DEDUP_PENDING);
	assert_int_equal(dedup_find(d, 1, 2, 0, &found, &len), DEDUP_PENDING);
	assert_int_equal(dedup_entries(d), 4);
	dedup_free(d);
}

/* --- Over a crash --- */

static void test_the_last_answer_survives_in_a_note(void **state)
{
	struct fixture *f = *state, *after;
	struct sent first;
	uint8_t note[48];
	size_t len;

	assert_int_equal(coap_peer_save(f->server, 1, note, sizeof(note)), 0);
	post(f->a, 6);
	post(f->a, 7);
	take(f->a);
	first = *take(f->a);
	len = coap_peer_save(f->server, 1, note, sizeof(note));
	assert_in_range(len, 1, sizeof(note));
	fixture_free(f);

	after = fixture_new();
	*state = after;
	coap_peer_load(after->server, 1, note, len);
	post(after->a, 7);
	expect_same(&first, take(after->a));
	assert_int_equal(after->called, 0);
	post(after->b, 7);
	assert_int_equal(after->called, 1);
	fixture_pass(248 * US_PER_S);
	post(after->a, 7);
	assert_int_equal(after->called, 2);
}

static void test_a_note_is_out_of_date_after_the_exchange_lifetime(void **state)
{
	struct fixture *f = *state;
	uint8_t note[48];
	size_t len;

	post(f->a, 7);
	len = coap_peer_save(f->server, 1, note, sizeof(note));
	fixture_pass(249 * US_PER_S);
	assert_int_equal(coap_peer_save(f->server, 1, note + 20, 20), 0);
	coap_peer_load(f->server, 2, note, len);
	post(f->b, 7);
	assert_int_equal(f->called, 2);
}

static void test_an_answer_that_does_not_fit_is_not_saved(void **state)
{
	struct fixture *f = *state;
	uint8_t note[48];

	reply_with(f, FG_COAP_CODE(2, 4), "a payload that is longer than what a note can take");
	post(f->a, 7);
	assert_int_equal(coap_peer_save(f->server, 1, note, sizeof(note)), 0);
}

/* What was put off ends with the process: its repeat has to be run. */
static void test_an_empty_acknowledgement_is_not_saved(void **state)
{
	struct fixture *f = *state;
	uint8_t note[48];

	post(f->a, 6);
	f->done = COAP_LATER;
	post(f->a, 7);
	assert_in_range(coap_peer_save(f->server, 1, note, sizeof(note)), 1, sizeof(note));
	coap_peer_load(f->server, 2, note, sizeof(note));
	f->done = COAP_DONE;
	post(f->b, 7);
	assert_int_equal(f->called, 3);
	post(f->b, 6);
	assert_int_equal(f->called, 3);
	coap_server_answer(f->server, f->exchange[0], &f->reply);
}

static void test_damaged_notes_do_nothing(void **state)
{
	struct fixture *f = *state;
	uint8_t note[48];
	size_t len;

	post(f->a, 7);
	len = coap_peer_save(f->server, 1, note, sizeof(note));
	for (size_t n = 0; n < 11; n++)
		coap_peer_load(f->server, 2, note, n);
	note[0] = 99;
	coap_peer_load(f->server, 2, note, len);
	post(f->b, 7);
	assert_int_equal(f->called, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_repeat_gets_the_first_answer_byte_for_byte),
		TEST(test_error_answers_are_repeated_too),
		TEST(test_a_repeated_non_confirmable_request_is_ignored),
		TEST(test_the_same_message_id_of_another_session_is_another_message),
		TEST(test_another_request_with_a_used_message_id_and_token_is_a_repeat),
		TEST(test_a_used_message_id_with_another_token_is_another_request),
		TEST(test_what_was_not_admitted_is_asked_again),
		TEST(test_entries_expire),
		TEST(test_a_repeat_does_not_prolong_the_lifetime),
		TEST(test_the_last_answers_of_a_session_are_kept),
		TEST(test_a_repeat_while_the_answer_is_put_off_gets_the_empty_one_again),
		TEST(test_a_repeat_while_the_answer_is_held_gets_nothing_and_then_it),
		TEST(test_every_post_runs_once_and_is_answered),
		cmocka_unit_test(test_an_answer_without_payload_takes_64_bytes_at_most),
		cmocka_unit_test(test_the_oldest_of_all_go_first),
		cmocka_unit_test(test_many_entries_of_many_lengths),
		cmocka_unit_test(test_expired_entries_give_their_room_back),
		cmocka_unit_test(test_non_confirmable_messages_do_not_push_out_an_answer),
		cmocka_unit_test(test_a_request_without_its_answer_yet_is_not_pushed_out),
		TEST(test_the_last_answer_survives_in_a_note),
		TEST(test_a_note_is_out_of_date_after_the_exchange_lifetime),
		TEST(test_an_answer_that_does_not_fit_is_not_saved),
		TEST(test_an_empty_acknowledgement_is_not_saved),
		TEST(test_damaged_notes_do_nothing),
	};

	fixture_defaults();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
