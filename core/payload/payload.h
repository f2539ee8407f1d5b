/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the bytes of a message to readings. A message becomes one or more samples (a SenML pack or a
 * bulk message holds several moments), a sample becomes one row: readings by name, with the
 * device's time and sequence number if it gave them.
 *
 * Understood: JSON and CBOR maps (nested maps flattened with dots; the members `ts` and `seq` are
 * the sample's time and number), arrays of maps (one sample each), SenML in JSON and CBOR (RFC
 * 8428), nRF Cloud's device messages in JSON and CBOR; a bare number, text or boolean is the
 * reading `value`. No state, no locks: any thread, one arena each.
 */
#ifndef FG_PAYLOAD_PAYLOAD_H
#define FG_PAYLOAD_PAYLOAD_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/arena.h"
#include "core/payload/value.h"

#define READING_NAME_MAX 128 /* bytes */

enum payload_format {
	PAYLOAD_AUTO, /* by its first bytes: JSON is tried before CBOR */
	PAYLOAD_JSON,
	PAYLOAD_CBOR,
	PAYLOAD_SENML_JSON,
	PAYLOAD_SENML_CBOR,
};

enum reading_type {
	READING_NULL, /* reported, but without a value: null, NaN, an infinity */
	READING_BOOL,
	READING_INTEGER,
	READING_NUMBER,
	READING_TEXT,
	READING_JSON, /* an array, as JSON text */
};

struct reading {
	const char *name; /* NUL-terminated, at most READING_NAME_MAX */
	size_t name_len;
	enum reading_type type;
	union {
		bool boolean;
		int64_t integer;
		double number;
		struct {
			const char *data; /* READING_TEXT and READING_JSON; not NUL-terminated */
			size_t len;
		} text;
	} u;
};

enum sample_time {
	SAMPLE_TIME_RECEIPT,  /* the device gave none: use the time of receipt */
	SAMPLE_TIME_DEVICE,   /* ts_us is the device's own time */
	SAMPLE_TIME_RELATIVE, /* ts_us is an offset to the time of receipt (RFC 8428 section 4.5.3)
			       */
};

struct sample {
	enum sample_time time;
	int64_t ts_us; /* microseconds since 1970, or the offset; from -3e17 to 3e17 */
	bool has_seq;
	int64_t seq;
	struct reading *readings;
	size_t reading_count;
};

struct payload {
	struct sample *samples;
	size_t sample_count; /* at least 1 */
};

/*
 * The bytes as a tree, whatever it says: what rules see. The format is found as payload_decode
 * finds it. 0 or -errno as there. No bytes at all are -EBADMSG.
 */
int payload_parse(struct arena *a, enum payload_format format, const void *data, size_t len,
		  const struct decode_limits *limits, struct value *out, char *reason,
		  size_t reason_len);

/* The readings of such a tree: payload_decode is payload_parse, then this. */
int payload_interpret(struct arena *a, enum payload_format format, const struct value *v,
		      const struct decode_limits *limits, struct payload *out, char *reason,
		      size_t reason_len);

/*
 * 0; -EBADMSG, -EMSGSIZE, -ENOMEM as json_decode, with a reason for a person (UTF-8 without control
 * characters). A message without any reading is -EBADMSG ("no readings"): it must not vanish, and
 * one such map in an array refuses the message. All memory is the arena's, and text may point into
 * data.
 *
 * Names: an integer key is written in decimal; an empty name, one with control characters, and two
 * readings of one name in a sample are errors. An array is one READING_JSON; bytes are base64url
 * text.
 *
 * A time `ts` is a number or RFC 3339 text with Z or an offset; any other `ts` is an ordinary
 * reading. A number's magnitude says its unit: below 1e11 seconds since 1970, below 1e14
 * milliseconds, below 1e17 microseconds, else nanoseconds. A `seq` that is not a whole number from
 * 0 to 2^63-1 is an ordinary reading likewise. Both have their meaning in a message's own map only,
 * not in maps inside it.
 *
 * The shape says what a message is, in every format but SenML's own: an array whose first map is a
 * SenML record is a pack, a map with `appId` and `data` (labels 1 and 2) is nRF Cloud's, any other
 * array of maps is one sample each, any other array is the reading `value`. With PAYLOAD_AUTO,
 * bytes that are JSON and CBOR alike (a few bare negative integers of CBOR) are JSON.
 */
int payload_decode(struct arena *a, enum payload_format format, const void *data, size_t len,
		   const struct decode_limits *limits, struct payload *out, char *reason,
		   size_t reason_len);

#endif
