/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a sensor says, and how it is written: names and values become the pairs of a CBOR map
 * ("pairs", below: encoded names and values without the map's head), which is the form in which
 * they are kept (backlog.h); a message adds time and sequence number when it is sent.
 * docs/messages.md says what the server makes of it; tests/vectors/device.json holds examples that
 * both sides satisfy.
 */
#ifndef FG_DEVICE_READING_H
#define FG_DEVICE_READING_H

#include "device-fw/core/cbor.h"

#define FG_READING_NAME_MAX 32 /* bytes */

enum fg_reading_type { FG_READING_DECIMAL, FG_READING_BOOL, FG_READING_TEXT };

struct fg_reading {
	const char
		*name; /* a column of telemetry, or any other name; lives as long as the reading */
	const char *unit; /* SenML's (RFC 8428 section 12.1), or NULL; used by SenML only */
	enum fg_reading_type type;
	uint8_t decimals;
	union {
		int32_t mantissa; /* mantissa * 10^-decimals */
		bool boolean;
		const char *text;
	};
};

/* One message as it is kept: when, which, what. */
struct fg_record {
	uint32_t seq;	 /* counts up, over reboots */
	int64_t time_ms; /* since 1970; 0: not known, the server takes the time of receipt */
	uint8_t pair_count;
	const uint8_t *pairs; /* encoded by fg_readings_encode */
	size_t length;
};

/* The pairs of the readings. Their length in bytes, or -EMSGSIZE. */
int fg_readings_encode(const struct fg_reading *readings, size_t count, void *out, size_t size);

/* {"ts": ms, "seq": n, pairs...}: appended to w; what does not fit makes w->full. */
void fg_record_write(struct fg_cbor_writer *w, const struct fg_record *record);

/* nRF Cloud's {1: appId, 2: data, 3: ts}, for servers that know nothing else. */
void fg_nrfcloud_write(struct fg_cbor_writer *w, const char *app_id,
		       const struct fg_reading *reading, int64_t time_ms);

/* A SenML pack (RFC 8428, CBOR, Content-Format 112): base name and base time in the first record, a
 * record for each reading. `base_name` may be NULL. */
void fg_senml_write(struct fg_cbor_writer *w, const char *base_name, int64_t time_ms,
		    const struct fg_reading *readings, size_t count);

#endif
