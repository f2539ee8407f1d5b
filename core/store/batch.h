/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of one transaction, column by column, as they wait to be sent. Metrics are kept
 * unserialised (fixed eight bytes, or a span of the heap) with a byte a row that says whether there
 * is a value: so a column costs nothing in the rows and batches that do not use it, and
 * telemetry_latest can pick rows. Everything is kept from batch to batch. After -ENOMEM the batch
 * holds nothing of use: clear it.
 */
#ifndef FG_STORE_BATCH_H
#define FG_STORE_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/store/bytes.h"
#include "core/store/catalogue.h"
#include "core/store/latest.h"

enum ts_source { TS_SOURCE_DEVICE, TS_SOURCE_RECEIPT, TS_SOURCE_OUT_OF_RANGE };

struct batch_row {
	int64_t ts_us, seq, received_at_us;
	int64_t content;      /* once: hash of the message */
	uint32_t device;      /* number in batch.latest */
	uint8_t ts_source;    /* enum ts_source */
	bool once;	      /* stored only if (device, seq, content) was not seen before */
	bool has_subtopic;    /* subtopic may be empty */
	struct span subtopic; /* these in the heap; length 0: null */
	struct span extra;
	struct span latest_extra;
};

struct batch_metric {
	uint64_t *values;	/* bits of the number, or a packed span */
	unsigned char *present; /* all zero behind the last row */
	size_t size;
	bool used;
};

struct batch_dead_letter {
	int64_t received_at_us, seq;
	struct span device, topic, reason, payload;
};

struct batch_presence {
	int64_t at_us, seq;
	bool connected, has_reason, has_address;
	struct span device, source, client_id, reason, address;
};

/* A message to a device; the database decides whether it has to wait there. */
struct batch_downlink {
	int64_t received_at_us, seq; /* of its dead letter, if it is refused */
	int format;		     /* CoAP Content-Format; below 0: unknown */
	bool has_subtopic;
	struct span device, subtopic, topic, payload;
};

/* The process began anew: whoever it had connected is not any more. The last thing in its batch. */
struct batch_started {
	bool happened;
	int64_t at_us, seq;
	struct span source;
};

struct batch {
	size_t metric_count;
	struct batch_metric *metrics;
	struct bytes heap;
	size_t repeated; /* bytes of the heap that are sent again with each further row */
	struct batch_row *rows;
	size_t row_count, rows_size;
	struct batch_dead_letter *dead_letters;
	size_t dead_letter_count, dead_letters_size;
	struct batch_presence *presence;
	size_t presence_count, presence_size;
	struct batch_downlink *downlinks;
	size_t downlink_count, downlinks_size;
	struct batch_started started;
	size_t dropped; /* messages that a rule keeps out of telemetry */
	bool has_subtopic, has_extra, has_once;
	struct latest latest;
	uint64_t *row_mask; /* of the row being filled */
};

/* For the metrics of a catalogue. What was in it is gone. 0 or -ENOMEM. */
int batch_init(struct batch *b, size_t metric_count);
void batch_clear(struct batch *b);
void batch_free(struct batch *b);

/* A new last row, all null; NULL without memory. Its values follow by batch_set_*, then
 * batch_row_done. */
struct batch_row *batch_add_row(struct batch *b);

/* The last row's value of a metric; false when there is one already. -ENOMEM shows in heap.failed.
 */
bool batch_set_bits(struct batch *b, size_t metric, uint64_t bits, bool in_latest);
bool batch_set_text(struct batch *b, size_t metric, struct span text, bool in_latest);

/* extra_keys: hash of the names in latest_extra. 0 or -ENOMEM. */
int batch_row_done(struct batch *b, uint64_t extra_keys);

struct batch_dead_letter *batch_add_dead_letter(struct batch *b);
struct batch_presence *batch_add_presence(struct batch *b);
struct batch_downlink *batch_add_downlink(struct batch *b);

/* Bytes into the heap. */
struct span batch_text(struct batch *b, const void *data, size_t len);

static inline uint64_t span_pack(struct span s)
{
	return (uint64_t)s.at << 32 | s.len;
}

static inline struct span span_unpack(uint64_t v)
{
	return (struct span){(uint32_t)(v >> 32), (uint32_t)v};
}

#endif
