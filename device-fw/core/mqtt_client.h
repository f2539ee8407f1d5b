/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An MQTT 3.1.1 client (OASIS, 2014) for one device, without input and output of its own: it is
 * given the bytes of a stream and the time, and gives bytes. QoS 1 in both directions, one publish
 * under way, one subscription; a persistent session if wanted. What the broker sends is
 * acknowledged when `handle` has taken it.
 *
 * A structure belongs to one thread. Functions call `send` and `handle` before they return.
 * `handle` may publish, close and init; nothing else is called from inside of it, and nothing from
 * inside `send`.
 */
#ifndef FG_DEVICE_MQTT_CLIENT_H
#define FG_DEVICE_MQTT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef FG_MQTT_PACKET_MAX
#define FG_MQTT_PACKET_MAX 1024 /* bytes of what we send, with the topic */
#endif
#ifndef FG_MQTT_RECEIVE_MAX
#define FG_MQTT_RECEIVE_MAX                                                                        \
	512 /* of what we receive; longer publishes are acknowledged and passed over */
#endif
#define FG_MQTT_ID_MAX 64 /* of a device's id, docs of the registry */

enum fg_mqtt_outcome {
	FG_MQTT_CONNECTED, /* CONNACK, and SUBACK if something is to be subscribed */
	FG_MQTT_REFUSED, /* CONNACK with a return code other than 0, or the subscription was refused
			  */
	FG_MQTT_ACKNOWLEDGED, /* PUBACK of what was published */
	FG_MQTT_MESSAGE,      /* a publish of the broker; of a session that was kept, also before
				 CONNECTED */
	FG_MQTT_TOO_LONG,     /* a publish of the broker that was passed over */
	FG_MQTT_SILENT,	      /* no answer in time: the connection is of no use */
	FG_MQTT_MALFORMED,    /* the peer does not speak MQTT: the connection is of no use */
	FG_MQTT_NOT_SENT,     /* send failed, or settings do not fit into a packet: the same */
};
/* After REFUSED and what makes a connection of no use nothing more is sent or told, until the next
 * fg_mqtt_client_open. */

/* What does not belong to the outcome means nothing. */
struct fg_mqtt_event {
	uint8_t return_code;  /* REFUSED: of CONNACK (section 3.2.2.3), 0x80 of SUBACK */
	bool session_present; /* CONNECTED */
	bool duplicate;	      /* MESSAGE, TOO_LONG: it may have been given before */
	bool retained;	      /* the same: it was there before we subscribed, and stays */
	const char *topic;    /* MESSAGE: not ended by NUL */
	size_t topic_length;
	const uint8_t *payload; /* until `handle` returns */
	size_t length;		/* of the payload: MESSAGE, TOO_LONG */
	uint32_t elapsed_ms;	/* ACKNOWLEDGED: since the publish */
};

struct fg_mqtt_client {
	const char *client_id;	  /* the device's id; outlives the client */
	const char *subscription; /* a topic filter, or NULL; outlives the client */
	uint16_t keepalive_s;	  /* 0: none */
	bool clean_session;
	uint32_t answer_timeout_ms; /* for CONNACK, SUBACK, PUBACK, PINGRESP */
	/* All of it, or a negative errno; what cannot be taken at once is kept by the port. */
	int (*send)(void *ctx, const void *bytes, size_t length, bool expects_answer);
	void (*handle)(void *ctx, enum fg_mqtt_outcome outcome, const struct fg_mqtt_event *event);
	void *ctx;

	/* the rest is its own */
	int64_t now_ms, asked_ms, answer_by_ms, ping_at_ms, pingresp_by_ms;
	uint32_t remaining, at;
	uint16_t packet_id, publish_id, received_id;
	uint16_t length;
	uint8_t state, part, header;
	bool asked, pinged, session_present;
	uint8_t out[FG_MQTT_PACKET_MAX];
	uint8_t in[FG_MQTT_RECEIVE_MAX];
};

/* Of settings that the caller has set: forgets everything, also what the server has not
 * acknowledged.
 */
void fg_mqtt_client_init(struct fg_mqtt_client *c);
/* A stream is open, the first one or the next: CONNECT, then SUBSCRIBE. */
void fg_mqtt_client_open(struct fg_mqtt_client *c, int64_t now_ms);
/* An answer of the server is awaited, to anything. */
bool fg_mqtt_client_busy(const struct fg_mqtt_client *c);
/*
 * QoS 1. The payload is written by `write` into the packet itself: its length, or a negative errno,
 * which is returned. 0: it was sent, or `handle` has been told that it was not; -EBUSY: one is
 * under way, or it is not connected; -EMSGSIZE: topic and payload are too long. `duplicate`: the
 * same was sent before over another connection and not acknowledged (DUP, section 3.3.1.1); it gets
 * the packet identifier that it had (section 4.4).
 */
int fg_mqtt_client_publish(struct fg_mqtt_client *c, const char *topic,
			   int (*write)(void *arg, uint8_t *out, size_t room), void *arg,
			   bool duplicate, int64_t now_ms);
/* Bytes of the stream, as they come. What has been received is given before time-outs are looked
 * for (fg_mqtt_client_poll): after a sleep the answer may be there already. */
void fg_mqtt_client_receive(struct fg_mqtt_client *c, const void *bytes, size_t length,
			    int64_t now_ms);
/* Does what is due (PINGREQ, time-outs), and says when it wants to be called again; INT64_MAX: not
 * for itself. */
int64_t fg_mqtt_client_poll(struct fg_mqtt_client *c, int64_t now_ms);
/* DISCONNECT, before the stream is closed on purpose. */
void fg_mqtt_client_close(struct fg_mqtt_client *c);

/* "m/d/<device>/d2c[/<sub>]" and the filter "m/d/<device>/c2d/#"; sub may be NULL. Length, or
 * -EMSGSIZE. */
int fg_topic_d2c(char *out, size_t size, const char *device, const char *sub);
int fg_topic_c2d_filter(char *out, size_t size, const char *device);

#endif
