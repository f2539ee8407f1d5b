/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The message that the load generator sends: eight readings, the device's time and a sequence
 * number, as JSON or CBOR. Made once per connection; a message is then a copy with a few digits
 * changed, so that the generator costs little beside what it measures. The same (ts, seq) gives the
 * same bytes again.
 */
#ifndef FG_TOOLS_LOAD_PAYLOAD_H
#define FG_TOOLS_LOAD_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOAD_PAYLOAD_MAX 320
#define LOAD_SEQ_FIRST                                                                             \
	INT64_C(1000000000) /* ten digits: the width of every message is the same                  \
			     */

struct load_payload {
	bool cbor;
	char bytes[LOAD_PAYLOAD_MAX];
	size_t len;
	size_t ts_at, seq_at, value_at;
};

void load_payload_init(struct load_payload *p, bool cbor, unsigned device_number);

/* Write the message of that time (milliseconds since 1970) and number to out; its length. */
size_t load_payload_write(const struct load_payload *p, int64_t ts_ms, int64_t seq, char *out);

#endif
