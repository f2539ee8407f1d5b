/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sections are those of "MQTT Version 3.1.1", OASIS Standard, 29 October 2014.
 *
 * A packet is received byte by byte: header, remaining length, body. Header and length are judged
 * before the body is awaited, so all but a publish is short, and what a server may not send now
 * ends the connection at its first byte. Of a publish that does not fit only the packet identifier
 * is kept.
 */
#include "device-fw/core/mqtt_client.h"

#include <errno.h>
#include <string.h>

/* Section 2.2.1, with the flags of section 2.2.2. */
enum {
	CONNECT = 0x10,
	CONNACK = 0x20,
	PUBLISH = 0x30,
	PUBACK = 0x40,
	SUBSCRIBE = 0x82,
	SUBACK = 0x90,
	PINGREQ = 0xc0,
	PINGRESP = 0xd0,
	DISCONNECT = 0xe0,
};

/* Flags of PUBLISH, section 3.3.1. */
enum { DUP = 0x08, QOS_1 = 0x02, RETAIN = 0x01 };

#define CLEAN_SESSION	    0x02 /* section 3.1.2.4 */
#define SUBSCRIPTION_FAILED 0x80 /* section 3.9.3 */
#define LENGTH_BYTES_MAX    4	 /* section 2.2.3 */

enum state { CLOSED, CONNECTING, SUBSCRIBING, RUNNING };
enum waiting { FOR_ANSWER = 1 << 0 /* CONNACK, SUBACK or PUBACK */, FOR_PINGRESP = 1 << 1 };
enum part { HEADER, LENGTH, BODY };

/* Room for the header and two bytes of length, before everything else. */
#define BODY_AT 3
_Static_assert(FG_MQTT_PACKET_MAX < 1 << 14, "the length of a packet takes two bytes");
_Static_assert(FG_MQTT_PACKET_MAX >= BODY_AT + 12 + FG_MQTT_ID_MAX, "CONNECT fits");
_Static_assert(FG_MQTT_RECEIVE_MAX >= 4, "all packets but publishes fit");

static void end(struct fg_mqtt_client *c, enum fg_mqtt_outcome outcome, uint8_t return_code)
{
	struct fg_mqtt_event event = {.return_code = return_code};

	c->state = CLOSED;
	c->waiting = 0;
	c->handle(c->ctx, outcome, &event);
}

/* ---- sending */

/* Whether `handle` may go on: if not, it has been told. */
static bool transmit(struct fg_mqtt_client *c, const uint8_t *packet, size_t length, int64_t now_ms)
{
	c->sent_ms = now_ms;
	if (c->send(c->ctx, packet, length, c->waiting != 0) >= 0)
		return true;
	end(c, FG_MQTT_NOT_SENT, 0);
	return false;
}

/* An answer is awaited from now on. */
static void ask(struct fg_mqtt_client *c, size_t end_of_body, uint8_t header, int64_t now_ms)
{
	size_t length = end_of_body - BODY_AT;
	uint8_t *start = c->out + BODY_AT;

	if (end_of_body == 0) {
		end(c, FG_MQTT_NOT_SENT, 0);
		return;
	}
	if (length > 0x7f) {
		*--start = (uint8_t)(length >> 7);
		*--start = (uint8_t)(length | 0x80);
	} else {
		*--start = (uint8_t)length;
	}
	*--start = header;
	c->waiting |= FOR_ANSWER;
	c->asked_ms = now_ms;
	transmit(c, start, (size_t)(c->out + end_of_body - start), now_ms);
}

static size_t put_u16(struct fg_mqtt_client *c, size_t at, size_t value)
{
	c->out[at] = (uint8_t)(value >> 8);
	c->out[at + 1] = (uint8_t)value;
	return at + 2;
}

/* Section 1.5.3. Where it ends, or 0: `more` bytes do not fit behind it. */
static size_t put_string(struct fg_mqtt_client *c, size_t at, const char *text, size_t more)
{
	size_t length = strlen(text);

	if (length > FG_MQTT_PACKET_MAX || at + 2 + length + more > FG_MQTT_PACKET_MAX)
		return 0;
	at = put_u16(c, at, length);
	memcpy(c->out + at, text, length);
	return at + length;
}

/* Section 2.3.1: never 0, and not the one of a publish that the server may still know. */
static uint16_t new_packet_id(struct fg_mqtt_client *c)
{
	do
		c->packet_id++;
	while (c->packet_id == 0 || c->packet_id == c->publish_id);
	return c->packet_id;
}

/* Section 3.1: protocol name and level, flags, keep alive, client identifier. */
static void send_connect(struct fg_mqtt_client *c, int64_t now_ms)
{
	static const uint8_t protocol[] = {0, 4, 'M', 'Q', 'T', 'T', 4};
	size_t at = BODY_AT;

	memcpy(c->out + at, protocol, sizeof(protocol));
	at += sizeof(protocol);
	c->out[at++] = c->clean_session ? CLEAN_SESSION : 0;
	at = put_u16(c, at, c->keepalive_s);
	at = put_string(c, at, c->client_id, 0);
	c->state = CONNECTING;
	ask(c, at, CONNECT, now_ms);
}

/* Section 3.8. Also in a session that the server has kept: it may be of another subscription. */
static void send_subscribe(struct fg_mqtt_client *c, int64_t now_ms)
{
	size_t at = put_u16(c, BODY_AT, new_packet_id(c));

	at = put_string(c, at, c->subscription, 1);
	if (at > 0)
		c->out[at++] = 1; /* the greatest QoS that we take */
	c->state = SUBSCRIBING;
	ask(c, at, SUBSCRIBE, now_ms);
}

int fg_mqtt_client_publish(struct fg_mqtt_client *c, const char *topic,
			   int (*write)(void *arg, uint8_t *out, size_t room), void *arg,
			   bool duplicate, int64_t now_ms)
{
	size_t at, room;
	int length;

	if (c->state != RUNNING || (c->waiting & FOR_ANSWER))
		return -EBUSY;
	at = put_string(c, BODY_AT, topic, 2);
	if (at == 0)
		return -EMSGSIZE;
	room = FG_MQTT_PACKET_MAX - at - 2;
	length = write(arg, c->out + at + 2, room);
	if (length < 0)
		return length;
	if ((size_t)length > room)
		return -EMSGSIZE;
	if (!duplicate || c->publish_id == 0)
		c->publish_id = new_packet_id(c);
	at = put_u16(c, at, c->publish_id);
	ask(c, at + (size_t)length, PUBLISH | QOS_1 | (duplicate ? DUP : 0), now_ms);
	return 0;
}

/* ---- receiving */

static bool is_publish(const struct fg_mqtt_client *c)
{
	return (c->header & 0xf0) == PUBLISH;
}

/*
 * How long the body of a packet with this header is, of a publish at least; -1: the server may not
 * send it now. Flags are as section 2.2.2 has them. A publish has QoS 0, and then no DUP (section
 * 3.3.1.1), or QoS 1: we subscribe to no more. Its topic has a character (section 4.7.3).
 */
static int body_length(const struct fg_mqtt_client *c)
{
	if (c->state == CONNECTING)
		return c->header == CONNACK ? 2 : -1;
	if (c->header == SUBACK)
		return c->state == SUBSCRIBING ? 3 : -1;
	if (c->header == PUBACK)
		return 2;
	if (c->header == PINGRESP)
		return 0;
	if ((c->header & ~RETAIN) == PUBLISH)
		return 3;
	return (c->header & ~(RETAIN | DUP)) == (PUBLISH | QOS_1) ? 5 : -1;
}

static uint16_t get_u16(const uint8_t *bytes)
{
	return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static void connected(struct fg_mqtt_client *c)
{
	struct fg_mqtt_event event = {.session_present = c->session_present};

	c->state = RUNNING;
	c->waiting &= (uint8_t)~FOR_ANSWER;
	c->handle(c->ctx, FG_MQTT_CONNECTED, &event);
}

/* Section 3.2.2: a refusal leaves no session. */
static void receive_connack(struct fg_mqtt_client *c, int64_t now_ms)
{
	uint8_t flags = c->in[0], return_code = c->in[1];

	if (flags > 1 || (flags && return_code)) {
		end(c, FG_MQTT_MALFORMED, 0);
		return;
	}
	if (return_code) {
		end(c, FG_MQTT_REFUSED, return_code);
		return;
	}
	c->session_present = flags;
	if (c->subscription)
		send_subscribe(c, now_ms);
	else
		connected(c);
}

/* Section 3.9: less than what was asked for may be granted, but not more. */
static void receive_suback(struct fg_mqtt_client *c)
{
	uint8_t return_code = c->in[2];

	if (get_u16(c->in) != c->packet_id ||
	    (return_code > 1 && return_code != SUBSCRIPTION_FAILED))
		end(c, FG_MQTT_MALFORMED, 0);
	else if (return_code == SUBSCRIPTION_FAILED)
		end(c, FG_MQTT_REFUSED, return_code);
	else
		connected(c);
}

static void receive_puback(struct fg_mqtt_client *c, int64_t now_ms)
{
	struct fg_mqtt_event event = {0};
	int64_t elapsed_ms = now_ms - c->asked_ms;
	uint16_t id = get_u16(c->in);

	if (id == 0) {
		end(c, FG_MQTT_MALFORMED, 0);
		return;
	}
	/* Another one may be of a connection before this one: nothing waits for it any more. */
	if (c->state != RUNNING || !(c->waiting & FOR_ANSWER) || id != c->publish_id)
		return;
	c->waiting &= (uint8_t)~FOR_ANSWER;
	c->publish_id = 0;
	event.elapsed_ms = elapsed_ms > UINT32_MAX ? UINT32_MAX : (uint32_t)elapsed_ms;
	c->handle(c->ctx, FG_MQTT_ACKNOWLEDGED, &event);
}

/* Section 4.7: a topic name has no wildcards and no U+0000. */
static bool is_topic_name(const uint8_t *name, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (name[i] == '\0' || name[i] == '+' || name[i] == '#')
			return false;
	return length > 0;
}

/* Of a publish: where the topic ends, and the packet identifier begins if there is one. */
static uint32_t topic_end(const struct fg_mqtt_client *c)
{
	return 2u + get_u16(c->in);
}

static void receive_publish(struct fg_mqtt_client *c, int64_t now_ms)
{
	bool wants_ack = c->header & QOS_1;
	uint32_t payload_at = topic_end(c) + (wants_ack ? 2 : 0);
	bool fits = c->remaining <= sizeof(c->in);
	uint8_t puback[4] = {PUBACK, 2, (uint8_t)(c->received_id >> 8), (uint8_t)c->received_id};
	struct fg_mqtt_event event = {.duplicate = c->header & DUP,
				      .length = c->remaining - payload_at};

	if (payload_at > c->remaining || (wants_ack && c->received_id == 0) ||
	    (fits && !is_topic_name(c->in + 2, get_u16(c->in)))) {
		end(c, FG_MQTT_MALFORMED, 0);
		return;
	}
	if (fits) {
		event.topic = (const char *)c->in + 2;
		event.topic_length = get_u16(c->in);
		event.payload = c->in + payload_at;
	}
	c->handle(c->ctx, fits ? FG_MQTT_MESSAGE : FG_MQTT_TOO_LONG, &event);
	if (wants_ack && c->state != CLOSED)
		transmit(c, puback, sizeof(puback), now_ms);
}

static void receive_packet(struct fg_mqtt_client *c, int64_t now_ms)
{
	switch (c->header) {
	case CONNACK:
		receive_connack(c, now_ms);
		break;
	case SUBACK:
		receive_suback(c);
		break;
	case PUBACK:
		receive_puback(c, now_ms);
		break;
	case PINGRESP:
		c->waiting &= (uint8_t)~FOR_PINGRESP;
		break;
	default:
		receive_publish(c, now_ms);
	}
}

/* The identifier is kept apart: behind a long topic it is not in the buffer. */
static void keep(struct fg_mqtt_client *c, uint8_t byte)
{
	if (c->at < sizeof(c->in))
		c->in[c->at] = byte;
	if (is_publish(c) && c->at >= 2 && c->at - topic_end(c) < 2)
		c->received_id = (uint16_t)(c->received_id << 8 | byte);
}

static void receive_byte(struct fg_mqtt_client *c, uint8_t byte, int64_t now_ms)
{
	bool whole = false, fine = true;
	int wanted = 0;

	switch (c->part) {
	case HEADER:
		c->header = byte;
		c->remaining = 0;
		c->at = 0;
		c->part = LENGTH;
		fine = body_length(c) >= 0;
		break;
	case LENGTH:
		c->remaining |= (byte & 0x7fu) << 7 * c->at++;
		if (byte & 0x80) {
			fine = c->at < LENGTH_BYTES_MAX;
			break;
		}
		c->at = 0;
		c->part = BODY;
		wanted = body_length(c);
		fine = is_publish(c) ? c->remaining >= (uint32_t)wanted
				     : c->remaining == (uint32_t)wanted;
		whole = c->remaining == 0;
		break;
	default:
		keep(c, byte);
		whole = ++c->at == c->remaining;
	}
	if (!fine) {
		end(c, FG_MQTT_MALFORMED, 0);
	} else if (whole) {
		c->part = HEADER;
		receive_packet(c, now_ms);
	}
}

void fg_mqtt_client_receive(struct fg_mqtt_client *c, const void *bytes, size_t length,
			    int64_t now_ms)
{
	const uint8_t *byte = bytes;

	for (size_t i = 0; i < length && c->state != CLOSED; i++)
		receive_byte(c, byte[i], now_ms);
}

/* ---- opening, closing, time */

void fg_mqtt_client_init(struct fg_mqtt_client *c)
{
	c->state = CLOSED;
	c->waiting = 0;
	c->packet_id = 0;
	c->publish_id = 0;
}

void fg_mqtt_client_open(struct fg_mqtt_client *c, int64_t now_ms)
{
	c->waiting = 0;
	c->part = HEADER;
	send_connect(c, now_ms);
}

bool fg_mqtt_client_busy(const struct fg_mqtt_client *c)
{
	return c->waiting != 0;
}

/* Whether it is time; if not, *next is no later than that. */
static bool is_due(int64_t since_ms, uint32_t after_ms, int64_t now_ms, int64_t *next)
{
	if (now_ms - since_ms >= after_ms)
		return true;
	if (since_ms + after_ms < *next)
		*next = since_ms + after_ms;
	return false;
}

/*
 * Section 3.1.2.10: from one packet of ours to the next no more than keep alive may pass. The
 * server waits half as long again before it gives us up, which is left to the network.
 */
int64_t fg_mqtt_client_poll(struct fg_mqtt_client *c, int64_t now_ms)
{
	static const uint8_t pingreq[] = {PINGREQ, 0};
	int64_t next = INT64_MAX;

	if (((c->waiting & FOR_ANSWER) &&
	     is_due(c->asked_ms, c->answer_timeout_ms, now_ms, &next)) ||
	    ((c->waiting & FOR_PINGRESP) &&
	     is_due(c->pinged_ms, c->answer_timeout_ms, now_ms, &next))) {
		end(c, FG_MQTT_SILENT, 0);
		return INT64_MAX;
	}
	if (c->state <= CONNECTING || c->keepalive_s == 0 || (c->waiting & FOR_PINGRESP) ||
	    !is_due(c->sent_ms, c->keepalive_s * 1000u, now_ms, &next))
		return next;
	c->waiting |= FOR_PINGRESP;
	c->pinged_ms = now_ms;
	if (!transmit(c, pingreq, sizeof(pingreq), now_ms))
		return INT64_MAX;
	is_due(c->pinged_ms, c->answer_timeout_ms, now_ms, &next);
	return next;
}

/* Section 3.14. */
void fg_mqtt_client_close(struct fg_mqtt_client *c)
{
	static const uint8_t disconnect[] = {DISCONNECT, 0};

	if (c->state == CLOSED)
		return;
	c->state = CLOSED;
	c->waiting = 0;
	c->send(c->ctx, disconnect, sizeof(disconnect), false);
}

/* ---- topics */

static size_t join(char *out, size_t size, const char *const parts[], size_t count)
{
	size_t at = 0;

	for (size_t i = 0; i < count; i++) {
		size_t length = strlen(parts[i]);

		if (length >= size - at)
			return 0;
		memcpy(out + at, parts[i], length + 1);
		at += length;
	}
	return at;
}

int fg_topic_d2c(char *out, size_t size, const char *device, const char *sub)
{
	const char *const parts[] = {"m/d/", device, "/d2c", "/", sub};
	size_t length = join(out, size, parts, sub ? 5 : 3);

	return length > 0 ? (int)length : -EMSGSIZE;
}

int fg_topic_c2d_filter(char *out, size_t size, const char *device)
{
	const char *const parts[] = {"m/d/", device, "/c2d/#"};
	size_t length = join(out, size, parts, 3);

	return length > 0 ? (int)length : -EMSGSIZE;
}
