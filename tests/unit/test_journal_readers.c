/* SPDX-License-Identifier: Apache-2.0 */
/* The journal with several readers: what is kept for followers, and what it never costs. */
#include "tests/unit/test_journal.h"

#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#define SEGMENT 4096
#define MANY	2000 /* records of about 110 bytes: some 55 segments */

static const struct journal_position start = {0, 0};

static struct journal *open_keeping(const struct dir *d, uint64_t max, uint64_t keep)
{
	const struct journal_options o = {.dir = d->path,
					  .max_bytes = max,
					  .segment_bytes = SEGMENT,
					  .sync_interval_ms = 20,
					  .follower_max_bytes = keep};
	struct journal *j;
	char err[512];

	if (journal_open(&j, &o, err, sizeof(err)) != 0)
		fail_msg("journal_open: %s", err);
	return j;
}

static struct journal_reader *open_reader(struct journal *j)
{
	struct journal_reader *r;

	assert_int_equal(journal_reader_open(&r, j), 0);
	return r;
}

static struct journal_reader *open_follower(struct journal *j)
{
	struct journal_reader *r = open_reader(j);

	journal_keep(r, start);
	return r;
}

static struct journal_position append_many(struct journal *j, uint64_t from, uint64_t to)
{
	struct journal_position end = {0, 0};

	for (uint64_t n = from; n < to; n++)
		end = append(j, n);
	return end;
}

static void read_range(struct journal_reader *r, uint64_t from, uint64_t to,
		       struct journal_position *next)
{
	for (uint64_t n = from; n < to; n++)
		assert_int_equal(read_one(r, next), n);
}

/* --- Each for itself --- */

static void test_each_reader_reads_everything_at_its_own_pace(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_keeping(&d, MIB, MIB);
	struct journal_reader *a = open_reader(j), *b = open_reader(j);
	struct journal_position next;

	(void)state;
	append_many(j, 0, 300);
	read_range(a, 0, 300, &next);
	read_range(b, 0, 100, NULL);
	append_many(j, 300, 400);
	read_range(b, 100, 400, NULL);
	journal_seek(b, next);
	read_range(a, 300, 400, NULL);
	read_range(b, 300, 400, NULL);
	assert_int_equal(read_one(a, NULL), -1);
	assert_int_equal(read_one(b, NULL), -1);
	journal_reader_close(a);
	append_many(j, 400, 410);
	read_range(b, 400, 410, NULL);
	journal_reader_close(b);
	journal_close(j);
	dir_remove(&d);
}

static void test_what_one_has_read_another_has_not_reached(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_keeping(&d, MIB, MIB);
	struct journal_reader *a = open_reader(j), *b = open_reader(j);
	struct journal_position end = append_many(j, 0, 1);

	(void)state;
	read_range(a, 0, 1, NULL);
	assert_true(journal_reached(a, end));
	assert_false(journal_reached(b, end));
	/* But a store that is stopped and started goes on where it was. */
	journal_reader_close(a);
	assert_false(journal_reached(b, end));
	journal_reader_close(b);
	a = open_reader(j);
	assert_true(journal_reached(a, end));
	journal_reader_close(a);
	journal_close(j);
	dir_remove(&d);
}

static void test_one_append_wakes_all_who_sleep_and_nobody_else(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_keeping(&d, MIB, MIB);
	struct journal_reader *r[3] = {open_reader(j), open_reader(j), open_reader(j)};
	struct pollfd p[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		p[i] = (struct pollfd){.fd = journal_wakeup_fd(r[i]), .events = POLLIN};
	journal_arm(r[0]);
	journal_arm(r[2]);
	append(j, 0);
	assert_int_equal(poll(p, 3, 0), 2);
	assert_int_equal(p[1].revents, 0);
	journal_arm(r[0]);
	assert_int_equal(poll(p, 3, 0), 1);
	append(j, 1);
	assert_int_equal(poll(p, 3, 0), 2);
	for (int i = 0; i < 3; i++)
		journal_reader_close(r[i]);
	journal_close(j);
	dir_remove(&d);
}

static void test_damage_is_counted_once_whoever_meets_it(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_keeping(&d, MIB, MIB);
	struct journal_position first = append(j, 0), second = append(j, 1);
	struct journal_reader *a, *b;
	char path[512];
	int fd;

	(void)state;
	append(j, 2);
	segment_path(&d, first.segment, path);
	fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, "damage", 6, (off_t)first.offset + 40), 6);
	close(fd);
	a = open_reader(j);
	b = open_reader(j);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(read_one(i ? a : b, NULL), 0);
		assert_int_equal(read_one(i ? a : b, NULL), 2);
	}
	assert_int_equal(stats_of(j).skipped_bytes, second.offset - first.offset);
	journal_reader_close(a);
	journal_reader_close(b);
	journal_close(j);
	dir_remove(&d);
}

/* --- What is kept for followers --- */

static void test_a_follower_keeps_what_the_store_has_released(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_keeping(&d, 4 * MIB, MIB);
	struct journal_reader *f = open_follower(j);
	struct journal_position end = append_many(j, 0, MANY), next;
	uint64_t numbers[128];
	size_t before = dir_segments(&d, numbers, 128);

	(void)state;
	journal_release(j, end);
	assert_true(dir_segments(&d, numbers, 128) >= before);
	assert_int_equal(stats_of(j).backlog_bytes, 0);
	read_range(f, 0, MANY / 2, &next);
	journal_keep(f, next);
	dir_segments(&d, numbers, 128);
	assert_int_equal(numbers[0], next.segment);
	read_range(f, MANY / 2, MANY, &next);
	journal_keep(f, next);
	assert_true(dir_segments(&d, numbers, 128) <= 2);
	assert_int_equal(numbers[0], end.segment);
	assert_int_equal(journal_missed(f), 0);
	journal_reader_close(f);
	journal_close(j);
	dir_remove(&d);
}

static void test_the_slowest_of_several_followers_counts_and_one_that_closes_does_not(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_keeping(&d, 4 * MIB, MIB);
	struct journal_reader *fast = open_follower(j), *slow = open_follower(j);
	struct journal_position end = append_many(j, 0, MANY), next;
	uint64_t numbers[128];

	(void)state;
	journal_release(j, end);
	journal_keep(fast, end);
	read_range(slow, 0, 500, &next);
	journal_keep(slow, next);
	dir_segments(&d, numbers, 128);
	assert_int_equal(numbers[0], next.segment);
	journal_reader_close(slow);
	journal_keep(fast, end);
	dir_segments(&d, numbers, 128);
	assert_int_equal(numbers[0], end.segment);
	journal_reader_close(fast);
	journal_close(j);
	dir_remove(&d);
}

static void test_a_follower_does_not_delete_what_the_store_needs(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_keeping(&d, 4 * MIB, MIB);
	struct journal_reader *f = open_follower(j);
	struct journal_position end = append_many(j, 0, MANY);
	uint64_t first[128] = {0}, now[128] = {0};
	size_t n = dir_segments(&d, first, 128);

	(void)state;
	journal_keep(f, end);
	assert_true(dir_segments(&d, now, 128) >= n);
	assert_int_equal(now[0], first[0]);
	assert_int_equal(read_number(j, NULL), 0);
	journal_reader_close(f);
	close_journal(j);
	dir_remove(&d);
}

/* A database brought back from a backup asks for what the journal still has. */
static void test_what_the_store_goes_back_to_is_not_deleted(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_keeping(&d, 4 * MIB, MIB);
	struct journal_reader *f = open_follower(j);
	struct journal_position end = append_many(j, 0, MANY);

	(void)state;
	journal_release(j, end);
	journal_release(j, start);
	journal_keep(f, end);
	expect_numbers(j, 0, MANY);
	journal_reader_close(f);
	close_journal(j);
	dir_remove(&d);
}

static uint64_t bytes_kept(struct journal *j)
{
	return stats_of(j).bytes - stats_of(j).backlog_bytes;
}

static void test_followers_keep_no_more_than_their_share(void **state)
{
	static const struct {
		uint64_t max, share, kept;
	} cases[] = {
		{4 * MIB, 50000, 50000},
		{300000, MIB, 150000}, /* half of the bound */
		{4 * MIB, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct dir d = dir_new();
		struct journal *j = open_keeping(&d, cases[i].max, cases[i].share);
		struct journal_reader *f = open_follower(j);
		struct journal_position end = append_many(j, 0, MANY);

		journal_release(j, end);
		assert_true(bytes_kept(j) <= cases[i].kept + 2 * SEGMENT);
		assert_true(bytes_kept(j) + 2 * SEGMENT >= cases[i].kept);
		assert_int_equal(journal_missed(f), 1);
		journal_reader_close(f);
		journal_close(j);
		dir_remove(&d);
	}
}

static void test_who_lost_segments_goes_on_with_the_oldest_there_is(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_keeping(&d, 4 * MIB, 50000);
	struct journal_reader *f = open_follower(j);
	int64_t n, before = -1;

	(void)state;
	journal_release(j, append_many(j, 0, MANY));
	assert_int_equal(journal_missed(f), 1);
	n = read_one(f, NULL);
	assert_in_range(n, 1000, MANY - 1);
	read_range(f, (uint64_t)n + 1, MANY, NULL);

	journal_release(j, append_many(j, MANY, 2 * MANY));
	before = n;
	n = read_one(f, NULL);
	assert_true(n > before + 1000);
	read_range(f, (uint64_t)n + 1, 2 * MANY, NULL);
	assert_int_equal(read_one(f, NULL), -1);
	assert_int_equal(journal_missed(f), 2);
	assert_int_equal(stats_of(j).skipped_bytes, 0);
	journal_reader_close(f);
	journal_close(j);
	dir_remove(&d);
}

/* It stopped in the middle of a segment, with the file open. */
static void test_a_segment_deleted_under_its_reader_is_missed_and_not_damaged(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_keeping(&d, 4 * MIB, 50000);
	struct journal_reader *f = open_follower(j);
	struct journal_position next;
	int64_t n;

	(void)state;
	for (uint64_t i = 0; i < 4; i++)
		assert_int_equal(append_sized(j, i, 1000, NULL), 0);
	read_range(f, 0, 2, &next);
	journal_keep(f, next);
	journal_release(j, append_many(j, 4, MANY));
	log_lines = 0;
	while ((n = read_one(f, NULL)) >= 0 && n < 4)
		; /* what it had in its buffer */
	assert_in_range(n, 1000, MANY - 1);
	read_range(f, (uint64_t)n + 1, MANY, NULL);
	assert_int_equal(journal_missed(f), 1);
	assert_int_equal(stats_of(j).skipped_bytes, 0);
	assert_int_equal(log_lines, 0);
	journal_reader_close(f);
	journal_close(j);
	dir_remove(&d);
}

static void test_who_begins_behind_a_deleted_segment_has_missed_nothing(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_keeping(&d, 4 * MIB, 0);
	struct journal_position end = append_many(j, 0, 3);
	struct journal_reader *f;

	(void)state;
	journal_close(j);
	j = open_keeping(&d, 4 * MIB, 0);
	f = open_follower(j);
	journal_seek(f, end);
	append(j, 3);
	journal_release(j, end);
	read_range(f, 3, 4, NULL);
	assert_int_equal(journal_missed(f), 0);
	journal_reader_close(f);
	journal_close(j);
	dir_remove(&d);
}

static void test_who_had_read_it_all_has_missed_nothing(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_keeping(&d, 4 * MIB, 0);
	struct journal_reader *f = open_follower(j);
	struct journal_position end = {0, 0};

	(void)state;
	/* It keeps asking for the beginning, as one whose broker is away, but it has read it. */
	for (uint64_t n = 0; n < MANY; n++) {
		end = append(j, n);
		journal_release(j, end);
		assert_int_equal(read_one(f, NULL), n);
	}
	assert_int_equal(journal_missed(f), 0);
	journal_reader_close(f);
	journal_close(j);
	dir_remove(&d);
}

/* --- What it never costs --- */

static void test_an_append_is_never_refused_for_what_followers_keep(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_keeping(&d, 8 * SEGMENT, MIB);
	struct journal_reader *f = open_follower(j);
	struct journal_position end;

	(void)state;
	for (uint64_t n = 0; n < MANY; n++) {
		size_t len = n % 10 ? 100 : 8 * SEGMENT / 2 - 200;

		assert_int_equal(append_sized(j, n, len, &end), 0);
		journal_release(j, end);
		assert_true(stats_of(j).bytes <= 8 * SEGMENT);
	}
	assert_int_equal(stats_of(j).refused, 0);
	assert_true(journal_missed(f) >= 1);
	journal_reader_close(f);
	journal_close(j);
	dir_remove(&d);
}

/* As above, but the store has not released everything: what it needs is not deleted. */
static void test_the_bound_still_protects_what_is_not_stored(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_keeping(&d, 16 * SEGMENT, MIB);
	struct journal_reader *f = open_follower(j);
	struct journal_position end = append_many(j, 0, 100);
	uint64_t n = 100;

	(void)state;
	journal_release(j, end);
	while (append_sized(j, n, 100, NULL) == 0)
		assert_true(++n < MANY);
	assert_true(stats_of(j).full);
	journal_seek(reader_of(j), end);
	for (uint64_t i = 100; i < n; i++)
		assert_int_equal(read_number(j, NULL), i);
	journal_reader_close(f);
	close_journal(j);
	dir_remove(&d);
}

/* --- A disk that is really full --- */

#define NO_NAMESPACES 77

/* In a process of its own, which may mount a small file system. */
static void on_a_disk_of(const char *size, void (*body)(const struct dir *d))
{
	struct dir d = dir_new();
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		char options[64];

		snprintf(options, sizeof(options), "size=%s", size);
		if ((unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ||
		    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
		    mount("tmpfs", d.path, "tmpfs", 0, options) != 0)
			_exit(NO_NAMESPACES);
		body(&d);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(rmdir(d.path), 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == NO_NAMESPACES)
		skip();
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* cmocka's assertions are for its own process. */
#define must(x)                                                                                    \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                    \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static uint64_t bytes_used(const struct dir *d)
{
	struct statvfs v;

	must(statvfs(d->path, &v) == 0);
	return (v.f_blocks - v.f_bfree) * v.f_frsize;
}

/* The disk is far smaller than the bound and than the follower's share. */
static void follow_on_a_full_disk(const struct dir *d)
{
	struct journal *j = open_keeping(d, 64 * MIB, 64 * MIB);
	struct journal_reader *f = open_follower(j);
	struct journal_position end, next;
	struct journal_record r;

	must(append_sized(j, 0, 50000, &end) == 0);
	must(append_sized(j, 1, 50000, &end) == 0);
	must(journal_read(f, &r, &next) == 1); /* and stays there, with the file open */
	for (uint64_t n = 2; n < MANY; n++) {
		must(append_sized(j, n, 300, &end) == 0);
		journal_release(j, end);
	}
	must(stats_of(j).refused == 0);
	must(journal_missed(f) == 1);
	must(bytes_used(d) <= stats_of(j).bytes + 8 * SEGMENT);
	journal_reader_close(f);
	journal_close(j);
}

static void test_a_full_disk_takes_from_the_followers_first(void **state)
{
	(void)state;
	on_a_disk_of("256k", follow_on_a_full_disk);
}

static int open_large_segments(struct journal **j, const struct dir *d)
{
	const struct journal_options o = {.dir = d->path,
					  .max_bytes = 64 * MIB,
					  .segment_bytes = 16 * MIB,
					  .sync_interval_ms = 20,
					  .follower_max_bytes = MIB};
	char err[512];

	return journal_open(j, &o, err, sizeof(err));
}

static void fill_a_disk_smaller_than_a_segment(const struct dir *d)
{
	struct journal_position end = {0, 0}, all;
	struct journal_reader *f;
	uint64_t first, n = 0;
	struct journal *j;

	must(open_large_segments(&j, d) == 0);
	f = open_follower(j);
	while (append_sized(j, n, 1000, &all) == 0) {
		must(++n < MANY);
		end = all;
	}
	must(stats_of(j).refused == 1);
	must(read_one(f, NULL) == 0);
	/* Not before all of it is stored. */
	journal_release(j, (struct journal_position){end.segment, end.offset - 1});
	must(append_sized(j, n, 1000, NULL) == -ENOSPC);
	for (int round = 0; round < 5; round++) {
		journal_release(j, end);
		first = n;
		while (append_sized(j, n, 1000, &all) == 0) {
			must(++n < 10 * MANY);
			end = all;
			/* The follower stopped in a segment whose records were taken away. */
			while (n == first + 1 && read_one(f, NULL) >= 0)
				;
		}
		must(n > first + 100);
		must(journal_missed(f) == (uint64_t)round + 1);
		must(stats_of(j).skipped_bytes == 0);
	}
	/* What is there is whole, and in order. */
	journal_reader_close(f);
	journal_close(j);
	must(open_large_segments(&j, d) == 0);
	f = open_reader(j);
	for (; first < n; first++) {
		struct journal_position next;
		struct journal_record r;

		must(journal_read(f, &r, &next) == 1);
		must(r.received_at_us == (int64_t)first * 1000 - 5);
	}
	journal_reader_close(f);
	journal_close(j);
}

static void test_a_disk_smaller_than_a_segment_is_used_again_once_all_is_stored(void **state)
{
	(void)state;
	on_a_disk_of("512k", fill_a_disk_smaller_than_a_segment);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_reader_reads_everything_at_its_own_pace),
		cmocka_unit_test(test_what_one_has_read_another_has_not_reached),
		cmocka_unit_test(test_one_append_wakes_all_who_sleep_and_nobody_else),
		cmocka_unit_test(test_damage_is_counted_once_whoever_meets_it),
		cmocka_unit_test(test_a_follower_keeps_what_the_store_has_released),
		cmocka_unit_test(
			test_the_slowest_of_several_followers_counts_and_one_that_closes_does_not),
		cmocka_unit_test(test_a_follower_does_not_delete_what_the_store_needs),
		cmocka_unit_test(test_what_the_store_goes_back_to_is_not_deleted),
		cmocka_unit_test(test_followers_keep_no_more_than_their_share),
		cmocka_unit_test(test_who_lost_segments_goes_on_with_the_oldest_there_is),
		cmocka_unit_test(test_a_segment_deleted_under_its_reader_is_missed_and_not_damaged),
		cmocka_unit_test(test_who_begins_behind_a_deleted_segment_has_missed_nothing),
		cmocka_unit_test(test_who_had_read_it_all_has_missed_nothing),
		cmocka_unit_test(test_an_append_is_never_refused_for_what_followers_keep),
		cmocka_unit_test(test_the_bound_still_protects_what_is_not_stored),
		cmocka_unit_test(test_a_full_disk_takes_from_the_followers_first),
		cmocka_unit_test(
			test_a_disk_smaller_than_a_segment_is_used_again_once_all_is_stored),
	};

	log_set_sink(keep_log, NULL);
	return cmocka_run_group_tests_name("journal readers", tests, NULL, NULL);
}
