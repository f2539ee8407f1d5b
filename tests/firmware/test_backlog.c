/* SPDX-License-Identifier: Apache-2.0 */
/* The ring of readings in flash: what it promises in backlog.h, against flash that is not kind. */
#include "device-fw/core/backlog.h"
#include "tests/firmware/flash.h"

#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
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

/* Appends readings of 100 bytes until the ring has gone on to a sector for the nth time. */
static uint32_t fill(struct fixture *x, uint32_t generation)
{
	static const uint8_t payload[100];
	uint32_t seq = 0;

	while (x->b.generation < generation)
		assert_int_equal(fg_backlog_append(&x->b, 1, 1, 1, payload, sizeof(payload), &seq),
				 0);
	return seq;
}

static void test_what_another_program_left_is_erased_flash(void **state)
{
	struct fixture x;
	uint32_t seq;

	(void)state;
	set_up(&x, 1024, 4);
	for (size_t i = 0; i < 4096; i++)
		x.flash.bytes[i] = (uint8_t)(i * 7919 >> 3);
	reboot(&x);
	assert_int_equal(first(&x), -ENOENT);
	assert_int_equal(append(&x, 5, 5, "mine", &seq), 0);
	assert_int_equal(seq, 1);
	reboot(&x);
	assert_int_equal(first(&x), 0);
	assert_int_equal(x.record.seq, 1);
	flash_free(&x.flash);
}

static void test_numbers_of_a_newest_sector_that_is_lost_are_not_used_again(void **state)
{
	struct fixture x;
	uint32_t used, seq;

	(void)state;
	set_up(&x, 1024, 4);
	reboot(&x);
	fill(&x, 6);
	for (int i = 0; i < 5; i++)
		assert_int_equal(append(&x, 5, 5, "lost", &used), 0);
	x.flash.bytes[6 % 4 * 1024 + 9] ^= 0x10; /* in its generation */
	reboot(&x);
	assert_true(x.b.corrupt > 0);
	assert_int_equal(append(&x, 5, 5, "next", &seq), 0);
	assert_true(seq > used);
	flash_free(&x.flash);
}

static void test_a_damaged_record_is_skipped_and_counted(void **state)
{
	struct fixture x;
	uint32_t seq;

	(void)state;
	set_up(&x, 4096, 2);
	reboot(&x);
	append(&x, 5, 5, "one", &seq);
	append(&x, 6, 6, "two", &seq);
	append(&x, 7, 7, "three", &seq);
	x.flash.bytes[4096 + 24 + 28 + 25] ^= 1;
	reboot(&x);
	assert_int_equal(x.b.corrupt, 1);
	assert_int_equal(x.b.waiting, 2);
	assert_int_equal(first(&x), 0);
	assert_int_equal(x.record.seq, 1);
	assert_int_equal(next(&x), 0);
	assert_int_equal(x.record.seq, 3);
	assert_int_equal(x.b.next_seq, 4);
	flash_free(&x.flash);
}

static void test_the_next_number_survives_when_all_records_are_gone(void **state)
{
	struct fixture x;
	uint32_t seq;

	(void)state;
	set_up(&x, 512, 2);
	reboot(&x);
	seq = fill(&x, 9);
	/* The last record is torn: only the header of its sector is left. */
	memset(x.flash.bytes + 512 + 24 + 24, 0x55, 8);
	memset(x.flash.bytes, 0xff, 512);
	reboot(&x);
	assert_int_equal(first(&x), -ENOENT);
	assert_int_equal(x.b.next_seq, seq + 1);
	flash_free(&x.flash);
}

static void test_a_reading_before_the_time_was_known_is_dated_after_a_reboot(void **state)
{
	struct fixture x;
	uint32_t seq;

	(void)state;
	set_up(&x, 4096, 2);
	reboot(&x);
	append(&x, 0, 5000, "early", &seq);
	assert_int_equal(first(&x), 0);
	assert_int_equal(x.record.time_ms, 0);
	assert_int_equal(fg_backlog_anchor(&x.b, 1700000000000), 0);
	assert_int_equal(fg_backlog_anchor(&x.b, 1800000000000), 0);
	append(&x, 0, 6000, "later", &seq);
	reboot(&x);
	append(&x, 0, 5000, "of another boot", &seq);
	assert_int_equal(first(&x), 0);
	assert_int_equal(x.record.time_ms, 1700000005000);
	assert_int_equal(next(&x), 0);
	assert_int_equal(x.record.time_ms, 1700000006000);
	assert_int_equal(next(&x), 0);
	assert_int_equal(x.record.time_ms, 0);
	flash_free(&x.flash);
}

static void test_an_anchor_is_not_written_where_no_reading_needs_it(void **state)
{
	struct fixture x;
	uint32_t seq;

	(void)state;
	set_up(&x, 4096, 2);
	reboot(&x);
	append(&x, 1700000000000, 5000, "dated", &seq);
	x.flash.calls = 0;
	assert_int_equal(fg_backlog_anchor(&x.b, 1700000000000), 0);
	assert_int_equal(x.flash.calls, 0);
	flash_free(&x.flash);
}

static void test_what_does_not_fit_is_refused(void **state)
{
	static const uint8_t payload[FG_BACKLOG_PAYLOAD_MAX + 1];
	struct fixture x;
	uint32_t seq;

	(void)state;
	set_up(&x, 512, 2);
	reboot(&x);
	assert_int_equal(fg_backlog_append(&x.b, 1, 1, 1, payload, sizeof(payload), &seq),
			 -EMSGSIZE);
	assert_int_equal(append(&x, 1, 1, "four", &seq), 0);
	assert_int_equal(fg_backlog_first(&x.b, &x.cursor, &x.record, x.buffer, 3), -EMSGSIZE);
	flash_free(&x.flash);
}

static void test_without_flash_nothing_is_kept(void **state)
{
	struct fixture x;
	uint32_t seq;

	(void)state;
	set_up(&x, 512, 2);
	x.flash.port.flash = NULL;
	x.b = (struct fg_backlog){.port = &x.flash.port, .ctx = &x.flash};
	assert_int_equal(fg_backlog_mount(&x.b), -ENODEV);
	assert_int_equal(append(&x, 1, 1, "x", &seq), -EIO);
	assert_int_equal(first(&x), -ENOENT);
	flash_free(&x.flash);
}

static void test_after_the_last_number_comes_one(void **state)
{
	struct fixture x;
	uint32_t seq;

	(void)state;
	set_up(&x, 4096, 2);
	reboot(&x);
	x.b.next_seq = UINT32_MAX;
	append(&x, 1, 1, "last", &seq);
	assert_int_equal(seq, UINT32_MAX);
	reboot(&x);
	append(&x, 1, 1, "first", &seq);
	assert_int_equal(seq, 1);
	reboot(&x);
	assert_int_equal(x.b.next_seq, 2);
	assert_int_equal(x.b.waiting, 2);
	flash_free(&x.flash);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_reading_comes_back_as_it_was_appended),
		cmocka_unit_test(test_what_another_program_left_is_erased_flash),
		cmocka_unit_test(test_numbers_of_a_newest_sector_that_is_lost_are_not_used_again),
		cmocka_unit_test(test_a_damaged_record_is_skipped_and_counted),
		cmocka_unit_test(test_the_next_number_survives_when_all_records_are_gone),
		cmocka_unit_test(test_a_reading_before_the_time_was_known_is_dated_after_a_reboot),
		cmocka_unit_test(test_an_anchor_is_not_written_where_no_reading_needs_it),
		cmocka_unit_test(test_what_does_not_fit_is_refused),
		cmocka_unit_test(test_without_flash_nothing_is_kept),
		cmocka_unit_test(test_after_the_last_number_comes_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
