/* SPDX-License-Identifier: Apache-2.0 */
/* The ring of readings in flash: what it promises in backlog.h, against flash that is not kind. */
#include "device-fw/core/backlog.h"
#include "tests/firmware/flash.h"

#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fixture {
	struct flash flash;
	struct fg_backlog b;
	uint8_t buffer[FG_BACKLOG_PAYLOAD_MAX];
	struct fg_record record;
	struct fg_backlog_cursor cursor;
};

static void set_up(struct fixture *x, uint32_t sector_size, uint32_t sectors)
{
	memset(x, 0, sizeof(*x));
	flash_init(&x->flash, sector_size, sectors);
}

static void reboot(struct fixture *x)
{
	x->b = (struct fg_backlog){.port = &x->flash.port, .ctx = &x->flash};
	assert_int_equal(fg_backlog_mount(&x->b), 0);
}

static int append(struct fixture *x, int64_t wall_ms, int64_t uptime_ms, const char *text,
		  uint32_t *seq)
{
	return fg_backlog_append(&x->b, wall_ms, uptime_ms, 1, text, strlen(text), seq);
}

static int first(struct fixture *x)
{
	return fg_backlog_first(&x->b, &x->cursor, &x->record, x->buffer, sizeof(x->buffer));
}

static int next(struct fixture *x)
{
	return fg_backlog_next(&x->b, &x->cursor, &x->record, x->buffer, sizeof(x->buffer));
}

static void test_a_reading_comes_back_as_it_was_appended(void **state)
{
	struct fixture x;
	uint32_t seq;

	(void)state;
	set_up(&x, 4096, 4);
	reboot(&x);
	assert_int_equal(append(&x, 1700000000123, 5000, "hello", &seq), 0);
	assert_int_equal(seq, 1);
	reboot(&x);
	assert_int_equal(x.b.waiting, 1);
	assert_int_equal(first(&x), 0);
	assert_int_equal(x.record.seq, 1);
	assert_int_equal(x.record.time_ms, 1700000000123);
	assert_int_equal(x.record.pair_count, 1);
	assert_int_equal(x.record.length, 5);
	assert_memory_equal(x.record.pairs, "hello", 5);
	assert_int_equal(next(&x), -ENOENT);
	assert_int_equal(fg_backlog_acknowledge(&x.b, &x.cursor), 0);
	assert_int_equal(first(&x), -ENOENT);
	reboot(&x);
	assert_int_equal(first(&x), -ENOENT);
	assert_int_equal(x.b.next_seq, 2);
	flash_free(&x.flash);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_reading_comes_back_as_it_was_appended),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
