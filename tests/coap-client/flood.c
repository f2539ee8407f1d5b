/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap-client/flood.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "tests/coap-client/die.h"
#include "tests/coap-client/events.h"
#include "tests/coap-client/tls.h"

#define PORTS_MAX    20000
#define COOKIE_MAX   255
#define HELLO_MAX    512
#define BURST_MAX    1000
#define STEP_US	     (2 * US_PER_MS)
#define LINGER_US    (200 * US_PER_MS) /* answers to the last ones */
#define HANDSHAKE    22
#define CLIENT_HELLO 1
#define SERVER_HELLO 2
#define HELLO_VERIFY 3
#define MESSAGE_AT   TLS_HEADER_LEN
#define BODY_AT	     (MESSAGE_AT + 12) /* RFC 6347 section 4.2.2 */

enum cookies {
	COOKIES_NONE,	  /* answers are not read */
	COOKIES_EXCHANGE, /* sent back: a handshake begins, and is then left alone */
	COOKIES_WRONG,	  /* every hello has one, made up */
};

struct flood {
	json_int_t id;
	enum cookies cookies;
	double rate;
	struct port **ports;
	size_t port_count, turn;
	int64_t begun_us, end_us;
	uint64_t sent, hellos_with_cookie, verify_requests, server_hellos, received;
	uint64_t bytes_sent, bytes_received;
};

static struct flood *running;

struct writer {
	uint8_t bytes[HELLO_MAX];
	size_t len;
};

static void put(struct writer *w, const void *bytes, size_t len)
{
	memcpy(w->bytes + w->len, bytes, len);
	w->len += len;
}

static void put_uint(struct writer *w, uint64_t v, size_t bytes)
{
	while (bytes-- > 0)
		w->bytes[w->len++] = (uint8_t)(v >> 8 * bytes);
}

static void set_uint(struct writer *w, size_t at, size_t v, size_t bytes)
{
	while (bytes-- > 0)
		w->bytes[at++] = (uint8_t)(v >> 8 * bytes);
}

static void put_extensions(struct writer *w)
{
	static const uint8_t extensions[] = {
		0, 10, 0, 4, 0, 2, 0, 23, /* supported groups: secp256r1 */
		0, 11, 0, 2, 1, 0,	  /* points: uncompressed */
		0, 13, 0, 4, 0, 2, 4, 3,  /* signatures: ecdsa_secp256r1_sha256 */
		0, 23, 0, 0,		  /* extended master secret */
		0, 54, 0, 1, 0,		  /* Connection ID, empty: RFC 9146 section 3 */
	};

	put_uint(w, sizeof(extensions), 2);
	put(w, extensions, sizeof(extensions));
}

static void put_suites(struct writer *w)
{
	static const uint16_t suites[] = {0xc02b, 0xc0ae, 0xccac, 0xc0a8, 0x00a8};

	put_uint(w, sizeof(suites), 2);
	for (size_t i = 0; i < sizeof(suites) / sizeof(*suites); i++)
		put_uint(w, suites[i], 2);
}

/* The random is the peer's memory: after a HelloVerifyRequest it must be the same again. */
static void make_hello(struct writer *w, const uint8_t random[32], const uint8_t *cookie,
		       size_t cookie_len)
{
	w->len = 0;
	put_uint(w, HANDSHAKE, 1);
	put_uint(w, 0xfefd, 2);
	put_uint(w, 0, 4);		    /* epoch, sequence number */
	put_uint(w, cookie_len ? 1 : 0, 4); /* which is also the message's */
	put_uint(w, 0, 2);
	put_uint(w, CLIENT_HELLO, 1);
	put_uint(w, 0, 3);
	put_uint(w, cookie_len ? 1 : 0, 2);
	put_uint(w, 0, 6); /* fragment: all of it */
	put_uint(w, 0xfefd, 2);
	put(w, random, 32);
	put_uint(w, 0, 1); /* no session id */
	put_uint(w, cookie_len, 1);
	put(w, cookie, cookie_len);
	put_suites(w);
	put_uint(w, 0x0100, 2); /* one compression method: none */
	put_extensions(w);
	set_uint(w, TLS_HEADER_LEN - 2, w->len - MESSAGE_AT, 2);
	set_uint(w, MESSAGE_AT + 1, w->len - BODY_AT, 3);
	set_uint(w, MESSAGE_AT + 9, w->len - BODY_AT, 3);
}

static void send_hello(struct flood *f, struct port *p, const uint8_t *cookie, size_t cookie_len)
{
	struct writer w;

	make_hello(&w, p->flood, cookie, cookie_len);
	port_send(p, w.bytes, w.len);
	f->sent++;
	f->hellos_with_cookie += cookie_len != 0;
	f->bytes_sent += w.len;
}

static void send_new_hello(struct flood *f)
{
	struct port *p = f->ports[f->turn++ % f->port_count];
	uint8_t made_up[32];

	random_bytes(p->flood, 32);
	random_bytes(made_up, sizeof(made_up));
	send_hello(f, p, made_up, f->cookies == COOKIES_WRONG ? sizeof(made_up) : 0);
}

void flood_receive(struct port *p, const uint8_t *d, size_t len)
{
	struct flood *f = running;

	f->received++;
	f->bytes_received += len;
	if (len < BODY_AT + 3 || d[0] != HANDSHAKE)
		return;
	f->server_hellos += d[MESSAGE_AT] == SERVER_HELLO;
	if (d[MESSAGE_AT] != HELLO_VERIFY)
		return;
	f->verify_requests++;
	if (f->cookies == COOKIES_EXCHANGE && BODY_AT + 3U + d[BODY_AT + 2] <= len)
		send_hello(f, p, d + BODY_AT + 3, d[BODY_AT + 2]);
}

static void end(struct flood *f)
{
	double seconds = (double)(clock_monotonic_us() - f->begun_us) / US_PER_S;

	reply(f->id,
	      json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "sent", (json_int_t)f->sent,
			"with_cookie", (json_int_t)f->hellos_with_cookie, "received",
			(json_int_t)f->received, "verify_requests", (json_int_t)f->verify_requests,
			"server_hellos", (json_int_t)f->server_hellos, "bytes_sent",
			(json_int_t)f->bytes_sent, "bytes_received", (json_int_t)f->bytes_received,
			"seconds", seconds));
	for (size_t i = 0; i < f->port_count; i++) {
		free(f->ports[i]->flood);
		port_close(f->ports[i]);
	}
	free(f->ports);
	free(f);
	running = NULL;
}

static int open_ports(struct flood *f, const struct target *server, const char *host, size_t count)
{
	f->ports = calloc(count, sizeof(struct port *));
	if (!f->ports)
		die("out of memory");
	while (f->port_count < count) {
		struct port *p = port_open(server, host, 0);

		if (!p)
			return -1;
		p->flood = calloc(1, 32);
		if (!p->flood)
			die("out of memory");
		f->ports[f->port_count++] = p;
	}
	return 0;
}

static enum cookies cookies_of(const char *name)
{
	return strcmp(name, "exchange") == 0 ? COOKIES_EXCHANGE
	       : strcmp(name, "wrong") == 0  ? COOKIES_WRONG
					     : COOKIES_NONE;
}

void flood_begin(json_t *in, json_int_t id)
{
	json_int_t ports = arg_int(in, "ports", 1);
	struct target server;
	struct flood *f;

	if (running || ports < 1 || ports > PORTS_MAX ||
	    target_parse(&server, arg_text(in, "server", "127.0.0.1"),
			 (uint16_t)arg_int(in, "port", 5684)) != 0) {
		reply_error(id, NULL, "command", "a flood runs already, or bad server or ports");
		return;
	}
	f = calloc(1, sizeof(*f));
	if (!f)
		die("out of memory");
	running = f;
	f->id = id;
	f->rate = arg_real(in, "rate", 1000);
	f->cookies = cookies_of(arg_text(in, "cookie", "none"));
	f->begun_us = clock_monotonic_us();
	f->end_us = f->begun_us + (int64_t)(arg_real(in, "seconds", 1) * US_PER_S);
	if (open_ports(f, &server, arg_text(in, "bind", NULL), (size_t)ports) != 0)
		end(f);
}

int64_t flood_deadline(void)
{
	return running ? clock_monotonic_us() + STEP_US : INT64_MAX;
}

void flood_tick(int64_t now_us)
{
	struct flood *f = running;
	int64_t until;
	uint64_t due;

	if (!f)
		return;
	until = now_us < f->end_us ? now_us : f->end_us;
	due = (uint64_t)((double)(until - f->begun_us) / US_PER_S * f->rate);
	for (int n = 0; f->turn < due && n < BURST_MAX; n++)
		send_new_hello(f);
	if (now_us >= f->end_us + LINGER_US)
		end(f);
}
