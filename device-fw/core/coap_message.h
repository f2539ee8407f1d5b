/* SPDX-License-Identifier: Apache-2.0 */
/* CoAP messages over datagrams, RFC 7252 section 3: written into a buffer, read in place. */
#ifndef FG_DEVICE_COAP_MESSAGE_H
#define FG_DEVICE_COAP_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FG_COAP_CODE(class, detail) ((uint8_t)((class) << 5 | (detail)))

enum fg_coap_type { FG_COAP_CON, FG_COAP_NON, FG_COAP_ACK, FG_COAP_RST };

enum {
	FG_COAP_EMPTY,
	FG_COAP_GET,
	FG_COAP_POST,
	FG_COAP_PUT,
	FG_COAP_DELETE,
	FG_COAP_FETCH,
	FG_COAP_PATCH
};

/* RFC 7252 section 12.2, RFC 7641, RFC 7959 */
enum {
	FG_COAP_OPTION_IF_MATCH = 1,
	FG_COAP_OPTION_ETAG = 4,
	FG_COAP_OPTION_OBSERVE = 6,
	FG_COAP_OPTION_URI_PATH = 11,
	FG_COAP_OPTION_CONTENT_FORMAT = 12,
	FG_COAP_OPTION_MAX_AGE = 14,
	FG_COAP_OPTION_URI_QUERY = 15,
	FG_COAP_OPTION_ACCEPT = 17,
	FG_COAP_OPTION_BLOCK2 = 23,
	FG_COAP_OPTION_BLOCK1 = 27,
	FG_COAP_OPTION_SIZE2 = 28,
};

enum {
	FG_COAP_FORMAT_NONE = -1,
	FG_COAP_FORMAT_TEXT = 0,
	FG_COAP_FORMAT_BYTES = 42,
	FG_COAP_FORMAT_JSON = 50,
	FG_COAP_FORMAT_CBOR = 60,
	FG_COAP_FORMAT_SENML_CBOR = 112,
};

#define FG_COAP_TOKEN_MAX 8
#define FG_COAP_HEADER	  4

struct fg_coap_writer {
	uint8_t *buffer; /* the caller's */
	size_t size, length;
	uint16_t last_option;
	bool full; /* something did not fit, or options came out of order: the message is not to be
		      sent */
};

void fg_coap_begin(struct fg_coap_writer *w, void *buffer, size_t size, enum fg_coap_type type,
		   uint8_t code, uint16_t id, const uint8_t *token, uint8_t token_length);
/* In the order of their numbers. */
void fg_coap_option(struct fg_coap_writer *w, uint16_t number, const void *value, size_t length);
void fg_coap_option_uint(struct fg_coap_writer *w, uint16_t number, uint32_t value);
/* One option for each segment of "a/b" (Uri-Path) or "a=1&b" (Uri-Query); none for "" and NULL. */
void fg_coap_option_split(struct fg_coap_writer *w, uint16_t number, const char *text,
			  char separator);
/* Last. Nothing is added for a length of 0 (RFC 7252 section 3: no marker without payload). */
void fg_coap_payload(struct fg_coap_writer *w, const void *payload, size_t length);
/* The same for a payload that is written in place: where it may be, and how long it may be; then
 * what it has become. */
uint8_t *fg_coap_payload_begin(struct fg_coap_writer *w, size_t *room);
void fg_coap_payload_end(struct fg_coap_writer *w, size_t length);

struct fg_coap_message {
	enum fg_coap_type type;
	uint8_t code;
	uint16_t id;
	uint8_t token_length;
	uint8_t token[FG_COAP_TOKEN_MAX];
	const uint8_t *options, *payload; /* into the datagram; never NULL */
	size_t options_length, payload_length;
};

/* A whole datagram, every option of it checked. 0, or -EBADMSG: RFC 7252 section 4.2 and 4.3 say
 * what becomes of it; type, code and id are set if there was a header, else id is 0 and type
 * FG_COAP_ACK. */
int fg_coap_parse(struct fg_coap_message *m, const void *datagram, size_t length);

struct fg_coap_option {
	uint16_t number;
	const uint8_t *value;
	size_t length;
};

/* The options one after the other: begin with a zeroed *o. False: no more. */
bool fg_coap_next_option(const struct fg_coap_message *m, struct fg_coap_option *o);
/* The first option of that number. */
bool fg_coap_find_option(const struct fg_coap_message *m, uint16_t number,
			 struct fg_coap_option *o);
/* The value as a uint (RFC 7252 section 3.2): its last four bytes. */
uint32_t fg_coap_option_number(const struct fg_coap_option *o);
/* The same of the first option of that number; `otherwise` if it is not there or too long. */
uint32_t fg_coap_find_uint(const struct fg_coap_message *m, uint16_t number, uint32_t otherwise);

#endif
