/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring of messages that wait for the broker's answer: what is settled, what is sent again, and
 * when there is no room.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "coap-server/bus/ring.h"

#define BYTES 1000

static struct bus_message message(const char *topic, const char *payload)
{
	return (struct bus_message){
		.topic = topic, .payload = payload, .payload_len = strlen(payload), .qos = 1};
}

/* Tickets 10, 20, ... and numbers 1, 2, ... */
static void put_and_send(struct ring *r, int count)
{
	const struct bus_message m = message("m/d/dev-1/d2c", "x");

	for (int i = 1; i <= count; i++)
		assert_int_equal(ring_put(r, &m, (uint64_t)i * 10), 0);
	for (int i = 1; i <= count; i++)
		ring_sent(r, ring_next(r), i);
}

static void answer(struct ring *r, int mid)
{
	struct ring_message *m = ring_on_wire(r, mid);

	assert_non_null(m);
	ring_done(r, m);
}

static void test_settled_is_behind_the_oldest_without_answer(void **state)
{
	struct ring r;

	(void)state;
	assert_int_equal(ring_init(&r, 8, BYTES), 0);
	put_and_send(&r, 4);
	assert_int_equal(r.settled, 0);
	answer(&r, 3);
	answer(&r, 2);
	assert_int_equal(r.settled, 0);
	answer(&r, 1);
	assert_int_equal(r.settled, 30);
	answer(&r, 4);
	assert_int_equal(r.settled, 40);
	assert_int_equal(ring_count(&r), 0);
	assert_int_equal(r.bytes, 0);
	ring_free(&r);
}

static void test_an_answer_to_nothing_is_nobodys(void **state)
{
	struct ring r;

	(void)state;
	assert_int_equal(ring_init(&r, 8, BYTES), 0);
	put_and_send(&r, 2);
	assert_null(ring_on_wire(&r, 7));
	answer(&r, 2);
	assert_null(ring_on_wire(&r, 2)); /* the second answer to the same */
	assert_int_equal(r.on_wire, 1);
	ring_free(&r);
}

static void test_a_message_is_a_copy(void **state)
{
	char topic[] = "m/d/dev-1/d2c", payload[] = "{\"t\": 1}";
	struct bus_message m = message(topic, payload);
	struct ring_message *next;
	struct ring r;

	(void)state;
	assert_int_equal(ring_init(&r, 8, BYTES), 0);
	m.retain = true;
	assert_int_equal(ring_put(&r, &m, 1), 0);
	memset(topic, 'X', sizeof(topic) - 1);
	memset(payload, 'X', sizeof(payload) - 1);
	next = ring_next(&r);
	assert_string_equal(next->m.topic, "m/d/dev-1/d2c");
	assert_int_equal(next->m.payload_len, 8);
	assert_memory_equal(next->m.payload, "{\"t\": 1}", 8);
	assert_int_equal(next->m.qos, 1);
	assert_true(next->m.retain);
	ring_free(&r);
}

static void test_full_until_the_oldest_is_answered(void **state)
{
	const struct bus_message m = message("t", "x");
	struct ring r;

	(void)state;
	assert_int_equal(ring_init(&r, 3, BYTES), 0);
	put_and_send(&r, 3);
	assert_int_equal(ring_put(&r, &m, 40), -EAGAIN);
	answer(&r, 2);
	assert_int_equal(ring_put(&r, &m, 40), -EAGAIN);
	answer(&r, 1);
	assert_int_equal(ring_put(&r, &m, 40), 0);
	assert_int_equal(ring_put(&r, &m, 50), 0);
	assert_int_equal(ring_put(&r, &m, 60), -EAGAIN);
	ring_free(&r);
}

static void test_bytes_are_bounded_and_one_message_is_always_taken(void **state)
{
	char large[BYTES * 2 + 1];
	struct bus_message m;
	struct ring r;

	(void)state;
	memset(large, 'a', sizeof(large) - 1);
	large[sizeof(large) - 1] = '\0';
	m = message("t", large);
	assert_int_equal(ring_init(&r, 100, BYTES), 0);
	assert_int_equal(ring_put(&r, &m, 1), 0);
	assert_int_equal(ring_put(&r, &m, 2), -EAGAIN);
	ring_sent(&r, ring_next(&r), 1);
	answer(&r, 1);
	m.payload_len = BYTES / 2 - 2; /* and two of topic */
	assert_int_equal(ring_put(&r, &m, 3), 0);
	assert_int_equal(ring_put(&r, &m, 4), 0);
	assert_int_equal(ring_put(&r, &m, 5), -EAGAIN);
	ring_free(&r);
}

static void test_a_lost_connection_sends_again_what_was_not_answered(void **state)
{
	struct ring_message *m;
	struct ring r;

	(void)state;
	assert_int_equal(ring_init(&r, 8, BYTES), 0);
	put_and_send(&r, 5);
	answer(&r, 2);
	answer(&r, 4);
	ring_rewind(&r);
	assert_int_equal(r.on_wire, 0);
	assert_null(ring_on_wire(&r, 1)); /* an answer of the former connection */
	for (uint64_t ticket = 10; ticket <= 50; ticket += 20) {
		m = ring_next(&r);
		assert_non_null(m);
		assert_int_equal(m->ticket, ticket);
		ring_sent(&r, m, (int)ticket);
	}
	assert_null(ring_next(&r));
	assert_int_equal(r.on_wire, 3);
	answer(&r, 10);
	assert_int_equal(r.settled, 20);
	answer(&r, 30);
	answer(&r, 50);
	assert_int_equal(r.settled, 50);
	ring_free(&r);
}

static void test_what_is_never_sent_is_settled_too(void **state)
{
	const struct bus_message m = message("t", "x");
	struct ring r;

	(void)state;
	assert_int_equal(ring_init(&r, 8, BYTES), 0);
	put_and_send(&r, 1);
	assert_int_equal(ring_put(&r, &m, 20), 0);
	ring_done(&r, ring_next(&r));
	assert_null(ring_next(&r));
	assert_int_equal(r.settled, 0);
	answer(&r, 1);
	assert_int_equal(r.settled, 20);
	assert_int_equal(r.on_wire, 0);
	ring_free(&r);
}

/* Against a model that is an array: many random histories. */
static void test_random_histories(void **state)
{
	enum { CAPACITY = 7, STEPS = 200000, DONE = -1, WAITS = 0 };
	static int model[STEPS]; /* by ticket: DONE, WAITS or its number */
	const struct bus_message m = message("t", "x");
	uint64_t put = 0, settled = 0;
	struct ring_message *next;
	struct ring r;
	int mid = 0;

	(void)state;
	srandom(1);
	assert_int_equal(ring_init(&r, CAPACITY, BYTES), 0);
	for (int step = 0; step < STEPS; step++) {
		long draw = random() % 100;

		if (draw < 40) {
			if (put - settled == CAPACITY) {
				assert_int_equal(ring_put(&r, &m, put + 1), -EAGAIN);
				continue;
			}
			assert_int_equal(ring_put(&r, &m, ++put), 0);
			model[put] = WAITS;
		} else if (draw < 70) {
			uint64_t first = settled + 1;

			while (first <= put && model[first] != WAITS)
				first++;
			next = ring_next(&r);
			if (first > put) {
				assert_null(next);
				continue;
			}
			assert_int_equal(next->ticket, first);
			mid = mid % 65535 + 1;
			ring_sent(&r, next, mid);
			model[first] = mid;
		} else if (draw < 99) {
			uint64_t any = settled + 1 + (uint64_t)random() % CAPACITY;

			if (any > put || model[any] <= 0)
				continue;
			answer(&r, model[any]);
			model[any] = DONE;
			while (settled < put && model[settled + 1] == DONE)
				settled++;
		} else {
			ring_rewind(&r);
			for (uint64_t i = settled + 1; i <= put; i++)
				model[i] = model[i] == DONE ? DONE : WAITS;
		}
		assert_int_equal(r.settled, settled);
		assert_int_equal(ring_count(&r), put - settled);
	}
	assert_true(settled > STEPS / 10);
	ring_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_settled_is_behind_the_oldest_without_answer),
		cmocka_unit_test(test_an_answer_to_nothing_is_nobodys),
		cmocka_unit_test(test_a_message_is_a_copy),
		cmocka_unit_test(test_full_until_the_oldest_is_answered),
		cmocka_unit_test(test_bytes_are_bounded_and_one_message_is_always_taken),
		cmocka_unit_test(test_a_lost_connection_sends_again_what_was_not_answered),
		cmocka_unit_test(test_what_is_never_sent_is_settled_too),
		cmocka_unit_test(test_random_histories),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
