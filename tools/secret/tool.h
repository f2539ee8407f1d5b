/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of fieldgate-secret share. Commands return the exit status; what went wrong is on
 * stderr. */
#ifndef FG_TOOLS_SECRET_TOOL_H
#define FG_TOOLS_SECRET_TOOL_H

#include <stddef.h>
#include <stdint.h>

#include "core/registry/secret.h"

#define TOOL_SOME_FAILED 3 /* exit status of tool_reseal: rows were left out */

/* master.c: files of master keys */
int tool_make_key(const char *path);
int tool_add_key(const char *path);
int tool_key_ids(const char *path);
/* Keys of the file, or of the environment when it is "-"; the caller frees them. 0, or 1 and a
 * message. */
int tool_load_keys(struct secret_keys **keys, const char *path);

/* seal.c: rows of fieldgate.credential; row is KIND, FINGERPRINT and PRINCIPAL */
int tool_seal(const char *path, char *const *row);
int tool_reseal(const char *path, const char *kind);

/* hex.c. Says it and returns 1. */
int tool_fail(const char *what, const char *why);
/* The number of bytes, or 0: this is not hexadecimal, or more than max. */
size_t tool_parse_hex(uint8_t *out, size_t max, const char *hex, size_t len);

#endif
