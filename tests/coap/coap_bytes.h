/* SPDX-License-Identifier: Apache-2.0 */
/* CoAP messages byte by byte, written from RFC 7252 section 3 for tests: shares no code with the
 * server and with libcoap. */
#ifndef FG_TEST_COAP_BYTES_H
#define FG_TEST_COAP_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { B_CON, B_NON, B_ACK, B_RST };

enum {
	OPT_IF_MATCH = 1,
	OPT_ETAG = 4,
	OPT_IF_NONE_MATCH = 5,
	OPT_OBSERVE = 6,
	OPT_URI_PATH = 11,
	OPT_CONTENT_FORMAT = 12,
	OPT_MAX_AGE = 14,
	OPT_URI_QUERY = 15,
	OPT_ACCEPT = 17,
	OPT_BLOCK2 = 23,
	OPT_BLOCK1 = 27,
	OPT_SIZE2 = 28,
	OPT_PROXY_URI = 35,
	OPT_SIZE1 = 60,
	OPT_REQUEST_TAG = 292,
};

struct coap_bytes { /* a message that is being written; options in rising order */
	uint8_t data[2048];
	size_t len;
	unsigned option;
};

void bytes_begin(struct coap_bytes *b, unsigned type, unsigned code, uint16_t mid,
		 const char *token);
void bytes_option(struct coap_bytes *b, unsigned number, const void *value, size_t len);
void bytes_number(struct coap_bytes *b, unsigned number, uint32_t value);
void bytes_path(struct coap_bytes *b, const char *path); /* a segment between any two '/' */
void bytes_block(struct coap_bytes *b, unsigned number, uint32_t num, bool more, unsigned szx);
void bytes_payload(struct coap_bytes *b, const void *payload, size_t len);

struct coap_seen { /* a message that was read */
	unsigned type, code;
	uint16_t mid;
	size_t token_len;
	uint8_t token[8];
	struct {
		unsigned number;
		size_t len;
		const uint8_t *value;
	} option[32];
	size_t option_count;
	const uint8_t *payload; /* in the bytes that were read */
	size_t payload_len;
};

/* False: it is malformed, or numbers are not written as short as they can be. */
bool coap_see(struct coap_seen *seen, const uint8_t *data, size_t len);

/* The option's value as a number; -1: it is not there. */
int64_t seen_number(const struct coap_seen *seen, unsigned number);
bool seen_has(const struct coap_seen *seen, unsigned number);
bool seen_token(const struct coap_seen *seen, const char *token);
bool seen_text(const struct coap_seen *seen, const char *payload);

/* num << 4 | more << 3 | szx */
uint32_t block_value(uint32_t num, bool more, unsigned szx);

#define CODE(class, detail) ((class) << 5 | (detail))

#endif
