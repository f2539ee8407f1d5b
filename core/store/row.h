/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One record of the journal becomes rows of a batch. Everything that decides what is stored, and
 * under which key, is here, and all of it depends on the record and its position only: a record
 * that is taken again after a failure makes the same rows with the same keys, so storing it twice
 * stores it once.
 *
 * ts       the device's time, if it gave one within the window around the time of receipt;
 * otherwise the time of receipt (plus the offset, if it gave one). seq      the device's own
 * number, if it gave one. Otherwise a negative number (the highest bit is set) made with
 * ROW_HASH_KEY: from topic and payload if ts is the device's own, so that a repeat of the message
 * is the same row and two messages of one moment are two; from the journal's id and position if
 * not. The sample's index within the message is added. once     a number but no time: a repeat has
 * another time of receipt, and so another key. Such rows go through fieldgate.sequence_seen.
 */
#ifndef FG_STORE_ROW_H
#define FG_STORE_ROW_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/arena.h"
#include "core/base/hash.h"
#include "core/journal/journal.h"
#include "core/payload/payload.h"
#include "core/rule/set.h"
#include "core/store/batch.h"
#include "core/store/catalogue.h"

/* Part of the format: with another key, messages that are in the tables would be stored again. */
#define ROW_HASH_KEY ((struct hash_key){UINT64_C(0x6669656c64676174), UINT64_C(0x6520726f77206b31)})

#define ROW_GUESSES 64

/* The database has refused a record before. */
struct row_refusal {
	struct journal_position at; /* behind the record */
	char *reason;		    /* it goes to dead_letter; NULL: only the following */
	bool now; /* dead_letter does not take the time of receipt: the server's present is put
		   * there
		   */
};

struct row_context {
	struct batch *batch;
	const struct catalogue *catalogue;
	struct partitions *partitions;
	struct arena arena;
	struct decode_limits limits;
	int64_t max_past_us, max_future_us;
	const uint8_t *journal_id;

	/* What `drop` rules say; NULL: there are none. */
	struct rules *rules;
	const struct rule_set *set;
	uint64_t set_generation;

	/* Times of telemetry before this one are known to be refused, and why. */
	int64_t too_old_us;
	const char *too_old_reason;

	/* Set with ROW_NEEDS_PARTITION. */
	enum partitioned_table needed_table;
	int64_t needed_us;

	/* Devices send the same names in the same order: reading i was last found in this column.
	 */
	int guess[ROW_GUESSES];

	/* What the server's clock says more than ours: one of the two may be years off, and it is
	 * the server's that decides for which times there are partitions. */
	int64_t server_ahead_us;

	bool dead_letter_now; /* see struct row_refusal; of the record being taken */
};

enum row_result {
	ROW_TAKEN,
	ROW_LAST,	     /* taken, and must be the last of its batch */
	ROW_NEEDS_PARTITION, /* nothing was taken: make a partition and try again */
};

/* enum row_result or -ENOMEM, after which the batch must be cleared. refusal: NULL if there is
 * none. */
int row_take(struct row_context *c, const struct journal_record *r, struct journal_position at,
	     const struct row_refusal *refusal);

/* The catalogue has changed. */
void row_forget_guesses(struct row_context *c);

#endif
