/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records that wait for stable storage, and the thread that waits for it in their callers' place.
 * One other thread owns a commit and calls everything here.
 *
 * What was added between two calls of commit_run is a batch; a batch is cut where the journal began
 * a new segment, because journal_sync answers for one segment at a time. While the disk works on
 * one batch the next ones gather, and share the fdatasync that follows.
 */
#ifndef FG_PIPELINE_COMMIT_H
#define FG_PIPELINE_COMMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/journal/journal.h"

struct commit;

/* The journal must outlive it. 0 or -errno. No thread is started before the first record. */
int commit_open(struct commit **out, struct journal *j);

/* Stop; a fdatasync under way is waited for, what nobody has synced yet stays unsettled. NULL is
 * allowed. */
void commit_close(struct commit *c);

/* So that commit_add cannot fail: to be called before the record is appended. 0 or -errno. */
int commit_prepare(struct commit *c);

/* The record that ends at `end` is in the journal. Returns its ticket. */
uint64_t commit_add(struct commit *c, struct journal_position end);

/* See pipeline_commit, pipeline_commit_fd, pipeline_settled. */
void commit_run(struct commit *c);
int commit_fd(const struct commit *c);
bool commit_settled(struct commit *c, uint64_t *ticket, int *rc);

#endif
