/* SPDX-License-Identifier: Apache-2.0 */
/* What goes to stdout: a JSON object a line. README.md beside this file lists them. */
#ifndef FG_TESTS_EVENTS_H
#define FG_TESTS_EVENTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All of these take the reference. fields NULL: none. */
void event(const char *name, const char *device, json_t *fields);
void reply(json_int_t id, json_t *fields);
void reply_error(json_int_t id, json_t *fields, const char *what, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

json_t *json_hex(const void *bytes, size_t len);

/* Arguments of a command. Text and numbers that are missing or of a wrong kind give the fallback.
 */
const char *arg_text(json_t *in, const char *name, const char *fallback);
json_int_t arg_int(json_t *in, const char *name, json_int_t fallback);
double arg_real(json_t *in, const char *name, double fallback);
bool arg_bool(json_t *in, const char *name, bool fallback);

/* Bytes from hexadecimal digits, to be freed; NULL: missing or malformed. Never NULL for "". */
uint8_t *arg_hex(json_t *in, const char *name, size_t *len);
uint8_t *hex_bytes(const char *text, size_t *len);

#endif
