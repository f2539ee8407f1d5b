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
enum part { HEADER, LENGTH, BODY };

/* Room for the header and two bytes of length, before everything else. */
#define BODY_AT 3
_Static_assert(FG_MQTT_PACKET_MAX < 1 << 14, "the length of a packet takes two bytes");
_Static_assert(FG_MQTT_PACKET_MAX >= BODY_AT + 12 + FG_MQTT_ID_MAX, "CONNECT fits");
_Static_assert(FG_MQTT_RECEIVE_MAX >= 4, "all packets but publishes fit");

/* Of everything but what the broker publishes. */
static void tell(struct fg_mqtt_client *c, enum fg_mqtt_outcome outcome, uint8_t return_code)
{
	int64_t elapsed_ms = c->now_ms - c->asked_ms;
	struct fg_mqtt_event event = {
		.return_code = return_code,
		.session_present = c->session_present,
		.elapsed_ms = elapsed_ms > UINT32_MAX ? UINT32_MAX : (uint32_t)elapsed_ms,
	};

	c->handle(c->ctx, outcome, &event);
}

static void shut(struct fg_mqtt_client *c)
{
	c->state = CLOSED;
	c->asked = false;
	c->pinged = false;
}

static void end(struct fg_mqtt_client *c, enum fg_mqtt_outcome outcome, uint8_t return_code)
{
	shut(c);
	tell(c, outcome, return_code);
}

/* ---- sending. The time is c->now_ms: each function that is given one keeps it there. */

/* False: it did not work, and `handle` knows. */
static bool transmit(struct fg_mqtt_client *c, const uint8_t *packet, size_t length)
{
	c->ping_at_ms = c->now_ms + c->keepalive_s * 1000;
	if (c->send(c->ctx, packet, length, c->asked || c->pinged) >= 0)
		return true;
	end(c, FG_MQTT_NOT_SENT, 0);
	return false;
}

/* A packet grows in c->out up to c->length, which is beyond its end when something did not fit. */
static void put(struct fg_mqtt_client *c, const void *bytes, size_t length)
{
	if (length > FG_MQTT_PACKET_MAX || c->length + length > FG_MQTT_PACKET_MAX) {
		c->length = FG_MQTT_PACKET_MAX + 1;
		return;
	}
	memcpy(c->out + c->length, bytes, length);
	c->length += (uint16_t)length;
}

static void put_u16(struct fg_mqtt_client *c, size_t value)
{
	const uint8_t bytes[2] = {(uint8_t)(value >> 8), (uint8_t)value};

	put(c, bytes, sizeof(bytes));
}

/* Section 1.5.3. */
static void put_string(struct fg_mqtt_client *c, const char *text)
{
	size_t length = strlen(text);

	put_u16(c, length);
	put(c, text, length);
}

/* Sends the packet in c->out; an answer is awaited from now on. */
static void ask(struct fg_mqtt_client *c, uint8_t header)
{
	size_t length = c->length - BODY_AT;
	uint8_t *start = c->out + BODY_AT;

	c->asked_ms = c->now_ms;
	if (c->length > FG_MQTT_PACKET_MAX) {
		end(c, FG_MQTT_NOT_SENT, 0);
		return;
	}
	*--start = (uint8_t)length;
	if (length > 0x7f) {
		*start = (uint8_t)(length >> 7);
		*--start = (uint8_t)(length | 0x80);
	}
	*--start = header;
	c->asked = true; /* CONNACK, SUBACK or PUBACK */
	c->answer_by_ms = c->now_ms + c->answer_timeout_ms;
	transmit(c, start, (size_t)(c->out + c->length - start));
}

/* Section 2.3.1: never 0, and not the one of a publish that the server may still know. */
static uint16_t new_packet_id(struct fg_mqtt_client *c)
{
	do
		c->packet_id++;
	while (c->packet_id == 0 || c->packet_id == c->publish_id);
	return c->packet_id;
}

/* Section 3.8. Also in a session that the server has kept: it may be of another subscription. */
static void subscribe(struct fg_mqtt_client *c)
{
	static const uint8_t qos = 1; /* the greatest that we take */

	c->length = BODY_AT;
	put_u16(c, new_packet_id(c));
	put_string(c, c->subscription);
	put(c, &qos, 1);
	c->state = SUBSCRIBING;
	ask(c, SUBSCRIBE);
}

int fg_mqtt_client_publish(struct fg_mqtt_client *c, const char *topic,
			   int (*write)(void *arg, uint8_t *out, size_t room), void *arg,
			   bool duplicate, int64_t now_ms)
{
	uint16_t id;
	int length;

	if (c->state != RUNNING || c->asked)
		return -EBUSY;
	id = duplicate && c->publish_id ? c->publish_id : new_packet_id(c);
	c->now_ms = now_ms;
	c->length = BODY_AT;
	put_string(c, topic);
	put_u16(c, id);
	if (c->length > FG_MQTT_PACKET_MAX)
		return -EMSGSIZE;
	length = write(arg, c->out + c->length, FG_MQTT_PACKET_MAX - c->length);
	if (length < 0)
		return length;
	if (length > FG_MQTT_PACKET_MAX - c->length)
		return -EMSGSIZE;
	c->length += (uint16_t)length;
	c->publish_id = id;
	ask(c, PUBLISH | QOS_1 | (duplicate ? DUP : 0));
	return 0;
}

/* ---- receiving */

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

static bool length_is_right(const struct fg_mqtt_client *c)
{
	uint32_t least = (uint32_t)body_length(c);

	return c->remaining == least || (c->remaining > least && (c->header & 0xf0) == PUBLISH);
}

static uint16_t get_u16(const uint8_t *bytes)
{
	return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static void connected(struct fg_mqtt_client *c)
{
	c->state = RUNNING;
	c->asked = false;
	tell(c, FG_MQTT_CONNECTED, 0);
}

/* Each of these is given a whole packet. False: it is malformed. */

/* Section 3.2.2: a refusal leaves no session. */
static bool receive_connack(struct fg_mqtt_client *c)
{
	uint8_t flags = c->in[0], return_code = c->in[1];

	if (flags > 1 || (flags && return_code))
		return false;
	c->session_present = flags;
	if (return_code)
		end(c, FG_MQTT_REFUSED, return_code);
	else if (c->subscription)
		subscribe(c);
	else
		connected(c);
	return true;
}

/* Section 3.9: less than what was asked for may be granted, but not more. */
static bool receive_suback(struct fg_mqtt_client *c)
{
	uint8_t return_code = c->in[2];

	if (get_u16(c->in) != c->packet_id)
		return false;
	if (return_code <= 1)
		connected(c);
	else if (return_code == SUBSCRIPTION_FAILED)
		end(c, FG_MQTT_REFUSED, return_code);
	else
		return false;
	return true;
}

/* One with another identifier may be of a connection before this one: nothing waits for it. */
static bool receive_puback(struct fg_mqtt_client *c)
{
	uint16_t id = get_u16(c->in);

	if (id == c->publish_id && c->state == RUNNING && c->asked) {
		c->asked = false;
		c->publish_id = 0;
		tell(c, FG_MQTT_ACKNOWLEDGED, 0);
	}
	return id != 0;
}

/* Section 4.7: a topic name has no wildcards and no U+0000. Whether it is UTF-8 is left to who
 * reads it. */
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

static bool receive_publish(struct fg_mqtt_client *c)
{
	uint8_t puback[4] = {PUBACK, 2};
	bool wants_ack = c->header & QOS_1;
	uint32_t payload_at = topic_end(c) + (wants_ack ? 2 : 0);
	enum fg_mqtt_outcome outcome = FG_MQTT_TOO_LONG;
	struct fg_mqtt_event event = {.duplicate = c->header & DUP,
				      .retained = c->header & RETAIN,
				      .length = c->remaining - payload_at};

	if (payload_at > c->remaining || (wants_ack && c->received_id == 0))
		return false;
	if (c->remaining <= sizeof(c->in)) {
		outcome = FG_MQTT_MESSAGE;
		event.topic = (const char *)c->in + 2;
		event.topic_length = get_u16(c->in);
		event.payload = c->in + payload_at;
		if (!is_topic_name(c->in + 2, event.topic_length))
			return false;
	}
	c->handle(c->ctx, outcome, &event);
	if (wants_ack && c->state != CLOSED) {
		puback[2] = (uint8_t)(c->received_id >> 8);
		puback[3] = (uint8_t)c->received_id;
		transmit(c, puback, sizeof(puback));
	}
	return true;
}

static bool receive_packet(struct fg_mqtt_client *c)
{
	switch (c->header) {
	case CONNACK:
		return receive_connack(c);
	case SUBACK:
		return receive_suback(c);
	case PUBACK:
		return receive_puback(c);
	case PINGRESP:
		c->pinged = false;
		return true;
	default:
		return receive_publish(c);
	}
}

/* A publish's identifier is kept apart: behind a long topic it is not in the buffer. */
static void keep(struct fg_mqtt_client *c, uint8_t byte)
{
	if (c->at < sizeof(c->in))
		c->in[c->at] = byte;
	if (c->at - topic_end(c) < 2)
		c->received_id = (uint16_t)(c->received_id << 8 | byte);
	c->at++;
}

static bool receive_byte(struct fg_mqtt_client *c, uint8_t byte)
{
	switch (c->part) {
	case HEADER:
		c->header = byte;
		c->remaining = 0;
		c->at = 0;
		c->part = LENGTH;
		return body_length(c) >= 0;
	case LENGTH:
		c->remaining |= (byte & 0x7fu) << 7 * c->at++;
		if (byte & 0x80)
			return c->at < LENGTH_BYTES_MAX;
		if (!length_is_right(c))
			return false;
		c->at = 0;
		c->part = BODY;
		break;
	default:
		keep(c, byte);
	}
	if (c->at < c->remaining)
		return true;
	c->part = HEADER;
	return receive_packet(c);
}

void fg_mqtt_client_receive(struct fg_mqtt_client *c, const void *bytes, size_t length,
			    int64_t now_ms)
{
	const uint8_t *byte = bytes;

	c->now_ms = now_ms;
	for (size_t i = 0; i < length && c->state != CLOSED; i++)
		if (!receive_byte(c, byte[i]))
			end(c, FG_MQTT_MALFORMED, 0);
}

/* ---- opening, closing, time */

void fg_mqtt_client_init(struct fg_mqtt_client *c)
{
	shut(c);
	c->packet_id = 0;
	c->publish_id = 0;
}

/* Section 3.1: protocol name and level, flags, keep alive, client identifier. */
void fg_mqtt_client_open(struct fg_mqtt_client *c, int64_t now_ms)
{
	const uint8_t protocol[] = {0,	 4,   'M', 'Q',
				    'T', 'T', 4,   c->clean_session ? CLEAN_SESSION : 0};

	c->now_ms = now_ms;
	shut(c);
	c->part = HEADER;
	c->state = CONNECTING;
	c->session_present = false;
	c->length = BODY_AT;
	put(c, protocol, sizeof(protocol));
	put_u16(c, c->keepalive_s);
	put_string(c, c->client_id);
	ask(c, CONNECT);
}

bool fg_mqtt_client_busy(const struct fg_mqtt_client *c)
{
	return c->asked || c->pinged;
}

static int64_t earlier(int64_t a_ms, int64_t b_ms)
{
	return a_ms < b_ms ? a_ms : b_ms;
}

/*
 * Section 3.1.2.10: from one packet of ours to the next no more than keep alive may pass. The
 * server waits half as long again before it gives us up, which is left to the network.
 */
int64_t fg_mqtt_client_poll(struct fg_mqtt_client *c, int64_t now_ms)
{
	static const uint8_t pingreq[] = {PINGREQ, 0};
	int64_t next = INT64_MAX;

	c->now_ms = now_ms;
	if (c->asked)
		next = c->answer_by_ms;
	if (c->pinged)
		next = earlier(next, c->pingresp_by_ms);
	if (now_ms >= next) {
		end(c, FG_MQTT_SILENT, 0);
		return INT64_MAX;
	}
	if (c->state <= CONNECTING || c->keepalive_s == 0 || c->pinged)
		return next;
	if (now_ms < c->ping_at_ms)
		return earlier(next, c->ping_at_ms);
	c->pinged = true;
	c->pingresp_by_ms = now_ms + c->answer_timeout_ms;
	if (!transmit(c, pingreq, sizeof(pingreq)))
		return INT64_MAX;
	return earlier(next, c->pingresp_by_ms);
}

/* Section 3.14. */
void fg_mqtt_client_close(struct fg_mqtt_client *c)
{
	static const uint8_t disconnect[] = {DISCONNECT, 0};

	if (c->state == CLOSED)
		return;
	shut(c);
	c->send(c->ctx, disconnect, sizeof(disconnect), false);
}

/* ---- topics */

static int topic(char *out, size_t size, const char *device, const char *direction, const char *sub)
{
	const char *const parts[] = {"m/d/", device, direction, sub};
	size_t at = 0;

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		size_t length = strlen(parts[i]);

		if (length >= size - at)
			return -EMSGSIZE;
		memcpy(out + at, parts[i], length + 1);
		at += length;
	}
	return (int)at;
}

int fg_topic_d2c(char *out, size_t size, const char *device, const char *sub)
{
	return topic(out, size, device, sub ? "/d2c/" : "/d2c", sub ? sub : "");
}

int fg_topic_c2d_filter(char *out, size_t size, const char *device)
{
	return topic(out, size, device, "/c2d/#", "");
}
