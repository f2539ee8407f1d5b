/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relay: a thread that follows the journal, beside the store, and puts on the bus what belongs
 * there: what rules republish, presence (`m/presence/<device>`), and, of devices that did not
 * publish to the broker themselves, their messages. It needs no database. Nobody waits for it:
 * while the broker is away the journal keeps what is to come, within its bound; what is lost then
 * is counted and logged, and stored all the same.
 *
 * Its position is in a file of its own. Killed between a publish and the next write of the position
 * it publishes some messages again: at least once.
 */
#ifndef FG_RELAY_RELAY_H
#define FG_RELAY_RELAY_H

#include <stddef.h>
#include <stdint.h>

#include "core/journal/journal.h"
#include "core/payload/value.h"
#include "core/relay/bus.h"
#include "core/rule/set.h"

struct relay;

struct relay_options {
	const struct bus *bus;	   /* NULL: none is configured: republishing then fails, counted */
	const char *position_path; /* made if missing: then the relay begins at the journal's end */
	const char *source;	   /* "mqtt", "coap": in presence */
	bool telemetry;		   /* publish the messages of devices (not with bus->is_broker) */
	int status_interval_s;
	struct decode_limits limits;
};

struct relay_stats {
	uint64_t published; /* messages given to the bus and settled */
	uint64_t refused;   /* by the bus for good */
	uint64_t missed;    /* times that the journal could not keep what was to come */
	uint64_t lag_bytes; /* of the journal, to be read */
};

/* 0, or -errno with a message in err. The journal, rules and bus must outlive it. Strings are
 * copied. */
int relay_start(struct relay **out, const struct relay_options *o, struct journal *j,
		struct rules *rules, char *err, size_t err_len);

/* What the bus has not settled is published again by the next start. NULL is allowed. */
void relay_stop(struct relay *r);

/*
 * Publish something that is not in the journal: an error action of a rule whose row was refused.
 * Any thread; never waits. 0; -EAGAIN: its small queue is full; -ENOTCONN: there is no bus. It is
 * not kept over the end of the process.
 */
int relay_publish(struct relay *r, const struct bus_message *m);

void relay_stats(const struct relay *r, struct relay_stats *out); /* any thread */

#endif
