/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening and closing. What a crash left behind is put in order here: the torn tail of the newest
 * segment is cut, segments without a record go, and a new segment is begun, so that no later record
 * ever takes the place of one that was lost.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/journal/internal.h"

#define SEGMENT_BYTES_MIN 4096
#define SEGMENT_BYTES_MAX (UINT64_C(1) << 30)

static int check_options(const struct journal_options *o, char *err, size_t err_len)
{
	if (o->segment_bytes < SEGMENT_BYTES_MIN || o->segment_bytes > SEGMENT_BYTES_MAX)
		return directory_error(-EINVAL, err, err_len,
				       "journal.segment_bytes must be %d to %" PRIu64,
				       SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
	if (o->max_bytes / 2 < o->segment_bytes)
		return directory_error(
			-EINVAL, err, err_len,
			"journal.max_bytes must be at least twice journal.segment_bytes");
	if (o->sync_interval_ms == 0)
		return directory_error(-EINVAL, err, err_len,
				       "journal.sync_interval_ms must be at least 1");
	return 0;
}

/* --- What is there --- */

/* Behind the last valid record of the file, or -errno. */
static int find_tail(struct journal *j, int fd, uint64_t number, uint64_t size, uint64_t *tail)
{
	struct scan s = {0};
	struct journal_record r;
	int rc;

	*tail = SEGMENT_HEADER;
	scan_start(&s, fd, record_seed(j->directory.id, number), SEGMENT_HEADER, size);
	while ((rc = scan_next(&s, &r)) > 0)
		*tail = s.offset;
	scan_free(&s);
	return rc;
}

/* Cutting is for the reader's sake only, so that it need not skip the tail: a failure is no harm.
 */
static void cut_tail(struct journal *j, uint64_t number, uint64_t *size)
{
	int fd = segment_open(j->directory.fd, number, O_RDWR);
	uint64_t tail = *size;
	int rc = fd < 0 ? fd : find_tail(j, fd, number, *size, &tail);

	if (rc) {
		log_warn("journal_tail", NULL,
			 "%s: cannot look for the end of segment %" PRIu64
			 ": %s; whatever it ends with is read as it is",
			 j->path, number, strerror(-rc));
	} else if (tail < *size) {
		log_warn("journal_tail", NULL,
			 "%s: cut %" PRIu64
			 " bytes behind the last whole record of segment %" PRIu64
			 " (at byte %" PRIu64 "): an append was under way when the process or the "
			 "machine stopped",
			 j->path, *size - tail, number, tail);
		if (ftruncate(fd, (off_t)tail) != 0)
			log_warn("journal_tail", NULL, "%s: cannot cut segment %" PRIu64 ": %s",
				 j->path, number, strerror(errno));
		*size = tail;
	}
	if (fd >= 0)
		close(fd);
}

/* Is this file one of our segments? Its size, or an error with a message. */
static int inspect(struct journal *j, uint64_t number, uint64_t *size, char *err, size_t err_len)
{
	char name[SEGMENT_NAME_SIZE];
	enum segment_header header = SEGMENT_DAMAGED;
	struct stat st;
	int fd, rc;

	segment_name(name, number);
	if (fstatat(j->directory.fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return directory_error(-errno, err, err_len, "%s/%s: %s", j->path, name,
				       strerror(errno));
	if (!S_ISREG(st.st_mode))
		return directory_error(-EBADMSG, err, err_len,
				       "%s/%s is not a regular file; move it away", j->path, name);
	*size = (uint64_t)st.st_size;
	fd = segment_open(j->directory.fd, number, O_RDONLY);
	rc = fd < 0 ? fd : segment_check(fd, j->directory.id, number, &header);
	if (fd >= 0)
		close(fd);
	if (rc)
		return directory_error(rc, err, err_len, "%s/%s: cannot read: %s", j->path, name,
				       strerror(-rc));
	if (header == SEGMENT_FOREIGN)
		return directory_error(
			-EBADMSG, err, err_len,
			"%s/%s belongs to another journal or has another name there; move it away",
			j->path, name);
	if (header == SEGMENT_NEWER)
		return directory_error(-EBADMSG, err, err_len,
				       "%s/%s was written by a newer version of Fieldgate", j->path,
				       name);
	return 0;
}

static int add_segment(struct journal *j, uint64_t number, uint64_t end)
{
	struct segment *s = segment_new(j->directory.id, number, end);

	if (!s)
		return -ENOMEM;
	/* Whether the last run synced it is not known: synced is 0, the sync thread sees to it. */
	j->segments[j->segment_count++] = s;
	atomic_fetch_add(&j->bytes_others, end);
	return 0;
}

/* Take up the segments that hold records, ascending. The tail is looked for from the newest on down
 * to the first that has any: behind it there may be one made ahead, or one whose first record was
 * torn. */
static int take_segments(struct journal *j, char *err, size_t err_len)
{
	const uint64_t *numbers = j->directory.segments;
	size_t n = j->directory.segment_count;
	uint64_t *sizes;
	int rc = 0;

	if (n == 0)
		return 0;
	j->next_number = numbers[n - 1] + 1;
	sizes = calloc(n, sizeof(*sizes));
	j->segments = calloc(n, sizeof(struct segment *));
	j->segment_room = n;
	if (!sizes || !j->segments) {
		rc = directory_error(-ENOMEM, err, err_len, "%s: out of memory", j->path);
		goto out;
	}
	for (size_t i = 0; i < n && !rc; i++)
		rc = inspect(j, numbers[i], &sizes[i], err, err_len);
	if (rc)
		goto out;
	for (size_t i = n; i-- > 0;) {
		if (sizes[i] > SEGMENT_HEADER)
			cut_tail(j, numbers[i], &sizes[i]);
		if (sizes[i] > SEGMENT_HEADER)
			break;
	}
	for (size_t i = 0; i < n && !rc; i++)
		if (sizes[i] > SEGMENT_HEADER)
			rc = add_segment(j, numbers[i], sizes[i]);
	if (rc)
		directory_error(rc, err, err_len, "%s: out of memory", j->path);
out:
	free(sizes);
	return rc;
}

/* Segments that hold no record: made ahead, or by a process that appended nothing. */
static void delete_empty(struct journal *j)
{
	for (size_t i = 0; i < j->directory.segment_count; i++) {
		uint64_t number = j->directory.segments[i];
		size_t at = segment_find(j->segments, j->segment_count, number);
		char name[SEGMENT_NAME_SIZE];

		if (at < j->segment_count && j->segments[at]->number == number)
			continue;
		segment_name(name, number);
		if (unlinkat(j->directory.fd, name, 0) != 0)
			log_warn("journal_leftover", NULL, "%s/%s: cannot delete: %s", j->path,
				 name, strerror(errno));
	}
}

/* Begin the segment of this run. On a full disk it is left to the first append: the store must be
 * able to empty what is waiting. The empty ones go only when a higher number is durable. */
static int begin_run(struct journal *j, char *err, size_t err_len)
{
	int rc;

	j->first_of_run = j->next_number;
	rc = journal_begin_segment(j);
	if (!rc) {
		delete_empty(j);
		return 0;
	}
	if (rc != -ENOSPC && rc != -EDQUOT)
		return directory_error(rc, err, err_len, "%s: cannot make a segment: %s", j->path,
				       strerror(-rc));
	log_error("journal_append_failed", NULL,
		  "%s: cannot make a segment: %s; messages are refused until there is space",
		  j->path, strerror(-rc));
	j->write_failing = true;
	return 0;
}

/* --- Open and close --- */

static struct journal *new_journal(const struct journal_options *o)
{
	struct journal *j = calloc(1, sizeof(*j));
	pthread_condattr_t monotonic;

	if (!j)
		return NULL;
	j->path = strdup(o->dir);
	if (!j->path) {
		free(j);
		return NULL;
	}
	j->max_bytes = o->max_bytes;
	j->segment_bytes = o->segment_bytes;
	j->keep_bytes =
		o->follower_max_bytes < o->max_bytes / 2 ? o->follower_max_bytes : o->max_bytes / 2;
	j->sync_interval_ms = o->sync_interval_ms;
	j->directory = (struct directory){.fd = -1, .lock_fd = -1};
	j->next_number = 1;
	pthread_mutex_init(&j->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&j->wake, &monotonic);
	pthread_cond_init(&j->settled, NULL);
	pthread_condattr_destroy(&monotonic);
	return j;
}

int journal_open(struct journal **out, const struct journal_options *o, char *err, size_t err_len)
{
	struct journal *j;
	int rc = check_options(o, err, err_len);

	if (rc)
		return rc;
	j = new_journal(o);
	if (!j)
		return directory_error(-ENOMEM, err, err_len, "%s: out of memory", o->dir);
	rc = directory_open(&j->directory, o->dir, err, err_len);
	if (!rc)
		rc = take_segments(j, err, err_len);
	if (!rc)
		rc = begin_run(j, err, err_len);
	if (rc)
		goto out;
	rc = journal_sync_start(j);
	if (rc) {
		directory_error(rc, err, err_len, "%s: cannot start a thread: %s", o->dir,
				strerror(-rc));
		goto out;
	}
	*out = j;
	return 0;
out:
	journal_close(j);
	return rc;
}

void journal_close(struct journal *j)
{
	if (!j)
		return;
	journal_sync_stop(j);
	for (size_t i = 0; i < j->segment_count; i++)
		segment_free(j->segments[i]);
	free(j->segments);
	segment_free(j->spare);
	directory_close(&j->directory);
	pthread_cond_destroy(&j->settled);
	pthread_cond_destroy(&j->wake);
	pthread_mutex_destroy(&j->lock);
	free(j->path);
	free(j);
}
