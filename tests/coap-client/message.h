/* SPDX-License-Identifier: Apache-2.0 */
/* CoAP messages (RFC 7252 section 3), both ways. Values are not copied. Written for tests, apart
 * from libcoap: so that one library does not test itself. */
#ifndef FG_TESTS_MESSAGE_H
#define FG_TESTS_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MESSAGE_OPTIONS_MAX 32
#define MESSAGE_TOKEN_MAX   8

enum message_type {
	MESSAGE_CON,
	MESSAGE_NON,
	MESSAGE_ACK,
	MESSAGE_RST,
};

enum { /* RFC 7252 section 5.10, RFC 7641 section 2, RFC 7959 section 2.1 */
       OPTION_IF_MATCH = 1,
       OPTION_ETAG = 4,
       OPTION_IF_NONE_MATCH = 5,
       OPTION_OBSERVE = 6,
       OPTION_URI_PATH = 11,
       OPTION_CONTENT_FORMAT = 12,
       OPTION_MAX_AGE = 14,
       OPTION_URI_QUERY = 15,
       OPTION_ACCEPT = 17,
       OPTION_BLOCK2 = 23,
       OPTION_BLOCK1 = 27,
};

#define CODE(class, detail) ((uint8_t)((class) << 5 | (detail)))

struct message_option {
	unsigned number;
	size_t len;
	const uint8_t *value;
};

struct message {
	enum message_type type;
	uint8_t code;
	uint16_t mid;
	uint8_t token[MESSAGE_TOKEN_MAX];
	size_t token_len;
	struct message_option options[MESSAGE_OPTIONS_MAX];
	size_t option_count;
	const uint8_t *payload;
	size_t payload_len;
};

/* 0, or -EBADMSG. */
int message_decode(struct message *m, const uint8_t *data, size_t len);

/* Options may stand in any order; those of one number keep theirs. The length; 0: no room. */
size_t message_encode(const struct message *m, uint8_t *out, size_t size);

/* -ENOBUFS when there are too many. */
int message_add(struct message *m, unsigned number, const void *value, size_t len);

/* The first option of this number, or NULL. */
const struct message_option *message_find(const struct message *m, unsigned number);

/* An option's value as a number (section 3.2); room for 4 bytes in `value`, the length. */
uint32_t message_uint(const struct message_option *o);
size_t message_put_uint(uint8_t value[4], uint32_t number);

#endif
