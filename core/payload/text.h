/* SPDX-License-Identifier: Apache-2.0 */
/* What the decoders need of text: UTF-8, base64url, and the reason that a person reads. Any thread.
 */
#ifndef FG_PAYLOAD_TEXT_H
#define FG_PAYLOAD_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/arena.h"

/* Well-formed UTF-8 (RFC 3629: no surrogates, nothing overlong) without NUL? */
bool text_is_valid(const char *s, size_t len);

/* base64url without padding (RFC 4648 section 5) in the arena; NULL without memory. */
char *text_base64url(struct arena *a, const void *data, size_t len, size_t *out_len);

/* A finite number as JSON writes it: the fewest digits from 15 to 17 that read back the same, and
 * always a point or an exponent, so that it stays a number. How many bytes; no NUL behind them. */
#define TEXT_NUMBER_MAX 32
size_t text_number(char out[TEXT_NUMBER_MAX], double x);

/*
 * Write a reason, and return error. Reasons quote what came from the network and end in PostgreSQL
 * and in a log: control characters, and every byte above 0x7f if the text is not UTF-8, become '?'.
 */
int text_reason(char *reason, size_t reason_len, int error, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif
