/* SPDX-License-Identifier: Apache-2.0 */
/* The load as a whole: who shakes hands and who sends when, and what is reported. */
#include "tests/coap-client/load.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "tests/coap-client/die.h"
#include "tests/coap-client/events.h"
#include "tests/coap-client/load_log.h"
#include "tests/coap-client/load_net.h"
#include "tests/coap-client/load_options.h"
#include "tests/coap-client/load_session.h"
#include "tests/coap-client/lossy.h"

#define SOCKETS_DEFAULT 1000
#define RECORD_CID	25
#define WAIT_MS		5
#define TURNS_MAX	1024 /* sessions whose port is taken, passed over at one time */

struct queue {
	struct session *first, *last;
	size_t count;
};

static struct load {
	struct load_options o;
	struct session *sessions;
	unsigned count;
	struct session **shaking; /* of each socket; afterwards the last one that did */
	bool *taken;		  /* somebody shakes hands from this socket */
	struct queue to_shake, ready;
	int64_t begun_us, stop_us;
	uint64_t handshakes_begun;
	bool sending, lossy;
} load;

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	(void)number;
	interrupted = 1;
}

static void push(struct queue *q, struct session *s)
{
	s->next = NULL;
	if (q->last)
		q->last->next = s;
	else
		q->first = s;
	q->last = s;
	q->count++;
}

static struct session *pop(struct queue *q)
{
	struct session *s = q->first;

	if (!s)
		return NULL;
	q->first = s->next;
	if (!q->first)
		q->last = NULL;
	q->count--;
	return s;
}

void on_session_ready(struct session *s)
{
	push(&load.ready, s);
}

void on_session_queued(struct session *s)
{
	push(&load.to_shake, s);
}

void on_session_shaken(struct session *s)
{
	load.taken[s->socket] = false;
}

static void received(size_t socket, const uint8_t *datagram, size_t len)
{
	struct session *s = load.shaking[socket];
	uint32_t tag;

	if (len > TLS_HEADER_LEN + TLS_TAGGED_CID_LEN && datagram[0] == RECORD_CID) {
		memcpy(&tag, datagram + 11, sizeof(tag));
		tag = ntohl(tag);
		s = tag < load.count ? &load.sessions[tag] : NULL;
	}
	if (s)
		session_receive(s, datagram, len);
}

static void received_lossy(size_t socket, const uint8_t *datagram, size_t len)
{
	lossy_pass(socket, datagram, len, received);
}

/* How many could have been begun by now; everything with rate 0. */
static uint64_t allowed(void)
{
	double seconds = (double)(clock_monotonic_us() - load.begun_us) / US_PER_S;

	return load.o.rate > 0 ? (uint64_t)(seconds * load.o.rate) : UINT64_MAX;
}

static void begin_handshakes(void)
{
	bool measured = load.o.handshakes && load.sending;

	for (unsigned turns = 0; turns < TURNS_MAX && totals.shaking < load.o.handshaking;
	     turns++) {
		struct session *s;

		if (measured && load.handshakes_begun >= allowed())
			return;
		s = pop(&load.to_shake);
		if (!s)
			return;
		if (load.taken[s->socket]) {
			push(&load.to_shake, s);
			continue;
		}
		load.taken[s->socket] = true;
		load.shaking[s->socket] = s;
		load.handshakes_begun += measured;
		session_shake(s);
	}
}

static bool wants_to_send(const struct session *s)
{
	uint64_t done = s->seq - load.o.first_seq;

	return s->pending || (load.sending && (!load.o.messages || done < load.o.messages));
}

static void begin_messages(void)
{
	size_t turns = load.ready.count;

	while (turns-- > 0 && totals.in_flight < load.o.in_flight) {
		struct session *s = load.ready.first;

		if (!s->pending && totals.sent >= allowed())
			return;
		pop(&load.ready);
		if (wants_to_send(s))
			session_post(s);
		else
			push(&load.ready, s);
	}
}

static void step(bool messages)
{
	begin_handshakes();
	if (messages)
		begin_messages();
	net_wait(load.o.rate > 0 ? 1 : WAIT_MS, load.lossy ? received_lossy : received);
	wheel_turn(clock_monotonic_us());
}

static bool all_sent(void)
{
	return load.o.messages && totals.pending == 0 &&
	       totals.acknowledged + totals.refused >= load.o.messages * load.count;
}

/* A device's first message is dearer than its later ones: it is connected from then on. */
static void greet(void)
{
	struct load_options o = load.o;

	load.begun_us = clock_monotonic_us();
	load.o.messages = 1;
	load.o.rate = 0;
	load.sending = true;
	while (!all_sent() && !interrupted && totals.dead < load.count)
		step(true);
	load.sending = false;
	load.o = o;
	load.o.first_seq++;
	totals.sent = totals.acknowledged = totals.refused = 0;
	totals.transmissions = totals.retransmissions = 0;
	totals.latency_count = 0;
	memset(totals.codes, 0, sizeof(totals.codes));
}

static void set_up(void)
{
	int64_t begun = clock_monotonic_us();
	int64_t end = begun + (int64_t)(load.o.setup_seconds * US_PER_S);
	double seconds;

	while (totals.ready < load.count && !interrupted) {
		if (clock_monotonic_us() > end)
			die("%zu of %u sessions are open after %.0f s", totals.ready, load.count,
			    load.o.setup_seconds);
		step(false);
	}
	if (load.o.greet)
		greet();
	seconds = (double)(clock_monotonic_us() - begun) / US_PER_S;
	event("ready", NULL,
	      json_pack("{s:i, s:f, s:I, s:I}", "sessions", (int)load.count, "setup_seconds",
			seconds, "handshakes", (json_int_t)totals.handshakes, "handshakes_failed",
			(json_int_t)totals.handshakes_failed));
}

/* Neighbours share a socket: in their order many datagrams leave by one call. */
static void sort_ready(void)
{
	load.ready = (struct queue){0};
	for (unsigned i = 0; i < load.count; i++)
		if (load.sessions[i].phase == PHASE_READY)
			push(&load.ready, &load.sessions[i]);
}

static void wait_for_line(void)
{
	char byte = 0;

	while (byte != '\n' && read(STDIN_FILENO, &byte, 1) == 1)
		;
}

static void run(void)
{
	int64_t end;

	load.begun_us = clock_monotonic_us();
	load.sending = true;
	end = load.begun_us + (int64_t)(load.o.seconds * US_PER_S);
	while (clock_monotonic_us() < end && !interrupted && !all_sent() &&
	       totals.dead < load.count)
		step(true);
	load.sending = false;
	load.stop_us = clock_monotonic_us();
}

static void drain(void)
{
	int64_t end = clock_monotonic_us() + (int64_t)(load.o.drain_seconds * US_PER_S);

	while (totals.pending && clock_monotonic_us() < end && !interrupted &&
	       totals.dead < load.count)
		step(true);
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double percentile_ms(double p)
{
	size_t n = totals.latency_count;

	return n ? totals.latencies_us[(size_t)(p * (double)(n - 1))] / 1000.0 : 0;
}

static json_t *latencies(void)
{
	if (totals.latency_count)
		qsort(totals.latencies_us, totals.latency_count, sizeof(uint32_t), compare_u32);
	return json_pack("{s:f, s:f, s:f, s:f, s:f}", "p50", percentile_ms(0.5), "p90",
			 percentile_ms(0.9), "p99", percentile_ms(0.99), "p999",
			 percentile_ms(0.999), "max", percentile_ms(1));
}

static json_t *codes(void)
{
	json_t *o = json_object();
	char text[8];

	for (unsigned code = 0; code < 256; code++)
		if (totals.codes[code]) {
			snprintf(text, sizeof(text), "%u.%02u", code >> 5, code & 31);
			json_object_set_new(o, text, json_integer((json_int_t)totals.codes[code]));
		}
	return o;
}

struct counts { /* at the beginning of the run */
	uint64_t handshakes, resumed;
	int64_t cpu_us;
};

static int64_t microseconds(struct timeval t)
{
	return t.tv_sec * US_PER_S + t.tv_usec;
}

static int64_t cpu_us(void)
{
	struct rusage used;

	getrusage(RUSAGE_SELF, &used);
	return microseconds(used.ru_utime) + microseconds(used.ru_stime);
}

static void report(const struct counts *before)
{
	double seconds = (double)(load.stop_us - load.begun_us) / US_PER_S;
	uint64_t handshakes = totals.handshakes - before->handshakes;
	uint64_t done = load.o.handshakes ? handshakes : totals.acknowledged;
	double cpu_seconds = (double)(cpu_us() - before->cpu_us) / US_PER_S;
	json_t *o = json_pack("{s:i, s:f, s:f, s:f, s:o, s:o}", "sessions", (int)load.count,
			      "seconds", seconds, "cpu_seconds", cpu_seconds, "per_s",
			      seconds > 0 ? (double)done / seconds : 0.0, "latency_ms", latencies(),
			      "codes", codes());
	const struct {
		const char *name;
		uint64_t value;
	} fields[] = {
		{"sent", totals.sent},
		{"acknowledged", totals.acknowledged},
		{"unacknowledged", totals.pending},
		{"transmissions", totals.transmissions},
		{"retransmissions", totals.retransmissions},
		{"timeouts", totals.timeouts},
		{"refused", totals.refused},
		{"pauses", totals.pauses},
		{"handshakes", handshakes},
		{"resumed", totals.resumed - before->resumed},
		{"handshakes_again", totals.handshakes_again},
		{"handshakes_failed", totals.handshakes_failed},
		{"closed_by_server", totals.closed_by_server},
		{"nonces_reused", totals.nonces_reused},
		{"malformed", totals.malformed},
	};

	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++)
		json_object_set_new(o, fields[i].name, json_integer((json_int_t)fields[i].value));
	event("done", NULL, o);
}

static void make_sessions(void)
{
	struct load_options *o = &load.o;
	struct load_credentials *credentials;
	uint32_t per_socket;

	load.count = load_credentials_read(o, &credentials);
	if (o->no_cid)
		o->sockets = load.count;
	else if (!o->sockets)
		o->sockets = SOCKETS_DEFAULT;
	if (o->sockets > load.count)
		o->sockets = load.count;
	per_socket = (load.count + o->sockets - 1) / o->sockets;
	if (!o->in_flight)
		o->in_flight = load.count;
	net_open(&o->server, o->sockets, o->sources);
	load.sessions = calloc(load.count, sizeof(*load.sessions));
	load.shaking = calloc(o->sockets, sizeof(struct session *));
	load.taken = calloc(o->sockets, sizeof(bool));
	if (!load.sessions || !load.shaking || !load.taken)
		die("out of memory");
	for (uint32_t i = 0; i < load.count; i++)
		session_init(&load.sessions[i], &credentials[i], i, i / per_socket);
	/* One from each socket, and again: handshakes from one port go one after the other. */
	for (uint32_t k = 0; k < per_socket; k++)
		for (uint32_t i = k; i < load.count; i += per_socket)
			push(&load.to_shake, &load.sessions[i]);
}

static void say_goodbye(void)
{
	for (unsigned i = 0; i < load.count; i++)
		tls_close(&load.sessions[i].tls, true);
	net_flush();
}

int load_main(int argc, char **argv)
{
	struct counts before;

	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	load_options_parse(&load.o, argc, argv);
	session_setup(&load.o);
	lossy_setup(&load.o.impairment, load.o.seed);
	load.lossy = load_options_lossy(&load.o);
	load_log_open(load.o.sent, load.o.acked);
	wheel_turn(clock_monotonic_us());
	make_sessions();
	if (!load.o.handshakes)
		set_up();
	if (load.o.wait)
		wait_for_line();
	before = (struct counts){totals.handshakes, totals.resumed, cpu_us()};
	sort_ready();
	run();
	drain();
	report(&before);
	if (load.o.goodbye)
		say_goodbye();
	return 0;
}
