/* SPDX-License-Identifier: Apache-2.0 */
/* The whole core as one device over CoAP, against a server that answers as it is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/firmware/agent_world.h"

#define MINUTES(n) ((n)*INT64_C(60000))
#define RECORDS	   64

static struct agent_world w;

static int setup(void **state)
{
	(void)state;
	srand(1);
	agent_world_init(&w);
	return 0;
}

/* How often each sequence number was in a message that the server has taken. */
struct taken {
	unsigned times[4096];
	int64_t ts[4096];
};

static struct taken taken;

static void take(const struct agent_world_request *r)
{
	uint32_t seqs[RECORDS];
	int64_t times[RECORDS];
	size_t n = agent_world_records(r, seqs, times, RECORDS);

	for (size_t i = 0; i < n; i++) {
		assert_in_range(seqs[i], 1, 4095);
		if (taken.times[seqs[i]]++ > 0)
			assert_int_equal(taken.ts[seqs[i]], times[i]);
		taken.ts[seqs[i]] = times[i];
	}
}

static bool is_telemetry(const struct agent_world_request *r)
{
	return strncmp(r->path, "msg/d2c", 7) == 0;
}

static struct agent_world_answer count_records(struct agent_world *world,
					       const struct agent_world_request *r)
{
	if (is_telemetry(r))
		take(r);
	return agent_world_take(world, r);
}

static void begin_counting(void)
{
	memset(&taken, 0, sizeof(taken));
	w.answer = count_records;
}

static void test_reading_is_posted_and_then_forgotten(void **state)
{
	(void)state;
	begin_counting();
	agent_world_start(&w);
	agent_world_run(&w, 20000);
	assert_int_equal(agent_world_count(&w, "msg/d2c"), 1);
	assert_int_equal(taken.times[1], 1);
	assert_int_equal(taken.ts[1], 1000 + w.wall_offset_ms);
	assert_int_equal(w.agent.backlog.waiting, 0);
	assert_int_equal(w.agent.acknowledged, 1);
}

static void test_sleeping_device_sends_without_a_new_handshake(void **state)
{
	(void)state;
	begin_counting();
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(10) + 30000);
	assert_int_equal(w.handshakes, 1);
	assert_in_range(w.resumptions, 9, 11);
	assert_int_equal(w.agent.session.state, FG_SESSION_SLEEPING);
	for (unsigned i = 1; i <= 10; i++)
		assert_int_equal(taken.times[i], 1);
}

static void test_readings_of_an_outage_arrive_later_with_their_own_times(void **state)
{
	(void)state;
	begin_counting();
	agent_world_start(&w);
	agent_world_run(&w, 20000);
	w.network = w.server = false;
	fg_agent_network(&w.agent, false);
	agent_world_run(&w, MINUTES(30));
	assert_in_range(w.agent.backlog.waiting, 28, 30);
	w.network = w.server = true;
	fg_agent_network(&w.agent, true);
	agent_world_run(&w, MINUTES(150));
	assert_int_equal(w.agent.backlog.waiting, 0);
	for (unsigned i = 1; i <= 140; i++) {
		assert_int_equal(taken.times[i], 1);
		assert_int_equal(taken.ts[i], 1000 + MINUTES(i - 1) + w.wall_offset_ms);
	}
}

static struct agent_world_answer lose_half(struct agent_world *world,
					   const struct agent_world_request *r)
{
	struct agent_world_answer answer = count_records(world, r);

	if (rand() % 2)
		answer.code = 0; /* the server has it, and the device does not know */
	return answer;
}

static void test_lost_answers_make_repeats_that_are_the_same_to_the_byte(void **state)
{
	(void)state;
	begin_counting();
	w.answer = lose_half;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(60));
	w.answer = count_records;
	agent_world_run(&w, MINUTES(200));
	assert_int_equal(w.agent.backlog.waiting, 0);
	for (unsigned i = 1; i <= 190; i++)
		assert_in_range(taken.times[i], 1,
				20); /* take() holds their times against each other */
}

static struct agent_world_answer overloaded(struct agent_world *world,
					    const struct agent_world_request *r)
{
	if (is_telemetry(r))
		return (struct agent_world_answer){.code = FG_COAP_CODE(5, 3), .max_age_s = 300};
	return agent_world_take(world, r);
}

static void test_max_age_of_5_03_is_waited_for(void **state)
{
	int64_t refused_at_ms;

	(void)state;
	w.answer = overloaded;
	agent_world_start(&w);
	agent_world_run(&w, 20000);
	assert_int_equal(agent_world_count(&w, "msg/d2c"), 1);
	refused_at_ms = agent_world_last(&w, "msg/d2c")->at_ms;
	begin_counting();
	agent_world_run(&w, refused_at_ms + 299000);
	assert_int_equal(agent_world_count(&w, "msg/d2c") + agent_world_count(&w, "msg/d2c/bulk"),
			 1);
	/* and up to half of it more, so that a fleet does not come back in one second */
	agent_world_run(&w, refused_at_ms + 460000);
	for (unsigned i = 1; i <= 5; i++)
		assert_int_equal(taken.times[i], 1);
	assert_int_equal(w.agent.backlog.waiting, 0);
}

static struct agent_world_answer without_database(struct agent_world *world,
						  const struct agent_world_request *r)
{
	if (!is_telemetry(r))
		return (struct agent_world_answer){.code = FG_COAP_CODE(5, 3), .max_age_s = 300};
	return count_records(world, r);
}

static void test_a_database_that_is_away_holds_no_readings_up(void **state)
{
	(void)state;
	begin_counting();
	w.answer = without_database;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(20) + 30000);
	for (unsigned i = 1; i <= 20; i++)
		assert_int_equal(taken.times[i], 1);
	assert_in_range(agent_world_count(&w, "msg/c2d") + agent_world_count(&w, "state"), 2, 6);
	w.answer = count_records;
	agent_world_run(&w, MINUTES(30));
	assert_int_equal(w.handshakes, 1);
	assert_int_equal(agent_world_last(&w, "state/reported")->code, FG_COAP_PATCH);
}

#define POISON 7

static struct agent_world_answer refuse_number_seven(struct agent_world *world,
						     const struct agent_world_request *r)
{
	uint32_t seqs[RECORDS];
	int64_t times[RECORDS];

	if (is_telemetry(r)) {
		size_t n = agent_world_records(r, seqs, times, RECORDS);

		for (size_t i = 0; i < n; i++)
			if (seqs[i] == POISON)
				return (struct agent_world_answer){.code = FG_COAP_CODE(4, 0)};
	}
	return count_records(world, r);
}

static void test_a_reading_that_is_refused_takes_no_other_with_it(void **state)
{
	(void)state;
	begin_counting();
	w.answer = refuse_number_seven;
	w.server = false;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(12));
	w.server = true;
	agent_world_run(&w, MINUTES(150));
	assert_int_equal(w.agent.refused, 1);
	assert_int_equal(w.agent.backlog.waiting, 0);
	for (unsigned i = 1; i <= 100; i++)
		assert_int_equal(taken.times[i], i == POISON ? 0 : 1);
}

static bool forget_identity;

static struct agent_world_answer wants_jwt(struct agent_world *world,
					   const struct agent_world_request *r)
{
	if (strcmp(r->path, "auth/jwt") == 0)
		forget_identity = false;
	else if (forget_identity)
		return (struct agent_world_answer){.code = FG_COAP_CODE(4, 1)};
	return count_records(world, r);
}

static void test_4_01_leads_to_a_new_login_in_the_same_session(void **state)
{
	(void)state;
	agent_world_use(&w, FG_TRANSPORT_COAP, FG_CREDENTIAL_JWT);
	begin_counting();
	w.answer = wants_jwt;
	forget_identity = true;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(5));
	assert_int_equal(agent_world_count(&w, "auth/jwt"), 1);
	forget_identity = true;
	agent_world_run(&w, MINUTES(10));
	assert_int_equal(agent_world_count(&w, "auth/jwt"), 2);
	assert_int_equal(w.handshakes, 1);
	for (unsigned i = 1; i <= 9; i++)
		assert_int_equal(taken.times[i], 1);
}

static struct agent_world_answer never_lets_in(struct agent_world *world,
					       const struct agent_world_request *r)
{
	(void)world;
	(void)r;
	return (struct agent_world_answer){.code = FG_COAP_CODE(4, 1)};
}

static void test_a_device_that_is_not_let_in_does_not_hammer(void **state)
{
	(void)state;
	agent_world_use(&w, FG_TRANSPORT_COAP, FG_CREDENTIAL_JWT);
	w.answer = never_lets_in;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(24 * 60));
	/* 60 s, doubled up to an hour, with jitter */
	assert_in_range(agent_world_count(&w, "auth/jwt"), 15, 60);
	assert_int_equal(agent_world_count(&w, "msg/d2c"), 0);
	assert_in_range(w.agent.backlog.waiting, 600, 1440);
}

static void test_server_that_is_gone_for_a_day_is_found_again(void **state)
{
	(void)state;
	begin_counting();
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(2));
	w.server = false;
	agent_world_run(&w, MINUTES(12 * 60));
	assert_true(w.request_count < 60);
	w.server = true;
	/* the longest back-off is an hour, and half of it more by chance */
	agent_world_run(&w, MINUTES(14 * 60));
	assert_int_equal(w.agent.backlog.waiting, 0);
	for (unsigned i = 1; i <= 13 * 60; i++)
		assert_int_equal(taken.times[i], 1);
}

/* ---- commands */

struct message {
	const char *etag, *payload;
};

static const struct message *queue;

static struct agent_world_answer queued(struct agent_world *world,
					const struct agent_world_request *r)
{
	if (strcmp(r->path, "msg/c2d") != 0)
		return count_records(world, r);
	if (queue && r->etag_length > 0 &&
	    strncmp((const char *)r->etag, queue->etag, r->etag_length) == 0)
		queue = queue[1].etag ? queue + 1 : NULL;
	if (!queue)
		return agent_world_take(world, r);
	return (struct agent_world_answer){.code = FG_COAP_CODE(2, 5),
					   .etag = queue->etag,
					   .payload = queue->payload,
					   .length = strlen(queue->payload)};
}

static void test_commands_are_carried_out_and_acknowledged(void **state)
{
	static const struct message messages[] = {{"1", "{\"interval\": 300}"},
						  {"2", "nonsense"},
						  {"3", "{\"read\": true}"},
						  {NULL, NULL}};

	(void)state;
	begin_counting();
	w.answer = queued;
	queue = messages;
	agent_world_start(&w);
	agent_world_run(&w, 50000);
	assert_null(queue);
	assert_int_equal(w.agent.interval_s, 300);
	assert_int_equal(w.saved_interval, 300);
	assert_int_equal(w.measured, 2);
	assert_int_equal(w.notes[FG_NOTE_COMMAND], 2);
	assert_int_equal(w.notes[FG_NOTE_COMMAND_REFUSED], 1);
	assert_int_equal(taken.times[2], 1);
	agent_world_run(&w, MINUTES(16));
	assert_in_range(w.measured, 4, 6);
}

#define BLOCK_0_OF_1024_AND_MORE 0x0e

static struct agent_world_answer queued_long(struct agent_world *world,
					     const struct agent_world_request *r)
{
	static const uint8_t first_block[1024];
	struct agent_world_answer answer = queued(world, r);

	if (answer.length > 0 && strcmp(answer.payload, "long") == 0) {
		answer.payload = first_block;
		answer.length = sizeof(first_block);
		answer.block2 = BLOCK_0_OF_1024_AND_MORE;
	}
	return answer;
}

static void test_a_message_that_is_too_long_holds_no_other_up(void **state)
{
	static const struct message messages[] = {
		{"1", "long"}, {"2", "{\"interval\": 300}"}, {NULL, NULL}};

	(void)state;
	begin_counting();
	w.answer = queued_long;
	queue = messages;
	agent_world_start(&w);
	agent_world_run(&w, 50000);
	assert_null(queue);
	assert_int_equal(w.agent.interval_s, 300);
	assert_int_equal(w.notes[FG_NOTE_COMMAND_REFUSED], 1);
	assert_int_equal(w.handshakes, 1);
}

static struct agent_world_answer long_state(struct agent_world *world,
					    const struct agent_world_request *r)
{
	static const uint8_t first_block[1024];

	if (strcmp(r->path, "state") == 0)
		return (struct agent_world_answer){.code = FG_COAP_CODE(2, 5),
						   .payload = first_block,
						   .length = sizeof(first_block),
						   .block2 = BLOCK_0_OF_1024_AND_MORE};
	return count_records(world, r);
}

static void test_a_state_that_is_too_long_costs_no_connection(void **state)
{
	(void)state;
	begin_counting();
	w.answer = long_state;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(10));
	assert_int_equal(w.handshakes, 1);
	assert_int_equal(agent_world_count(&w, "state"), 1);
	assert_int_equal(taken.times[9], 1);
}

static bool acknowledged_when_rebooted;

static struct agent_world_answer queued_reboot(struct agent_world *world,
					       const struct agent_world_request *r)
{
	struct agent_world_answer answer = queued(world, r);

	assert_int_equal(world->reboots, 0);
	if (!queue)
		acknowledged_when_rebooted = true;
	return answer;
}

static void test_reboot_waits_until_the_server_knows_that_we_have_it(void **state)
{
	static const struct message messages[] = {{"9", "{\"reboot\": true}"}, {NULL, NULL}};

	(void)state;
	begin_counting();
	w.answer = queued_reboot;
	queue = messages;
	acknowledged_when_rebooted = false;
	agent_world_start(&w);
	agent_world_run(&w, 30000);
	assert_int_equal(w.reboots, 1);
	assert_true(acknowledged_when_rebooted);
	assert_int_equal(w.agent.session.state, FG_SESSION_OFF);
}

static void test_what_a_person_asks_for_is_answered(void **state)
{
	(void)state;
	agent_world_start(&w);
	agent_world_run(&w, 20000);
	assert_int_equal(fg_agent_get(&w.agent, "state"), 0);
	assert_int_equal(fg_agent_get(&w.agent, "state"), -16 /* EBUSY */);
	agent_world_run(&w, 25000);
	assert_int_equal(w.last_code, 0x45);
	assert_int_equal(
		fg_agent_put(&w.agent, "msg/d2c", FG_COAP_FORMAT_JSON, "{\"button\":3}", 12), 0);
	agent_world_run(&w, 30000);
	assert_int_equal(w.last_code, 0x44);
	assert_int_equal(w.notes[FG_NOTE_RESPONSE], 2);
	w.server = false;
	assert_int_equal(fg_agent_get(&w.agent, "state"), 0);
	agent_world_run(&w, MINUTES(5));
	assert_int_equal(w.notes[FG_NOTE_NO_RESPONSE], 1);
}

static void test_too_long_a_request_of_a_person_holds_nothing_up(void **state)
{
	static uint8_t payload[FG_COAP_REQUEST_MAX];

	(void)state;
	begin_counting();
	agent_world_start(&w);
	agent_world_run(&w, 20000);
	assert_int_equal(
		fg_agent_put(&w.agent, "msg/d2c", FG_COAP_FORMAT_CBOR, payload, sizeof(payload)),
		0);
	agent_world_run(&w, MINUTES(3));
	assert_int_equal(w.notes[FG_NOTE_NO_RESPONSE], 1);
	assert_int_equal(taken.times[3], 1);
}

/* ---- time */

static void test_readings_before_the_time_was_known_get_their_times(void **state)
{
	int64_t offset;

	(void)state;
	begin_counting();
	w.wall_known = false;
	w.server = false;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(5));
	assert_in_range(w.agent.backlog.waiting, 4, 6);
	w.server = true;
	agent_world_run(&w, MINUTES(120));
	assert_int_equal(agent_world_count(&w, "time"), 1);
	offset = w.wall_offset_ms;
	for (unsigned i = 1; i <= 100; i++) {
		assert_int_equal(taken.times[i], 1);
		assert_int_equal(taken.ts[i], 1000 + MINUTES(i - 1) + offset);
	}
}

static void test_reboot_keeps_readings_and_goes_on_counting(void **state)
{
	(void)state;
	begin_counting();
	w.server = false;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(5));
	agent_world_start(&w); /* its memory is gone */
	agent_world_run(&w, MINUTES(10));
	w.server = true;
	agent_world_run(&w, MINUTES(100));
	assert_int_equal(w.agent.backlog.waiting, 0);
	for (unsigned i = 1; i <= w.measured; i++)
		assert_int_equal(taken.times[i], 1);
	assert_int_equal(taken.times[w.measured + 1], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_reading_is_posted_and_then_forgotten, setup),
		cmocka_unit_test_setup(test_sleeping_device_sends_without_a_new_handshake, setup),
		cmocka_unit_test_setup(test_readings_of_an_outage_arrive_later_with_their_own_times,
				       setup),
		cmocka_unit_test_setup(test_lost_answers_make_repeats_that_are_the_same_to_the_byte,
				       setup),
		cmocka_unit_test_setup(test_max_age_of_5_03_is_waited_for, setup),
		cmocka_unit_test_setup(test_a_database_that_is_away_holds_no_readings_up, setup),
		cmocka_unit_test_setup(test_a_reading_that_is_refused_takes_no_other_with_it,
				       setup),
		cmocka_unit_test_setup(test_4_01_leads_to_a_new_login_in_the_same_session, setup),
		cmocka_unit_test_setup(test_a_device_that_is_not_let_in_does_not_hammer, setup),
		cmocka_unit_test_setup(test_server_that_is_gone_for_a_day_is_found_again, setup),
		cmocka_unit_test_setup(test_commands_are_carried_out_and_acknowledged, setup),
		cmocka_unit_test_setup(test_a_message_that_is_too_long_holds_no_other_up, setup),
		cmocka_unit_test_setup(test_a_state_that_is_too_long_costs_no_connection, setup),
		cmocka_unit_test_setup(test_reboot_waits_until_the_server_knows_that_we_have_it,
				       setup),
		cmocka_unit_test_setup(test_what_a_person_asks_for_is_answered, setup),
		cmocka_unit_test_setup(test_too_long_a_request_of_a_person_holds_nothing_up, setup),
		cmocka_unit_test_setup(test_readings_before_the_time_was_known_get_their_times,
				       setup),
		cmocka_unit_test_setup(test_reboot_keeps_readings_and_goes_on_counting, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
