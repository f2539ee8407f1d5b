/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CoAP messages (RFC 7252 section 3) as bytes and as structs. Behind this header is libcoap, and
 * nowhere else: it reads and writes the options; README.md says why it does no more. Nothing here
 * allocates.
 */
#ifndef FG_COAP_GLUE_H
#define FG_COAP_GLUE_H

#include "coap-server/coap/server.h"

#define MESSAGE_HEADER	  4
#define MESSAGE_TOKEN_MAX 8
#define MESSAGE_MAX	  1280 /* bytes that message_write makes: 1,024 of payload and its options */
#define BLOCK_SZX_MAX	  6    /* 1,024 bytes; 7 is reserved (RFC 7959 section 2.2) */
#define QUERY_MAX	  1023
#define REQUEST_TAG_MAX	  8 /* RFC 9175 section 3.2.1 */

enum message_type {
	MESSAGE_CON,
	MESSAGE_NON,
	MESSAGE_ACK,
	MESSAGE_RST,
};

struct message_id { /* what an answer needs of its request */
	enum message_type type;
	uint16_t mid;
	uint8_t token_len;
	uint8_t token[MESSAGE_TOKEN_MAX];
};

struct block { /* Block1 or Block2 */
	bool present, more;
	uint8_t szx;
	uint32_t num;
};

static inline size_t block_size(const struct block *b)
{
	return (size_t)16 << b->szx;
}

static inline size_t block_offset(const struct block *b)
{
	return (size_t)b->num << (b->szx + 4);
}

struct message { /* as received; pointers are into itself and into the bytes that were read */
	struct message_id id;
	uint8_t code;
	struct coap_call call; /* but session, rest, observe, notification */
	struct block block1, block2;
	int observe; /* below 0: no Observe option */
	bool has_size1;
	uint32_t size1;
	uint8_t request_tag_len;
	uint8_t request_tag[REQUEST_TAG_MAX];
	bool path_impossible;	 /* a segment that no resource of ours can have, or too long */
	bool proxy;		 /* Proxy-Uri, Proxy-Scheme */
	bool block_reserved;	 /* SZX 7 */
	const char *bad_request; /* why it is 4.00; NULL: it is not */
	uint16_t bad_option;	 /* a critical option that is not understood; 0: none */
	char path[FG_COAP_PATH_MAX + 1];
	char query[QUERY_MAX + 1];
};

enum message_read {
	MESSAGE_READ_OK,
	MESSAGE_READ_NOTHING, /* too short or another version: silence (RFC 7252 section 3) */
	MESSAGE_READ_ERROR,   /* a message format error; m->id.type and mid are set */
};

enum message_read message_read(struct message *m, const uint8_t *data, size_t len);

struct answer { /* a message of ours */
	struct message_id id;
	uint8_t code;
	uint8_t etag_len;
	uint8_t etag[FG_COAP_ETAG_MAX];
	bool observe;
	uint32_t observe_number; /* 24 bits */
	int format;		 /* or FG_COAP_FORMAT_NONE */
	int64_t max_age_s;	 /* below 0: none */
	struct block block1, block2;
	int64_t size1, size2; /* below 0: none */
	const uint8_t *payload;
	size_t payload_len; /* 1,024 at most */
	int64_t delivery;   /* of the reply */
};

/* One of several blocks. */
static inline bool answer_in_part(const struct answer *a)
{
	return a->block2.present && (a->block2.more || a->block2.num > 0);
}

void answer_init(struct answer *a, const struct message_id *request, uint8_t code);

/* Returns the length; it fits always. */
size_t message_write(uint8_t out[MESSAGE_MAX], const struct answer *a);

/* An empty message: ACK or RST. */
void message_write_empty(uint8_t out[MESSAGE_HEADER], enum message_type type, uint16_t mid);

void message_set_mid(uint8_t *message, uint16_t mid);
uint16_t message_mid(const uint8_t *message);

#endif
