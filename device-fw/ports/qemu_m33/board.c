/* SPDX-License-Identifier: Apache-2.0 */
/* An emulator has neither flash nor sensors. Memory that a reset leaves alone stands in for the
 * flash; what is measured counts up. */
#include "device-fw/ports/qemu_m33/board.h"

#include <errno.h>
#include <string.h>

#include "device-fw/ports/qemu_m33/clock.h"
#include "device-fw/ports/qemu_m33/dtls.h"

#ifndef FG_M33_LOG
#define FG_M33_LOG 0
#endif

#define SECTOR_SIZE 512
#define SECTORS	    16
#define VALUES	    2 /* "interval", "command" */
#define VALUE_SIZE  4
#define WRITTEN	    0x76616c75u /* anything that memory is not when power comes */

struct board board;

static struct {
	uint32_t written;
	uint8_t flash[SECTOR_SIZE * SECTORS];
	struct {
		char first; /* of its name; NUL: free */
		uint8_t value[VALUE_SIZE];
	} values[VALUES];
} persistent __attribute__((section(".persistent"), aligned(4)));

static const struct fg_flash_geometry geometry = {
	.sector_size = SECTOR_SIZE, .sectors = SECTORS, .write_size = 4, .erased = 0xff};

static int64_t boot_wall_ms; /* uptime 0; 0: not known */

static int64_t uptime_ms(void *ctx)
{
	(void)ctx;
	return clock_ms();
}

static int64_t wall_ms(void *ctx)
{
	(void)ctx;
	return boot_wall_ms != 0 ? boot_wall_ms + clock_ms() : 0;
}

static void set_wall_ms(void *ctx, int64_t now_ms)
{
	(void)ctx;
	boot_wall_ms = now_ms - clock_ms();
}

/* ---- network: a serial line is always there */

static int attach(void *ctx)
{
	(void)ctx;
	board.attached = true;
	return 0;
}

static void detach(void *ctx)
{
	(void)ctx;
	board.attached = false;
}

static int open_connection(void *ctx, const struct fg_target *target, bool resume)
{
	int rc = 0;

	(void)ctx;
	(void)target;
	/* The host may have another port by now: without Connection ID the server would not know
	 * us. */
	if (resume && !dtls_has_connection_id())
		rc = -ENOTCONN;
	else if (!resume)
		rc = dtls_open();
	board.asleep = false;
	board.resumed = board.connected = resume && rc == 0;
	return rc;
}

static int send_datagram(void *ctx, const void *bytes, size_t length, bool expects_answer)
{
	(void)ctx;
	(void)expects_answer;
	return dtls_send(bytes, length);
}

static void close_connection(void *ctx, bool keep)
{
	(void)ctx;
	board.connected = false;
	board.asleep = keep;
	if (!keep)
		dtls_close();
}

/* ---- storage */

void board_start(void)
{
	if (persistent.written == WRITTEN)
		return;
	memset(&persistent, 0, sizeof(persistent));
	memset(persistent.flash, geometry.erased, sizeof(persistent.flash));
	persistent.written = WRITTEN;
}

/* Where the value of that name is; else where there is room for it; else NULL. */
static uint8_t *value_of(char first, bool room)
{
	for (size_t i = 0; i < VALUES; i++) {
		if (room && persistent.values[i].first == '\0')
			persistent.values[i].first = first;
		if (persistent.values[i].first == first)
			return persistent.values[i].value;
	}
	return NULL;
}

static int load(void *ctx, const char *name, void *out, size_t size)
{
	const uint8_t *value = value_of(*name, false);

	(void)ctx;
	if (!value)
		return -ENOENT;
	memcpy(out, value, size < VALUE_SIZE ? size : VALUE_SIZE);
	return VALUE_SIZE;
}

static int save(void *ctx, const char *name, const void *value, size_t length)
{
	uint8_t *to = value_of(*name, true);

	(void)ctx;
	if (!to || length != VALUE_SIZE)
		return -ENOSPC;
	memcpy(to, value, length);
	return 0;
}

static int flash_read(void *ctx, uint32_t offset, void *out, size_t length)
{
	(void)ctx;
	memcpy(out, persistent.flash + offset, length);
	return 0;
}

static int flash_write(void *ctx, uint32_t offset, const void *bytes, size_t length)
{
	const uint8_t *from = bytes;

	(void)ctx;
	for (size_t i = 0; i < length; i++)
		persistent.flash[offset + i] &= from[i];
	return 0;
}

static int flash_erase(void *ctx, uint32_t offset)
{
	(void)ctx;
	memset(persistent.flash + offset, 0xff, SECTOR_SIZE);
	return 0;
}

/* ---- the device */

/* Without a division of 64 bits: until it begins again, in 397 days. */
static int32_t uptime_s(void)
{
	return (int32_t)((uint32_t)(clock_ms() / 8) / 125);
}

static size_t measure(void *ctx, struct fg_reading *out, size_t max)
{
	static int32_t taken;

	(void)ctx;
	if (max < 2)
		return 0;
	out[0] = (struct fg_reading){
		.name = "temperature", .decimals = 1, .mantissa = 215 + taken++};
	out[1] = (struct fg_reading){.name = "uptime", .mantissa = uptime_s()};
	return 2;
}

static void reboot(void *ctx)
{
	(void)ctx;
	board.reboot = true;
}

const struct fg_port board_port = {
	.uptime_ms = uptime_ms,
	.wall_ms = wall_ms,
	.set_wall_ms = set_wall_ms,
	.random = dtls_random,
	.attach = attach,
	.detach = detach,
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
	.reboot = reboot,
	.note = FG_M33_LOG ? board_note : NULL,
};
