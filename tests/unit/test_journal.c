/* SPDX-License-Identifier: Apache-2.0 */
/* The journal as its users see it: order, segments, bound, positions, and what an open refuses. */
#include "tests/unit/test_journal.h"

#include <poll.h>

static const struct journal_position start = {0, 0};

/* --- Appending and reading --- */

static void test_records_are_read_in_order_and_whole(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_journal(&d);

	(void)state;
	for (uint64_t n = 0; n < 500; n++)
		append(j, n);
	expect_numbers(j, 0, 500);
	append(j, 500);
	expect_numbers(j, 500, 501);
	close_journal(j);
	dir_remove(&d);
}

static void test_an_empty_journal_reads_nothing(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_journal(&d);

	(void)state;
	assert_int_equal(read_number(j, NULL), -1);
	assert_int_equal(stats_of(j).backlog_bytes, 0);
	close_journal(j);
	dir_remove(&d);
}

static void test_empty_fields_and_the_longest_ones_survive(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_journal(&d);
	struct journal_record empty = {.kind = JOURNAL_PRESENCE, .received_at_us = INT64_MIN};
	struct journal_record r = {.device_len = 255, .topic_len = 65535};
	struct journal_record got;
	struct journal_position next;

	(void)state;
	r.payload_len = JOURNAL_PAYLOAD_MAX;
	r.device = r.topic = r.payload = calloc(1, JOURNAL_PAYLOAD_MAX);
	assert_non_null(r.payload);
	memset((void *)r.payload, 'x', JOURNAL_PAYLOAD_MAX);
	assert_int_equal(journal_append(j, &empty, NULL), 0);
	assert_int_equal(journal_append(j, &r, NULL), 0);
	assert_int_equal(journal_append(j, &empty, NULL), 0);

	assert_int_equal(journal_read(reader_of(j), &got, &next), 1);
	assert_int_equal(got.kind, JOURNAL_PRESENCE);
	assert_int_equal(got.received_at_us, INT64_MIN);
	assert_int_equal(got.device_len + got.topic_len + got.payload_len, 0);
	assert_int_equal(journal_read(reader_of(j), &got, &next), 1);
	assert_int_equal(got.payload_len, JOURNAL_PAYLOAD_MAX);
	assert_memory_equal(got.device, r.device, 255);
	assert_memory_equal(got.topic, r.topic, 65535);
	assert_memory_equal(got.payload, r.payload, JOURNAL_PAYLOAD_MAX);
	assert_int_equal(journal_read(reader_of(j), &got, &next), 1);
	assert_int_equal(journal_read(reader_of(j), &got, &next), 0);
	free((void *)r.payload);
	close_journal(j);
	dir_remove(&d);
}

static void test_too_long_fields_are_refused(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_sized(&d, 1 * MIB, MIB / 2);
	static char bytes[600000];
	struct journal_record device = {.device = bytes, .device_len = 256};
	struct journal_record topic = {.topic = bytes, .topic_len = 65536};
	struct journal_record payload = {.payload = bytes, .payload_len = JOURNAL_PAYLOAD_MAX + 1};
	struct journal_record half = {.payload = bytes, .payload_len = 524288};

	(void)state;
	assert_int_equal(journal_append(j, &device, NULL), -EMSGSIZE);
	assert_int_equal(journal_append(j, &topic, NULL), -EMSGSIZE);
	assert_int_equal(journal_append(j, &payload, NULL), -EMSGSIZE);
	assert_int_equal(journal_append(j, &half, NULL), -EMSGSIZE);
	assert_int_equal(stats_of(j).refused, 4);
	assert_int_equal(read_number(j, NULL), -1);
	close_journal(j);
	dir_remove(&d);
}

static void test_the_next_position_is_where_append_said_it_ends(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_sized(&d, MIB, 4096);
	struct journal_position ends[100], next;

	(void)state;
	for (uint64_t n = 0; n < 100; n++) {
		ends[n] = append(j, n);
		assert_int_equal(journal_position_compare(ends[n], journal_end(j)), 0);
	}
	for (uint64_t n = 0; n < 100; n++) {
		assert_int_equal(read_number(j, &next), n);
		assert_int_equal(journal_position_compare(next, ends[n]), 0);
	}
	close_journal(j);
	dir_remove(&d);
}

/* --- Segments --- */

static void test_rollover_keeps_every_segment_within_its_size(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_sized(&d, MIB, 4096);
	uint64_t numbers[64];
	size_t n_segments;

	(void)state;
	for (uint64_t n = 0; n < 300; n++)
		append(j, n);
	expect_numbers(j, 0, 300);
	n_segments = dir_segments(&d, numbers, 64);
	assert_true(n_segments >= 8);
	for (size_t i = 0; i < n_segments; i++) {
		struct stat st;
		char path[512];

		segment_path(&d, numbers[i], path);
		assert_int_equal(stat(path, &st), 0);
		assert_true(st.st_size <= 4096);
		assert_int_equal(st.st_mode & 0777, 0600);
	}
	close_journal(j);
	dir_remove(&d);
}

static void test_a_record_larger_than_a_segment_gets_its_own(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_sized(&d, MIB, 4096);
	struct journal_position before, large, after;

	(void)state;
	before = append(j, 0);
	assert_int_equal(append_sized(j, 1, 9000, &large), 0);
	after = append(j, 2);
	assert_true(before.segment < large.segment && large.segment < after.segment);
	assert_int_equal(large.offset, SEGMENT_HEADER + (32 + 5 + 13 + 9000 + 7) / 8 * 8);
	expect_numbers(j, 0, 3);
	close_journal(j);
	dir_remove(&d);
}

static void test_each_open_begins_a_segment_with_a_higher_number(void **state)
{
	struct dir d = dir_new();
	uint64_t last = 0;

	(void)state;
	for (uint64_t n = 0; n < 5; n++) {
		struct journal *j = open_journal(&d);
		struct journal_position end = append(j, n);

		assert_true(end.segment > last);
		last = end.segment;
		journal_release(j, end);
		close_journal(j);
	}
	dir_remove(&d);
}

static void test_opens_that_append_nothing_do_not_fill_the_directory(void **state)
{
	struct dir d = dir_new();
	uint64_t numbers[64], last = 0;

	(void)state;
	for (int i = 0; i < 20; i++) {
		struct journal *j = open_journal(&d);

		assert_true(journal_end(j).segment > last);
		last = journal_end(j).segment;
		close_journal(j);
	}
	assert_int_equal(dir_segments(&d, numbers, 64), 1);
	dir_remove(&d);
}

static void test_records_of_earlier_runs_are_read_first(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_journal(&d);

	(void)state;
	for (uint64_t n = 0; n < 30; n++) {
		append(j, n);
		if (n % 10 == 9) {
			close_journal(j);
			j = open_journal(&d);
		}
	}
	expect_numbers(j, 0, 30);
	close_journal(j);
	dir_remove(&d);
}

/* --- The bound --- */

static uint64_t bytes_on_disk(const struct dir *d)
{
	uint64_t numbers[2048], sum = 0;
	size_t n = dir_segments(d, numbers, 2048);

	for (size_t i = 0; i < n; i++) {
		struct stat st;
		char path[512];

		segment_path(d, numbers[i], path);
		assert_int_equal(stat(path, &st), 0);
		sum += (uint64_t)st.st_size;
	}
	return sum;
}

/* Appends until the bound refuses; the number behind the last that went in. */
static uint64_t fill(struct journal *j, uint64_t from)
{
	for (uint64_t n = from;; n++) {
		int rc = append_sized(j, n, 100, NULL);

		if (rc == -ENOBUFS)
			return n;
		assert_int_equal(rc, 0);
	}
}

static void test_the_bound_refuses_and_space_given_back_is_used_again(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_sized(&d, 32768, 4096);
	struct journal_position next = {0, 0};
	uint64_t n = fill(j, 0), m;

	(void)state;
	assert_true(bytes_on_disk(&d) <= 32768);
	assert_true(bytes_on_disk(&d) > 32768 - 512);
	assert_in_range(bytes_on_disk(&d) - stats_of(j).bytes, 0, SEGMENT_HEADER);
	assert_true(stats_of(j).full);
	assert_int_equal(stats_of(j).refused, 1);

	for (uint64_t i = 0; i < n; i++)
		assert_int_equal(read_number(j, &next), i);
	journal_release(j, next);
	assert_int_equal(stats_of(j).backlog_bytes, 0);
	m = fill(j, n);
	assert_true(m - n > 150);
	assert_true(bytes_on_disk(&d) <= 32768);
	expect_numbers(j, n, m);
	close_journal(j);
	dir_remove(&d);
}

static void test_the_reserve_is_one_segment_above_the_bound(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_sized(&d, 32768, 4096);
	struct journal_record r = {.kind = JOURNAL_PRESENCE, .device = "dev-1", .device_len = 5};
	int reserved = 0;
	int rc;

	(void)state;
	fill(j, 0);
	while ((rc = journal_append_reserved(j, &r, NULL)) == 0)
		reserved++;
	assert_int_equal(rc, -ENOBUFS);
	assert_in_range(reserved, 4096 / 40 - 10, 4096 / 40 + 10);
	assert_true(bytes_on_disk(&d) <= 32768 + 4096);
	assert_int_equal(append_sized(j, 0, 100, NULL), -ENOBUFS);
	close_journal(j);
	dir_remove(&d);
}

static void test_the_largest_record_fits_once_everything_is_released(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_sized(&d, 32768, 4096);
	struct journal_position end;
	size_t largest = 32768 / 2 - SEGMENT_HEADER - 32 - 5 - 13 - 6;

	(void)state;
	assert_int_equal(append_sized(j, 9, largest + 8, NULL), -EMSGSIZE);
	for (uint64_t n = 0; n < 6; n++) {
		assert_int_equal(append_sized(j, n, largest, &end), 0);
		expect_numbers(j, n, n + 1);
		journal_release(j, end);
	}
	close_journal(j);
	dir_remove(&d);
}

static void test_full_is_logged_once(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_sized(&d, 32768, 4096);
	uint64_t n = fill(j, 0);

	(void)state;
	assert_non_null(strstr(last_log, "event=journal_full"));
	log_lines = 0;
	for (int i = 0; i < 100; i++)
		assert_int_equal(append_sized(j, n, 100, NULL), -ENOBUFS);
	assert_int_equal(log_lines, 0);
	close_journal(j);
	dir_remove(&d);
}

/* --- Releasing and seeking --- */

static void test_release_deletes_whole_segments_but_never_the_newest(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_sized(&d, MIB, 4096);
	struct journal_position ends[300];
	uint64_t numbers[64];
	size_t before, after;

	(void)state;
	for (uint64_t n = 0; n < 300; n++)
		ends[n] = append(j, n);
	before = dir_segments(&d, numbers, 64);
	journal_release(j, ends[0]);
	assert_int_equal(dir_segments(&d, numbers, 64), before);
	journal_release(j, ends[150]);
	dir_segments(&d, numbers, 64);
	assert_true(numbers[0] == ends[150].segment);
	journal_release(j, ends[299]);
	after = dir_segments(&d, numbers, 64);
	assert_true(after == 1 || after == 2); /* 2: the next one is made ahead already */
	assert_true(numbers[0] == ends[299].segment);
	assert_int_equal(stats_of(j).backlog_bytes, 0);
	close_journal(j);
	dir_remove(&d);
}

static void test_backlog_is_what_lies_behind_the_released_position(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_journal(&d);
	struct journal_position first, second;

	(void)state;
	first = append(j, 0);
	second = append(j, 1);
	assert_int_equal(stats_of(j).backlog_bytes, second.offset - SEGMENT_HEADER);
	journal_release(j, first);
	assert_int_equal(stats_of(j).backlog_bytes, second.offset - first.offset);
	journal_release(j, second);
	assert_int_equal(stats_of(j).backlog_bytes, 0);
	close_journal(j);
	dir_remove(&d);
}

static void test_seek_to_every_position_goes_on_behind_it(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_sized(&d, MIB, 4096);
	struct journal_position ends[100];

	(void)state;
	for (uint64_t n = 0; n < 100; n++)
		ends[n] = append(j, n);
	for (uint64_t n = 0; n < 100; n++) {
		journal_seek(reader_of(j), ends[n]);
		expect_numbers(j, n + 1, 100);
	}
	assert_int_equal(stats_of(j).skipped_bytes, 0);
	close_journal(j);
	dir_remove(&d);
}

static void test_seek_into_a_record_goes_to_the_next_one(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_journal(&d);
	struct journal_position ends[3];

	(void)state;
	for (uint64_t n = 0; n < 3; n++)
		ends[n] = append(j, n);
	for (uint64_t at = ends[0].offset + 1; at <= ends[1].offset; at++) {
		journal_seek(reader_of(j), (struct journal_position){ends[0].segment, at});
		expect_numbers(j, 2, 3);
	}
	assert_int_equal(stats_of(j).skipped_bytes, 0);
	close_journal(j);
	dir_remove(&d);
}

static void test_seek_before_the_oldest_goes_to_the_oldest(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_sized(&d, MIB, 4096);
	struct journal_position ends[100];
	int64_t n;

	(void)state;
	for (uint64_t i = 0; i < 100; i++)
		ends[i] = append(j, i);
	journal_release(j, ends[60]);
	journal_seek(reader_of(j), start);
	n = read_number(j, NULL);
	assert_in_range(n, 1, 61);
	expect_numbers(j, (uint64_t)n + 1, 100);
	close_journal(j);
	dir_remove(&d);
}

static void test_seek_behind_a_lost_tail_goes_to_the_next_segment(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_journal(&d);
	struct journal_position first = append(j, 0), committed = append(j, 1);
	char path[512];

	(void)state;
	close_journal(j);
	/* The power fails: what was committed in PostgreSQL is gone from the file. */
	segment_path(&d, first.segment, path);
	assert_int_equal(truncate(path, (off_t)first.offset), 0);
	j = open_journal(&d);
	append(j, 2);
	journal_seek(reader_of(j), committed);
	expect_numbers(j, 2, 3);
	close_journal(j);
	dir_remove(&d);
}

static void test_seek_beyond_the_end_reads_all_there_is(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_journal(&d);

	(void)state;
	append(j, 0);
	close_journal(j);
	j = open_journal(&d);
	append(j, 1);
	journal_seek(reader_of(j), (struct journal_position){1000, 64});
	assert_non_null(strstr(last_log, "event=journal_position"));
	append(j, 2);
	expect_numbers(j, 0, 3);
	close_journal(j);
	dir_remove(&d);
}

/* Of a position in this run's own segments: whoever committed it must have read up to it. */
static void test_position_that_nobody_has_read_was_not_reached(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_journal(&d);
	struct journal_position first, second, old;

	(void)state;
	old = append(j, 0);
	close_journal(j);
	j = open_journal(&d);
	first = append(j, 1);
	second = append(j, 2);
	assert_true(journal_reached(reader_of(j), (struct journal_position){0, 0}));
	assert_true(journal_reached(reader_of(j), old));
	assert_true(journal_reached(reader_of(j), (struct journal_position){old.segment, 100000}));
	assert_false(journal_reached(reader_of(j), first));
	assert_int_equal(read_number(j, NULL), 0);
	assert_int_equal(read_number(j, NULL), 1);
	assert_true(journal_reached(reader_of(j), first));
	assert_false(journal_reached(reader_of(j), second));
	journal_seek(reader_of(j), (struct journal_position){0, 0});
	assert_true(journal_reached(reader_of(j), first));
	close_journal(j);
	dir_remove(&d);
}

static void test_seek_to_the_end_is_no_error(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_journal(&d);

	(void)state;
	journal_seek(reader_of(j), journal_end(j));
	append(j, 0);
	expect_numbers(j, 0, 1);
	log_lines = 0;
	journal_seek(reader_of(j), journal_end(j));
	append(j, 1);
	expect_numbers(j, 1, 2);
	assert_int_equal(log_lines, 0);
	close_journal(j);
	dir_remove(&d);
}

/* --- Waking the reader --- */

static bool is_readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static void test_only_an_armed_reader_is_woken_and_once(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_journal(&d);
	int fd = journal_wakeup_fd(reader_of(j));

	(void)state;
	append(j, 0);
	assert_false(is_readable(fd));
	journal_arm(reader_of(j));
	assert_false(is_readable(fd));
	append(j, 1);
	assert_true(is_readable(fd));
	journal_arm(reader_of(j));
	assert_false(is_readable(fd));
	close_journal(j);
	dir_remove(&d);
}

/* --- Stable storage --- */

static void wait_until_durable(struct journal *j, struct journal_position pos)
{
	for (int i = 0; i < 2000; i++) {
		if (journal_position_compare(journal_durable(j), pos) >= 0)
			return;
		usleep(5000);
	}
	fail_msg("not synced in 10 s");
}

static void test_the_thread_syncs_without_being_asked(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_sized(&d, MIB, 4096);

	(void)state;
	wait_until_durable(j, append(j, 0));
	for (uint64_t n = 1; n < 200; n++)
		append(j, n);
	wait_until_durable(j, journal_end(j));
	wait_until_durable(j, append(j, 200));
	close_journal(j);
	dir_remove(&d);
}

static void test_sync_makes_everything_before_durable(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_sized(&d, MIB, 4096);
	struct journal_position end = {0, 0};

	(void)state;
	for (uint64_t n = 0; n < 200; n++)
		end = append(j, n);
	assert_int_equal(journal_sync(j, end), 0);
	assert_true(journal_position_compare(journal_durable(j), end) >= 0);
	assert_int_equal(journal_sync(j, start), 0);
	end.offset += 8;
	assert_int_equal(journal_sync(j, end), -EINVAL);
	close_journal(j);
	dir_remove(&d);
}

static void test_records_of_an_earlier_run_become_durable_too(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_journal(&d);
	struct journal_position end = append(j, 0);

	(void)state;
	close_journal(j);
	j = open_journal(&d);
	assert_int_equal(journal_sync(j, end), 0);
	wait_until_durable(j, journal_end(j));
	close_journal(j);
	dir_remove(&d);
}

/* Without waiting for the thread, which has a minute here. */
static void test_what_an_earlier_run_left_can_be_synced_at_once(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_journal(&d);
	struct journal_position end = append(j, 0);
	const struct journal_options slow = {
		.dir = d.path, .max_bytes = MIB, .segment_bytes = 4096, .sync_interval_ms = 60000};
	char err[512];

	(void)state;
	close_journal(j);
	assert_int_equal(journal_open(&j, &slow, err, sizeof(err)), 0);
	assert_true(journal_position_compare(journal_durable(j), end) < 0);
	assert_int_equal(journal_sync_former(j), 0);
	assert_true(journal_position_compare(journal_durable(j), end) >= 0);
	close_journal(j);
	dir_remove(&d);
}

/* --- What an open refuses --- */

static void test_a_second_open_is_told_who_has_it(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_journal(&d), *second;
	char err[512], pid[32];

	(void)state;
	snprintf(pid, sizeof(pid), "process %ld", (long)getpid());
	assert_int_equal(try_open(&second, &d, MIB, 4096, err), -EBUSY);
	assert_non_null(strstr(err, pid));
	close_journal(j);
	assert_int_equal(try_open(&second, &d, MIB, 4096, err), 0);
	close_journal(second);
	dir_remove(&d);
}

static void test_a_directory_with_other_files_is_refused_untouched(void **state)
{
	static const char *const names[] = {"notes.txt", "1.segment",
					    "00000000000000000000.segment",
					    "99999999999999999999.segment"};
	char path[512], err[512];
	struct journal *j;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct dir d = dir_new();

		dir_file(&d, names[i], path);
		file_store(path, "x", 1);
		assert_int_equal(try_open(&j, &d, MIB, 4096, err), -EBADMSG);
		assert_non_null(strstr(err, names[i]));
		dir_file(&d, "lock", path);
		assert_int_equal(access(path, F_OK), -1);
		dir_remove(&d);
	}
}

static void test_a_segment_of_another_journal_is_refused(void **state)
{
	struct dir a = dir_new(), b = dir_new();
	struct journal *j = open_journal(&a);
	char from[512], to[512], err[512];
	uint64_t number = append(j, 0).segment;

	(void)state;
	close_journal(j);
	j = open_journal(&b);
	close_journal(j);
	segment_path(&a, number, from);
	segment_path(&b, number + 100, to);
	assert_int_equal(rename(from, to), 0);
	assert_int_equal(try_open(&j, &b, MIB, 4096, err), -EBADMSG);
	assert_non_null(strstr(err, "another journal"));
	dir_remove(&a);
	dir_remove(&b);
}

static void test_the_id_is_drawn_once_and_a_damaged_one_is_refused(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_journal(&d);
	uint8_t id[16];
	unsigned char text[256];
	char path[512], err[512];
	size_t len;

	(void)state;
	memcpy(id, journal_id(j), 16);
	append(j, 0);
	close_journal(j);
	j = open_journal(&d);
	assert_memory_equal(journal_id(j), id, 16);
	close_journal(j);

	dir_file(&d, "id", path);
	len = file_load(path, text, sizeof(text));
	for (size_t i = 0; i < len; i++) {
		text[i] ^= 1;
		file_store(path, text, len);
		assert_int_equal(try_open(&j, &d, MIB, 4096, err), -EBADMSG);
		text[i] ^= 1;
	}
	unlink(path);
	assert_int_equal(try_open(&j, &d, MIB, 4096, err), -EBADMSG);
	file_store(path, text, len);
	assert_int_equal(try_open(&j, &d, MIB, 4096, err), 0);
	expect_numbers(j, 0, 1);
	close_journal(j);
	dir_remove(&d);
}

static void test_the_directory_is_made_for_its_owner_only(void **state)
{
	struct dir d = dir_new();
	struct journal *j;
	struct stat st;
	char err[512];

	(void)state;
	assert_int_equal(rmdir(d.path), 0);
	assert_int_equal(try_open(&j, &d, MIB, 4096, err), 0);
	assert_int_equal(stat(d.path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	close_journal(j);
	dir_remove(&d);
	snprintf(d.path, sizeof(d.path), "/nonexistent/journal");
	assert_int_equal(try_open(&j, &d, MIB, 4096, err), -ENOENT);
	assert_non_null(strstr(err, "/nonexistent/journal"));
}

static void test_nonsensical_options_are_refused(void **state)
{
	struct dir d = dir_new();
	struct journal *j;
	char err[512];

	(void)state;
	assert_int_equal(try_open(&j, &d, MIB, MIB, err), -EINVAL);
	assert_int_equal(try_open(&j, &d, MIB, 100, err), -EINVAL);
	dir_remove(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_records_are_read_in_order_and_whole),
		cmocka_unit_test(test_an_empty_journal_reads_nothing),
		cmocka_unit_test(test_empty_fields_and_the_longest_ones_survive),
		cmocka_unit_test(test_too_long_fields_are_refused),
		cmocka_unit_test(test_the_next_position_is_where_append_said_it_ends),
		cmocka_unit_test(test_rollover_keeps_every_segment_within_its_size),
		cmocka_unit_test(test_a_record_larger_than_a_segment_gets_its_own),
		cmocka_unit_test(test_each_open_begins_a_segment_with_a_higher_number),
		cmocka_unit_test(test_opens_that_append_nothing_do_not_fill_the_directory),
		cmocka_unit_test(test_records_of_earlier_runs_are_read_first),
		cmocka_unit_test(test_the_bound_refuses_and_space_given_back_is_used_again),
		cmocka_unit_test(test_the_reserve_is_one_segment_above_the_bound),
		cmocka_unit_test(test_the_largest_record_fits_once_everything_is_released),
		cmocka_unit_test(test_full_is_logged_once),
		cmocka_unit_test(test_release_deletes_whole_segments_but_never_the_newest),
		cmocka_unit_test(test_backlog_is_what_lies_behind_the_released_position),
		cmocka_unit_test(test_seek_to_every_position_goes_on_behind_it),
		cmocka_unit_test(test_seek_into_a_record_goes_to_the_next_one),
		cmocka_unit_test(test_seek_before_the_oldest_goes_to_the_oldest),
		cmocka_unit_test(test_seek_behind_a_lost_tail_goes_to_the_next_segment),
		cmocka_unit_test(test_seek_beyond_the_end_reads_all_there_is),
		cmocka_unit_test(test_position_that_nobody_has_read_was_not_reached),
		cmocka_unit_test(test_seek_to_the_end_is_no_error),
		cmocka_unit_test(test_only_an_armed_reader_is_woken_and_once),
		cmocka_unit_test(test_the_thread_syncs_without_being_asked),
		cmocka_unit_test(test_sync_makes_everything_before_durable),
		cmocka_unit_test(test_records_of_an_earlier_run_become_durable_too),
		cmocka_unit_test(test_what_an_earlier_run_left_can_be_synced_at_once),
		cmocka_unit_test(test_a_second_open_is_told_who_has_it),
		cmocka_unit_test(test_a_directory_with_other_files_is_refused_untouched),
		cmocka_unit_test(test_a_segment_of_another_journal_is_refused),
		cmocka_unit_test(test_the_id_is_drawn_once_and_a_damaged_one_is_refused),
		cmocka_unit_test(test_the_directory_is_made_for_its_owner_only),
		cmocka_unit_test(test_nonsensical_options_are_refused),
	};

	log_set_sink(keep_log, NULL);
	return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
