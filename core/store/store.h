/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store: one writer thread that reads the journal, decodes, and writes rows to PostgreSQL in
 * batches. Each batch is one transaction that also moves the journal's committed position with
 * fieldgate.journal_advance(expected, new): so a batch whose fate is unknown (connection lost at
 * commit) is neither lost nor repeated, and two writers of one journal exclude each other. Nobody
 * waits for it: when the database is away, the journal grows.
 */
#ifndef FG_STORE_STORE_H
#define FG_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/journal/journal.h"
#include "core/payload/value.h"
#include "core/rule/set.h"

struct store;

struct store_options {
	const char *database_url;
	const char *source; /* names this process in fieldgate.ingest: "mqtt", "coap" */
	int connect_timeout_s;
	int statement_timeout_s;
	size_t batch_rows;
	int batch_delay_ms;
	int max_past_days;
	int max_future_days;
	int status_interval_s;
	struct decode_limits limits;
	struct rules
		*rules; /* of which some may drop messages; NULL: none. It must outlive the store */
};

struct store_stats {
	bool connected;
	uint64_t messages;     /* records taken from the journal and committed */
	uint64_t rows;	       /* rows of telemetry sent (repeats included) */
	uint64_t dead_letters; /* messages kept in dead_letter instead */
	uint64_t dropped;      /* messages that rules kept out of telemetry */
	uint64_t batches;
	int64_t lag_us; /* age of the oldest message not yet committed; 0: none */
};

/*
 * Start the writer. The journal must outlive it. 0, or -errno with a message in err. Does not wait
 * for the database. Strings are copied.
 */
int store_start(struct store **out, const struct store_options *o, struct journal *j, char *err,
		size_t err_len);

/*
 * Finish or abandon the batch under way (what is not committed stays in the journal) and stop: at
 * once, or after connect_timeout_s at worst. NULL is allowed.
 */
void store_stop(struct store *s);

/* Any thread. */
void store_stats(const struct store *s, struct store_stats *out);

#endif
