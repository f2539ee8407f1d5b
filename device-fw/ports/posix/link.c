/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   CLOSED -> OPENING -> CONNECTING (TCP) -> SHAKING -> OPEN -> CLOSED
 *                                                        |  ^
 *                        KEPT (DTLS), PARKED (TLS)  <----+  +---- RESUMING <- KEPT, PARKED
 *
 * Everything happens in callbacks of the loop; link_open only sets the timer that begins it.
 * Whoever is told something may close the link, open it again or free it before he returns: `turn`
 * counts these, and a link that is freed then lives on until the callback is over.
 */
#include "device-fw/ports/posix/link.h"

#include <errno.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/platform_util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device-fw/ports/posix/link_datagrams.h"
#include "device-fw/ports/posix/link_host.h"
#include "device-fw/ports/posix/link_stream.h"
#include "device-fw/ports/posix/link_tls.h"

#define MIN_MS		  1000
#define MAX_MS		  60000
#define REASON_MAX	  320
#define PLAINTEXT_MAX	  4608
#define RECORDS_AT_A_TIME 16 /* of a stream, before others have their turn */
/* Header, nonce or IV, tag or MAC and padding, of one record in TLS 1.2. */
#define RECORD_OVERHEAD_MAX 80

enum link_state {
	LINK_CLOSED,
	LINK_OPENING,
	LINK_CONNECTING,
	LINK_SHAKING,
	LINK_OPEN, /* from here on there is a session */
	LINK_KEPT,
	LINK_PARKED,
	LINK_RESUMING,
};

struct link {
	struct link_config config;
	struct link_air air;
	struct loop_timer timer;
	enum link_state state;
	unsigned turn;	    /* counts link_open and link_close */
	int callbacks;	    /* that are under way */
	bool doomed;	    /* to be freed when they are over */
	int broken;	    /* what link_send has met; told by the timer */
	int carrier_error;  /* -errno of the socket, for Mbed TLS knows none */
	bool heard;	    /* anything from the peer, since link_open */
	bool connection_id; /* was negotiated */
	bool datagrams_wanted;
	uint16_t port;
	unsigned address; /* which of the host's, and how many of them were tried */
	unsigned tried;
	struct link_host *host;
	const char *name;
	struct link_tls *tls;
	struct link_datagrams *datagrams;
	struct link_stream *stream;
	void *saved;
	size_t saved_length;
	struct link_tls_ticket *ticket;
};

static void begin(struct link *l);

/* ---- callbacks to the owner */

static void callback_begins(struct link *l)
{
	l->callbacks++;
}

static void destroy(struct link *l);

/* false: the link is another one now, or none at all; it is not to be touched. */
static bool callback_ends(struct link *l, unsigned turn)
{
	bool same = l->turn == turn && !l->doomed;

	if (--l->callbacks == 0 && l->doomed)
		destroy(l);
	return same;
}

static bool tell_connected(struct link *l, bool resumed)
{
	struct fg_connection c = {.resumed = resumed, .connection_id = l->connection_id};
	unsigned turn = l->turn;

	callback_begins(l);
	l->config.connected(l->config.ctx, &c);
	return callback_ends(l, turn);
}

static bool tell_received(struct link *l, const void *bytes, size_t length)
{
	unsigned turn = l->turn;

	callback_begins(l);
	l->config.received(l->config.ctx, bytes, length);
	return callback_ends(l, turn);
}

/* ---- ends */

static void forget_saved(struct link *l)
{
	if (l->saved)
		mbedtls_platform_zeroize(l->saved, l->saved_length);
	free(l->saved);
	l->saved = NULL;
}

static void release(struct link *l)
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
	release(l);
	forget_saved(l);
	l->state = LINK_CLOSED;
	callback_begins(l);
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
	int number;

	if (l->carrier_error) {
		fail_of_system(l, l->carrier_error);
		return;
	}
	number = link_tls_explain(l->tls, error, reason, sizeof(reason));
	fail(l, number, reason);
}

static bool is_wait(int error)
{
	return error == MBEDTLS_ERR_SSL_WANT_READ || error == MBEDTLS_ERR_SSL_WANT_WRITE;
}

/* ---- established */

static void set_timer(struct link *l)
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
	set_timer(l);
	if (tell_connected(l, false))
		read_records(l);
}

/* true: it waits for more. Else the link may be gone. */
static bool shake(struct link *l)
{
	int r = link_tls_handshake(l->tls);

	if (is_wait(r)) {
		set_timer(l);
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
	release(l);
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
		forget_saved(l);
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
	if (host != l->host) {
		link_tls_ticket_free(l->ticket);
		l->ticket = NULL;
	}
	l->host = host;
	l->address = link_host_preferred(host);
	l->tried = 1;
	begin(l);
}

static void on_timer(void *arg)
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

/* ---- the owner's side */

struct link *link_new(const struct link_config *config)
{
	struct link *l;

	if (!config->trust && !(config->identity && config->identity->is_psk))
		return NULL;
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->config = *config;
	if (!l->config.handshake_min_ms)
		l->config.handshake_min_ms = MIN_MS;
	if (l->config.handshake_max_ms < l->config.handshake_min_ms)
		l->config.handshake_max_ms = MAX_MS;
	l->air.loop = config->loop;
	l->air.impairment = config->impairment;
	link_datagrams_seed(&l->air);
	l->timer = (struct loop_timer){.call = on_timer, .arg = l};
	return l;
}

static void destroy(struct link *l)
{
	link_datagrams_forget(&l->air);
	link_stream_forget(&l->air);
	link_tls_ticket_free(l->ticket);
	free(l);
}

void link_free(struct link *l)
{
	if (!l)
		return;
	l->turn++;
	release(l);
	forget_saved(l);
	l->state = LINK_CLOSED;
	l->doomed = true;
	if (l->callbacks == 0)
		destroy(l);
}

static bool is_same_server(const struct link *l, const struct fg_target *target)
{
	return l->host && strcmp(link_host_name(l->host), target->host) == 0 &&
	       l->port == target->port &&
	       l->datagrams_wanted == (target->transport == FG_TRANSPORT_COAP);
}

int link_open(struct link *l, const struct fg_target *target, bool resume)
{
	bool kept = l->state == LINK_KEPT || l->state == LINK_PARKED;

	if (l->state != LINK_CLOSED && !kept)
		return -EALREADY;
	if (resume && !(kept && is_same_server(l, target)))
		return -ENOTCONN;
	if (!resume) {
		link_close(l, false);
		if (!is_same_server(l, target)) {
			link_tls_ticket_free(l->ticket);
			l->ticket = NULL;
		}
		l->datagrams_wanted = target->transport == FG_TRANSPORT_COAP;
		l->port = target->port;
		l->heard = false;
	}
	l->name = target->host;
	l->carrier_error = 0;
	l->turn++;
	l->state = resume ? LINK_RESUMING : LINK_OPENING;
	loop_at(l->config.loop, &l->timer, loop_now_us(l->config.loop));
	return 0;
}

int link_send(struct link *l, const void *bytes, size_t length)
{
	size_t records;
	int r;

	if (l->state != LINK_OPEN || l->broken)
		return -ENOTCONN;
	if (length == 0)
		return 0;
	if (l->datagrams_wanted && length > link_tls_longest(l->tls))
		return -EMSGSIZE;
	records = length / link_tls_longest(l->tls) + 1;
	if (!l->datagrams_wanted &&
	    length + records * RECORD_OVERHEAD_MAX > link_stream_room(l->stream))
		return -ENOBUFS;
	if (!l->datagrams_wanted)
		l->air.counters.sent++;
	r = link_tls_write(l->tls, bytes, length);
	if (r == 0)
		return 0;
	l->broken = l->carrier_error ? l->carrier_error : -EPROTO;
	r = l->broken;
	set_timer(l);
	return r;
}

static bool keep(struct link *l)
{
	if (l->broken)
		return false;
	if (!l->datagrams_wanted) {
		link_stream_stand(l->stream, true);
		l->state = LINK_PARKED;
		return true;
	}
	/* Without Connection ID another port would be nobody to the server. */
	if (l->connection_id)
		l->saved = link_tls_save(l->tls, &l->saved_length);
	if (!l->saved)
		return false;
	release(l);
	l->state = LINK_KEPT;
	return true;
}

static void say_farewell(struct link *l)
{
	if (l->broken || !l->tls || l->state < LINK_OPEN)
		return;
	if (l->stream)
		link_stream_stand(l->stream, l->air.cut);
	link_tls_farewell(l->tls);
}

void link_close(struct link *l, bool keep_it)
{
	l->turn++;
	if (keep_it && l->state == LINK_RESUMING) {
		loop_cancel(l->config.loop, &l->timer);
		l->state = l->saved ? LINK_KEPT : LINK_PARKED;
	}
	if (keep_it && (l->state == LINK_KEPT || l->state == LINK_PARKED))
		return;
	if (keep_it && l->state == LINK_OPEN && keep(l))
		return;
	say_farewell(l);
	release(l);
	forget_saved(l);
	l->state = LINK_CLOSED;
}

int link_rebind(struct link *l)
{
	if (l->stream)
		return -EOPNOTSUPP;
	return l->datagrams ? link_datagrams_rebind(l->datagrams) : 0;
}

void link_set_cut(struct link *l, bool cut)
{
	if (cut == l->air.cut)
		return;
	l->air.cut = cut;
	if (!cut)
		link_stream_forget(&l->air);
	if (l->stream) {
		int r = link_stream_stand(l->stream, cut || l->state == LINK_PARKED);

		if (r != 0) {
			l->broken = r;
			set_timer(l);
		}
	} else if (!cut && l->state == LINK_CONNECTING) {
		l->state = LINK_OPENING;
		loop_at(l->config.loop, &l->timer, loop_now_us(l->config.loop));
	}
}

const struct link_counters *link_counters(const struct link *l)
{
	return &l->air.counters;
}
