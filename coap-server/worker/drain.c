/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A journal whose worker is no more, because there were more of them once: what is in it was
 * acknowledged, so it is stored.
 */
#include <signal.h>
#include <time.h>

#include "coap-server/worker/internal.h"
#include "core/base/log.h"

#define LOOK_EVERY_MS 100

static bool is_stored(struct pipeline *p)
{
	struct journal_stats journal;
	struct store_stats store;

	pipeline_stats(p, &journal, &store);
	return journal.backlog_bytes == 0;
}

/* False: by SIGTERM. */
static bool wait_until_stored(struct pipeline *p)
{
	const struct timespec pause = {.tv_nsec = LOOK_EVERY_MS * 1000000L};
	sigset_t term;

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	while (!is_stored(p))
		if (sigtimedwait(&term, NULL, &pause) == SIGTERM)
			return false;
	return true;
}

int worker_drain(const struct config *c, unsigned number)
{
	/* Its sessions are another worker's now. */
	const struct presence gone = {.event = PRESENCE_STARTED, .device = "", .client_id = ""};
	struct pipeline *p;
	char source[WORKER_SOURCE_MAX], err[512];

	worker_source(source, number);
	if (pipeline_open(&p, c, source, DURABILITY_WRITE, NULL, err, sizeof(err)) != 0) {
		log_error("drain_failed", NULL, "%s", err);
		return 1;
	}
	pipeline_presence(p, &gone);
	if (wait_until_stored(p))
		log_info("journal_drained", NULL,
			 "everything in %s/%s is stored; the directory may be deleted, and the row "
			 "of %s in fieldgate.ingest with it",
			 c->state_dir, source, source);
	worker_limit_close();
	pipeline_close(p);
	return 0;
}
