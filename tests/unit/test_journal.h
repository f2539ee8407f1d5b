/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the journal's tests share: a directory of one's own, and records that carry a number, so
 * that what is read can be compared with what was appended.
 */
#ifndef FG_TESTS_TEST_JOURNAL_H
#define FG_TESTS_TEST_JOURNAL_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/log.h"
#include "core/journal/journal.h"
#include "core/journal/segment.h"

#define MIB UINT64_C(1048576)

/* --- The log, kept for looking at --- */

static char last_log[1024];
static unsigned log_lines;

static inline void keep_log(enum log_level level, const char *line, void *arg)
{
	(void)level;
	(void)arg;
	snprintf(last_log, sizeof(last_log), "%s", line);
	log_lines++;
}

/* --- Directories --- */

struct dir {
	char path[64];
};

static inline struct dir dir_new(void)
{
	struct dir d = {"/tmp/journal-test-XXXXXX"};

	assert_non_null(mkdtemp(d.path));
	return d;
}

static inline void dir_file(const struct dir *d, const char *name, char path[512])
{
	snprintf(path, 512, "%s/%s", d->path, name);
}

static inline void dir_remove(const struct dir *d)
{
	DIR *dir = opendir(d->path);
	struct dirent *e;
	char path[512];

	assert_non_null(dir);
	while ((e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		dir_file(d, e->d_name, path);
		assert_int_equal(unlink(path), 0);
	}
	closedir(dir);
	assert_int_equal(rmdir(d->path), 0);
}

/* Numbers of the segments, ascending. */
static inline size_t dir_segments(const struct dir *d, uint64_t *numbers, size_t max)
{
	DIR *dir = opendir(d->path);
	struct dirent *e;
	size_t n = 0;
	uint64_t number;

	assert_non_null(dir);
	while ((e = readdir(dir))) {
		size_t i;

		if (!segment_number(e->d_name, &number))
			continue;
		assert_true(n < max);
		for (i = n++; i > 0 && numbers[i - 1] > number; i--)
			numbers[i] = numbers[i - 1];
		numbers[i] = number;
	}
	closedir(dir);
	return n;
}

static inline void segment_path(const struct dir *d, uint64_t number, char path[512])
{
	char name[SEGMENT_NAME_SIZE];

	segment_name(name, number);
	dir_file(d, name, path);
}

static inline size_t file_load(const char *path, unsigned char *buf, size_t max)
{
	FILE *f = fopen(path, "rb");
	size_t n;

	assert_non_null(f);
	n = fread(buf, 1, max, f);
	assert_true(n < max);
	fclose(f);
	return n;
}

static inline void file_store(const char *path, const void *buf, size_t len)
{
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(buf, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

/* --- Journals --- */

static inline int try_open(struct journal **j, const struct dir *d, uint64_t max, uint64_t segment,
			   char err[512])
{
	struct journal_options o = {.dir = d->path,
				    .max_bytes = max,
				    .segment_bytes = segment,
				    .sync_interval_ms = 20,
				    .follower_max_bytes = max};

	err[0] = '\0';
	return journal_open(j, &o, err, 512);
}

static inline struct journal *open_sized(const struct dir *d, uint64_t max, uint64_t segment)
{
	struct journal *j;
	char err[512];

	if (try_open(&j, d, max, segment, err) != 0)
		fail_msg("journal_open: %s", err);
	return j;
}

static inline struct journal *open_journal(const struct dir *d)
{
	return open_sized(d, 64 * MIB, MIB);
}

/* Most tests need one reader only: it is opened when they first ask, and closed with the journal.
 */
static struct {
	struct journal *journal;
	struct journal_reader *reader;
} readers[4];

static inline struct journal_reader *reader_of(struct journal *j)
{
	size_t i = 0;

	while (readers[i].journal && readers[i].journal != j)
		assert_true(++i < 4);
	if (!readers[i].journal) {
		assert_int_equal(journal_reader_open(&readers[i].reader, j), 0);
		readers[i].journal = j;
	}
	return readers[i].reader;
}

static inline void close_journal(struct journal *j)
{
	for (size_t i = 0; i < 4; i++) {
		if (!j || readers[i].journal != j)
			continue;
		journal_reader_close(readers[i].reader);
		readers[i].journal = NULL;
	}
	journal_close(j);
}

/* --- Records: number n has a payload of `len` bytes that follow from n --- */

static inline unsigned char payload_byte(uint64_t n, size_t i)
{
	return (unsigned char)(i < 8 ? n >> (8 * i) : n * 31 + i * 7);
}

static inline int append_sized(struct journal *j, uint64_t n, size_t len,
			       struct journal_position *end)
{
	static _Thread_local unsigned char payload[70000];
	struct journal_record r = {.kind = JOURNAL_TELEMETRY,
				   .format = 3,
				   .received_at_us = (int64_t)n * 1000 - 5,
				   .device = "dev-1",
				   .device_len = 5,
				   .topic = "m/d/dev-1/d2c",
				   .topic_len = 13,
				   .payload = payload,
				   .payload_len = len};

	assert_true(len >= 8 && len <= sizeof(payload));
	for (size_t i = 0; i < len; i++)
		payload[i] = payload_byte(n, i);
	return journal_append(j, &r, end);
}

static inline struct journal_position append(struct journal *j, uint64_t n)
{
	struct journal_position end = {0, 0};

	assert_int_equal(append_sized(j, n, 40 + (size_t)(n % 50), &end), 0);
	return end;
}

/* The number of the next record, whose fields are all checked; -1: none. */
static inline int64_t read_one(struct journal_reader *reader, struct journal_position *next)
{
	struct journal_position ignored;
	struct journal_record r;
	uint64_t n = 0;
	int rc = journal_read(reader, &r, next ? next : &ignored);

	assert_true(rc >= 0);
	if (rc == 0)
		return -1;
	assert_true(r.payload_len >= 8);
	for (int i = 7; i >= 0; i--)
		n = n << 8 | ((const unsigned char *)r.payload)[i];
	for (size_t i = 0; i < r.payload_len; i++)
		assert_int_equal(((const unsigned char *)r.payload)[i], payload_byte(n, i));
	assert_int_equal(r.kind, JOURNAL_TELEMETRY);
	assert_int_equal(r.format, 3);
	assert_int_equal(r.received_at_us, (int64_t)n * 1000 - 5);
	assert_int_equal(r.device_len, 5);
	assert_memory_equal(r.device, "dev-1", 5);
	assert_int_equal(r.topic_len, 13);
	assert_memory_equal(r.topic, "m/d/dev-1/d2c", 13);
	return (int64_t)n;
}

static inline int64_t read_number(struct journal *j, struct journal_position *next)
{
	return read_one(reader_of(j), next);
}

/* The reader is at record `from`, and reads up to but not including `to`, and then nothing. */
static inline void expect_numbers(struct journal *j, uint64_t from, uint64_t to)
{
	for (uint64_t n = from; n < to; n++)
		assert_int_equal(read_number(j, NULL), n);
	assert_int_equal(read_number(j, NULL), -1);
}

static inline struct journal_stats stats_of(struct journal *j)
{
	struct journal_stats s;

	journal_stats(j, &s);
	return s;
}

#endif
