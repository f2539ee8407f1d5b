/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Going through the records of one segment. While the chain of valid headers holds, it goes from
 * record to record by their lengths; where it is broken, by RECORD_ALIGN bytes at a time to the
 * next valid header. Every step goes forward and nothing behind `limit` is read, so it ends
 * whatever the bytes are.
 */
#ifndef FG_JOURNAL_SCAN_H
#define FG_JOURNAL_SCAN_H

#include <stddef.h>
#include <stdint.h>

#include "core/journal/journal.h"

struct scan {
	int fd; /* the caller's; -1: none */
	uint32_t seed;
	uint64_t offset; /* next byte to look at */
	uint64_t limit;	 /* bytes before it are completely written; may be raised between calls */
	uint64_t record; /* where the record found last begins */
	unsigned char *buffer;
	size_t buffer_size;
	uint64_t buffered_at; /* offset of the buffer's first byte */
	size_t buffered;
};

/* Begin with another file. The buffer is kept. */
void scan_start(struct scan *s, int fd, uint32_t seed, uint64_t offset, uint64_t limit);

/*
 * 1: the next record, its pointers valid until the next call; s->record is where it begins,
 * s->offset is behind it, and what lies between the record before and s->record is damaged. 0:
 * there is none before the limit, s->offset is the limit. -errno: cannot read; calling again goes
 * on at the same place.
 */
int scan_next(struct scan *s, struct journal_record *r);

/* Go to the first end of a record at or behind `to`, by the chain from s->offset. 0 or -errno. */
int scan_skip(struct scan *s, uint64_t to);

void scan_free(struct scan *s);

#endif
