/* SPDX-License-Identifier: Apache-2.0 */
#include "core/relay/position.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/crc32c.h"
#include "core/base/file.h"

#define SLOTS	   2
#define SLOT_BYTES 512 /* a sector: one that is torn does not harm the other */

static const char magic[8] = "FGRELAY\n";

struct slot {
	char magic[8];
	uint64_t number;
	uint8_t journal_id[16];
	uint64_t segment;
	uint64_t offset;
	uint8_t zeros[12];
	uint32_t crc;
};

_Static_assert(sizeof(struct slot) == 64, "a slot has no holes");

static uint32_t checksum(const struct slot *s)
{
	return crc32c(0, s, offsetof(struct slot, crc));
}

static bool is_valid(const struct slot *s)
{
	return memcmp(s->magic, magic, sizeof(magic)) == 0 && le32toh(s->crc) == checksum(s);
}

static off_t place(uint64_t number)
{
	return (off_t)(number % SLOTS * SLOT_BYTES);
}

static int read_slots(struct position_file *f, enum position_found *found,
		      struct journal_position *pos)
{
	struct stat st;

	if (fstat(f->fd, &st) != 0)
		return -errno;
	*found = st.st_size == 0 ? POSITION_NONE : POSITION_DAMAGED;
	for (uint64_t i = 0; i < SLOTS; i++) {
		struct slot s = {0};

		if (pread(f->fd, &s, sizeof(s), place(i)) < 0)
			return -errno;
		if (!is_valid(&s) || le64toh(s.number) < f->number)
			continue;
		f->number = le64toh(s.number);
		*pos = (struct journal_position){le64toh(s.segment), le64toh(s.offset)};
		*found = memcmp(s.journal_id, f->journal_id, sizeof(s.journal_id)) == 0
				 ? POSITION_FOUND
				 : POSITION_FOREIGN;
	}
	return 0;
}

int position_open(struct position_file *f, const char *path, const uint8_t journal_id[16],
		  enum position_found *found, struct journal_position *pos)
{
	int rc;

	*f = (struct position_file){
		.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
	if (f->fd < 0)
		return -errno;
	memcpy(f->journal_id, journal_id, sizeof(f->journal_id));
	rc = read_slots(f, found, pos);
	if (rc != 0)
		position_close(f);
	return rc;
}

void position_close(struct position_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

int position_write(struct position_file *f, struct journal_position pos)
{
	struct slot s = {
		.number = htole64(f->number + 1),
		.segment = htole64(pos.segment),
		.offset = htole64(pos.offset),
	};
	ssize_t n;

	memcpy(s.magic, magic, sizeof(magic));
	memcpy(s.journal_id, f->journal_id, sizeof(s.journal_id));
	s.crc = htole32(checksum(&s));
	n = pwrite(f->fd, &s, sizeof(s), place(f->number + 1));
	if (n != (ssize_t)sizeof(s))
		return n < 0 ? -errno : -ENOSPC;
	f->number++;
	return 0;
}

int position_sync(struct position_file *f, const char *path)
{
	return fsync(f->fd) != 0 ? -errno : file_sync_directory_of(path);
}
