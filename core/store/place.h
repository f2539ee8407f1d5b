/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the readings of a row go: each to the column of exactly its name, when that column's type
 * holds its value as it is; everything else to extra, under its name. Nothing is lost, and nothing
 * is made to fit. What telemetry_latest has no column for goes to the extra of that table.
 */
#ifndef FG_STORE_PLACE_H
#define FG_STORE_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/payload/payload.h"
#include "core/store/bytes.h"
#include "core/store/row.h"

enum placed {
	PLACED_COLUMN,	    /* of telemetry and telemetry_latest */
	PLACED_COLUMN_ONLY, /* of telemetry: telemetry_latest has none */
	PLACED_EXTRA,
	PLACED_EXTRA_NULL, /* no value that telemetry_latest could remember */
};

/*
 * Put the sample's readings into the columns of the batch's last row; placed gets an enum placed
 * for each. true: some have no column in one of the tables.
 */
bool place_sample(struct row_context *c, const struct sample *s, unsigned char *placed);

/* The row's extra, as JSON in the heap; length 0: none. device_us: a time not believed, or NULL. */
struct span place_extra(struct bytes *heap, const struct sample *s, const unsigned char *placed,
			const int64_t *device_us);

/* The same for telemetry_latest. keys: continued with a hash of the names in it. */
struct span place_latest_extra(struct bytes *heap, const struct sample *s,
			       const unsigned char *placed, uint64_t *keys);

#endif
