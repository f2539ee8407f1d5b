/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For its size only, and never run: the whole core, as main.c uses it, on a port that is nothing
 * but one register, of which the compiler knows nothing.
 */
#include "device-fw/core/agent.h"
#include "device-fw/ports/qemu_m33/cpu.h"

#define WORLD REGISTER(0x50200000u)

static struct fg_agent agent;
static struct fg_config config;

int main(void);

static int64_t uptime_ms(void *ctx)
{
	(void)ctx;
	return WORLD;
}

static void set_wall_ms(void *ctx, int64_t wall_ms)
{
	(void)ctx;
	WORLD = (uint32_t)wall_ms;
}

static void take(void *ctx, void *out, size_t length)
{
	(void)ctx;
	for (uint8_t *at = out; length > 0; length--)
		*at++ = (uint8_t)WORLD;
}

static int give(const void *bytes, size_t length)
{
	for (const uint8_t *at = bytes; length > 0; length--)
		WORLD = *at++;
	return (int)WORLD;
}

static int attach(void *ctx)
{
	(void)ctx;
	return (int)WORLD;
}

static void leave(void *ctx)
{
	(void)ctx;
	WORLD = 0;
}

static int open_connection(void *ctx, const struct fg_target *target, bool resume)
{
	(void)ctx;
	(void)target;
	WORLD = resume;
	return (int)WORLD;
}

static int send_datagram(void *ctx, const void *bytes, size_t length, bool expects_answer)
{
	(void)ctx;
	WORLD = expects_answer;
	return give(bytes, length);
}

static void close_connection(void *ctx, bool keep)
{
	(void)ctx;
	WORLD = keep;
}

static int load(void *ctx, const char *name, void *out, size_t size)
{
	WORLD = (uint8_t)*name;
	take(ctx, out, size);
	return (int)WORLD;
}

static int save(void *ctx, const char *name, const void *value, size_t length)
{
	(void)ctx;
	WORLD = (uint8_t)*name;
	return give(value, length);
}

static int flash_read(void *ctx, uint32_t offset, void *out, size_t length)
{
	WORLD = offset;
	take(ctx, out, length);
	return (int)WORLD;
}

static int flash_write(void *ctx, uint32_t offset, const void *bytes, size_t length)
{
	(void)ctx;
	WORLD = offset;
	return give(bytes, length);
}

static int flash_erase(void *ctx, uint32_t offset)
{
	(void)ctx;
	WORLD = offset;
	return (int)WORLD;
}

static size_t measure(void *ctx, struct fg_reading *out, size_t max)
{
	(void)ctx;
	(void)max;
	out[0] = (struct fg_reading){.name = "temp", .decimals = 2, .mantissa = (int32_t)WORLD};
	return 1;
}

static const struct fg_flash_geometry geometry = {
	.sector_size = 4096, .sectors = 8, .write_size = 4, .erased = 0xff};

static const struct fg_port port = {
	.uptime_ms = uptime_ms,
	.wall_ms = uptime_ms,
	.set_wall_ms = set_wall_ms,
	.random = take,
	.attach = attach,
	.detach = leave,
	.open = open_connection,
	.send = send_datagram,
	.close = close_connection,
	.load = load,
	.save = save,
	.flash = &geometry,
	.flash_read = flash_read,
	.flash_write = flash_write,
	.flash_erase = flash_erase,
	.measure = measure,
	.reboot = leave,
};

int main(void)
{
	static uint8_t datagram[256];

	fg_config_defaults(&config, FG_TRANSPORT_COAP, FG_CREDENTIAL_PSK);
	config.device = "m33";
	config.target.host = "host";
	if (fg_agent_init(&agent, &port, NULL, &config) != 0)
		return 1;
	fg_agent_start(&agent);
	for (;;) {
		fg_agent_network(&agent, WORLD != 0);
		fg_agent_connected(&agent, &(struct fg_connection){.resumed = WORLD != 0,
								   .connection_id = WORLD != 0});
		fg_agent_disconnected(&agent, (int)WORLD);
		take(NULL, datagram, sizeof(datagram));
		fg_agent_receive(&agent, datagram, WORLD % sizeof(datagram));
		WORLD = (uint32_t)fg_agent_poll(&agent);
	}
}
