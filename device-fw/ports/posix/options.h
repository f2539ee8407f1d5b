/* SPDX-License-Identifier: Apache-2.0 */
/* The command line, checked. `fieldgate-device --help` shows what there is. */
#ifndef FG_DEVICE_OPTIONS_H
#define FG_DEVICE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "device-fw/core/port.h"

struct options {
	bool fleet;
	enum fg_transport transport;

	/* where to */
	const char *transport_name, *host, *ca;
	long port; /* 0: the transport's own */

	/* who */
	const char *id, *cert, *key, *psk_identity, *psk_file, *jwt_key;
	const char *credentials, *pki; /* of a fleet */
	long devices;		       /* 0: as many as there are credentials */

	/* what it does */
	long interval_s, jitter_percent, metrics, batch, count, seconds, drain_s;
	bool sleep, observe, persistent, no_cid, only_cbc;
	const char *clock;
	double ramp_s, rebind_every_s, offline_every_s, offline_for_s;
	long seed, connecting;

	/* its network */
	double loss, duplicate;
	long delay_ms, delay_jitter_ms;

	/* its patience; 0: the core's own */
	long ack_timeout_ms, max_retransmit, run_ms, backoff_min_ms, backoff_max_ms, refused_min_ms,
		state_poll_s, keepalive_s, handshake_min_ms;

	/* what it keeps */
	const char *state;
	long sectors;

	/* what it says */
	bool json, events, interactive;
	const char *acked, *recorded;
};

/* Ends the process when they make no sense, or when only help was wanted. */
void options_parse(struct options *o, int argc, char **argv);

#endif
