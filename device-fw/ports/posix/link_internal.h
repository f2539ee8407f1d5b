/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a link, for link.c (what its owner asks for) and link_run.c (what the loop does
 * with it).
 *
 *   CLOSED -> OPENING -> CONNECTING (TCP) -> SHAKING -> OPEN -> CLOSED
 *                                                        |  ^
 *                        KEPT (DTLS), PARKED (TLS)  <----+  +---- RESUMING <- KEPT, PARKED
 *
 * Everything happens in callbacks of the loop; link_open only sets the timer that begins it.
 * Whoever is told something may close the link, open it again or free it before he returns: `turn`
 * counts these, and a link that is freed then lives on until the callback is over.
 */
#ifndef FG_DEVICE_LINK_INTERNAL_H
#define FG_DEVICE_LINK_INTERNAL_H

#include "device-fw/ports/posix/link_datagrams.h"
#include "device-fw/ports/posix/link_host.h"
#include "device-fw/ports/posix/link_stream.h"
#include "device-fw/ports/posix/link_tls.h"

enum link_state {
	LINK_CLOSED,
	LINK_OPENING,
	LINK_CONNECTING,
	LINK_SHAKING,
	LINK_OPEN, /* from here on there is a session */
	LINK_KEPT,
	LINK_PARKED,
	LINK_RESUMING,
};

struct link {
	struct link_config config;
	struct link_air air;
	struct loop_timer timer;
	enum link_state state;
	unsigned turn;	    /* counts link_open and link_close */
	int callbacks;	    /* that are under way */
	bool doomed;	    /* to be freed when they are over */
	int broken;	    /* what link_send has met; told by the timer */
	int carrier_error;  /* -errno of the socket, for Mbed TLS knows none */
	bool heard;	    /* anything from the peer, since link_open */
	bool connection_id; /* was negotiated */
	bool datagrams_wanted;
	uint16_t port;
	unsigned address; /* which of the host's, and how many of them were tried */
	unsigned tried;
	struct link_host *host;
	const char *name;
	struct link_tls *tls;
	struct link_datagrams *datagrams;
	struct link_stream *stream;
	void *saved;
	size_t saved_length;
	struct link_tls_ticket *ticket;
};

void link_run(void *link);		/* what its timer calls */
void link_set_timer(struct link *l);	/* to what is due next */
void link_release(struct link *l);	/* session and sockets, without a word */
void link_forget_saved(struct link *l); /* the kept session */
void link_destroy(struct link *l);	/* after its last callback */

#endif
