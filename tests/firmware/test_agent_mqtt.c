/* SPDX-License-Identifier: Apache-2.0 */
/* The whole core as one device over MQTT, against a broker that does what it is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/firmware/agent_world.h"

#define MINUTES(n) ((n)*INT64_C(60000))
#define TOPIC	   "m/d/dev-1/c2d"

/* MQTT 3.1.1, section 2.2 */
enum { CONNECT = 1, PUBLISH = 3, PUBACK = 4, SUBSCRIBE = 8, PINGREQ = 12 };
enum { RETAINED = 0x31, DUPLICATE = 0x3a, FRESH = 0x32 };

static struct agent_world w;
static unsigned published, acknowledged, connects;
static bool mute;
static uint8_t refusal;	       /* return code of CONNACK */
static uint8_t waiting_header; /* of the message that follows each subscription; 0: none */
static const char *waiting;

/* A publish on the device's topic: header as given, packet identifier 7 if it has one. */
static void publish(struct agent_world *world, uint8_t header, const char *payload)
{
	uint8_t packet[128] = {header, 0, 0, sizeof(TOPIC) - 1};
	size_t at = 4;

	memcpy(packet + at, TOPIC, sizeof(TOPIC) - 1);
	at += sizeof(TOPIC) - 1;
	if (header & 6) {
		packet[at++] = 0;
		packet[at++] = 7;
	}
	memcpy(packet + at, payload, strlen(payload));
	at += strlen(payload);
	packet[1] = (uint8_t)(at - 2);
	agent_world_reply(world, packet, at);
}

static void broker(struct agent_world *world, const uint8_t *bytes, size_t length)
{
	static const uint8_t pingresp[] = {0xd0, 0};
	const uint8_t *body = bytes + (bytes[1] & 0x80 ? 3 : 2);
	size_t topic = length > 4 ? (size_t)body[0] << 8 | body[1] : 0;

	if (mute || !world->server || !world->network)
		return;
	switch (bytes[0] >> 4) {
	case CONNECT:
		connects++;
		agent_world_reply(world, (uint8_t[]){0x20, 2, 0, refusal}, 4);
		break;
	case SUBSCRIBE:
		agent_world_reply(world, (uint8_t[]){0x90, 3, body[0], body[1], 1}, 5);
		if (waiting_header)
			publish(world, waiting_header, waiting);
		break;
	case PUBLISH:
		published++;
		agent_world_reply(world, (uint8_t[]){0x40, 2, body[2 + topic], body[3 + topic]}, 4);
		break;
	case PUBACK:
		acknowledged++;
		break;
	case PINGREQ:
		agent_world_reply(world, pingresp, sizeof(pingresp));
		break;
	}
}

static int setup(void **state)
{
	(void)state;
	srand(1);
	agent_world_init(&w);
	fg_config_defaults(&w.config, FG_TRANSPORT_MQTT, FG_CREDENTIAL_CERTIFICATE);
	w.config.device = "dev-1";
	w.config.target.host = "cloud.example";
	w.config.interval_s = 60;
	w.broker = broker;
	published = acknowledged = connects = 0;
	mute = false;
	waiting_header = refusal = 0;
	return 0;
}

static void test_readings_are_published_over_one_connection(void **state)
{
	(void)state;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(60) + 5000);
	assert_int_equal(connects, 1);
	assert_int_equal(w.agent.acknowledged, 61);
	assert_int_equal(w.agent.backlog.waiting, 0);
}

static void test_connection_that_fell_silent_without_network_is_not_resumed(void **state)
{
	(void)state;
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(1) + 20000);
	mute = true;
	agent_world_run(&w, MINUTES(2) + 1000 + 500);
	assert_true(fg_mqtt_client_busy(&w.agent.mqtt));
	w.network = false;
	fg_agent_network(&w.agent, false);
	agent_world_run(&w, MINUTES(5));
	w.network = true;
	mute = false;
	fg_agent_network(&w.agent, true);
	agent_world_run(&w, MINUTES(8));
	assert_int_equal(connects, 2);
	assert_int_equal(w.agent.backlog.waiting, 0);
}

static void test_a_broker_that_lets_nobody_in_is_not_hammered(void **state)
{
	(void)state;
	refusal = 5; /* not authorized */
	agent_world_start(&w);
	agent_world_run(&w, MINUTES(10));
	assert_in_range(connects, 2, 5);
	agent_world_run(&w, MINUTES(24 * 60));
	assert_in_range(connects, 15, 60);
	refusal = 0;
	agent_world_run(&w, MINUTES(26 * 60));
	assert_int_equal(w.agent.backlog.waiting, 0);
}

/* ---- commands */

static void subscribe_and_find(uint8_t header, const char *payload)
{
	waiting_header = header;
	waiting = payload;
	agent_world_start(&w);
	agent_world_run(&w, 30000);
}

static void test_reboot_is_acknowledged_and_done(void **state)
{
	(void)state;
	subscribe_and_find(FRESH, "{\"reboot\": true}");
	assert_int_equal(acknowledged, 1);
	assert_int_equal(w.reboots, 1);
}

static void test_reboot_waits_for_no_readings_that_come_faster_than_they_go(void **state)
{
	(void)state;
	w.config.interval_s = 1;
	w.round_trip_ms = 1500;
	subscribe_and_find(FRESH, "{\"reboot\": true}");
	assert_int_equal(w.reboots, 1);
}

static void test_reboot_that_is_retained_or_repeated_would_come_for_ever_and_is_not_done(
	void **state)
{
	static const uint8_t headers[] = {RETAINED, DUPLICATE};

	for (size_t i = 0; i < sizeof(headers); i++) {
		setup(state);
		subscribe_and_find(headers[i], "{\"reboot\": true, \"interval\": 300}");
		assert_int_equal(w.reboots, 0);
		assert_int_equal(w.agent.interval_s, 300);
	}
}

static void test_repeated_reboot_with_a_number_is_done_once(void **state)
{
	(void)state;
	subscribe_and_find(DUPLICATE, "{\"reboot\": true, \"id\": 5}");
	assert_int_equal(w.reboots, 1);
	agent_world_start(&w);
	agent_world_run(&w, w.now_ms + 30000);
	assert_int_equal(w.reboots, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_readings_are_published_over_one_connection, setup),
		cmocka_unit_test_setup(
			test_connection_that_fell_silent_without_network_is_not_resumed, setup),
		cmocka_unit_test_setup(test_a_broker_that_lets_nobody_in_is_not_hammered, setup),
		cmocka_unit_test_setup(test_reboot_is_acknowledged_and_done, setup),
		cmocka_unit_test_setup(
			test_reboot_that_is_retained_or_repeated_would_come_for_ever_and_is_not_done,
			setup),
		cmocka_unit_test_setup(
			test_reboot_waits_for_no_readings_that_come_faster_than_they_go, setup),
		cmocka_unit_test_setup(test_repeated_reboot_with_a_number_is_done_once, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
