/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One session of a load, as a machine of states that datagrams and its timer drive:
 *
 *     QUEUED -> SHAKING -> PINGING -> PROVING -> READY <-> BUSY
 *        ^         |                               ^        |
 *        +- RETRYING <- (whatever goes wrong)      +- PAUSING (4.29, 5.03)
 *
 * A message that was begun stays the session's until it is acknowledged, over any number of
 * handshakes: as a device does that keeps its measurements.
 */
#ifndef FG_TESTS_LOAD_SESSION_H
#define FG_TESTS_LOAD_SESSION_H

#include "tests/coap-client/load_options.h"
#include "tests/coap-client/wheel.h"

enum phase {
	PHASE_QUEUED, /* waits for its turn to shake hands */
	PHASE_SHAKING,
	PHASE_PINGING, /* its first record: the server now knows it by Connection ID alone */
	PHASE_PROVING, /* auth/jwt */
	PHASE_READY,
	PHASE_BUSY,
	PHASE_PAUSING,
	PHASE_RETRYING,
	PHASE_DEAD,
};

struct session {
	struct tls tls;
	struct timer timer;
	struct session *next; /* in one of the queues */
	const struct load_credentials *who;
	uint32_t socket;
	enum phase phase;
	bool was_ready;
	bool pending;	   /* seq has been sent and is not acknowledged */
	bool acknowledged; /* by an empty message: the answer comes later */
	uint8_t tries;
	uint16_t mid;
	uint32_t seq;
	int64_t ts_ms, first_sent_us, interval_us, due_us;
};

struct load_totals {
	uint64_t handshakes, resumed, handshakes_failed, handshakes_again;
	uint64_t sent, acknowledged, transmissions, retransmissions, timeouts, refused, pauses;
	uint64_t closed_by_server, nonces_reused, malformed;
	uint64_t codes[256];
	size_t pending, in_flight, shaking, ready, dead;
	uint32_t *latencies_us;
	size_t latency_count, latency_size;
};

extern struct load_totals totals;

/* options must outlive the sessions. */
void session_setup(const struct load_options *o);
void session_init(struct session *s, const struct load_credentials *who, uint32_t index,
		  uint32_t socket);

/* Begin a handshake; the session must be QUEUED. */
void session_shake(struct session *s);

/* Send its message, a new one or the one that is pending; it must be READY. */
void session_post(struct session *s);

void session_receive(struct session *s, const uint8_t *datagram, size_t len);

/* The caller's: the session is READY, or QUEUED, or done with its handshake, well or not. */
void on_session_ready(struct session *s);
void on_session_queued(struct session *s);
void on_session_shaken(struct session *s);

#endif
