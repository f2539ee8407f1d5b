/* SPDX-License-Identifier: Apache-2.0 */
#include "port.h"

#include <errno.h>

#include <zephyr/kernel.h>
#include <zephyr/random/rand32.h>

#include "app.h"
#include "clock.h"
#include "jwt.h"
#include "link.h"
#include "lte.h"
#include "note.h"
#include "sensors.h"
#include "storage.h"

#define FAREWELL_MS 1000

static int64_t uptime_ms(void *ctx)
{
	ARG_UNUSED(ctx);
	return k_uptime_get();
}

static int64_t wall_ms(void *ctx)
{
	ARG_UNUSED(ctx);
	return clock_wall_ms();
}

static void set_wall_ms(void *ctx, int64_t ms)
{
	ARG_UNUSED(ctx);
	clock_set_wall_ms(ms);
}

static void fill_random(void *ctx, void *out, size_t length)
{
	ARG_UNUSED(ctx);
	sys_rand_get(out, length);
}

static int attach(void *ctx)
{
	ARG_UNUSED(ctx);
	return lte_attach();
}

/* What close has just said to the server is still on its way. */
static void detach(void *ctx)
{
	ARG_UNUSED(ctx);
	k_sleep(K_MSEC(FAREWELL_MS));
	lte_offline();
}

static int open_link(void *ctx, const struct fg_target *target, bool resume)
{
	ARG_UNUSED(ctx);
	return link_open(target, resume);
}

static int send_bytes(void *ctx, const void *bytes, size_t length, bool expects_answer)
{
	ARG_UNUSED(ctx);
	return link_send(bytes, length, expects_answer);
}

static void close_link(void *ctx, bool keep)
{
	ARG_UNUSED(ctx);
	link_close(keep);
}

static int make_jwt(void *ctx, char *out, size_t size)
{
	const struct port_context *c = ctx;

	if (!IS_ENABLED(CONFIG_FIELDGATE_JWT))
		return -ENOTSUP;
	return jwt_make(c->device, c->security_tag, clock_wall_ms(), out, size);
}

static int load(void *ctx, const char *name, void *out, size_t size)
{
	ARG_UNUSED(ctx);
	return storage_load(name, out, size);
}

static int save(void *ctx, const char *name, const void *value, size_t length)
{
	ARG_UNUSED(ctx);
	return storage_save(name, value, length);
}

static int flash_read_at(void *ctx, uint32_t offset, void *out, size_t length)
{
	ARG_UNUSED(ctx);
	return storage_backlog_read(offset, out, length);
}

static int flash_write_at(void *ctx, uint32_t offset, const void *bytes, size_t length)
{
	ARG_UNUSED(ctx);
	return storage_backlog_write(offset, bytes, length);
}

static int flash_erase_at(void *ctx, uint32_t offset)
{
	ARG_UNUSED(ctx);
	return storage_backlog_erase(offset);
}

/* The board's sensors, what the modem says, and how the device itself does. */
static size_t measure(void *ctx, struct fg_reading *out, size_t max)
{
	const struct port_context *c = ctx;
	const struct fg_agent *agent = c->agent;
	size_t n = sensors_read(out, max);

	n += lte_read(out + n, max - n);
	if (n < max)
		out[n++] =
			(struct fg_reading){.name = "uptime",
					    .unit = "s",
					    .mantissa = (int32_t)(k_uptime_get() / MSEC_PER_SEC)};
	if (n < max && agent->config->target.transport == FG_TRANSPORT_COAP)
		out[n++] = (struct fg_reading){.name = "retransmissions",
					       .unit = "count",
					       .mantissa = (int32_t)agent->coap.retransmissions};
	return n;
}

static void reboot(void *ctx)
{
	ARG_UNUSED(ctx);
	app_post(APP_REBOOT, 0);
}

const struct fg_port *port_init(void)
{
	static struct fg_port port = {
		.uptime_ms = uptime_ms,
		.wall_ms = wall_ms,
		.set_wall_ms = set_wall_ms,
		.random = fill_random,
		.attach = attach,
		.detach = detach,
		.open = open_link,
		.send = send_bytes,
		.close = close_link,
		.jwt = make_jwt,
		.load = load,
		.save = save,
		.flash_read = flash_read_at,
		.flash_write = flash_write_at,
		.flash_erase = flash_erase_at,
		.measure = measure,
		.reboot = reboot,
		.note = note_log,
	};

	port.flash = storage_backlog();
	return &port;
}
