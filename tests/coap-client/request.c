/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap-client/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "tests/coap-client/die.h"
#include "tests/coap-client/events.h"
#include "tests/coap-client/request_internal.h"

static void fail(struct request *q, const char *what)
{
	reply_error(q->id, request_report(q), what, "%s: no answer to %s", q->device->name,
		    q->is_ping ? "a ping" : "a request");
	request_free(q);
}

void request_transmit(struct request *q)
{
	if (tls_write(&q->device->tls, q->wire, q->wire_len) != 0)
		q->write_failed = true;
	q->transmissions++;
}

/* The message of the block that is next, as new as a message can be: other MID, same token. */
int request_send_next(struct request *q)
{
	int64_t now = clock_monotonic_us();

	if (request_encode(q) != 0)
		return -1;
	q->acknowledged = false;
	q->tries = 0;
	q->interval_us = q->ack_timeout_us;
	q->next_us = q->retransmit ? now + q->interval_us : INT64_MAX;
	q->messages++;
	request_transmit(q);
	return 0;
}

static void begin(struct request *q)
{
	struct device *d = q->device;

	q->next = d->requests;
	d->requests = q;
	if (request_send_next(q) != 0 || q->write_failed)
		fail(q, d->tls.state == TLS_OPEN ? "too_large" : "no_session");
}

void request_begin(struct device *d, json_t *in, json_int_t id)
{
	char err[256];
	struct request *q = request_parse(d, in, id, err, sizeof(err));

	if (!q)
		reply_error(id, NULL, "command", "%s", err);
	else
		begin(q);
}

void request_ping(struct device *d, json_t *in, json_int_t id)
{
	struct request *q = request_new(d, in, id);

	q->is_ping = true;
	begin(q);
}

int request_raw(struct device *d, const uint8_t *bytes, size_t len)
{
	struct message m;
	unsigned slot = d->raw_token_count++ % DEVICE_RAW_TOKENS_MAX;

	if (message_decode(&m, bytes, len) == 0 && m.token_len) {
		memcpy(d->raw_tokens[slot].bytes, m.token, m.token_len);
		d->raw_tokens[slot].len = m.token_len;
	}
	return tls_write(&d->tls, bytes, len);
}

static struct request *by_mid(struct device *d, uint16_t mid)
{
	for (struct request *q = d->requests; q; q = q->next)
		if (q->mid == mid)
			return q;
	return NULL;
}

static struct request *by_token(struct device *d, const struct message *m)
{
	for (struct request *q = d->requests; q; q = q->next)
		if (!q->is_ping && q->token_len == m->token_len &&
		    memcmp(q->token, m->token, m->token_len) == 0)
			return q;
	return NULL;
}

static bool raw_token(const struct device *d, const struct message *m)
{
	for (size_t i = 0; i < DEVICE_RAW_TOKENS_MAX; i++)
		if (m->token_len && d->raw_tokens[i].len == m->token_len &&
		    memcmp(d->raw_tokens[i].bytes, m->token, m->token_len) == 0)
			return true;
	return false;
}

static void answer_empty(struct device *d, uint16_t mid, enum message_type type)
{
	struct message m = {.type = type, .mid = mid};
	uint8_t wire[4];

	tls_write(&d->tls, wire, message_encode(&m, wire, sizeof(wire)));
}

/* Was this MID among the newest? Remember it. */
static bool is_repeat(struct device *d, uint16_t mid)
{
	unsigned n = d->mid_count < DEVICE_MIDS_MAX ? d->mid_count : DEVICE_MIDS_MAX;

	for (unsigned i = 0; i < n; i++)
		if (d->mids[i] == mid)
			return true;
	d->mids[d->mid_count++ % DEVICE_MIDS_MAX] = mid;
	return false;
}

static void report_message(struct device *d, const char *name, const struct message *m)
{
	event(name, d->name, request_describe(m));
}

/* false: nobody asked for this. */
static bool take_response(struct device *d, const struct message *m, bool repeat)
{
	struct request *q = by_token(d, m);

	if (!q) {
		if (raw_token(d, m))
			report_message(d, "message", m);
		else
			return false;
	} else if (repeat || (m->type == MESSAGE_ACK && m->mid != q->mid)) {
		event("repeat", d->name, json_pack("{s:i}", "mid", m->mid));
	} else {
		request_response(q, m);
	}
	return true;
}

static void take_confirmable(struct device *d, const struct message *m)
{
	bool repeat = is_repeat(d, m->mid);
	bool known = m->code != 0 && (by_token(d, m) || raw_token(d, m));
	enum answers answers =
		known ? d->answers : (d->answers == ANSWERS_NONE ? ANSWERS_NONE : ANSWERS_RESET);

	/* Acknowledged first: what follows may be the next request. */
	if (answers != ANSWERS_NONE)
		answer_empty(d, m->mid, answers == ANSWERS_RESET ? MESSAGE_RST : MESSAGE_ACK);
	if (!known || !take_response(d, m, repeat))
		report_message(d, "unexpected", m);
}

static void take_empty(struct device *d, const struct message *m)
{
	struct request *q = by_mid(d, m->mid);

	if (!q || q->observing) {
		report_message(d, "unexpected", m);
	} else if (m->type == MESSAGE_ACK) {
		q->acknowledged = true;
		q->separate = true;
		q->next_us = INT64_MAX;
	} else if (q->is_ping) {
		reply(q->id, request_report(q));
		request_free(q);
	} else {
		fail(q, "reset");
	}
}

void request_receive(struct device *d, const uint8_t *bytes, size_t len)
{
	struct message m;

	if (message_decode(&m, bytes, len) != 0) {
		event("malformed", d->name, json_pack("{s:o}", "hex", json_hex(bytes, len)));
		return;
	}
	if (m.type == MESSAGE_CON)
		take_confirmable(d, &m);
	else if (m.code == 0)
		take_empty(d, &m);
	else if (!take_response(d, &m, false))
		report_message(d, "unexpected", &m);
}

void request_fail_all(struct device *d, const char *what)
{
	while (d->requests) {
		if (d->requests->observing)
			request_free(d->requests);
		else
			fail(d->requests, what);
	}
}

int64_t request_deadline(const struct device *d)
{
	int64_t first = INT64_MAX;

	for (const struct request *q = d->requests; q; q = q->next) {
		if (q->observing)
			continue;
		if (q->next_us < first)
			first = q->next_us;
		if (q->end_us < first)
			first = q->end_us;
	}
	return first;
}

static void tick(struct request *q, int64_t now_us)
{
	if (now_us >= q->end_us) {
		fail(q, "timeout");
	} else if (now_us >= q->next_us) {
		if (q->tries++ == q->max_retransmit) {
			fail(q, "timeout");
			return;
		}
		q->interval_us *= 2;
		q->next_us = now_us + q->interval_us;
		q->retransmissions++;
		request_transmit(q);
	}
}

void request_tick(struct device *d, int64_t now_us)
{
	struct request *next;

	for (struct request *q = d->requests; q; q = next) {
		next = q->next;
		if (!q->observing)
			tick(q, now_us);
	}
}
