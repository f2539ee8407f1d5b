/* SPDX-License-Identifier: Apache-2.0 */
/* base64url without padding (RFC 4648 section 5, RFC 7515 section 2). Any thread. */
#ifndef FG_BASE_BASE64URL_H
#define FG_BASE_BASE64URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that this many characters stand for. */
#define BASE64URL_DECODED(len) ((len) / 4 * 3 + (len) % 4 * 3 / 4)

bool base64url_char(char c);

/*
 * out: BASE64URL_DECODED(len) bytes. Strict, so that no two texts stand for the same bytes: false
 * for any other character (padding, white space, NUL), for a length that no bytes have, and for
 * bits set that stand for nothing.
 */
bool base64url_decode(uint8_t *out, const char *text, size_t len);

#endif
