/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/platform_util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device-fw/ports/posix/link_internal.h"

#define REASON_MAX	  320
#define NAME_MAX_SHOWN	  80 /* of them: host and port */
#define PLAINTEXT_MAX	  4608
#define RECORDS_AT_A_TIME 16 /* of a stream, before others have their turn */

static void begin(struct link *l);

/* ---- callbacks to the owner */

/* false: the link is another one now, or none at all; it is not to be touched. */
static bool callback_ends(struct link *l, unsigned turn)
{
	bool same = l->turn == turn && !l->doomed;

	if (--l->callbacks == 0 && l->doomed)
		link_destroy(l);
	return same;
}

static bool tell_connected(struct link *l, bool resumed)
{
	struct fg_connection c = {.resumed = resumed, .connection_id = l->connection_id};
	unsigned turn = l->turn;

	l->callbacks++;
	l->config.connected(l->config.ctx, &c);
	return callback_ends(l, turn);
}

static bool tell_received(struct link *l, const void *bytes, size_t length)
{
	unsigned turn = l->turn;

	l->callbacks++;
	l->config.received(l->config.ctx, bytes, length);
	return callback_ends(l, turn);
}

/* ---- ends */

void link_destroy(struct link *l)
{
	link_datagrams_forget(&l->air);
	link_stream_forget(&l->air);
	link_tls_ticket_free(l->ticket);
	free(l);
}

void link_forget_saved(struct link *l)
{
	if (l->saved)
		mbedtls_platform_zeroize(l->saved, l->saved_length);
	free(l->saved);
	l->saved = NULL;
}

void link_release(struct link *l)
{
	loop_cancel(l->config.loop, &l->timer);
	link_tls_free(l->tls);
	l->tls = NULL;
	if (l->datagrams)
		link_datagrams_close(l->datagrams);
	l->datagrams = NULL;
	if (l->stream)
		link_stream_close(l->stream);
	l->stream = NULL;
	l->broken = 0;
}

/* The last thing that is done with a link in whichever callback of the loop. */
static void fail(struct link *l, int error, const char *reason)
{
	unsigned turn = ++l->turn;

	if (l->state != LINK_OPEN)
		l->air.counters.failed++;
	link_release(l);
	link_forget_saved(l);
	l->state = LINK_CLOSED;
	l->callbacks++;
	l->config.disconnected(l->config.ctx, error, reason);
	callback_ends(l, turn);
}

static void fail_of_system(struct link *l, int error)
{
	char reason[REASON_MAX];

	if (error == -EMFILE || error == -ENFILE)
		snprintf(reason, sizeof(reason),
			 "no file descriptor is left for a socket: raise the limit (ulimit -n)");
	else if (error == -EAGAIN || error == -EADDRNOTAVAIL)
		snprintf(reason, sizeof(reason), "no local port is left for a socket to %s:%u",
			 l->name, l->port);
	else
		snprintf(reason, sizeof(reason), "%s:%u: %s", l->name, l->port, strerror(-error));
	fail(l, error, reason);
}

static void fail_of_tls(struct link *l, int error)
{
	char reason[REASON_MAX];
	int number, length;

	if (l->carrier_error) {
		fail_of_system(l, l->carrier_error);
		return;
	}
	length = snprintf(reason, NAME_MAX_SHOWN, "%s:%u: ", l->name, l->port);
	if (length >= NAME_MAX_SHOWN)
		length = NAME_MAX_SHOWN - 1;
	number = link_tls_explain(l->tls, error, reason + length, sizeof(reason) - (size_t)length);
	fail(l, number, reason);
}

static bool is_wait(int error)
{
	return error == MBEDTLS_ERR_SSL_WANT_READ || error == MBEDTLS_ERR_SSL_WANT_WRITE;
}

/* ---- established */

void link_set_timer(struct link *l)
{
	int64_t due_us = l->tls ? link_tls_due(l->tls) : INT64_MAX;

	if (l->broken)
		due_us = loop_now_us(l->config.loop);
	if (due_us == INT64_MAX)
		loop_cancel(l->config.loop, &l->timer);
	else
		loop_at(l->config.loop, &l->timer, due_us);
}

static void read_records(struct link *l)
{
	uint8_t plaintext[PLAINTEXT_MAX];
	int n = 0;

	for (int i = 0; l->datagrams_wanted || i < RECORDS_AT_A_TIME; i++) {
		n = link_tls_read(l->tls, plaintext, sizeof(plaintext));
		if (n <= 0)
			break;
		if (!l->datagrams_wanted)
			l->air.counters.received++;
		if (!tell_received(l, plaintext, (size_t)n))
			return;
	}
	if (n == 0)
		n = MBEDTLS_ERR_SSL_CONN_EOF;
	if (n < 0 && !is_wait(n))
		fail_of_tls(l, n);
}

static void established(struct link *l)
{
	bool abbreviated = link_tls_was_abbreviated(l->tls);

	l->state = LINK_OPEN;
	l->connection_id = link_tls_has_connection_id(l->tls);
	l->air.counters.handshakes++;
	l->air.counters.resumed += abbreviated;
	link_host_prefer(l->host, l->address);
	link_tls_ticket_free(l->ticket);
	/* With Connection ID the session itself is kept. */
	l->ticket = l->connection_id ? NULL : link_tls_ticket(l->tls);
	link_set_timer(l);
	if (tell_connected(l, false))
		read_records(l);
}

/* true: it waits for more. Else the link may be gone. */
static bool shake(struct link *l)
{
	int r = link_tls_handshake(l->tls);

	if (is_wait(r)) {
		link_set_timer(l);
		return true;
	}
	if (r == 0)
		established(l);
	else
		fail_of_tls(l, r);
	return false;
}

/* ---- what carries the bytes */

/* One datagram at a time lies here while Mbed TLS reads it. */
struct inbox {
	const uint8_t *bytes;
	size_t length;
};
static struct inbox inbox;

static int send_datagram(void *arg, const unsigned char *bytes, size_t length)
{
	struct link *l = arg;

	link_datagrams_send(l->datagrams, bytes, length);
	return (int)length;
}

static int take_datagram(void *arg, unsigned char *out, size_t size)
{
	size_t length = inbox.length;

	(void)arg;
	if (!inbox.bytes || length > size)
		return MBEDTLS_ERR_SSL_WANT_READ;
	memcpy(out, inbox.bytes, length);
	inbox.bytes = NULL;
	return (int)length;
}

static void on_datagram(void *arg, const uint8_t *bytes, size_t length)
{
	struct link *l = arg;

	l->heard = true;
	inbox = (struct inbox){bytes, length};
	/* When its timer has run out too, Mbed TLS first sends again, and does not read. */
	if (l->state == LINK_SHAKING)
		(void)(shake(l) && inbox.bytes && shake(l));
	else if (l->state == LINK_OPEN)
		read_records(l);
	inbox.bytes = NULL;
}

static bool try_next_address(struct link *l)
{
	if (l->heard || l->tried >= link_host_count(l->host))
		return false;
	l->tried++;
	l->address = (l->address + 1) % link_host_count(l->host);
	link_release(l);
	begin(l);
	return true;
}

/* Whoever guards the way to the server may forge it: a session that runs is not given up for it,
 * messages that are not answered will tell. */
static void on_datagrams_failed(void *arg, int error)
{
	struct link *l = arg;

	if (l->state == LINK_SHAKING && !try_next_address(l))
		fail_of_system(l, error);
}

static int send_bytes(void *arg, const unsigned char *bytes, size_t length)
{
	struct link *l = arg;
	int r = link_stream_send(l->stream, bytes, length);

	if (r == 0)
		return (int)length;
	l->carrier_error = r;
	return MBEDTLS_ERR_NET_CONN_RESET;
}

static int receive_bytes(void *arg, unsigned char *out, size_t size)
{
	struct link *l = arg;
	ssize_t n = link_stream_receive(l->stream, out, size);

	if (n >= 0)
		return (int)n;
	if (n == -EAGAIN)
		return MBEDTLS_ERR_SSL_WANT_READ;
	l->carrier_error = (int)n;
	return MBEDTLS_ERR_NET_CONN_RESET;
}

static void on_stream_connected(void *arg)
{
	struct link *l = arg;

	l->heard = true;
	l->state = LINK_SHAKING;
	shake(l);
}

static void on_stream_readable(void *arg)
{
	struct link *l = arg;

	if (l->state == LINK_SHAKING)
		shake(l);
	else if (l->state == LINK_OPEN)
		read_records(l);
}

static void on_stream_failed(void *arg, int error)
{
	struct link *l = arg;

	if (l->state != LINK_CONNECTING || !try_next_address(l))
		fail_of_system(l, error);
}

static const struct link_datagrams_events datagrams_events = {on_datagram, on_datagrams_failed};
static const struct link_stream_events stream_events = {on_stream_connected, on_stream_readable,
							on_stream_failed};

/* ---- begins */

static bool make_session(struct link *l)
{
	static const struct link_tls_carrier datagrams = {send_datagram, take_datagram};
	static const struct link_tls_carrier bytes = {send_bytes, receive_bytes};
	int error = 0;
	struct link_profile *p = link_profile_get(&l->config, l->datagrams_wanted, &error);

	if (p)
		l->tls = link_tls_new(p, l->config.loop, l->name,
				      l->datagrams_wanted ? &datagrams : &bytes, l, &error);
	if (!l->tls)
		fail_of_tls(l, error);
	return l->tls;
}

static int make_socket(struct link *l)
{
	struct sockaddr_storage to;
	socklen_t length = link_host_address(l->host, l->address, l->port, &to);

	if (l->datagrams_wanted)
		return link_datagrams_open(&l->air, &to, length, &datagrams_events, l,
					   &l->datagrams);
	return link_stream_open(&l->air, &to, length, &stream_events, l, &l->stream);
}

static void begin(struct link *l)
{
	int r;

	/* A TCP connection would come about without us; it has to wait for the network. */
	if (l->air.cut && !l->datagrams_wanted) {
		l->state = LINK_CONNECTING;
		return;
	}
	r = make_socket(l);
	if (r != 0) {
		if ((r != -ENETUNREACH && r != -EHOSTUNREACH && r != -EADDRNOTAVAIL) ||
		    !try_next_address(l))
			fail_of_system(l, r);
		return;
	}
	if (!make_session(l))
		return;
	link_tls_offer(l->tls, l->ticket);
	l->state = l->datagrams_wanted ? LINK_SHAKING : LINK_CONNECTING;
	if (l->state == LINK_SHAKING)
		shake(l);
}

static void open_again(struct link *l)
{
	int r = l->saved ? make_socket(l) : link_stream_stand(l->stream, l->air.cut);

	if (r != 0) {
		fail_of_system(l, r);
		return;
	}
	if (l->saved) {
		if (!make_session(l))
			return;
		r = link_tls_load(l->tls, l->saved, l->saved_length);
		link_forget_saved(l);
		if (r != 0) {
			fail_of_tls(l, r);
			return;
		}
	}
	l->state = LINK_OPEN;
	tell_connected(l, true);
}

static void look_up_and_begin(struct link *l)
{
	char text[REASON_MAX];
	const char *reason = "";
	struct link_host *host = link_host_find(l->name, &reason);

	if (!host) {
		snprintf(text, sizeof(text), "%s: %s", l->name, reason);
		fail(l, -EHOSTUNREACH, text);
		return;
	}
	l->host = host;
	l->address = link_host_preferred(host);
	l->tried = 1;
	begin(l);
}

void link_run(void *arg)
{
	struct link *l = arg;

	if (l->broken)
		fail_of_system(l, l->broken);
	else if (l->state == LINK_OPENING)
		look_up_and_begin(l);
	else if (l->state == LINK_RESUMING)
		open_again(l);
	else if (l->state == LINK_SHAKING)
		shake(l);
}
