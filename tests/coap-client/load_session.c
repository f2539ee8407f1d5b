/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap-client/load_session.h"

#include <mbedtls/error.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "tests/coap-client/die.h"
#include "tests/coap-client/load_log.h"
#include "tests/coap-client/load_message.h"
#include "tests/coap-client/load_net.h"
#include "tests/coap-client/lossy.h"
#include "tests/coap-client/message.h"

#define RETRY_US     US_PER_S
#define LATER_US     (60 * US_PER_S) /* for an answer after an empty acknowledgement */
#define PAUSE_MAX_S  60
#define ERRORS_SHOWN 5

struct load_totals totals;
static const struct load_options *options;

void session_setup(const struct load_options *o)
{
	options = o;
	load_message_setup(o);
}

static void set_timer(struct session *s)
{
	timer_set(&s->timer, s->phase == PHASE_SHAKING ? tls_deadline(&s->tls) : s->due_us);
}

/* The only place where a phase changes: the counts follow it. */
static void enter(struct session *s, enum phase phase, int64_t due_us)
{
	totals.in_flight -= s->phase == PHASE_BUSY;
	totals.in_flight += phase == PHASE_BUSY;
	totals.shaking -= s->phase == PHASE_SHAKING;
	totals.shaking += phase == PHASE_SHAKING;
	totals.dead += phase == PHASE_DEAD;
	s->phase = phase;
	s->due_us = due_us;
	set_timer(s);
}

static void lost(struct session *s)
{
	tls_close(&s->tls, false);
	if (options->no_recovery && s->was_ready) {
		enter(s, PHASE_DEAD, INT64_MAX);
		return;
	}
	totals.handshakes_again += s->was_ready;
	enter(s, PHASE_QUEUED, INT64_MAX);
	on_session_queued(s);
}

static void transmit(struct session *s)
{
	uint8_t wire[LOAD_MESSAGE_MAX];
	size_t len = s->phase == PHASE_PINGING ? load_message_ping(s->mid, wire)
		     : s->phase == PHASE_PROVING
			     ? load_message_jwt(s->mid, s->who->jwt, wire)
			     : load_message_post(s->mid, s->seq, s->ts_ms, wire);

	if (len == 0 || tls_write(&s->tls, wire, len) != 0)
		die("%s: its message cannot be sent", s->who->device);
	totals.transmissions++;
}

/* A confirmable message that has not been sent before (RFC 7252 section 4.2). */
static void begin_message(struct session *s, enum phase phase)
{
	int64_t spread = random() % (options->ack_timeout_us / 2 + 1);

	s->mid++;
	s->tries = 0;
	s->acknowledged = false;
	s->interval_us = options->ack_timeout_us + spread;
	enter(s, phase, clock_monotonic_us() + s->interval_us);
	transmit(s);
}

static void ready(struct session *s)
{
	totals.ready += !s->was_ready;
	s->was_ready = true;
	enter(s, PHASE_READY, INT64_MAX);
	on_session_ready(s);
}

/* What comes after the phase that is done. */
static void proceed(struct session *s)
{
	if (s->phase == PHASE_SHAKING && !options->no_ping)
		begin_message(s, PHASE_PINGING);
	else if (s->phase != PHASE_PROVING && s->who->jwt)
		begin_message(s, PHASE_PROVING);
	else
		ready(s);
}

void session_post(struct session *s)
{
	if (!s->pending) {
		s->pending = true;
		s->first_sent_us = clock_monotonic_us();
		s->ts_ms = options->timestamp ? clock_realtime_us() / US_PER_MS : 0;
		totals.pending++;
		totals.sent++;
	}
	load_log_sent(s->who->device, s->seq);
	begin_message(s, PHASE_BUSY);
}

static void note_latency(int64_t us)
{
	if (totals.latency_count == totals.latency_size) {
		totals.latency_size = totals.latency_size ? 2 * totals.latency_size : 1U << 16;
		totals.latencies_us = reallocarray(totals.latencies_us, totals.latency_size,
						   sizeof(*totals.latencies_us));
		if (!totals.latencies_us)
			die("out of memory");
	}
	totals.latencies_us[totals.latency_count++] = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

static void message_done(struct session *s)
{
	s->pending = false;
	s->seq++;
	totals.pending--;
	ready(s);
}

static void pause_for(struct session *s, const struct message *m)
{
	const struct message_option *max_age = message_find(m, OPTION_MAX_AGE);
	int64_t seconds = max_age ? message_uint(max_age) : 1;

	totals.pauses++;
	if (seconds > PAUSE_MAX_S)
		seconds = PAUSE_MAX_S;
	enter(s, PHASE_PAUSING, clock_monotonic_us() + (seconds ? seconds : 1) * US_PER_S);
}

static void answered(struct session *s, const struct message *m)
{
	totals.codes[m->code]++;
	if (m->code >> 5 == 2 && s->phase == PHASE_PROVING) {
		proceed(s);
	} else if (m->code >> 5 == 2) {
		totals.acknowledged++;
		note_latency(clock_monotonic_us() - s->first_sent_us);
		load_log_acknowledged(s->who->device, s->seq);
		message_done(s);
	} else if (m->code == CODE(4, 29) || m->code == CODE(5, 3)) {
		pause_for(s, m);
	} else if (m->code == CODE(4, 1)) {
		lost(s);
	} else {
		totals.refused++;
		if (s->phase == PHASE_PROVING)
			lost(s);
		else
			message_done(s);
	}
}

static bool is_ours(const struct session *s, const struct message *m)
{
	uint8_t token[LOAD_TOKEN_LEN];

	load_message_token(s->phase == PHASE_BUSY ? s->seq : LOAD_TOKEN_JWT, token);
	return m->token_len == sizeof(token) && memcmp(m->token, token, sizeof(token)) == 0;
}

static void acknowledge(struct session *s, const struct message *m)
{
	uint8_t wire[4];
	struct message ack = {.type = MESSAGE_ACK, .mid = m->mid};

	tls_write(&s->tls, wire, message_encode(&ack, wire, sizeof(wire)));
}

static void on_data(struct tls *t, const uint8_t *plaintext, size_t len)
{
	struct session *s = t->owner;
	struct message m;

	if (message_decode(&m, plaintext, len) != 0) {
		totals.malformed++;
		return;
	}
	if (m.type == MESSAGE_CON)
		acknowledge(s, &m);
	if (s->phase == PHASE_PINGING && m.type == MESSAGE_RST && m.mid == s->mid) {
		proceed(s);
	} else if (s->phase != PHASE_BUSY && s->phase != PHASE_PROVING) {
		return;
	} else if (m.code == 0) {
		if (m.type == MESSAGE_ACK && m.mid == s->mid) {
			s->acknowledged = true;
			enter(s, s->phase, clock_monotonic_us() + LATER_US);
		}
	} else if (is_ours(s, &m)) {
		answered(s, &m);
	}
}

static void on_opened(struct tls *t)
{
	struct session *s = t->owner;

	totals.handshakes++;
	totals.resumed += !t->full_handshake;
	on_session_shaken(s);
	if (!options->handshakes) {
		proceed(s);
		return;
	}
	note_latency(t->opened_us - t->begun_us);
	tls_close(t, options->goodbye);
	s->was_ready = true;
	enter(s, PHASE_QUEUED, INT64_MAX);
	on_session_queued(s);
}

static void on_failed(struct tls *t, int error, int alert)
{
	struct session *s = t->owner;
	char text[128];

	if (totals.handshakes_failed++ < ERRORS_SHOWN) {
		mbedtls_strerror(error, text, sizeof(text));
		fprintf(stderr, "coap-client: %s: handshake: %s (alert %d)\n", s->who->device, text,
			alert);
	}
	on_session_shaken(s);
	enter(s, PHASE_RETRYING, clock_monotonic_us() + RETRY_US);
}

static void on_closed(struct tls *t, int error, int alert)
{
	(void)error;
	(void)alert;
	totals.closed_by_server++;
	lost(t->owner);
}

static void on_reused(struct tls *t, uint64_t number)
{
	const struct session *s = t->owner;

	if (totals.nonces_reused++ < ERRORS_SHOWN)
		fprintf(stderr, "coap-client: %s: record number %llu of epoch %u used twice\n",
			s->who->device, (unsigned long long)(number & ((UINT64_C(1) << 48) - 1)),
			(unsigned)(number >> 48));
}

static void on_send(struct tls *t, const uint8_t *datagram, size_t len)
{
	const struct session *s = t->owner;

	if (load_options_lossy(options))
		lossy_pass(s->socket, datagram, len, net_send);
	else
		net_send(s->socket, datagram, len);
}

static void on_stopped(struct tls *t)
{
	(void)t;
}

static const struct tls_events events = {
	.send = on_send,
	.opened = on_opened,
	.stopped = on_stopped,
	.failed = on_failed,
	.data = on_data,
	.closed = on_closed,
	.reused = on_reused,
};

static void repeat(struct session *s)
{
	if (s->acknowledged || s->tries++ == options->max_retransmit) {
		totals.timeouts++;
		lost(s);
		return;
	}
	s->interval_us *= 2;
	totals.retransmissions++;
	transmit(s);
	enter(s, s->phase, clock_monotonic_us() + s->interval_us);
}

static void expired(struct timer *t)
{
	struct session *s = (struct session *)((char *)t - offsetof(struct session, timer));

	switch (s->phase) {
	case PHASE_SHAKING:
		tls_tick(&s->tls, clock_monotonic_us());
		if (s->phase == PHASE_SHAKING)
			set_timer(s);
		break;
	case PHASE_PINGING:
	case PHASE_PROVING:
	case PHASE_BUSY:
		repeat(s);
		break;
	case PHASE_PAUSING:
		if (s->was_ready)
			ready(s);
		else
			lost(s);
		break;
	case PHASE_RETRYING:
		lost(s);
		break;
	case PHASE_QUEUED:
	case PHASE_READY:
	case PHASE_DEAD:
		break;
	}
}

void session_init(struct session *s, const struct load_credentials *who, uint32_t index,
		  uint32_t socket)
{
	*s = (struct session){.who = who, .socket = socket, .seq = options->first_seq};
	tls_init(&s->tls, who->config, &events, s);
	s->tls.tag = index;
	s->timer.expired = expired;
	s->mid = (uint16_t)random();
	s->due_us = INT64_MAX;
}

void session_shake(struct session *s)
{
	int r;

	enter(s, PHASE_SHAKING, INT64_MAX);
	r = tls_begin(&s->tls, options->resume);
	if (r != 0)
		on_failed(&s->tls, r, -1);
	set_timer(s);
}

void session_receive(struct session *s, const uint8_t *datagram, size_t len)
{
	tls_receive(&s->tls, datagram, len);
	if (s->phase == PHASE_SHAKING)
		set_timer(s);
}
