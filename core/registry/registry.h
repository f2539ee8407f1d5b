/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registry of a process: holds the current snapshot and keeps it fresh. PostgreSQL is the
 * truth; a thread of its own listens for NOTIFY on the channel `fieldgate_registry`, asks for
 * fieldgate.registry_version at least every poll interval, reads all of it in one repeatable-read
 * transaction when it moved, swaps the snapshot whole and writes it to disk. Nobody who asks the
 * registry ever waits for the database.
 */
#ifndef FG_REGISTRY_REGISTRY_H
#define FG_REGISTRY_REGISTRY_H

#include <stddef.h>
#include <stdint.h>

#include "core/registry/enrolment_queue.h"
#include "core/registry/snapshot.h"

struct registry;

struct registry_options {
	const char *database_url;
	int connect_timeout_s;
	int statement_timeout_s; /* give a silent database up after this */
	int poll_ms;
	const char *snapshot_path;	/* file of the copy on disk */
	size_t max_enrolments;		/* that wait for the database; 0: nobody is enrolled */
	unsigned enrolments_per_minute; /* of one authority; 0: any number */
};

/*
 * Load the copy from disk, if there is one (a damaged one is logged and ignored), start the thread
 * and return without waiting for the database. 0, or -errno with a message in err. Strings are
 * copied.
 */
int registry_open(struct registry **out, const struct registry_options *o, char *err,
		  size_t err_len);

/* Stop the thread (within connect_timeout_s at worst, normally at once) and free. NULL is allowed.
 */
void registry_close(struct registry *r);

/* The current snapshot with a reference for the caller: give it back with snapshot_release.
 * Never NULL: before the first load it is an empty snapshot. Any thread. */
const struct snapshot *registry_acquire(struct registry *r);

/* Moves with every swap; a relaxed atomic read, so a hot path may look at it for each message. */
uint64_t registry_generation(const struct registry *r);

/* Has anything been loaded, from disk or database? If not, nobody can be judged yet. Any thread. */
int registry_ready(const struct registry *r);

/* Has the database been read since it was opened? If not, all that is known is the copy on disk:
 * who is not in it may have been registered since. The generation moves when this becomes true. Any
 * thread. */
int registry_confirmed(const struct registry *r);

/*
 * Register this device, whom s does not know, soon; of mode active it is found in s, and in every
 * snapshot after it, until the database has answered. Waits for nothing. Any thread.
 * 0, also when it waits already; -EAGAIN: the registry is not confirmed, or says something else by
 * now; -EEXIST: its name waits with another certificate; -ENOSPC: too many wait; -ENOMEM.
 */
int registry_enrol(struct registry *r, const struct snapshot *s, const struct enrolment *e);

/* Those who wait for the database. */
struct enrolment_queue *registry_enrolments(const struct registry *r);

#endif
