/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/supervisor/children.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"

#define LONG_LIFE_US   (60 * US_PER_S)
#define FIRST_PAUSE_US (100 * US_PER_MS)
#define PAUSE_MAX_US   (10 * US_PER_S)

/* At once after a long life; else 0.1 s, and twice as long each time. */
static int64_t pause_of(unsigned failures)
{
	int64_t pause = FIRST_PAUSE_US;

	if (failures == 0)
		return 0;
	while (--failures > 0 && pause < PAUSE_MAX_US)
		pause *= 2;
	return pause < PAUSE_MAX_US ? pause : PAUSE_MAX_US;
}

static const char *how(char *text, size_t len, int status)
{
	if (WIFSIGNALED(status))
		snprintf(text, len, "by signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	else
		snprintf(text, len, "with exit status %d", WEXITSTATUS(status));
	return text;
}

void child_ended(struct child *c, int status, int64_t now_us, bool last)
{
	const char *what = c->drains ? "the drain of a former worker's journal" : "a worker";
	bool well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	pid_t pid = c->pid;
	char text[64], next[64] = "";

	c->pid = 0;
	if (c->ready_fd >= 0)
		close(c->ready_fd);
	c->ready_fd = -1;
	c->failed = !well;
	c->done = last || (c->drains && well);
	c->failures = now_us - c->started_us > LONG_LIFE_US ? 0 : c->failures + 1;
	c->start_at_us = now_us + pause_of(c->failures);
	if (c->done && well)
		return;
	if (!c->done)
		snprintf(next, sizeof(next), "; another is started in %.1f s",
			 (double)pause_of(c->failures) / (double)US_PER_S);
	log_error("worker_ended", NULL, "number=%u pid=%d: %s has ended %s%s", c->number, (int)pid,
		  what, how(text, sizeof(text), status), next);
}
