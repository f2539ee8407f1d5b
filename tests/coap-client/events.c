/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap-client/events.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/coap-client/die.h"

static void print(json_t *o)
{
	if (json_dumpf(o, stdout, JSON_COMPACT) != 0 || putchar('\n') == EOF || fflush(stdout) != 0)
		die("cannot write to stdout");
	json_decref(o);
}

static json_t *fields_or_new(json_t *fields)
{
	json_t *o = fields ? fields : json_object();

	if (!o)
		die("out of memory");
	return o;
}

void event(const char *name, const char *device, json_t *fields)
{
	json_t *o = fields_or_new(fields);

	json_object_set_new(o, "event", json_string(name));
	if (device)
		json_object_set_new(o, "device", json_string(device));
	print(o);
}

void reply(json_int_t id, json_t *fields)
{
	json_t *o = fields_or_new(fields);

	json_object_set_new(o, "re", json_integer(id));
	print(o);
}

void reply_error(json_int_t id, json_t *fields, const char *what, const char *fmt, ...)
{
	json_t *o = fields_or_new(fields);
	char text[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	json_object_set_new(o, "re", json_integer(id));
	json_object_set_new(o, "error", json_string(what));
	json_object_set_new(o, "text", json_string(text));
	print(o);
}

json_t *json_hex(const void *bytes, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *b = bytes;
	char *text = malloc(2 * len + 1);
	json_t *o;

	if (!text)
		die("out of memory");
	for (size_t i = 0; i < len; i++) {
		text[2 * i] = digits[b[i] >> 4];
		text[2 * i + 1] = digits[b[i] & 15];
	}
	text[2 * len] = '\0';
	o = json_stringn(text, 2 * len);
	free(text);
	return o;
}

const char *arg_text(json_t *in, const char *name, const char *fallback)
{
	const char *text = json_string_value(json_object_get(in, name));

	return text ? text : fallback;
}

json_int_t arg_int(json_t *in, const char *name, json_int_t fallback)
{
	json_t *v = json_object_get(in, name);

	return json_is_integer(v) ? json_integer_value(v) : fallback;
}

double arg_real(json_t *in, const char *name, double fallback)
{
	json_t *v = json_object_get(in, name);

	return json_is_number(v) ? json_number_value(v) : fallback;
}

bool arg_bool(json_t *in, const char *name, bool fallback)
{
	json_t *v = json_object_get(in, name);

	return json_is_boolean(v) ? json_is_true(v) : fallback;
}

static int nibble(char c)
{
	const char *digits = "0123456789abcdef";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

uint8_t *hex_bytes(const char *text, size_t *len)
{
	size_t n = strlen(text);
	uint8_t *out = malloc(n / 2 + 1);

	if (!out)
		die("out of memory");
	for (size_t i = 0; i < n / 2; i++) {
		int high = nibble(text[2 * i]), low = nibble(text[2 * i + 1]);

		if (high < 0 || low < 0) {
			free(out);
			return NULL;
		}
		out[i] = (uint8_t)(high << 4 | low);
	}
	if (n % 2) {
		free(out);
		return NULL;
	}
	*len = n / 2;
	return out;
}

uint8_t *arg_hex(json_t *in, const char *name, size_t *len)
{
	const char *text = arg_text(in, name, NULL);

	return text ? hex_bytes(text, len) : NULL;
}
