/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sink: a thread that follows the journal, beside the store, and does the `store` actions of
 * rules: rows in tables of the owner's own. It has a connection of its own, so a table that is
 * locked or a trigger that hangs keeps nobody else waiting. Its position is committed in the same
 * transaction as the rows: each row is stored once, whatever is killed when. A row that the table
 * refuses is found, counted and reported to the rule's error action, and the others are stored.
 *
 * Within its share of the journal's bound it also waits for a database that is away; beyond that it
 * begins again where the journal still is (counted, logged): no rule keeps a message from being
 * stored in telemetry.
 *
 * It also tells the database about the rules: which are not in force and why (column rule.problem),
 * and their counters (table rule_counter).
 */
#ifndef FG_SINK_SINK_H
#define FG_SINK_SINK_H

#include <stddef.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "core/journal/journal.h"
#include "core/payload/value.h"
#include "core/relay/relay.h"
#include "core/rule/set.h"

struct sink;

struct sink_options {
	const char *database_url;
	const char *source; /* "mqtt", "coap", "coap-1" */
	int connect_timeout_s;
	int statement_timeout_s;
	int report_interval_ms; /* counters */
	int status_interval_s;
	struct decode_limits limits;
	struct relay *relay;		 /* for error actions that republish; NULL: none */
	const struct registry *registry; /* of the rules: has it read the database? NULL: it has */
};

struct sink_stats {
	uint64_t rows;	  /* stored */
	uint64_t refused; /* rows that their table refused */
	uint64_t missed;  /* records that the journal could not keep for us */
};

/* 0, or -errno with a message in err. Does not wait for the database, and connects only when there
 * are rules or something to report. Strings are copied. */
int sink_start(struct sink **out, const struct sink_options *o, struct journal *j,
	       struct rules *rules, char *err, size_t err_len);
void sink_stop(struct sink *s);				       /* NULL is allowed */
void sink_stats(const struct sink *s, struct sink_stats *out); /* any thread */

/*
 * Can this rule's store actions work: do the tables exist, have they these columns, may the role
 * insert (NULL: the connection's own)? 0; -EINVAL with the first that is wrong and what to do in
 * why; or a code of pgconn_exec with its message. For the command, too, which connects as the owner
 * and asks for "fieldgate_ingest".
 */
int sink_check_rule(PGconn *c, int stop_fd, int timeout_s, const char *role, const struct rule *r,
		    char *why, size_t why_len);

#endif
