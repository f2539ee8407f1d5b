/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal after its files were damaged: by a crash in the middle of a write, the loss of power,
 * a bad disk, or a hand. What is read is always a part of what was appended, in order and nothing
 * twice.
 */
#include "tests/unit/test_journal.h"

#include "core/journal/record.h"

#define IMAGE_MAX 65536

/* A journal that was closed with records 0..n-1 in one segment, and that segment's bytes. */
struct image {
	struct dir dir;
	uint64_t segment;
	uint8_t id[JOURNAL_ID_BYTES];
	struct journal_position ends[400];
	unsigned char bytes[IMAGE_MAX];
	size_t len;
};

static void delete_segments(const struct dir *d)
{
	uint64_t numbers[512];
	size_t n = dir_segments(d, numbers, 512);
	char path[512];

	for (size_t i = 0; i < n; i++) {
		segment_path(d, numbers[i], path);
		assert_int_equal(unlink(path), 0);
	}
}

static void image_new(struct image *im, uint64_t records)
{
	struct journal *j;
	char path[512];

	im->dir = dir_new();
	j = open_journal(&im->dir);
	memcpy(im->id, journal_id(j), sizeof(im->id));
	for (uint64_t n = 0; n < records; n++)
		im->ends[n] = append(j, n);
	im->segment = im->ends[0].segment;
	close_journal(j);
	segment_path(&im->dir, im->segment, path);
	im->len = file_load(path, im->bytes, sizeof(im->bytes));
	assert_int_equal(im->len, im->ends[records - 1].offset);
}

/* Put bytes in the place of the segment, as the only one, and open. */
static struct journal *open_with(struct image *im, const void *bytes, size_t len)
{
	char path[512];

	delete_segments(&im->dir);
	segment_path(&im->dir, im->segment, path);
	file_store(path, bytes, len);
	log_lines = 0;
	last_log[0] = '\0';
	return open_journal(&im->dir);
}

/* The same, with a later segment behind it that holds record n. */
static struct journal *open_with_successor(struct image *im, const void *bytes, size_t len,
					   uint64_t n)
{
	char path[512];
	struct journal *j = open_with(im, im->bytes, im->len);

	append(j, n);
	close_journal(j);
	segment_path(&im->dir, im->segment, path);
	file_store(path, bytes, len);
	log_lines = 0;
	return open_journal(&im->dir);
}

static size_t size_of_record(const struct image *im, size_t n)
{
	return im->ends[n].offset - (n > 0 ? im->ends[n - 1].offset : SEGMENT_HEADER);
}

/* --- The tail --- */

static void test_torn_tail_is_cut_at_open(void **state)
{
	struct image im;

	(void)state;
	image_new(&im, 3);
	for (size_t len = im.ends[1].offset; len < im.len; len++) {
		struct journal *j = open_with(&im, im.bytes, len);
		size_t cut = len - im.ends[1].offset;
		char text[64];
		struct stat st;
		char path[512];

		snprintf(text, sizeof(text), "cut %zu bytes", cut);
		assert_int_equal(strstr(last_log, text) != NULL, cut > 0);
		append(j, 2);
		expect_numbers(j, 0, 3);
		assert_int_equal(stats_of(j).skipped_bytes, 0);
		close_journal(j);
		segment_path(&im.dir, im.segment, path);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_size, im.ends[1].offset);
	}
	dir_remove(&im.dir);
}

static void test_torn_first_record_leaves_the_one_before_the_newest(void **state)
{
	struct image im;
	struct journal *j;
	uint64_t newest;
	char path[512];

	(void)state;
	image_new(&im, 3);
	j = open_with(&im, im.bytes, im.len);
	newest = append(j, 3).segment;
	close_journal(j);
	segment_path(&im.dir, newest, path);
	assert_int_equal(truncate(path, SEGMENT_HEADER + 20), 0);
	j = open_journal(&im.dir);
	assert_true(journal_end(j).segment > newest);
	expect_numbers(j, 0, 3);
	assert_int_equal(stats_of(j).skipped_bytes, 0);
	close_journal(j);
	dir_remove(&im.dir);
}

static void test_bytes_behind_the_last_record_are_cut(void **state)
{
	static unsigned char bytes[IMAGE_MAX + 40000];
	struct image im;

	(void)state;
	image_new(&im, 3);
	for (int kind = 0; kind < 3; kind++) {
		struct journal *j;

		memcpy(bytes, im.bytes, im.len);
		for (size_t i = 0; i < 40000; i++)
			bytes[im.len + i] = (unsigned char)(kind == 0	? 0
							    : kind == 1 ? rand()
									: 0xff);
		j = open_with(&im, bytes, im.len + 40000);
		assert_non_null(strstr(last_log, "cut 40000 bytes"));
		append(j, 3);
		expect_numbers(j, 0, 4);
		assert_int_equal(stats_of(j).skipped_bytes, 0);
		close_journal(j);
	}
	dir_remove(&im.dir);
}

static void test_pages_that_power_loss_left_zero_are_skipped(void **state)
{
	static unsigned char bytes[IMAGE_MAX];
	struct image im;
	struct journal *j;
	int64_t n, last = -1, count = 0;

	(void)state;
	image_new(&im, 300);
	memcpy(bytes, im.bytes, im.len);
	memset(bytes + 4096, 0, 8192);
	j = open_with(&im, bytes, im.len);
	while ((n = read_number(j, NULL)) >= 0) {
		assert_true(n > last);
		last = n;
		count++;
	}
	assert_int_equal(last, 299);
	for (uint64_t i = 0; i < 300; i++) {
		uint64_t begin = i ? im.ends[i - 1].offset : SEGMENT_HEADER;

		if (im.ends[i].offset > 4096 && begin < 4096 + 8192)
			count++;
	}
	assert_int_equal(count, 300);
	assert_in_range(stats_of(j).skipped_bytes, 8192, 8192 + 300);
	assert_int_equal(log_lines, 1);
	close_journal(j);
	dir_remove(&im.dir);
}

/* --- The middle --- */

static void test_a_flipped_bit_costs_one_record_wherever_it_is(void **state)
{
	struct image im;

	(void)state;
	image_new(&im, 3);
	for (size_t at = im.ends[0].offset; at < im.ends[1].offset; at++) {
		struct journal *j;

		im.bytes[at] ^= (unsigned char)(1 << (at * 5 % 8));
		j = open_with(&im, im.bytes, im.len);
		assert_int_equal(read_number(j, NULL), 0);
		expect_numbers(j, 2, 3);
		assert_int_equal(stats_of(j).skipped_bytes, size_of_record(&im, 1));
		assert_non_null(strstr(last_log, "event=journal_damaged"));
		assert_int_equal(log_lines, 1);
		close_journal(j);
		im.bytes[at] ^= (unsigned char)(1 << (at * 5 % 8));
	}
	dir_remove(&im.dir);
}

static void test_damage_at_the_end_of_an_older_segment_is_skipped(void **state)
{
	struct image im;

	(void)state;
	image_new(&im, 3);
	for (size_t at = im.ends[1].offset; at < im.len; at++) {
		struct journal *j;

		im.bytes[at] ^= 0x10;
		j = open_with_successor(&im, im.bytes, im.len, 3);
		assert_int_equal(read_number(j, NULL), 0);
		assert_int_equal(read_number(j, NULL), 1);
		expect_numbers(j, 3, 4);
		assert_int_equal(stats_of(j).skipped_bytes, size_of_record(&im, 2));
		close_journal(j);
		im.bytes[at] ^= 0x10;
	}
	dir_remove(&im.dir);
}

static void test_damage_is_counted_once_for_each_place(void **state)
{
	struct image im;
	struct journal *j;

	(void)state;
	image_new(&im, 6);
	im.bytes[im.ends[1].offset] ^= 1;
	im.bytes[im.ends[3].offset + 40] ^= 1;
	j = open_with(&im, im.bytes, im.len);
	for (int round = 0; round < 3; round++) {
		journal_seek(reader_of(j), (struct journal_position){0, 0});
		assert_int_equal(read_number(j, NULL), 0);
		assert_int_equal(read_number(j, NULL), 1);
		assert_int_equal(read_number(j, NULL), 3);
		expect_numbers(j, 5, 6);
	}
	assert_int_equal(stats_of(j).skipped_bytes,
			 size_of_record(&im, 2) + size_of_record(&im, 4));
	assert_int_equal(log_lines, 2);
	close_journal(j);
	dir_remove(&im.dir);
}

static void test_a_damaged_segment_header_loses_no_record(void **state)
{
	struct image im;

	(void)state;
	image_new(&im, 3);
	for (size_t at = 0; at < SEGMENT_HEADER; at++) {
		struct journal *j;

		im.bytes[at] ^= 4;
		j = open_with(&im, im.bytes, im.len);
		expect_numbers(j, 0, 3);
		close_journal(j);
		im.bytes[at] ^= 4;
	}
	dir_remove(&im.dir);
}

static void test_a_segment_without_any_valid_record_ends(void **state)
{
	static unsigned char bytes[IMAGE_MAX];
	struct image im;

	(void)state;
	image_new(&im, 3);
	memcpy(bytes, im.bytes, sizeof(bytes));
	/* Every eight bytes look like the beginning of a record. */
	for (size_t at = SEGMENT_HEADER; at < sizeof(bytes); at += RECORD_ALIGN)
		memcpy(bytes + at, im.bytes + SEGMENT_HEADER, RECORD_ALIGN);
	struct journal *j = open_with_successor(&im, bytes, sizeof(bytes), 7);

	expect_numbers(j, 7, 8);
	assert_int_equal(stats_of(j).skipped_bytes, sizeof(bytes) - SEGMENT_HEADER);
	close_journal(j);
	dir_remove(&im.dir);
}

/* --- Bytes of another place --- */

static void test_a_record_copied_to_another_offset_is_not_one(void **state)
{
	struct image im;
	struct journal *j;
	size_t n = 51; /* as long as record 1 */

	(void)state;
	image_new(&im, 60);
	assert_int_equal(size_of_record(&im, n), size_of_record(&im, 1));
	memcpy(im.bytes + im.ends[n - 1].offset, im.bytes + im.ends[0].offset,
	       size_of_record(&im, 1));
	j = open_with(&im, im.bytes, im.len);
	for (uint64_t i = 0; i < 60; i++)
		if (i != n)
			assert_int_equal(read_number(j, NULL), i);
	assert_int_equal(read_number(j, NULL), -1);
	close_journal(j);
	dir_remove(&im.dir);
}

static void test_records_copied_to_another_segment_are_not_any(void **state)
{
	struct image im;
	struct journal *j;

	(void)state;
	image_new(&im, 10);
	memset(im.bytes, 0, SEGMENT_HEADER);
	im.segment++;
	j = open_with(&im, im.bytes, im.len);
	assert_int_equal(read_number(j, NULL), -1);
	close_journal(j);
	dir_remove(&im.dir);
}

/* A record whose payload holds another record, with the checksums that would be right just there.
 */
static void append_with_image(struct journal *j, const uint8_t id[JOURNAL_ID_BYTES])
{
	struct journal_position at = journal_end(j);
	struct journal_record outer = {.kind = JOURNAL_TELEMETRY,
				       .device = "d",
				       .device_len = 1,
				       .topic = "topic12",
				       .topic_len = 7};
	struct journal_record inner = {.kind = 77, .payload = "forged", .payload_len = 6};
	size_t size = record_size(&inner);
	struct record_image im = {.part_count = 0};

	record_encode(&im, &inner, size, record_seed(id, at.segment),
		      at.offset + RECORD_HEADER + 8);
	outer.payload = im.copy;
	outer.payload_len = size;
	assert_int_equal(journal_append(j, &outer, NULL), 0);
}

static void test_a_record_image_inside_a_payload_is_not_taken(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_journal(&d);
	struct journal_position begin, next;
	struct journal_record r;

	(void)state;
	append(j, 0);
	begin = journal_end(j);
	append_with_image(j, journal_id(j));
	append(j, 1);
	assert_int_equal(read_number(j, NULL), 0);
	assert_int_equal(journal_read(reader_of(j), &r, &next), 1);
	assert_int_equal(r.kind, JOURNAL_TELEMETRY);
	expect_numbers(j, 1, 2);
	/* Nor by a position inside the record that holds it. */
	for (uint64_t at = begin.offset + 1; at <= next.offset; at++) {
		journal_seek(reader_of(j), (struct journal_position){begin.segment, at});
		expect_numbers(j, 1, 2);
	}
	close_journal(j);
	dir_remove(&d);
}

static void test_a_record_image_inside_a_damaged_body_is_not_taken(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_journal(&d);
	struct journal_position begin, end;
	unsigned char byte = 'X';
	char path[512];
	int fd;

	(void)state;
	append(j, 0);
	begin = journal_end(j);
	append_with_image(j, journal_id(j));
	end = journal_end(j);
	append(j, 1);
	segment_path(&d, begin.segment, path);
	fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)begin.offset + RECORD_HEADER), 1);
	close(fd);
	assert_int_equal(read_number(j, NULL), 0);
	expect_numbers(j, 1, 2);
	assert_int_equal(stats_of(j).skipped_bytes, end.offset - begin.offset);
	close_journal(j);
	dir_remove(&d);
}

/* --- Files that a hand changed --- */

static void test_a_segment_deleted_under_the_reader_is_skipped(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_sized(&d, MIB, 4096);
	struct journal_position ends[300];
	uint64_t second = 0, last = 0;
	char path[512];
	int64_t n;

	(void)state;
	for (uint64_t i = 0; i < 300; i++) {
		ends[i] = append(j, i);
		if (!second && ends[i].segment > ends[0].segment)
			second = ends[i].segment;
	}
	segment_path(&d, second, path);
	assert_int_equal(unlink(path), 0);
	while ((n = read_number(j, NULL)) >= 0) {
		assert_true(ends[n].segment != second);
		last = (uint64_t)n;
	}
	assert_int_equal(last, 299);
	assert_in_range(stats_of(j).skipped_bytes, 3000, 4096);
	journal_release(j, ends[299]);
	close_journal(j);
	dir_remove(&d);
}

static void test_a_segment_truncated_under_the_reader_is_skipped(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_sized(&d, MIB, 4096);
	struct journal_position ends[100];
	char path[512];
	uint64_t next = 0;

	(void)state;
	for (uint64_t i = 0; i < 100; i++)
		ends[i] = append(j, i);
	segment_path(&d, ends[0].segment, path);
	assert_int_equal(truncate(path, (off_t)ends[2].offset + 10), 0);
	for (uint64_t i = 0; i < 3; i++)
		assert_int_equal(read_number(j, NULL), i);
	while (ends[next].segment == ends[0].segment)
		next++;
	expect_numbers(j, next, 100);
	close_journal(j);
	dir_remove(&d);
}

/* --- Anything --- */

static void mutate(unsigned char *bytes, size_t *len)
{
	size_t at = SEGMENT_HEADER + (size_t)rand() % (*len - SEGMENT_HEADER);
	size_t from = (size_t)rand() % *len;
	size_t n = (size_t)rand() % 400;

	if (n > *len - at)
		n = *len - at;
	if (n > *len - from)
		n = *len - from;
	switch (rand() % 5) {
	case 0:
		bytes[at] ^= (unsigned char)(1 << rand() % 8);
		break;
	case 1:
		memset(bytes + at, rand(), n);
		break;
	case 2:
		memmove(bytes + at, bytes + from, n);
		break;
	case 3: /* a piece is missing */
		memmove(bytes + at, bytes + at + n, *len - at - n);
		*len -= n;
		break;
	default:
		*len = at;
	}
}

static void test_any_damage_yields_a_part_of_what_was_appended_in_order(void **state)
{
	static unsigned char bytes[IMAGE_MAX];
	struct image im;

	(void)state;
	image_new(&im, 100);
	srand(1);
	for (int round = 0; round < 400; round++) {
		struct journal *j;
		size_t len = im.len;
		int64_t n, last = -1;

		memcpy(bytes, im.bytes, im.len);
		for (int i = rand() % 4; i >= 0 && len > SEGMENT_HEADER; i--)
			mutate(bytes, &len);
		j = open_with(&im, bytes, len);
		while ((n = read_number(j, NULL)) >= 0) {
			assert_true(n > last);
			last = n;
		}
		close_journal(j);
	}
	dir_remove(&im.dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_torn_tail_is_cut_at_open),
		cmocka_unit_test(test_torn_first_record_leaves_the_one_before_the_newest),
		cmocka_unit_test(test_bytes_behind_the_last_record_are_cut),
		cmocka_unit_test(test_pages_that_power_loss_left_zero_are_skipped),
		cmocka_unit_test(test_a_flipped_bit_costs_one_record_wherever_it_is),
		cmocka_unit_test(test_damage_at_the_end_of_an_older_segment_is_skipped),
		cmocka_unit_test(test_damage_is_counted_once_for_each_place),
		cmocka_unit_test(test_a_damaged_segment_header_loses_no_record),
		cmocka_unit_test(test_a_segment_without_any_valid_record_ends),
		cmocka_unit_test(test_a_record_copied_to_another_offset_is_not_one),
		cmocka_unit_test(test_records_copied_to_another_segment_are_not_any),
		cmocka_unit_test(test_a_record_image_inside_a_payload_is_not_taken),
		cmocka_unit_test(test_a_record_image_inside_a_damaged_body_is_not_taken),
		cmocka_unit_test(test_a_segment_deleted_under_the_reader_is_skipped),
		cmocka_unit_test(test_a_segment_truncated_under_the_reader_is_skipped),
		cmocka_unit_test(test_any_damage_yields_a_part_of_what_was_appended_in_order),
	};

	log_set_sink(keep_log, NULL);
	return cmocka_run_group_tests_name("journal damage", tests, NULL, NULL);
}
