/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the journal share: open.c, journal.c (append), release.c, sync.c (stable
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

struct journal_reader {
	struct journal *journal;
	int wakeup_fd;
	_Atomic bool armed; /* to be woken by the next append */

	/* The reading thread's own. */
	struct scan scan;		  /* scan.fd -1: between segments */
	uint64_t skip_to;		  /* offset that journal_seek asked for; 0: none */
	uint64_t intact;		  /* behind the last good record: damage begins here */
	struct journal_position furthest; /* that it, or one closed before it, ever handed out */
	bool failing;			  /* a failure is logged, no success since */

	/* The reading thread writes these with the journal's lock, for release.c. */
	uint64_t segment; /* that is being read, or the lowest that may be read next */
	bool reading;	  /* it is open, or about to be */

	/* Guarded by the journal's lock. */
	struct journal_reader *next;
	bool keeps;		      /* a follower; then this is what it asks for */
	struct journal_position kept; /* nothing before it */
	uint64_t deleted_end;	      /* of the segment being read, if that was deleted; else 0 */
	bool lost;		      /* a later one was deleted, since this one was opened */
	uint64_t missed;
};

struct journal {
	struct directory directory;
	char *path;
	uint64_t max_bytes;
	uint64_t segment_bytes;
	uint64_t keep_bytes;   /* for followers, of what is released */
	uint64_t first_of_run; /* lowest number that this process may append to */
	unsigned sync_interval_ms;

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
	struct journal_position released; /* never goes back */
	struct journal_position stored;	  /* released last: goes back with an old database */
	struct journal_reader *readers;
	struct journal_position furthest; /* that a reader which is closed handed out */
	bool deleting;			  /* somebody deletes a segment without the lock */

	/* The sync thread (sync.c). */
	pthread_t thread;
	pthread_cond_t wake;	/* the thread: something to do, or stop */
	pthread_cond_t settled; /* a sync, the making of a spare or a deletion has ended */
	uint64_t unsynced;	/* segments of lower numbers need no sync any more */
	bool sync_running;	/* one fdatasync at a time */
	bool thread_started;
	bool spare_wanted;
	bool spare_in_making;
	bool stop;
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

/* Do size bytes more fit below the bound? The header of the next segment is always counted: its
 * file may be made ahead at any moment. Appending thread. */
static inline bool journal_fits(const struct journal *j, size_t size, uint64_t bound)
{
	uint64_t total = atomic_load_explicit(&j->bytes_others, memory_order_relaxed);

	if (j->current)
		total += atomic_load_explicit(&j->current->end, memory_order_relaxed);
	return total + SEGMENT_HEADER + size <= bound;
}

/* release.c, for the appending thread. Delete what is kept for followers only until size bytes fit
 * below the bound: do they? */
bool journal_make_room(struct journal *j, size_t size, uint64_t bound);

/* The disk is full. Give back something that nobody or only a follower needs. False: there is
 * nothing. */
bool journal_give_back(struct journal *j);

/* sync.c */
int journal_sync_start(struct journal *j);
void journal_sync_stop(struct journal *j); /* syncs what is left */
void journal_sync_wake(struct journal *j);
void journal_spare_ask(struct journal *j);

/* reader.c: with the appending thread */
void journal_wake_readers(struct journal *j);

#endif
