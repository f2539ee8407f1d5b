/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A journal whose worker is no more, because there were more of them once: what is in it was
 * acknowledged, so it is stored, and published where there is a bus.
 */
#include <signal.h>
#include <string.h>
#include <time.h>

#include "coap-server/worker/internal.h"
#include "core/base/log.h"

#define LOOK_EVERY_MS 100

/* What the relay has read is in the bus by then. */
static bool is_published(struct pipeline *p, struct bus_client *bus)
{
	struct relay_stats relay;
	struct bus_client_stats stats;

	if (!bus)
		return true;
	pipeline_relay_stats(p, &relay);
	bus_client_stats(bus, &stats);
	return relay.lag_bytes == 0 && stats.in_flight == 0;
}

static bool is_stored(struct pipeline *p)
{
	struct journal_stats journal;
	struct store_stats store;

	pipeline_stats(p, &journal, &store);
	return journal.backlog_bytes == 0;
}

/* False: by SIGTERM. */
static bool wait_until_done(struct pipeline *p, struct bus_client *bus)
{
	const struct timespec pause = {.tv_nsec = LOOK_EVERY_MS * 1000000L};
	sigset_t term;

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	while (!is_stored(p) || !is_published(p, bus))
		if (sigtimedwait(&term, NULL, &pause) == SIGTERM)
			return false;
	return true;
}

int worker_drain(const struct config *c, unsigned number)
{
	/* Its sessions are another worker's now. */
	const struct presence gone = {.event = PRESENCE_STARTED, .device = "", .client_id = ""};
	struct bus_client *bus;
	struct pipeline *p;
	char source[WORKER_SOURCE_MAX], err[512];
	int rc = worker_bus_open(&bus, c, number);

	worker_source(source, number);
	if (rc != 0) {
		log_error("drain_failed", NULL, "%s", strerror(-rc));
		return 1;
	}
	if (pipeline_open(&p, c, source, DURABILITY_WRITE, bus ? bus_client_bus(bus) : NULL, err,
			  sizeof(err)) != 0) {
		log_error("drain_failed", NULL, "%s", err);
		bus_client_close(bus);
		return 1;
	}
	pipeline_presence(p, &gone);
	if (wait_until_done(p, bus))
		log_info("journal_drained", NULL,
			 "everything in %s/%s is stored%s; the directory may be deleted, and the "
			 "row "
			 "of %s in fieldgate.ingest with it",
			 c->state_dir, source, bus ? " and published" : "", source);
	worker_limit_close();
	pipeline_close(p);
	bus_client_close(bus);
	return 0;
}
