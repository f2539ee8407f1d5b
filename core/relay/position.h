/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A position in the journal, in a file: two slots that are written in turn, each with a checksum, a
 * number that grows, and the id of the journal that it is of. A kill at any moment leaves the old
 * one or the new one; so does the loss of power, or an older one, if what was written last had not
 * reached the disk: a write is not synced.
 */
#ifndef FG_RELAY_POSITION_H
#define FG_RELAY_POSITION_H

#include <stddef.h>
#include <stdint.h>

#include "core/journal/journal.h"

struct position_file {
	int fd;
	uint64_t number; /* of the slot written last */
	uint8_t journal_id[16];
};

enum position_found {
	POSITION_FOUND,
	POSITION_NONE,	  /* there was no file */
	POSITION_FOREIGN, /* of another journal */
	POSITION_DAMAGED,
};

/* Open the file, or make it with mode 0600. 0 with what was *found, and *pos if it was; or -errno.
 */
int position_open(struct position_file *f, const char *path, const uint8_t journal_id[16],
		  enum position_found *found, struct journal_position *pos);
void position_close(struct position_file *f);

/* 0 or -errno: then what was there before still is. */
int position_write(struct position_file *f, struct journal_position pos);

/* Have the file, its name and what was written last on stable storage. 0 or -errno. */
int position_sync(struct position_file *f, const char *path);

#endif
