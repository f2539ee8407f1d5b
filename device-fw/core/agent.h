/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device: it measures, keeps, connects, sends, obeys and sleeps. The other parts of the core are
 * pieces of which the agent makes one; a port drives it with the events of its world and calls
 * fg_agent_poll when the time that it said has come. One structure is one device; it belongs to one
 * thread.
 */
#ifndef FG_DEVICE_AGENT_H
#define FG_DEVICE_AGENT_H

#include "device-fw/core/backlog.h"
#include "device-fw/core/coap_client.h"
#include "device-fw/core/config.h"
#include "device-fw/core/mqtt_client.h"
#include "device-fw/core/note.h"
#include "device-fw/core/port.h"
#include "device-fw/core/session.h"

struct fg_connection {
	bool resumed;	    /* no handshake: the server knows us still */
	bool connection_id; /* DTLS: RFC 9146 was negotiated, so a new address changes nothing */
};

#ifndef FG_WITH_MQTT
#define FG_WITH_MQTT 1 /* 0: CoAP only, for the smallest devices */
#endif

struct fg_agent {
	/* since fg_agent_init */
	uint32_t acknowledged,
		refused;    /* records that the server has, and that it will never take */
	uint32_t faults;    /* attempts that came to nothing */
	int32_t interval_s; /* in force */
	struct fg_session session;
	struct fg_backlog backlog;

	/* the rest is its own */
	const struct fg_port *port;
	void *ctx;
	const struct fg_config *config;
	const struct fg_agent_protocol *protocol;
	int64_t measure_at_ms, state_at_ms, others_at_ms;
	uint32_t pending; /* events of the session that came while it was stepping, as bits */
	uint32_t hold_ms;
	int32_t last_command; /* its id; INT32_MIN: none */
	struct fg_backlog_cursor batch_last;
	uint32_t batch_first_seq;
	uint8_t batch_count, batch_limit;
	uint8_t step; /* which request is under way */
	uint8_t etag_length;
	uint8_t etag[FG_COAP_ETAG_MAX]; /* of the message that we have and the server does not know
					   we have */
	bool stepping, linked, time_asked, c2d_wanted, report_wanted, observing, reboot_wanted,
		batch_was_last, bulk, clock_doubted;
	struct fg_coap_request asked; /* by a person; method 0: nothing */
	union {
		struct fg_coap_client coap;
#if FG_WITH_MQTT
		struct {
			struct fg_mqtt_client mqtt;
			char filter[FG_DEVICE_ID_MAX + 16];
		};
#endif
	};
};

/* Reads configuration and backlog. `config` and `port` outlive the agent. 0, or a negative errno of
 * the configuration. */
int fg_agent_init(struct fg_agent *a, const struct fg_port *port, void *ctx,
		  const struct fg_config *config);
void fg_agent_start(struct fg_agent *a);
void fg_agent_stop(struct fg_agent *a); /* closes with a farewell; start begins anew */

/* Does what is due, and says when it is to be called again (by uptime). After each other call, too.
 */
int64_t fg_agent_poll(struct fg_agent *a);

/* ---- what the port tells */
void fg_agent_network(struct fg_agent *a, bool attached);
void fg_agent_connected(struct fg_agent *a, const struct fg_connection *connection);
/* It could not be opened, or has ended: a negative errno, for the log. -EACCES: the peer has
 * refused us, or we have refused it (certificate, PSK). */
void fg_agent_disconnected(struct fg_agent *a, int error);
void fg_agent_receive(struct fg_agent *a, const void *bytes, size_t length);

/* ---- what a person or the port asks for */
void fg_agent_measure(struct fg_agent *a); /* take a reading now, and send it */
/* A reading that the application brings itself. 0, or what fg_backlog_append says. */
int fg_agent_record(struct fg_agent *a, const struct fg_reading *readings, size_t count);
/* CoAP only, one at a time: 0, -EBUSY, -ENOTSUP. The answer is FG_NOTE_RESPONSE. The strings and
 * bytes stay valid until then. */
int fg_agent_get(struct fg_agent *a, const char *path);
int fg_agent_put(struct fg_agent *a, const char *path, int format, const void *payload,
		 size_t length);
/* As a command of the cloud does; kept over reboots. */
void fg_agent_set_interval(struct fg_agent *a, int32_t interval_s);

#endif
