/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the steps of one payload_decode share: the arena, the limits, the count of readings so far,
 * and the reason. Flattening lives here too, because every kind of message ends in it.
 */
#ifndef FG_PAYLOAD_DECODER_H
#define FG_PAYLOAD_DECODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/payload/payload.h"
#include "core/payload/text.h"

struct decoder {
	struct arena *arena;
	const struct decode_limits *limits;
	size_t reading_count; /* of the whole message */
	char *reason;
	size_t reason_len;
};

/* A reading's name while it grows: `parent.child`. */
struct name {
	char text[READING_NAME_MAX + 1];
	size_t len;
};

#define decoder_fail(d, error, ...) text_reason((d)->reason, (d)->reason_len, error, __VA_ARGS__)

int decoder_out_of_memory(struct decoder *d);

/* Begin a sample without time and sequence number, with room for capacity readings. 0 or -errno. */
int sample_begin(struct decoder *d, struct sample *s, size_t capacity);

/* There must be a reading, and, if check_names, no two of one name. 0 or -errno. */
int sample_end(struct decoder *d, struct sample *s, bool check_names);

/* How many readings this value becomes at most. */
size_t flatten_count(const struct value *v);

/* Append text, behind a dot if the name is not empty. 0 or -errno: too long, empty, control
 * characters. */
int name_append(struct decoder *d, struct name *n, const char *text, size_t len);

/* As name_append, with the member's key. */
int name_append_key(struct decoder *d, struct name *n, const struct member *m);

/*
 * Add v to the sample under this name: a map member by member, everything else as one reading. The
 * sample has room for flatten_count readings more. The name is as before afterwards.
 */
int flatten(struct decoder *d, struct sample *s, struct name *n, const struct value *v);

/* A map of readings, `ts` and `seq`, without its sample_begin and sample_end. */
int flatten_message(struct decoder *d, struct sample *s, const struct value *map);

/* The sample's `seq`, if v is one. */
bool sample_take_seq(struct sample *s, const struct value *v);

#endif
