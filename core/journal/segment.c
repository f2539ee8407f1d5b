/* SPDX-License-Identifier: Apache-2.0 */
/* See segment.h. The header, 64 bytes: magic, format version, number, journal id, zeros, CRC-32C.
 */
#include "core/journal/segment.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/crc32c.h"
#include "core/base/file.h"
#include "core/base/log.h"

#define NAME_DIGITS    20
#define NAME_SUFFIX    ".segment"
#define FORMAT_VERSION 1

static const char magic[8] = "FGJRNL\r\n";

struct header {
	char magic[8];
	uint32_t version;
	uint32_t zero;
	uint64_t number;
	uint8_t id[JOURNAL_ID_BYTES];
	uint8_t zeros[20];
	uint32_t crc;
};

_Static_assert(sizeof(struct header) == SEGMENT_HEADER, "the header has no holes");

void segment_name(char name[SEGMENT_NAME_SIZE], uint64_t number)
{
	snprintf(name, SEGMENT_NAME_SIZE, "%0*" PRIu64 NAME_SUFFIX, NAME_DIGITS, number);
}

bool segment_number(const char *name, uint64_t *number)
{
	char canonical[SEGMENT_NAME_SIZE];

	/* Reading is lenient; writing it again and comparing is what accepts. */
	errno = 0;
	*number = strtoull(name, NULL, 10);
	if (errno || *number == 0 || *number > SEGMENT_NUMBER_MAX)
		return false;
	segment_name(canonical, *number);
	return strcmp(name, canonical) == 0;
}

struct segment *segment_new(const uint8_t id[JOURNAL_ID_BYTES], uint64_t number, uint64_t end)
{
	struct segment *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->number = number;
	s->seed = record_seed(id, number);
	s->fd = -1;
	atomic_init(&s->end, end);
	return s;
}

void segment_free(struct segment *s)
{
	if (!s)
		return;
	if (s->fd >= 0)
		close(s->fd);
	free(s);
}

static void fill_header(struct header *h, const uint8_t id[JOURNAL_ID_BYTES], uint64_t number)
{
	memset(h, 0, sizeof(*h));
	memcpy(h->magic, magic, sizeof(magic));
	h->version = htole32(FORMAT_VERSION);
	h->number = htole64(number);
	memcpy(h->id, id, JOURNAL_ID_BYTES);
	h->crc = htole32(crc32c(0, h, offsetof(struct header, crc)));
}

static void remove_failed(int dir_fd, const char *name)
{
	if (unlinkat(dir_fd, name, 0) != 0)
		log_warn("journal_leftover", NULL,
			 "cannot delete the segment %s that could not be made: %s; it is empty, "
			 "and the "
			 "next start deletes it",
			 name, strerror(errno));
}

int segment_create(int dir_fd, const uint8_t id[JOURNAL_ID_BYTES], uint64_t number,
		   struct segment **out)
{
	char name[SEGMENT_NAME_SIZE];
	struct header h;
	struct segment *s;
	int rc;

	if (number > SEGMENT_NUMBER_MAX)
		return -EOVERFLOW;
	s = segment_new(id, number, SEGMENT_HEADER);
	if (!s)
		return -ENOMEM;
	s->synced = SEGMENT_HEADER;
	segment_name(name, number);
	s->fd = openat(dir_fd, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->fd < 0) {
		rc = -errno;
		goto out;
	}
	fill_header(&h, id, number);
	rc = file_write_new(s->fd, &h, sizeof(h));
	if (!rc && fsync(dir_fd) != 0)
		rc = -errno;
	if (rc) {
		remove_failed(dir_fd, name);
		goto out;
	}
	*out = s;
	return 0;
out:
	segment_free(s);
	return rc;
}

int segment_open(int dir_fd, uint64_t number, int flags)
{
	char name[SEGMENT_NAME_SIZE];
	int fd;

	segment_name(name, number);
	fd = openat(dir_fd, name, flags | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

int segment_check(int fd, const uint8_t id[JOURNAL_ID_BYTES], uint64_t number,
		  enum segment_header *out)
{
	struct header h;
	ssize_t n = pread(fd, &h, sizeof(h), 0);

	if (n < 0)
		return -errno;
	if (n < (ssize_t)sizeof(h) || memcmp(h.magic, magic, sizeof(magic)) != 0 ||
	    le32toh(h.crc) != crc32c(0, &h, offsetof(struct header, crc)))
		*out = SEGMENT_DAMAGED;
	else if (le32toh(h.version) != FORMAT_VERSION)
		*out = SEGMENT_NEWER;
	else if (memcmp(h.id, id, JOURNAL_ID_BYTES) != 0 || le64toh(h.number) != number)
		*out = SEGMENT_FOREIGN;
	else
		*out = SEGMENT_OURS;
	return 0;
}

size_t segment_find(struct segment *const *segments, size_t n, uint64_t number)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (segments[middle]->number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}
