/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes as hexadecimal digits (RFC 4648 section 8, but lower case), and back. Any thread. */
#ifndef FG_BASE_HEX_H
#define FG_BASE_HEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* With the NUL behind it. */
#define HEX_SIZE(bytes) (2 * (bytes) + 1)

/* out: HEX_SIZE(len). Returns out. */
char *hex_print(char *out, const void *bytes, size_t len);

/* Of a digit of either case; -1: it is none. */
int hex_digit(char c);

/* out: len / 2 bytes. False: an odd number of characters, or one that is no digit; out may be
 * written to. */
bool hex_parse(uint8_t *out, const char *text, size_t len);

#endif
