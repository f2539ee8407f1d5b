/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For its size only, and never run: an application that has CoAP, CBOR and the session's state
 * machine, uses all of their functions as the agent does, and is nothing else. The world is one
 * register, of which the compiler knows nothing.
 */
#include <errno.h>

#include "device-fw/core/coap_client.h"
#include "device-fw/core/reading.h"
#include "device-fw/core/session.h"
#include "device-fw/ports/qemu_m33/cpu.h"

#define WORLD REGISTER(0x50200000u)

static struct fg_coap_client coap;
static struct fg_session session;
static uint32_t hold_s;

int main(void);

static int send_datagram(void *ctx, const void *datagram, size_t length, bool expects_answer)
{
	(void)ctx;
	for (const uint8_t *at = datagram; length > 0; length--)
		WORLD = *at++;
	WORLD = expects_answer;
	return (int)WORLD;
}

static void random_bytes(void *ctx, void *out, size_t length)
{
	(void)ctx;
	for (uint8_t *at = out; length > 0; length--)
		*at++ = (uint8_t)WORLD;
}

static int write_reading(void *arg, uint8_t *out, size_t room)
{
	struct fg_reading reading = {.name = "temp", .decimals = 2, .mantissa = (int32_t)WORLD};
	uint8_t pairs[64];
	int length = fg_readings_encode(&reading, 1, pairs, sizeof(pairs));
	struct fg_record record = {.seq = WORLD, .time_ms = WORLD, .pair_count = 1, .pairs = pairs};
	struct fg_cbor_writer w;

	(void)arg;
	if (length < 0)
		return length;
	record.length = (size_t)length;
	fg_cbor_begin(&w, out, room);
	fg_record_write(&w, &record);
	return w.full ? -EMSGSIZE : (int)w.length;
}

static void work(int64_t now_ms)
{
	static const struct fg_coap_request post = {.method = FG_COAP_POST,
						    .path = "msg/d2c",
						    .format = FG_COAP_FORMAT_CBOR,
						    .accept = FG_COAP_FORMAT_NONE};
	static const struct fg_coap_request get = {.method = FG_COAP_GET,
						   .path = "msg/c2d",
						   .format = FG_COAP_FORMAT_NONE,
						   .accept = FG_COAP_FORMAT_CBOR,
						   .observe = true};

	if (WORLD)
		fg_coap_client_compose(&coap, &post, write_reading, NULL, now_ms);
	else
		fg_coap_client_request(&coap, &get, now_ms);
}

static void step(enum fg_session_event event, int64_t now_ms)
{
	const struct fg_session_input input = {
		.event = event, .now_ms = now_ms, .random = WORLD, .hold_ms = hold_s * 1000};
	unsigned actions = fg_session_step(&fg_session_defaults, &session, &input, &session);

	WORLD = actions;
	if (actions & FG_SESSION_DO_CLOSE)
		fg_coap_client_reset(&coap);
	if (actions & FG_SESSION_DO_WORK)
		work(now_ms);
}

static void handle(void *ctx, enum fg_coap_outcome outcome, const struct fg_coap_response *r)
{
	struct fg_cbor_walk walk = {.next = fg_cbor_walk_next};
	struct fg_cbor_item item;
	int32_t number;

	(void)ctx;
	WORLD = outcome;
	if (!r)
		return;
	hold_s = r->max_age_s;
	WORLD = r->code;
	fg_cbor_read(&walk.in, r->payload, r->length);
	while (fg_cbor_step(&walk, &item) == 0 && walk.depth > 0)
		if (fg_cbor_is_text(&item, "interval"))
			WORLD = walk.depth;
		else if (fg_cbor_as_int(&item, &number) == 0)
			WORLD = (uint32_t)number;
}

int main(void)
{
	static uint8_t datagram[256];

	coap.settings = &fg_coap_defaults;
	coap.send = send_datagram;
	coap.random = random_bytes;
	coap.handle = handle;
	fg_coap_client_init(&coap);
	for (;;) {
		int64_t now_ms = WORLD;

		step((enum fg_session_event)WORLD, now_ms);
		random_bytes(NULL, datagram, sizeof(datagram));
		fg_coap_client_receive(&coap, datagram, WORLD, now_ms);
		WORLD = fg_coap_client_busy(&coap);
		WORLD = (uint32_t)fg_coap_client_poll(&coap, now_ms);
	}
}
