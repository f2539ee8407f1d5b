/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of the journal: `<20 digits>.segment`, each with a header that names its journal and
 * its number. A segment's file, its header and its name in the directory are on stable storage
 * before it is used, so a number that a position was ever made of is found again at the next open.
 */
#ifndef FG_JOURNAL_SEGMENT_H
#define FG_JOURNAL_SEGMENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/journal/record.h"

#define SEGMENT_HEADER	   64 /* bytes before the first record */
#define SEGMENT_NAME_SIZE  32
#define SEGMENT_NUMBER_MAX INT64_MAX /* PostgreSQL keeps it in a bigint */

/* All but number, seed, end and sync_error is guarded by the journal's lock. */
struct segment {
	uint64_t number;
	uint32_t seed;
	_Atomic uint64_t end; /* behind the last complete record; written by the appending thread */
	_Atomic int sync_error;	 /* errno of the sync that failed; then it is never synced again */
	uint64_t synced;	 /* on stable storage up to here */
	int fd;			 /* -1: not open */
	bool syncing;		 /* somebody is in fdatasync without the lock */
	uint64_t damage_counted; /* damage before this offset is counted and logged already */
	bool releasing; /* being deleted, or emptied: no sync and no reading begins any more */
	bool dropped;	/* out of the list; whoever is syncing frees it */
};

void segment_name(char name[SEGMENT_NAME_SIZE], uint64_t number);

/* True and *number if name is a segment's. */
bool segment_number(const char *name, uint64_t *number);

/* A segment for a file of `end` bytes, not open. NULL: no memory. */
struct segment *segment_new(const uint8_t id[JOURNAL_ID_BYTES], uint64_t number, uint64_t end);

/* Close and free; NULL is allowed. The file stays. */
void segment_free(struct segment *s);

/*
 * Make the file durably and open it for appending. 0, or -errno: then nothing of it is left, unless
 * that could not be deleted either; the number must not be used again.
 */
int segment_create(int dir_fd, const uint8_t id[JOURNAL_ID_BYTES], uint64_t number,
		   struct segment **out);

/* Open the file: a file descriptor or -errno. */
int segment_open(int dir_fd, uint64_t number, int flags);

enum segment_header {
	SEGMENT_OURS,
	SEGMENT_DAMAGED, /* or not written completely: its records are still tried */
	SEGMENT_FOREIGN, /* of another journal, or another number */
	SEGMENT_NEWER,	 /* of a later version of the format */
};

/* Judge the header of an open file. 0 or -errno. */
int segment_check(int fd, const uint8_t id[JOURNAL_ID_BYTES], uint64_t number,
		  enum segment_header *out);

/* Index of the first of n segments, ordered by number, whose number is not below this; n if none.
 */
size_t segment_find(struct segment *const *segments, size_t n, uint64_t number);

#endif
