/* SPDX-License-Identifier: Apache-2.0 */
/* Reads tests/vectors/coap_messages.txt, whose head says what its lines are. For the tests of both
 * sides, which share nothing else. */
#ifndef FG_TESTS_COAP_VECTORS_H
#define FG_TESTS_COAP_VECTORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COAP_VECTORS	    "tests/vectors/coap_messages.txt"
#define COAP_VECTOR_OPTIONS 16
#define COAP_VECTOR_BYTES   1024

struct coap_vector {
	char line[4 * COAP_VECTOR_BYTES];
	uint8_t bytes[COAP_VECTOR_BYTES];
	size_t length;
	bool refused, reset; /* reset: of what is refused */
	unsigned type, code, id;
	uint8_t token[8], payload[COAP_VECTOR_BYTES];
	size_t token_length, payload_length, option_count;
	struct {
		unsigned number;
		size_t length;
		uint8_t value[COAP_VECTOR_BYTES / 2];
	} options[COAP_VECTOR_OPTIONS];
};

static inline size_t coap_vector_hex(const char *hex, uint8_t *out)
{
	size_t length = 0;
	unsigned byte;

	for (; *hex && *hex != '-' && sscanf(hex, "%2x", &byte) == 1; hex += 2)
		out[length++] = (uint8_t)byte;
	return length;
}

static inline void coap_vector_options(struct coap_vector *v, char *text)
{
	v->option_count = 0;
	if (*text == '-')
		return;
	for (char *save, *o = strtok_r(text, ",", &save); o; o = strtok_r(NULL, ",", &save)) {
		char *value;

		v->options[v->option_count].number = (unsigned)strtoul(o, &value, 10);
		v->options[v->option_count].length =
			coap_vector_hex(value + 1, v->options[v->option_count].value);
		v->option_count++;
	}
}

/* The next vector of the file; false at its end. Its words are in v->line, after '#'. */
static inline bool coap_vector_next(FILE *file, struct coap_vector *v)
{
	static const char *const types[] = {"con", "non", "ack", "rst"};
	char copy[sizeof(v->line)], *save, *word;

	do
		if (!fgets(v->line, sizeof(v->line), file))
			return false;
	while (v->line[0] == '#');
	memcpy(copy, v->line, sizeof(copy));
	v->refused = strcmp(strtok_r(copy, " ", &save), "refused") == 0;
	v->length = coap_vector_hex(strtok_r(NULL, " ", &save), v->bytes);
	word = strtok_r(NULL, " ", &save);
	v->reset = strcmp(word, "reset") == 0;
	if (v->refused)
		return true;
	for (v->type = 0; v->type < 3 && strcmp(word, types[v->type]) != 0; v->type++)
		;
	word = strtok_r(NULL, " ", &save);
	v->code = (unsigned)(strtoul(word, NULL, 10) << 5 | strtoul(word + 2, NULL, 10));
	v->id = (unsigned)strtoul(strtok_r(NULL, " ", &save), NULL, 16);
	v->token_length = coap_vector_hex(strtok_r(NULL, " ", &save), v->token);
	word = strtok_r(NULL, " ", &save);
	v->payload_length = coap_vector_hex(strtok_r(NULL, " ", &save), v->payload);
	coap_vector_options(v, word);
	return true;
}

#endif
