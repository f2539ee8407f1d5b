/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor's children and what is known of them: workers, and those who store what former
 * workers have left. */
#ifndef FG_SUPERVISOR_CHILDREN_H
#define FG_SUPERVISOR_CHILDREN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct child {
	pid_t pid; /* 0: it does not run */
	bool drains;
	unsigned number;
	int ready_fd; /* -1: nothing is to come from it */
	bool ready;   /* it has served, in this life or an earlier one */
	bool done;    /* it is not to be started again */
	bool failed;  /* it ended otherwise than it should */
	int64_t started_us;
	int64_t start_at_us; /* when it does not run */
	unsigned failures;   /* lives in a row that were short */
};

/* It has ended with this status of waitpid: say so, and decide when the next life begins. last:
 * there is to be none. */
void child_ended(struct child *c, int status, int64_t now_us, bool last);

#endif
