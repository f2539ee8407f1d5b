/* SPDX-License-Identifier: Apache-2.0 */
/* Times as devices write them, to microseconds since 1970. Any thread. */
#ifndef FG_PAYLOAD_TIMESTAMP_H
#define FG_PAYLOAD_TIMESTAMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/payload/value.h"

/* Every time and offset is nearer to 0 than this (year 11476), so sums of a few cannot overflow. */
#define TIMESTAMP_LIMIT_US INT64_C(300000000000000000)

/* A `ts`: a number (see payload_decode for its unit) or RFC 3339 text. False: neither. */
bool timestamp_from_value(const struct value *v, int64_t *us);

/* An integer or a number, in units of so many microseconds. False: not a number, or too far from 0.
 */
bool timestamp_scale(const struct value *v, int64_t us_per_unit, int64_t *us);

/* RFC 3339 section 5.6 date-time; more than six decimals are cut. */
bool timestamp_parse_rfc3339(const char *s, size_t len, int64_t *us);

#endif
