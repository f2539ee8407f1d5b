/* SPDX-License-Identifier: Apache-2.0 */
/* See directory.h. A directory in which something else lies is refused before anything is made in
 * it. */
#include "core/journal/directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/crc32c.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/journal/segment.h"

#define LOCK_NAME   "lock"
#define ID_NAME	    "id"
#define ID_NEW_NAME "id.new"

/* "fieldgate journal 1 <uuid, as PostgreSQL prints it> <CRC-32C of the id>\n" */
#define ID_PREFIX    "fieldgate journal 1 "
#define ID_TEXT_SIZE (sizeof(ID_PREFIX) - 1 + 36 + 1 + 8 + 1 + 1)

#define NO_ID 1 /* from read_id: there is none yet */

#define PID_WIDTH 11

int directory_error(int rc, char *err, size_t err_len, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, err_len, fmt, ap);
	va_end(ap);
	return rc;
}

static int open_directory(struct directory *d, const char *path, char *err, size_t err_len)
{
	struct stat st;

	if (mkdir(path, 0700) != 0 && errno != EEXIST)
		return directory_error(-errno, err, err_len, "%s: cannot make the directory: %s",
				       path, strerror(errno));
	d->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->fd < 0 || fstat(d->fd, &st) != 0)
		return directory_error(-errno, err, err_len, "%s: cannot open the directory: %s",
				       path, strerror(errno));
	if (st.st_mode & 077)
		log_warn("journal_mode", NULL,
			 "%s may be opened by other users (mode %04o); run: chmod 0700 %s", path,
			 (unsigned)st.st_mode & 07777, path);
	return 0;
}

/* --- What is in it --- */

static int add_number(struct directory *d, size_t *room, uint64_t number)
{
	if (d->segment_count == *room) {
		size_t larger = *room ? *room * 2 : 64;
		uint64_t *p = realloc(d->segments, larger * sizeof(*p));

		if (!p)
			return -ENOMEM;
		d->segments = p;
		*room = larger;
	}
	d->segments[d->segment_count++] = number;
	return 0;
}

static bool is_known_name(const char *name)
{
	static const char *const names[] = {".", "..", LOCK_NAME, ID_NAME, ID_NEW_NAME};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int take_names(struct directory *d, DIR *dir, const char *path, char *err, size_t err_len)
{
	size_t room = 0;
	uint64_t number;
	struct dirent *e;

	while ((errno = 0, e = readdir(dir))) {
		if (is_known_name(e->d_name))
			continue;
		if (!segment_number(e->d_name, &number))
			return directory_error(-EBADMSG, err, err_len,
					       "%s holds '%s', which is not a journal's file; move "
					       "it away, or use "
					       "another directory",
					       path, e->d_name);
		if (add_number(d, &room, number))
			return directory_error(-ENOMEM, err, err_len, "%s: out of memory", path);
	}
	if (errno)
		return directory_error(-errno, err, err_len, "%s: cannot list the directory: %s",
				       path, strerror(errno));
	if (d->segment_count > 0)
		qsort(d->segments, d->segment_count, sizeof(*d->segments), by_number);
	return 0;
}

static int list(struct directory *d, const char *path, char *err, size_t err_len)
{
	int fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	int rc;

	if (!dir) {
		rc = directory_error(-errno, err, err_len, "%s: cannot list the directory: %s",
				     path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return rc;
	}
	d->segment_count = 0;
	free(d->segments);
	d->segments = NULL;
	rc = take_names(d, dir, path, err, err_len);
	closedir(dir);
	return rc;
}

/* --- The lock --- */

static long holder(int fd)
{
	char text[PID_WIDTH + 2] = "";
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	return n > 0 ? strtol(text, NULL, 10) : 0;
}

/* The pid is for a person only. Written over the old one, so it works on a full disk too. */
static void write_holder(int fd)
{
	char text[PID_WIDTH + 2];
	int n = snprintf(text, sizeof(text), "%-*ld\n", PID_WIDTH, (long)getpid());

	if (pwrite(fd, text, (size_t)n, 0) != n && ftruncate(fd, 0) != 0)
		log_debug("journal_lock", NULL, "cannot write the pid: %s", strerror(errno));
}

static int lock(struct directory *d, const char *path, char *err, size_t err_len)
{
	d->lock_fd = openat(d->fd, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (d->lock_fd < 0)
		return directory_error(-errno, err, err_len, "%s/" LOCK_NAME ": cannot open: %s",
				       path, strerror(errno));
	if (flock(d->lock_fd, LOCK_EX | LOCK_NB) == 0) {
		write_holder(d->lock_fd);
		return 0;
	}
	if (errno != EWOULDBLOCK)
		return directory_error(-errno, err, err_len, "%s/" LOCK_NAME ": cannot lock: %s",
				       path, strerror(errno));
	return directory_error(-EBUSY, err, err_len,
			       "%s is in use by process %ld; stop it, or use another directory",
			       path, holder(d->lock_fd));
}

/* --- The id --- */

static void id_text(char text[ID_TEXT_SIZE], const uint8_t id[JOURNAL_ID_BYTES])
{
	size_t used = sizeof(ID_PREFIX) - 1;

	memcpy(text, ID_PREFIX, used);
	for (size_t i = 0; i < JOURNAL_ID_BYTES; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			text[used++] = '-';
		snprintf(text + used, ID_TEXT_SIZE - used, "%02x", id[i]);
		used += 2;
	}
	snprintf(text + used, ID_TEXT_SIZE - used, " %08x\n", crc32c(0, id, JOURNAL_ID_BYTES));
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 0;
}

/* Reading is lenient; writing it again and comparing is what accepts. */
static bool id_parse(uint8_t id[JOURNAL_ID_BYTES], const char text[ID_TEXT_SIZE])
{
	char canonical[ID_TEXT_SIZE];
	const char *p = text + sizeof(ID_PREFIX) - 1;

	for (size_t i = 0; i < JOURNAL_ID_BYTES; i++, p += 2) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			p++;
		id[i] = (uint8_t)(digit(p[0]) << 4 | digit(p[1]));
	}
	id_text(canonical, id);
	return strcmp(text, canonical) == 0;
}

static int read_id(struct directory *d, const char *path, char *err, size_t err_len)
{
	char text[ID_TEXT_SIZE] = "";
	int fd = openat(d->fd, ID_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int rc = 0;

	if (fd < 0 && errno == ENOENT)
		return NO_ID;
	if (fd < 0)
		return directory_error(-errno, err, err_len, "%s/" ID_NAME ": cannot open: %s",
				       path, strerror(errno));
	if (pread(fd, text, sizeof(text) - 1, 0) < 0)
		rc = directory_error(-errno, err, err_len, "%s/" ID_NAME ": cannot read: %s", path,
				     strerror(errno));
	else if (!id_parse(d->id, text))
		rc = directory_error(-EBADMSG, err, err_len,
				     "%s/" ID_NAME
				     " is damaged; bring it back from a copy (the id is "
				     "also in the table fieldgate.ingest)",
				     path);
	close(fd);
	return rc;
}

static int write_id_file(struct directory *d)
{
	char text[ID_TEXT_SIZE];
	int fd = openat(d->fd, ID_NEW_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
			0600);
	int rc;

	if (fd < 0)
		return -errno;
	id_text(text, d->id);
	rc = file_write_new(fd, text, sizeof(text) - 1);
	close(fd);
	return rc;
}

static int sync_parent(struct directory *d)
{
	int parent = openat(d->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = 0;

	if (parent < 0)
		return errno == EACCES ? 0
				       : -errno; /* not ours to read: the best that can be done */
	if (fsync(parent) != 0)
		rc = -errno;
	close(parent);
	return rc;
}

/* The rename comes last: a start that finds `id` may rely on its content and on the directory's
 * name. */
static int store_id(struct directory *d)
{
	int rc = write_id_file(d);

	if (!rc)
		rc = sync_parent(d);
	if (rc)
		return rc;
	if (renameat(d->fd, ID_NEW_NAME, d->fd, ID_NAME) != 0 || fsync(d->fd) != 0)
		return -errno;
	return 0;
}

static int make_id(struct directory *d, const char *path, char *err, size_t err_len)
{
	int rc;

	if (d->segment_count > 0)
		return directory_error(-EBADMSG, err, err_len,
				       "%s holds segments but no file '" ID_NAME
				       "'; bring it back from a copy, or move the segments away",
				       path);
	random_bytes(d->id, sizeof(d->id));
	rc = store_id(d);
	if (!rc)
		return 0;
	return directory_error(rc, err, err_len, "%s/" ID_NAME ": cannot be made: %s", path,
			       strerror(-rc));
}

int directory_open(struct directory *d, const char *path, char *err, size_t err_len)
{
	int rc;

	*d = (struct directory){.fd = -1, .lock_fd = -1};
	rc = open_directory(d, path, err, err_len);
	if (!rc)
		rc = list(d, path, err, err_len); /* only to refuse a foreign directory untouched */
	if (!rc)
		rc = lock(d, path, err, err_len);
	if (!rc)
		rc = list(d, path, err, err_len);
	if (!rc)
		rc = read_id(d, path, err, err_len);
	if (rc == NO_ID)
		rc = make_id(d, path, err, err_len);
	if (rc)
		directory_close(d);
	return rc;
}

void directory_close(struct directory *d)
{
	free(d->segments);
	d->segments = NULL;
	if (d->lock_fd >= 0)
		close(d->lock_fd);
	if (d->fd >= 0)
		close(d->fd);
	d->fd = d->lock_fd = -1;
}
