/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FG_TESTS_LOAD_OPTIONS_H
#define FG_TESTS_LOAD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/coap-client/impairment.h"
#include "tests/coap-client/port.h"
#include "tests/coap-client/tls.h"

struct load_options {
	struct target server;
	const char *credentials, *ca, *host, *suites, *path, *acked, *sent;
	unsigned sessions; /* 0: as many as there are credentials */
	unsigned sockets, sources, handshaking, in_flight, max_retransmit;
	double rate; /* messages or handshakes a second in all; 0: closed loop */
	double seconds, setup_seconds, drain_seconds;
	uint64_t messages; /* of each session; 0: any number */
	uint32_t first_seq;
	int64_t ack_timeout_us;
	struct impairment impairment; /* of all datagrams, in both directions */
	uint64_t seed;
	bool handshakes; /* nothing but handshakes */
	bool resume, no_cid, timestamp, no_seq, small, put, greet, wait, goodbye, no_recovery,
		no_ping;
};

bool load_options_lossy(const struct load_options *o);

/* Ends the process when they make no sense. */
void load_options_parse(struct load_options *o, int argc, char **argv);

/* A line of the file of credentials. */
struct load_credentials {
	char *device;
	char *jwt; /* NULL: none */
	struct tls_config *config;
};

/* The number, which is at least 1. Ends the process when a line cannot be used. */
unsigned load_credentials_read(const struct load_options *o, struct load_credentials **out);

#endif
