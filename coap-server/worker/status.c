/* SPDX-License-Identifier: Apache-2.0 */
/* One line now and then, like the store's: what this worker has done and what it holds. */
#include "coap-server/worker/internal.h"

#include <inttypes.h>

#include "core/base/log.h"

static void log_bus(struct worker *w)
{
	struct bus_client_stats bus;

	if (!w->bus)
		return;
	bus_client_stats(w->bus, &bus);
	log_info("coap_bus", NULL,
		 "connected=%s in_flight=%zu published=%" PRIu64 " refused=%" PRIu64
		 " connections=%" PRIu64,
		 bus.connected ? "yes" : "no", bus.in_flight, bus.published, bus.refused,
		 bus.connections);
}

void status_log(struct worker *w)
{
	struct datagrams_stats net;
	struct dtls_stats dtls;
	struct coap_server_stats coap;

	datagrams_stats(w->datagrams, &net);
	dtls_stats(w->dtls, &dtls);
	coap_server_stats(w->coap, &coap);
	log_info("coap_status", NULL,
		 "devices=%zu sessions=%zu live=%zu parked=%zu handshaking=%zu handshakes=%" PRIu64
		 " failed=%" PRIu64 " resumed=%" PRIu64 " datagrams=%" PRIu64 " records=%" PRIu64
		 " unknown_cid=%" PRIu64 " dropped=%" PRIu64 " limited=%" PRIu64 " moved=%" PRIu64,
		 w->devices.count, dtls.sessions, dtls.live, dtls.parked, dtls.handshaking,
		 dtls.handshakes_done, dtls.handshakes_failed, dtls.resumed, net.received,
		 dtls.authentic, dtls.unknown_cid, dtls.dropped, dtls.limited, dtls.moved);
	log_info("coap_requests", NULL,
		 "requests=%" PRIu64 " repeats=%" PRIu64 " refused=%" PRIu64 " too_fast=%" PRIu64
		 " malformed=%" PRIu64 " late=%" PRIu64 " notifications=%" PRIu64
		 " retransmissions=%" PRIu64 " exchanges=%zu held=%zu observations=%zu"
		 " transfers=%zu dedup_bytes=%zu unsent=%" PRIu64,
		 coap.requests, coap.repeats, coap.refused, w->refused_rate, coap.malformed,
		 coap.answers_late, coap.notifications, coap.retransmissions, coap.exchanges,
		 coap.held, coap.observations, coap.transfers, coap.dedup_bytes,
		 net.refused + net.lost);
	log_bus(w);
}
