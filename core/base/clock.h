/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time and randomness come into Fieldgate through these functions only, so that tests can drive
 * both. All functions may be called from any thread.
 */
#ifndef FG_BASE_CLOCK_H
#define FG_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define US_PER_MS  INT64_C(1000)
#define US_PER_S   INT64_C(1000000)
#define US_PER_DAY (INT64_C(86400) * US_PER_S)

/* Wall clock: microseconds since 1970-01-01T00:00:00Z. */
int64_t clock_realtime_us(void);

/* A clock that never jumps: microseconds since an arbitrary start. */
int64_t clock_monotonic_us(void);

/* "2026-01-31T12:00:00Z" for seconds since 1970; "second N" beyond the years that have four digits.
 * Returns text. */
#define CLOCK_DATE_MAX 32
const char *clock_date_text(char text[CLOCK_DATE_MAX], int64_t seconds);

/* Tests: replace the clocks; NULL restores the real one. Set before other threads start. */
void clock_override(int64_t (*realtime_us)(void), int64_t (*monotonic_us)(void));

/* Fill buf with bytes of the kernel's random number generator. Aborts if there is none. */
void random_bytes(void *buf, size_t len);

#endif
