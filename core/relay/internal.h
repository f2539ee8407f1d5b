/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the relay share: relay.c (start, stop, the loop), publish.c (the bus: room,
 * tickets, and what others hand in), record.c (what a record of the journal becomes).
 */
#ifndef FG_RELAY_INTERNAL_H
#define FG_RELAY_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "core/base/arena.h"
#include "core/base/rate_limit.h"
#include "core/relay/position.h"
#include "core/relay/relay.h"

#define RELAY_IN_FLIGHT_MAX   65536	    /* records whose messages are not settled */
#define RELAY_QUEUE_MAX	      256	    /* messages that others have handed in */
#define RELAY_QUEUE_BYTES_MAX (1024 * 1024) /* theirs */
#define RELAY_TOPIC_MAX	      65535

/* A record that has been published and is not settled. */
struct relay_in_flight {
	uint64_t ticket;		/* of the last message that came of it */
	struct journal_position before; /* where the record begins */
};

/* Handed in by relay_publish; topic, NUL and payload lie behind it. */
struct relay_queued {
	struct relay_queued *next;
	struct bus_message message;
};

struct relay {
	struct relay_options o;
	struct journal *journal;
	struct rules *rules;
	struct journal_reader *reader;
	struct position_file file;

	pthread_t thread;
	_Atomic bool stop;
	int stop_fd;
	int queue_fd; /* an eventfd: something was handed in */

	/* The thread's own. */
	struct arena arena;
	const struct rule_set *set;
	uint64_t generation;
	char topic[RELAY_TOPIC_MAX + 1];
	uint64_t ticket; /* of the last message that the bus took */
	uint64_t first_ticket;
	struct relay_in_flight *in_flight; /* a ring; its room is a power of two, or 0 */
	size_t in_flight_room, in_flight_first, in_flight_count;
	bool record_in_flight;		 /* the last entry is of the record at hand */
	bool cut_short;			 /* some message of the record at hand was not sent */
	struct journal_position read_to; /* behind the last record that is done with */
	struct journal_position kept;	 /* what file and journal were told last */
	bool was_busy;			 /* with a record, since it last slept */
	bool unreadable;		 /* the journal, a moment ago */
	bool unwritable;		 /* the file; logged */
	unsigned records;		 /* since the position was looked at */
	int64_t kept_at_us, status_at_us;
	uint64_t published_said, missed_said;
	struct rate_limit refusals;

	pthread_mutex_t mutex; /* what follows */
	struct relay_stats stats;
	struct journal_position stats_read_to;
	struct relay_queued *queue, **queue_end;
	size_t queue_count, queue_bytes;
};

/* --- relay.c --- */

enum relay_for {
	RELAY_FOR_RECORDS, /* until one is appended; the reader is armed */
	RELAY_FOR_MORE,	   /* a moment, in which appends cost no wake-up */
	RELAY_FOR_ROOM,	   /* on the bus */
};

/* Sleep until there is that, the bus has moved, something was handed in, or the relay is to stop.
 * Before that the position is written, and now and then the status. */
void relay_wait(struct relay *r, enum relay_for what);

/* --- publish.c --- */

/* For the record at hand, waiting for room as long as it takes. 0; -ENOTCONN: there is no bus;
 * -ECANCELED: the relay is to stop; another -errno: the bus will never take it. */
int relay_send(struct relay *r, const struct bus_message *m);

/* What was handed in, as far as there is room. */
void relay_send_queued(struct relay *r);

/* Everything before this has been settled. */
struct journal_position relay_settled(struct relay *r);

void relay_free_queue(struct relay *r);

/* --- record.c --- */

/* Publish what the record asks for, and run the rules. 0; -ECANCELED: not all of it. */
int relay_record(struct relay *r, const struct journal_record *record);

#endif
