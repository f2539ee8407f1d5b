/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A named device: a DTLS session, the port it sends from, what happens to its datagrams on the way,
 * and a record of every one of them. The port can be changed under the session (NAT), the session
 * can be begun anew on the port.
 */
#ifndef FG_TESTS_DEVICE_H
#define FG_TESTS_DEVICE_H

#include <jansson.h>

#include "tests/coap-client/impairment.h"
#include "tests/coap-client/message.h"
#include "tests/coap-client/port.h"
#include "tests/coap-client/tls.h"

#define DEVICE_NAME_MAX	      64
#define DEVICE_MIDS_MAX	      64
#define DEVICE_RAW_TOKENS_MAX 16

enum direction {
	DIRECTION_OUT,
	DIRECTION_IN,
};

struct capture {
	enum direction direction;
	const char *fate; /* "sent", "received", "dropped", "held", "delayed" */
	uint16_t port;
	int64_t at_us;
	size_t len;
	uint8_t *data;
};

enum answers { /* to confirmable messages of the server */
	       ANSWERS_NORMAL,
	       ANSWERS_NONE,
	       ANSWERS_RESET,
};

struct device {
	struct device *next;
	char name[DEVICE_NAME_MAX];
	char *host; /* of config */
	struct tls_config config;
	struct tls tls;
	struct port *port;
	struct target server;
	json_int_t handshake_id; /* of the command that waits; 0: none */
	int64_t handshake_end_us;
	unsigned hold; /* so many of the next datagrams are not sent */
	struct impairment impairments[2];
	uint64_t chance; /* state of the generator behind them */
	struct capture *captures;
	size_t capture_count, capture_size;
	enum answers answers;
	struct request *requests;
	uint16_t next_mid;
	uint64_t next_token;
	uint16_t mids[DEVICE_MIDS_MAX]; /* the server's newest confirmable messages */
	unsigned mid_count;
	struct {
		uint8_t bytes[MESSAGE_TOKEN_MAX];
		size_t len;
	} raw_tokens[DEVICE_RAW_TOKENS_MAX]; /* of requests that were sent as bytes */
	unsigned raw_token_count;
};

/* server, port, credentials and options: see README.md. NULL with a message in err. */
struct device *device_new(json_t *in, char *err, size_t err_len);
void device_free(struct device *d);
struct device *device_find(const char *name);

/* A new local port; the old one stays open as nobody's if asked. 0, or -errno. */
int device_rebind(struct device *d, const char *host, uint16_t number, bool keep);
void device_swap(struct device *a, struct device *b);

/* A handshake that ends, well or not, with the answer to `id`. */
void device_handshake(struct device *d, json_t *in, json_int_t id);

void device_receive(struct port *p, const uint8_t *datagram, size_t len);
int64_t device_deadlines(void);
void device_ticks(int64_t now_us);

/* The captured datagrams from `since` on. */
json_t *device_captured(const struct device *d, size_t since);
json_t *device_stats(const struct device *d);

#endif
