/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One device on a bare Cortex-M33. The host at the other end of the serial line is its network, and
 * whoever provisioned it: a frame that begins with a content type of DTLS (20 and above, RFC 7983)
 * is a datagram, one that begins with 0 is between the two. At its start the device asks for its
 * settings with such a frame, again each second, and is told them in CBOR:
 *
 *   [seed, device, identity, key, interval]
 *
 * seed, identity and key are byte strings, device is text, interval is seconds.
 */
#include <errno.h>
#include <string.h>

#include "device-fw/ports/qemu_m33/board.h"
#include "device-fw/ports/qemu_m33/clock.h"
#include "device-fw/ports/qemu_m33/cpu.h"
#include "device-fw/ports/qemu_m33/dtls.h"
#include "device-fw/ports/qemu_m33/uart.h"

#define HOST_FRAME   0
#define ASK_AGAIN_MS 1000
#define SEED_MIN     32 /* bytes: 256 bits */

static struct fg_agent agent;
static struct fg_config config;
static char device[FG_DEVICE_ID_MAX + 1];

static bool read_item(struct fg_cbor_reader *r, enum fg_cbor_type type, const uint8_t **data,
		      size_t *value)
{
	struct fg_cbor_item item;

	if (fg_cbor_next(r, &item) != 0 || item.type != type)
		return false;
	*data = item.data;
	*value = (size_t)item.value;
	return true;
}

/* False: these are no settings that one could begin with. */
static bool configure(const uint8_t *frame, size_t length)
{
	struct dtls_credentials c;
	struct fg_cbor_reader r;
	const uint8_t *name;
	size_t items, name_length, interval_s;

	fg_cbor_read(&r, frame + 1, length - 1);
	if (!read_item(&r, FG_CBOR_ARRAY, &name, &items) ||
	    !read_item(&r, FG_CBOR_BYTES, &c.seed, &c.seed_length) ||
	    !read_item(&r, FG_CBOR_TEXT, &name, &name_length) ||
	    !read_item(&r, FG_CBOR_BYTES, &c.identity, &c.identity_length) ||
	    !read_item(&r, FG_CBOR_BYTES, &c.key, &c.key_length) ||
	    !read_item(&r, FG_CBOR_UINT, &frame, &interval_s) || c.seed_length < SEED_MIN ||
	    name_length > FG_DEVICE_ID_MAX || dtls_start(&c) != 0)
		return false;
	memcpy(device, name, name_length);
	fg_config_defaults(&config, FG_TRANSPORT_COAP, FG_CREDENTIAL_PSK);
	config.device = device;
	config.target.host = "host"; /* the one at the other end of the line */
	config.interval_s = (int32_t)interval_s;
	return fg_agent_init(&agent, &board_port, NULL, &config) == 0;
}

static void wait_for_settings(void)
{
	static const uint8_t question = HOST_FRAME;
	int64_t ask_ms = 0;
	size_t length;

	for (;;) {
		if (clock_ms() >= ask_ms) {
			uart_send(&question, sizeof(question));
			ask_ms = clock_ms() + ASK_AGAIN_MS;
		}
		length = uart_poll();
		if (length > 0 && uart_frame[0] == HOST_FRAME && configure(uart_frame, length))
			return;
		clock_wait();
	}
}

/* What the port's functions have begun. */
static void tell_agent(void)
{
	if (board.attached) {
		board.attached = false;
		fg_agent_network(&agent, true);
	}
	if (board.connected) {
		board.connected = false;
		fg_agent_connected(&agent, &(struct fg_connection){.resumed = board.resumed,
								   .connection_id = true});
	}
}

static void receive(size_t length)
{
	enum dtls_event event;

	do {
		event = dtls_poll(&length);
		switch (event) {
		case DTLS_CONNECTED:
			fg_agent_connected(
				&agent,
				&(struct fg_connection){.connection_id = dtls_has_connection_id()});
			break;
		case DTLS_RECEIVED:
			fg_agent_receive(&agent, uart_frame, length);
			break;
		case DTLS_REFUSED:
			fg_agent_disconnected(&agent, -EACCES);
			break;
		case DTLS_FAILED:
			fg_agent_disconnected(&agent, -ECONNRESET);
			break;
		case DTLS_NOTHING:
			break;
		}
		length = 0;
	} while (event != DTLS_NOTHING);
}

int main(void)
{
	int64_t due_ms = 0;

	clock_start();
	uart_start();
	board_start();
	wait_for_settings();
	fg_agent_start(&agent);
	while (!board.reboot) {
		size_t length = uart_poll();

		tell_agent();
		/* A radio that is asleep hears nothing. */
		if (!board.asleep)
			receive(length);
		due_ms = fg_agent_poll(&agent);
		if (due_ms > clock_ms())
			clock_wait();
	}
	cpu_reboot();
}
