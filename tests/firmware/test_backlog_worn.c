/* SPDX-License-Identifier: Apache-2.0 */
/* The backlog on flash of which one sector is worn out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <string.h>

#include <cmocka.h>

#include "device-fw/core/backlog.h"

#define SECTOR	512
#define SECTORS 6
#define WORN	2 /* this one */

enum wear { TAKES_NOTHING, SAYS_SO, TAKES_HALF, IS_NOT_ERASED };

static uint8_t bytes[SECTOR * SECTORS];
static enum wear wear;

static int flash_read(void *ctx, uint32_t offset, void *out, size_t length)
{
	(void)ctx;
	memcpy(out, bytes + offset, length);
	return 0;
}

static int flash_write(void *ctx, uint32_t offset, const void *from, size_t length)
{
	(void)ctx;
	for (size_t i = 0; i < length; i++) {
		if (offset / SECTOR == WORN && (wear != TAKES_HALF || i % 2 == 0))
			continue;
		bytes[offset + i] &= ((const uint8_t *)from)[i];
	}
	return offset / SECTOR == WORN && wear == SAYS_SO ? -EIO : 0;
}

static int flash_erase(void *ctx, uint32_t offset)
{
	(void)ctx;
	if (offset / SECTOR == WORN && wear == IS_NOT_ERASED)
		return -EIO;
	memset(bytes + offset, 0xff, SECTOR);
	return 0;
}

static void test_a_worn_sector_costs_its_readings_and_no_others(void **state)
{
	static const struct fg_flash_geometry geometry = {
		.sector_size = SECTOR, .sectors = SECTORS, .write_size = 4, .erased = 0xff};
	static const struct fg_port port = {.flash = &geometry,
					    .flash_read = flash_read,
					    .flash_write = flash_write,
					    .flash_erase = flash_erase};
	static const uint8_t pairs[] = {0x61, 'a', 0x01};

	(void)state;
	for (wear = TAKES_NOTHING; wear <= IS_NOT_ERASED; wear++) {
		struct fg_backlog b = {.port = &port};
		struct fg_backlog_cursor at;
		struct fg_record record;
		uint8_t buffer[FG_BACKLOG_PAYLOAD_MAX];
		uint32_t seq = 0, kept = 0;
		unsigned failed = 0;

		memset(bytes, 0xff, sizeof(bytes));
		assert_int_equal(fg_backlog_mount(&b), 0);
		for (int i = 1; i <= 500; i++) {
			failed += fg_backlog_append(&b, 1000 + i, i, 1, pairs, sizeof(pairs),
						    &seq) != 0;
			if (i % 100 == 0)
				assert_int_equal(fg_backlog_mount(&b), 0);
		}
		assert_in_range(failed, 0, 120);
		assert_true(seq >= 500);
		for (int rc = fg_backlog_first(&b, &at, &record, buffer, sizeof(buffer)); rc == 0;
		     rc = fg_backlog_next(&b, &at, &record, buffer, sizeof(buffer)))
			kept++;
		assert_in_range(kept, 40, 100);
		assert_int_equal(kept, b.waiting);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_worn_sector_costs_its_readings_and_no_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
