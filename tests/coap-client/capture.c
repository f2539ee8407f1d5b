/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to a device's datagrams on the way, and the record of it. */
#include "tests/coap-client/capture.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "tests/coap-client/die.h"
#include "tests/coap-client/events.h"

#define RECORD_CID 25

struct delayed {
	struct delayed *next;
	struct device *device;
	enum direction direction;
	int64_t due_us;
	size_t len;
	uint8_t data[];
};

static struct delayed *delayed;

static void remember(struct device *d, enum direction direction, const char *fate,
		     const uint8_t *datagram, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	if (d->capture_count == d->capture_size) {
		size_t size = d->capture_size ? 2 * d->capture_size : 64;
		struct capture *more = realloc(d->captures, size * sizeof(*more));

		if (!more)
			die("out of memory");
		d->captures = more;
		d->capture_size = size;
	}
	if (!copy)
		die("out of memory");
	memcpy(copy, datagram, len);
	d->captures[d->capture_count++] = (struct capture){
		.direction = direction,
		.fate = fate,
		.port = d->port->number,
		.at_us = clock_monotonic_us(),
		.len = len,
		.data = copy,
	};
}

static void deliver(struct device *d, enum direction direction, const uint8_t *datagram, size_t len)
{
	if (direction == DIRECTION_OUT)
		port_send(d->port, datagram, len);
	else
		tls_receive(&d->tls, datagram, len);
}

static void delay(struct device *d, enum direction direction, const uint8_t *datagram, size_t len)
{
	struct delayed *one = malloc(sizeof(*one) + len);
	int64_t later = impairment_delay_us(&d->chance, &d->impairments[direction]);

	if (!one)
		die("out of memory");
	*one = (struct delayed){
		.next = delayed,
		.device = d,
		.direction = direction,
		.due_us = clock_monotonic_us() + later,
		.len = len,
	};
	memcpy(one->data, datagram, len);
	delayed = one;
}

static void pass(struct device *d, enum direction direction, const uint8_t *datagram, size_t len)
{
	const struct impairment *i = &d->impairments[direction];

	if (impairment_happens(&d->chance, i->drop)) {
		remember(d, direction, "dropped", datagram, len);
	} else if (impairment_happens(&d->chance, i->reorder)) {
		remember(d, direction, "delayed", datagram, len);
		delay(d, direction, datagram, len);
	} else {
		remember(d, direction, direction == DIRECTION_OUT ? "sent" : "received", datagram,
			 len);
		deliver(d, direction, datagram, len);
	}
}

void capture_pass(struct device *d, enum direction direction, const uint8_t *datagram, size_t len)
{
	const struct impairment *i = &d->impairments[direction];
	bool twice = impairment_happens(&d->chance, i->duplicate);

	if (direction == DIRECTION_OUT && d->hold) {
		d->hold--;
		remember(d, direction, "held", datagram, len);
		return;
	}
	pass(d, direction, datagram, len);
	if (twice)
		pass(d, direction, datagram, len);
}

void capture_forget(struct device *d)
{
	for (struct delayed **at = &delayed; *at;) {
		struct delayed *one = *at;

		if (one->device == d) {
			*at = one->next;
			free(one);
		} else {
			at = &one->next;
		}
	}
	for (size_t i = 0; i < d->capture_count; i++)
		free(d->captures[i].data);
	free(d->captures);
}

int64_t capture_deadline(void)
{
	int64_t first = INT64_MAX;

	for (const struct delayed *one = delayed; one; one = one->next)
		if (one->due_us < first)
			first = one->due_us;
	return first;
}

void capture_tick(int64_t now_us)
{
	for (struct delayed **at = &delayed; *at;) {
		struct delayed *one = *at;

		if (one->due_us > now_us) {
			at = &one->next;
			continue;
		}
		*at = one->next;
		deliver(one->device, one->direction, one->data, one->len);
		free(one);
		/* The list may be another one now. */
		at = &delayed;
	}
}

static uint64_t big_endian(const uint8_t *at, size_t len)
{
	uint64_t v = 0;

	while (len--)
		v = v << 8 | *at++;
	return v;
}

static json_t *records_of(const struct device *d, const struct capture *c)
{
	size_t their_cid = c->direction == DIRECTION_IN ? d->config.cid_len : d->tls.peer_cid_len;
	json_t *all = json_array();
	size_t at = 0;

	while (c->len - at >= TLS_HEADER_LEN) {
		const uint8_t *r = c->data + at;
		size_t cid = r[0] == RECORD_CID ? their_cid : 0;
		size_t len;

		if (c->len - at < TLS_HEADER_LEN + cid)
			break;
		len = (size_t)big_endian(r + 11 + cid, 2);
		json_array_append_new(all, json_pack("{s:i, s:I, s:I, s:o, s:I, s:I}", "type", r[0],
						     "epoch", (json_int_t)big_endian(r + 3, 2),
						     "seq", (json_int_t)big_endian(r + 5, 6), "cid",
						     json_hex(r + 11, cid), "at", (json_int_t)at,
						     "length",
						     (json_int_t)(TLS_HEADER_LEN + cid + len)));
		at += TLS_HEADER_LEN + cid + len;
		if (at > c->len)
			break;
	}
	return all;
}

json_t *device_captured(const struct device *d, size_t since)
{
	json_t *all = json_array();

	for (size_t i = since; i < d->capture_count; i++) {
		const struct capture *c = &d->captures[i];

		json_array_append_new(
			all,
			json_pack("{s:I, s:s, s:s, s:i, s:I, s:o, s:o}", "index", (json_int_t)i,
				  "direction", c->direction == DIRECTION_OUT ? "out" : "in", "fate",
				  c->fate, "port", c->port, "at_us", (json_int_t)c->at_us,
				  "records", records_of(d, c), "hex", json_hex(c->data, c->len)));
	}
	return all;
}
