/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the journal share: open.c, journal.c (append, release), sync.c (stable
 * storage), reader.c. Lock order: there is one lock, never held over a write, a sync or a deletion.
 */
#ifndef FG_JOURNAL_INTERNAL_H
#define FG_JOURNAL_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/journal/directory.h"
#include "core/journal/journal.h"
#include "core/journal/scan.h"
#include "core/journal/segment.h"

/* Who wants to be told of the next append; a bit each in journal.sleepers. */
enum {
	SLEEPER_READER = 1,
	SLEEPER_SYNC = 2,
};

/* The reading thread's own. */
struct reader {
	struct scan scan;		  /* scan.fd -1: between segments */
	uint64_t segment;		  /* that is open, or the lowest that may be opened next */
	uint64_t skip_to;		  /* offset that journal_seek asked for; 0: none */
	uint64_t intact;		  /* behind the last good record: damage begins here */
	struct journal_position furthest; /* that was ever handed out */
	struct journal_position counted;  /* damage before it is counted already */
	bool failing;			  /* a failure is logged, no success since */
};

struct journal {
	struct directory directory;
	char *path;
	uint64_t max_bytes;
	uint64_t segment_bytes;
	uint64_t first_of_run; /* lowest number that this process may append to */
	unsigned sync_interval_ms;
	int wakeup_fd;

	/* The appending thread's own. */
	struct record_image image;
	int64_t full_logged_us;
	bool write_failing;
	bool spare_asked;

	_Atomic bool full;
	_Atomic unsigned sleepers;
	_Atomic uint64_t bytes_others; /* on disk, but for the current segment's */
	_Atomic uint64_t appended;
	_Atomic uint64_t refused;
	_Atomic uint64_t skipped_bytes;
	_Atomic uint64_t sync_errors;

	pthread_mutex_t lock;	   /* guards what follows */
	struct segment **segments; /* by number; only appending adds, only releasing removes */
	size_t segment_count;
	size_t segment_room;
	struct segment
		*current;      /* the last one, being appended to; NULL: none could be made yet.
				* Changed by the appending thread only, which reads it without lock. */
	struct segment *spare; /* made ahead, not in segments */
	uint64_t next_number;  /* no file has this number or a higher one */
	struct journal_position released;

	/* The sync thread (sync.c). */
	pthread_t thread;
	pthread_cond_t wake;	/* the thread: something to do, or stop */
	pthread_cond_t settled; /* a sync or the making of a spare has ended */
	uint64_t unsynced;	/* segments of lower numbers need no sync any more */
	bool sync_running;	/* one fdatasync at a time */
	bool thread_started;
	bool spare_wanted;
	bool spare_in_making;
	bool stop;

	struct reader reader;
};

/* Behind the last record. Lock held. */
static inline struct journal_position journal_end_locked(const struct journal *j)
{
	if (!j->current)
		return (struct journal_position){j->next_number, SEGMENT_HEADER};
	return (struct journal_position){j->current->number, atomic_load(&j->current->end)};
}

/* Make a new segment, or take the one made ahead, and append to it from now on. Appending thread. 0
 * or -errno. */
int journal_begin_segment(struct journal *j);

/* sync.c */
int journal_sync_start(struct journal *j);
void journal_sync_stop(struct journal *j); /* syncs what is left */
void journal_sync_wake(struct journal *j);
void journal_spare_ask(struct journal *j);

/* reader.c */
void journal_reader_close(struct journal *j);

#endif
