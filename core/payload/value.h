/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A decoded document: the tree that JSON and CBOR both become, in one arena. What follows (SenML,
 * nRF Cloud's messages, flattening into readings, rules) is written once, for this tree.
 */
#ifndef FG_PAYLOAD_VALUE_H
#define FG_PAYLOAD_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/arena.h"

enum value_type {
	VALUE_NULL, /* null, CBOR undefined, and a number that is not finite */
	VALUE_BOOL,
	VALUE_INTEGER,
	VALUE_NUMBER,
	VALUE_TEXT,  /* well-formed UTF-8 without NUL */
	VALUE_BYTES, /* CBOR only */
	VALUE_ARRAY,
	VALUE_MAP,
};

struct member;

struct value {
	enum value_type type;
	union {
		bool boolean;
		int64_t integer;
		double number; /* finite */
		struct {
			const char *data; /* not NUL-terminated */
			size_t len;
		} text;
		struct {
			struct value *items;
			size_t count;
		} array;
		struct {
			struct member *members;
			size_t count;
		} map;
	} u;
};

/* A map's key is text, or (CBOR: SenML's and nRF Cloud's labels) an integer. */
struct member {
	bool is_label;
	int64_t label;
	const char *key; /* not NUL-terminated; when !is_label */
	size_t key_len;
	struct value value;
};

struct decode_limits {
	size_t max_bytes;
	unsigned max_depth;    /* nesting of arrays and maps; a bare number has depth 0 */
	unsigned max_readings; /* of one message, and of items in any array or map */
};

/*
 * Decode one whole document. 0; -EBADMSG with the reason in `reason` ("JSON: line 1, column 8:
 * ..."); -EMSGSIZE: a limit (reason says which); -ENOMEM: the arena's limit. The tree may point
 * into data, which must outlive it.
 *
 * Decided: duplicate keys, trailing bytes, invalid UTF-8 and NUL in text are errors; so is a byte
 * order mark, and a JSON number too large for a double. NaN and infinities become null, an integer
 * outside int64_t a number, JSON's -0 the integer 0. CBOR: indefinite lengths are accepted; tags
 * are skipped and their content used, save that tag 1 and tag 0 mark nothing but a number or text;
 * a map's key is text or an integer, and a label and a text that reads like it are duplicates.
 */
int json_decode(struct arena *a, const void *data, size_t len, const struct decode_limits *limits,
		struct value *out, char *reason, size_t reason_len);
int cbor_decode(struct arena *a, const void *data, size_t len, const struct decode_limits *limits,
		struct value *out, char *reason, size_t reason_len);

/* The member's value, or NULL. */
const struct value *value_get(const struct value *map, const char *key);
const struct value *value_get_label(const struct value *map, int64_t label);

/*
 * As compact JSON in the arena (bytes as base64url text, labels as decimal keys, numbers so that
 * they read back the same). NULL without memory. *len without the NUL behind it.
 */
char *value_print_json(struct arena *a, const struct value *v, size_t *len);

/* As CBOR (RFC 8949) in the arena: definite lengths, integers and numbers as short as they read
 * back the same (numbers of 4 or 8 bytes). NULL without memory. */
uint8_t *value_encode_cbor(struct arena *a, const struct value *v, size_t *len);

#endif
