/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flash is a mapping, of a file or of nothing, that holds each byte inverted: a page that
 * nobody has touched then reads as erased, so ten thousand devices cost only what they write.
 */
#include "device-fw/ports/posix/storage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FLASH_FILE "backlog.flash"
#define NAME_SIZE  32
#define VALUE_SIZE 64

struct value {
	struct value *next;
	size_t length;
	char name[NAME_SIZE];
	uint8_t bytes[VALUE_SIZE];
};

struct storage {
	const struct fg_flash_geometry *geometry;
	bool sync;
	int directory;	      /* -1: memory */
	int file;	      /* of the flash, locked while we have it; -1: memory */
	struct value *values; /* of memory */
	uint8_t *flash;
	size_t flash_size;
};

/* An absent file becomes an erased flash. 0, or -1 with `error` filled. */
static int open_flash_file(struct storage *s, const char *directory, char *error, size_t size)
{
	struct stat status;
	int rc;

	s->file = openat(s->directory, FLASH_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (s->file < 0 || fstat(s->file, &status) != 0) {
		snprintf(error, size, "%s/" FLASH_FILE ": %s", directory, strerror(errno));
		return -1;
	}
	if (flock(s->file, LOCK_EX | LOCK_NB) != 0) {
		snprintf(error, size, "%s: another process has this device's state", directory);
		return -1;
	}
	if (status.st_size != 0 && status.st_size != (off_t)s->flash_size) {
		snprintf(error, size,
			 "%s/" FLASH_FILE " has %lld bytes, not the %zu of these sectors; "
			 "give the number of sectors that it was made with",
			 directory, (long long)status.st_size, s->flash_size);
		return -1;
	}
	/* A full disk is to be found now: a mapping could only say it by a signal. */
	rc = posix_fallocate(s->file, 0, (off_t)s->flash_size);
	if (rc != 0)
		snprintf(error, size, "%s/" FLASH_FILE ": %s", directory, strerror(rc));
	return rc ? -1 : 0;
}

static int open_directory(struct storage *s, const char *directory, char *error, size_t size)
{
	if (mkdir(directory, 0700) != 0 && errno != EEXIST) {
		snprintf(error, size, "%s: %s", directory, strerror(errno));
		return -1;
	}
	s->directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->directory < 0) {
		snprintf(error, size, "%s: %s", directory, strerror(errno));
		return -1;
	}
	return open_flash_file(s, directory, error, size);
}

struct storage *storage_new(const struct storage_config *config, char *error, size_t size)
{
	struct storage *s = calloc(1, sizeof(*s));
	int flags = config->directory ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
	void *mapped;

	if (!s) {
		snprintf(error, size, "out of memory");
		return NULL;
	}
	s->geometry = config->flash;
	s->flash_size = (size_t)config->flash->sector_size * config->flash->sectors;
	s->sync = config->sync;
	s->directory = s->file = -1;
	if (config->directory && open_directory(s, config->directory, error, size) != 0) {
		storage_free(s);
		return NULL;
	}
	mapped = mmap(NULL, s->flash_size, PROT_READ | PROT_WRITE, flags, s->file, 0);
	if (mapped == MAP_FAILED) {
		snprintf(error, size, "no memory for the flash: %s", strerror(errno));
		storage_free(s);
		return NULL;
	}
	s->flash = mapped;
	return s;
}

void storage_free(struct storage *s)
{
	if (!s)
		return;
	if (s->flash)
		munmap(s->flash, s->flash_size);
	if (s->file >= 0)
		close(s->file);
	if (s->directory >= 0)
		close(s->directory);
	while (s->values) {
		struct value *v = s->values;

		s->values = v->next;
		free(v);
	}
	free(s);
}

/* ---- values */

static struct value *find(const struct storage *s, const char *name)
{
	struct value *v = s->values;

	while (v && strcmp(v->name, name) != 0)
		v = v->next;
	return v;
}

static bool is_file_name(const char *name)
{
	return *name && *name != '.' && !strchr(name, '/') && strlen(name) < NAME_SIZE;
}

static int load_file(const struct storage *s, const char *name, void *out, size_t size)
{
	int fd = openat(s->directory, name, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return errno == ENOENT ? -ENOENT : -EIO;
	got = read(fd, out, size);
	close(fd);
	return got < 0 ? -EIO : (int)got;
}

int storage_load(struct storage *s, const char *name, void *out, size_t size)
{
	const struct value *v;
	size_t length;

	if (!is_file_name(name))
		return -ENOENT;
	if (s->directory >= 0)
		return load_file(s, name, out, size);
	v = find(s, name);
	if (!v)
		return -ENOENT;
	length = v->length < size ? v->length : size;
	memcpy(out, v->bytes, length);
	return (int)length;
}

static int write_file(const struct storage *s, const char *name, const void *value, size_t length)
{
	int fd = openat(s->directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int rc;

	if (fd < 0)
		return -EIO;
	rc = write(fd, value, length) == (ssize_t)length && (!s->sync || fsync(fd) == 0) ? 0 : -EIO;
	return close(fd) == 0 ? rc : -EIO;
}

/* The old file or the new one, whenever the power fails. */
static int save_file(const struct storage *s, const char *name, const void *value, size_t length)
{
	char new_name[NAME_SIZE + sizeof(".new")];

	snprintf(new_name, sizeof(new_name), "%s.new", name);
	if (write_file(s, new_name, value, length) != 0)
		return -EIO;
	if (renameat(s->directory, new_name, s->directory, name) != 0)
		return -EIO;
	return !s->sync || fsync(s->directory) == 0 ? 0 : -EIO;
}

int storage_save(struct storage *s, const char *name, const void *value, size_t length)
{
	struct value *v;

	if (!is_file_name(name) || length > VALUE_SIZE)
		return -ENOSPC;
	if (s->directory >= 0)
		return save_file(s, name, value, length);
	v = find(s, name);
	if (!v) {
		v = calloc(1, sizeof(*v));
		if (!v)
			return -ENOSPC;
		memcpy(v->name, name, strlen(name) + 1);
		v->next = s->values;
		s->values = v;
	}
	memcpy(v->bytes, value, length);
	v->length = length;
	return 0;
}

/* ---- flash */

static bool inside(const struct storage *s, uint32_t offset, size_t length)
{
	return offset <= s->flash_size && length <= s->flash_size - offset;
}

static int flush(const struct storage *s, uint32_t offset, size_t length)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t from = offset - offset % page;

	if (!s->sync || s->file < 0)
		return 0;
	return msync(s->flash + from, offset + length - from, MS_SYNC) == 0 ? 0 : -EIO;
}

int storage_flash_read(struct storage *s, uint32_t offset, void *out, size_t length)
{
	uint8_t *to = out;

	if (!inside(s, offset, length))
		return -EIO;
	for (size_t i = 0; i < length; i++)
		to[i] = (uint8_t)~s->flash[offset + i];
	return 0;
}

/* As NOR flash: bits are cleared, never set, and what is not aligned is refused. */
int storage_flash_write(struct storage *s, uint32_t offset, const void *bytes, size_t length)
{
	const uint8_t *from = bytes;
	const uint8_t unit = s->geometry->write_size;

	if (!inside(s, offset, length) || offset % unit || length % unit)
		return -EIO;
	for (size_t i = 0; i < length; i++)
		s->flash[offset + i] |= (uint8_t)~from[i];
	return flush(s, offset, length);
}

int storage_flash_erase(struct storage *s, uint32_t offset)
{
	const uint32_t length = s->geometry->sector_size;

	if (!inside(s, offset, length) || offset % length)
		return -EIO;
	memset(s->flash + offset, 0, length);
	return flush(s, offset, length);
}
