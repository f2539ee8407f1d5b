/* SPDX-License-Identifier: Apache-2.0 */
/* A device over CoAP whose server, network or clock is not as it should be. */
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

static bool is(const struct agent_world_request *r, const char *path)
{
	return strcmp(r->path, path) == 0;
}

/* ---- time */

static uint8_t time_code;
static int64_t first_ts;
static unsigned undated;

static struct agent_world_answer no_time_yet(struct agent_world *world,
					     const struct agent_world_request *r)
{
	uint32_t seqs[RECORDS];
	int64_t times[RECORDS];

	if (strncmp(r->path, "msg/d2c", 7) == 0)
		for (size_t i = agent_world_records(r, seqs, times, RECORDS); i-- > 0;) {
			undated += times[i] == 0;
			if (seqs[i] == 1)
				first_ts = times[i];
		}
	if (is(r, "time") && time_code)
		return (struct agent_world_answer){.code = time_code, .max_age_s = 5};
	return agent_world_take(world, r);
}

static void before_the_server_tells_the_time(uint8_t code)
{
	w.answer = no_time_yet;
	w.wall_known = false;
	w.server = false;
	time_code = code;
	undated = 0;
	first_ts = 0;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(5));
	w.server = true;
	while (agent_world_count(&w, "time") == 0)
		agent_world_run(&w, w.now_ms + MINUTES(1));
	time_code = 0;
	agent_world_run(&w, w.now_ms + MINUTES(60));
}

static void test_readings_keep_their_times_when_the_server_is_too_busy_to_tell_the_time(
	void **state)
{
	static const uint8_t busy[] = {FG_COAP_CODE(4, 29), FG_COAP_CODE(5, 3)};

	(void)state;
	for (size_t i = 0; i < sizeof(busy); i++) {
		agent_world_init(&w);
		before_the_server_tells_the_time(busy[i]);
		assert_int_equal(undated, 0);
		assert_int_equal(first_ts, 1000 + w.wall_offset_ms);
	}
}

static void test_login_waits_for_a_server_that_is_too_busy_to_tell_the_time(void **state)
{
	(void)state;
	agent_world_use(&w, FG_TRANSPORT_COAP, FG_CREDENTIAL_JWT);
	before_the_server_tells_the_time(FG_COAP_CODE(5, 3));
	assert_int_equal(undated, 0);
	assert_int_equal(agent_world_count(&w, "auth/jwt"), 1);
}

/* A year before what agent_world_take says. */
static const int64_t wrong_ms = INT64_C(1668464000000);

static struct agent_world_answer wants_the_right_time_in_jwts(struct agent_world *world,
							      const struct agent_world_request *r)
{
	if (is(r, "auth/jwt") && world->wall_offset_ms <= wrong_ms)
		return (struct agent_world_answer){.code = FG_COAP_CODE(4, 1)};
	return agent_world_take(world, r);
}

static void test_login_that_is_refused_is_tried_again_with_the_time_of_the_server(void **state)
{
	(void)state;
	agent_world_use(&w, FG_TRANSPORT_COAP, FG_CREDENTIAL_JWT);
	w.wall_offset_ms = wrong_ms;
	w.answer = wants_the_right_time_in_jwts;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(10));
	assert_int_equal(agent_world_count(&w, "auth/jwt"), 2);
	assert_int_equal(agent_world_count(&w, "time"), 1);
	assert_int_equal(w.agent.backlog.waiting, 0);
}

static void test_server_without_time_gets_readings_without_time(void **state)
{
	(void)state;
	before_the_server_tells_the_time(FG_COAP_CODE(4, 4));
	assert_int_equal(w.agent.backlog.waiting, 0);
	assert_in_range(undated, 4, 120);
}

static struct agent_world_answer nineteen_seventy(struct agent_world *world,
						  const struct agent_world_request *r)
{
	static const uint8_t one[] = {0x01};

	if (is(r, "time"))
		return (struct agent_world_answer){
			.code = FG_COAP_CODE(2, 5), .payload = one, .length = sizeof(one)};
	return no_time_yet(world, r);
}

static void test_server_that_lives_in_1970_is_not_believed(void **state)
{
	(void)state;
	w.answer = nineteen_seventy;
	w.wall_known = false;
	undated = 0;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(5));
	assert_false(w.wall_known);
	assert_int_equal(w.agent.backlog.waiting, 0);
	assert_true(undated >= 4);
}

static void test_clock_that_is_behind_the_uptime_stops_no_readings(void **state)
{
	(void)state;
	w.answer = no_time_yet;
	w.wall_known = false;
	w.server = false;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(5));
	w.wall_known = w.server = true;
	w.wall_offset_ms = 1 - w.now_ms; /* 1970 begins */
	agent_world_run(&w, MINUTES(60));
	assert_int_equal(w.agent.backlog.waiting, 0);
}

/* ---- commands */

struct message {
	const char *etag, *payload;
};

static const struct message *queue;

static struct agent_world_answer queued(struct agent_world *world,
					const struct agent_world_request *r)
{
	if (!is(r, "msg/c2d"))
		return agent_world_take(world, r);
	if (queue && r->etag_length > 0 && queue->etag &&
	    strncmp((const char *)r->etag, queue->etag, r->etag_length) == 0)
		queue = queue[1].payload ? queue + 1 : NULL;
	if (!queue)
		return agent_world_take(world, r);
	return (struct agent_world_answer){.code = FG_COAP_CODE(2, 5),
					   .etag = queue->etag,
					   .payload = queue->payload,
					   .length = strlen(queue->payload)};
}

static void test_a_device_that_measures_faster_than_it_sends_can_still_be_commanded(void **state)
{
	static const struct message messages[] = {{"1", "{\"interval\": 600}"}, {NULL, NULL}};

	(void)state;
	w.answer = queued;
	queue = messages;
	w.config.interval_s = 1;
	w.round_trip_ms = 1500;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(2));
	assert_null(queue);
	assert_int_equal(w.agent.interval_s, 600);
	assert_int_equal(w.agent.backlog.waiting, 0);
}

static void test_a_device_that_measures_faster_than_it_sends_reboots_when_told(void **state)
{
	static const struct message messages[] = {{"1", "{\"reboot\": true}"}, {NULL, NULL}};

	(void)state;
	w.answer = queued;
	queue = messages;
	w.config.interval_s = 1;
	w.round_trip_ms = 1500;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(2));
	assert_null(queue);
	assert_int_equal(w.reboots, 1);
}

static void test_number_0_is_a_command_number_like_any_other(void **state)
{
	static const struct message messages[] = {{"1", "{\"id\": 0, \"interval\": 300}"},
						  {"2", "{\"id\": 0, \"interval\": 500}"},
						  {NULL, NULL}};

	(void)state;
	w.answer = queued;
	queue = messages;
	agent_world_start(&w);
	agent_world_run(&w, 30000);
	assert_null(queue);
	assert_int_equal(w.agent.interval_s, 300);
}

static struct agent_world_answer always_the_same(struct agent_world *world,
						 const struct agent_world_request *r)
{
	if (!is(r, "msg/c2d"))
		return agent_world_take(world, r);
	return (struct agent_world_answer){.code = FG_COAP_CODE(2, 5),
					   .etag = "1",
					   .payload = "{\"interval\": 300}",
					   .length = 17};
}

static void test_a_message_that_the_server_does_not_let_go_is_not_asked_for_again_and_again(
	void **state)
{
	(void)state;
	w.answer = always_the_same;
	agent_world_start(&w);
	agent_world_run(&w, 60000);
	assert_in_range(agent_world_count(&w, "msg/c2d"), 2, 3);
	assert_int_equal(w.agent.session.state, FG_SESSION_SLEEPING);
}

static struct agent_world_answer observed_once(struct agent_world *world,
					       const struct agent_world_request *r)
{
	struct agent_world_answer answer = queued(world, r);

	if (r->observe)
		answer.observe = 1;
	if (queue && r->code == FG_COAP_POST) {
		answer.payload = "\xa1\x63"
				 "c2d\xf5";
		answer.length = 6;
	}
	return answer;
}

static void test_observation_that_the_server_has_forgotten_is_renewed(void **state)
{
	static const struct message messages[] = {{"1", "{\"interval\": 300}"}, {NULL, NULL}};
	unsigned registrations = 0;

	(void)state;
	w.answer = observed_once;
	w.config.observe = true;
	w.config.session.sleeps = false;
	queue = NULL;
	agent_world_start(&w);
	agent_world_run(&w, 30000);
	assert_true(w.agent.observing);
	queue = messages; /* and no notification */
	agent_world_run(&w, MINUTES(2));
	assert_null(queue);
	assert_int_equal(w.agent.interval_s, 300);
	for (size_t i = 0; i < w.request_count; i++)
		registrations += w.requests[i].observe;
	assert_int_equal(registrations, 2);
	assert_true(w.agent.observing);
}

static bool deaf;

/* Gives the message, but the acknowledgement never comes through. */
static struct agent_world_answer deaf_to_the_second(struct agent_world *world,
						    const struct agent_world_request *r)
{
	if (deaf && is(r, "msg/c2d") && r->etag_length > 0)
		return (struct agent_world_answer){.code = 0};
	return queued(world, r);
}

static void test_a_command_is_not_carried_out_again_over_the_next_connection(void **state)
{
	static const struct message messages[] = {{"1", "{\"read\": true}"}, {NULL, NULL}};

	(void)state;
	w.answer = deaf_to_the_second;
	w.config.interval_s = 86400;
	queue = messages;
	deaf = true;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(3));
	assert_true(agent_world_count(&w, "msg/c2d") > 2);
	deaf = false;
	agent_world_run(&w, MINUTES(10));
	assert_true(w.handshakes > 1);
	assert_null(queue);
	assert_int_equal(w.measured, 2);
}

static struct agent_world_answer desires_a_reboot(struct agent_world *world,
						  const struct agent_world_request *r)
{
	if (!is(r, "state"))
		return agent_world_take(world, r);
	return (struct agent_world_answer){.code = FG_COAP_CODE(2, 5),
					   .payload = "{\"interval\": 300, \"reboot\": true,"
						      " \"id\": 3}",
					   .length = 42};
}

static void test_a_desired_reboot_would_come_for_ever_and_is_not_done(void **state)
{
	(void)state;
	w.answer = desires_a_reboot;
	agent_world_start(&w);
	agent_world_run(&w, 30000);
	assert_int_equal(w.agent.interval_s, 300);
	assert_int_equal(w.reboots, 0);
}

static void test_an_interval_in_storage_that_cannot_be_is_not_used(void **state)
{
	static const int32_t wrong[] = {0, -1, INT32_MAX};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		w.has_interval = true;
		w.saved_interval = wrong[i];
		agent_world_start(&w);
		assert_int_equal(w.agent.interval_s, 60);
	}
}

/* ---- a server that is not well */

static uint32_t patience_s;

static struct agent_world_answer no_commands_now(struct agent_world *world,
						 const struct agent_world_request *r)
{
	if (patience_s > 0 && is(r, "msg/c2d"))
		return (struct agent_world_answer){.code = FG_COAP_CODE(5, 3),
						   .max_age_s = patience_s == 1 ? 0 : patience_s,
						   .max_age_0 = patience_s == 1};
	return queued(world, r);
}

static void test_database_that_is_back_at_once_is_not_asked_in_a_circle(void **state)
{
	(void)state;
	w.answer = no_commands_now;
	patience_s = 1;
	queue = NULL;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(1));
	assert_in_range(agent_world_count(&w, "msg/c2d"), 1, 12);
}

static void test_database_that_is_away_for_ever_is_asked_again_the_next_day(void **state)
{
	static const struct message messages[] = {{"1", "{\"interval\": 300}"}, {NULL, NULL}};

	(void)state;
	w.answer = no_commands_now;
	w.config.interval_s = 3600;
	patience_s = UINT32_MAX;
	queue = messages;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(5));
	patience_s = 0;
	agent_world_run(&w, MINUTES(27 * 60));
	assert_int_equal(w.agent.interval_s, 300);
}

static struct agent_world_answer forbids(struct agent_world *world,
					 const struct agent_world_request *r)
{
	if (strncmp(r->path, "msg/d2c", 7) == 0)
		return (struct agent_world_answer){.code = FG_COAP_CODE(4, 3)};
	return agent_world_take(world, r);
}

static void test_what_is_forbidden_today_is_kept_for_tomorrow(void **state)
{
	(void)state;
	w.answer = forbids;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(12 * 60));
	assert_int_equal(w.agent.refused, 0);
	assert_in_range(w.agent.backlog.waiting, 12 * 60 - 1, 12 * 60 + 1);
	assert_in_range(w.request_count, 5, 60);
	w.answer = agent_world_take;
	agent_world_run(&w, MINUTES(14 * 60));
	assert_int_equal(w.agent.backlog.waiting, 0);
}

static void test_flash_that_takes_no_marks_does_not_make_it_send_in_a_circle(void **state)
{
	(void)state;
	w.marks_fail = true;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(20));
	assert_in_range(w.agent.acknowledged, 10, 21);
	assert_in_range(w.request_count, 10, 45);
}

static struct agent_world_answer broken(struct agent_world *world,
					const struct agent_world_request *r)
{
	if (strncmp(r->path, "msg/d2c", 7) == 0)
		return (struct agent_world_answer){.code = FG_COAP_CODE(5, 0)};
	return agent_world_take(world, r);
}

static void test_server_that_fails_for_a_day_is_asked_less_and_less_often(void **state)
{
	(void)state;
	w.answer = broken;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(24 * 60));
	assert_in_range(w.request_count, 20, 100);
	assert_in_range(w.agent.backlog.waiting, 1000, 24 * 60); /* what the ring holds */
	assert_int_equal(w.handshakes, 1);
	w.answer = agent_world_take;
	agent_world_run(&w, MINUTES(26 * 60));
	assert_int_equal(w.agent.backlog.waiting, 0);
}

/* ---- the network */

static bool mute;

static struct agent_world_answer nothing_when_mute(struct agent_world *world,
						   const struct agent_world_request *r)
{
	struct agent_world_answer answer = agent_world_take(world, r);

	if (mute)
		answer.code = 0;
	return answer;
}

/* The world's send asserts that nothing is sent while the connection is put away. */
static void test_network_that_goes_in_the_middle_of_a_request_costs_no_handshake(void **state)
{
	(void)state;
	w.answer = nothing_when_mute;
	mute = false;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(1) + 20000);
	mute = true;
	agent_world_run(&w, MINUTES(2) + 1500);
	assert_int_equal(w.agent.session.state, FG_SESSION_RUNNING);
	w.network = false;
	fg_agent_network(&w.agent, false);
	agent_world_run(&w, MINUTES(4));
	w.network = true;
	mute = false;
	fg_agent_network(&w.agent, true);
	agent_world_run(&w, MINUTES(5) + 30000);
	assert_int_equal(w.handshakes, 1);
	assert_int_equal(w.agent.backlog.waiting, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(
			test_readings_keep_their_times_when_the_server_is_too_busy_to_tell_the_time,
			setup),
		cmocka_unit_test_setup(
			test_login_waits_for_a_server_that_is_too_busy_to_tell_the_time, setup),
		cmocka_unit_test_setup(
			test_login_that_is_refused_is_tried_again_with_the_time_of_the_server,
			setup),
		cmocka_unit_test_setup(test_server_without_time_gets_readings_without_time, setup),
		cmocka_unit_test_setup(test_server_that_lives_in_1970_is_not_believed, setup),
		cmocka_unit_test_setup(test_clock_that_is_behind_the_uptime_stops_no_readings,
				       setup),
		cmocka_unit_test_setup(
			test_a_device_that_measures_faster_than_it_sends_can_still_be_commanded,
			setup),
		cmocka_unit_test_setup(
			test_a_device_that_measures_faster_than_it_sends_reboots_when_told, setup),
		cmocka_unit_test_setup(test_number_0_is_a_command_number_like_any_other, setup),
		cmocka_unit_test_setup(
			test_a_message_that_the_server_does_not_let_go_is_not_asked_for_again_and_again,
			setup),
		cmocka_unit_test_setup(test_observation_that_the_server_has_forgotten_is_renewed,
				       setup),
		cmocka_unit_test_setup(
			test_server_that_fails_for_a_day_is_asked_less_and_less_often, setup),
		cmocka_unit_test_setup(
			test_a_command_is_not_carried_out_again_over_the_next_connection, setup),
		cmocka_unit_test_setup(test_a_desired_reboot_would_come_for_ever_and_is_not_done,
				       setup),
		cmocka_unit_test_setup(test_an_interval_in_storage_that_cannot_be_is_not_used,
				       setup),
		cmocka_unit_test_setup(test_database_that_is_back_at_once_is_not_asked_in_a_circle,
				       setup),
		cmocka_unit_test_setup(
			test_database_that_is_away_for_ever_is_asked_again_the_next_day, setup),
		cmocka_unit_test_setup(test_what_is_forbidden_today_is_kept_for_tomorrow, setup),
		cmocka_unit_test_setup(
			test_flash_that_takes_no_marks_does_not_make_it_send_in_a_circle, setup),
		cmocka_unit_test_setup(
			test_network_that_goes_in_the_middle_of_a_request_costs_no_handshake,
			setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
