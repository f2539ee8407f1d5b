/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/posix/link_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_ticket.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/posix/link_pki.h"

#define CID_LENGTH    8
#define CID_AT	      11 /* RFC 9146, section 4: behind type, version, epoch and number */
#define RECORD_CID    25
#define DATAGRAM_MAX  4700
#define PLAINTEXT_MAX 4200

struct session {
	struct session *next;
	struct link_server *server;
	mbedtls_ssl_context ssl;
	struct sockaddr_in from;
	uint8_t cid[CID_LENGTH];
	struct loop_fd socket; /* of a stream; fd -1: datagrams */
	struct loop_timer timer;
	int64_t interval_us, final_us;
	bool open, dead;
};

struct link_server {
	struct loop *loop;
	struct link_server_options options;
	struct loop_fd socket;
	mbedtls_ssl_config config;
	mbedtls_x509_crt certificate, devices;
	mbedtls_pk_context key;
	mbedtls_ssl_ticket_context tickets;
	int suites[2];
	struct session *sessions, *last;
	const uint8_t *in;
	size_t in_length;
	struct sockaddr_in in_from;
	unsigned handshakes, messages, farewells;
	size_t bytes;
	uint64_t next_cid;
};

static int rng(void *arg, unsigned char *out, size_t length)
{
	(void)arg;
	return getrandom(out, length, 0) == (ssize_t)length ? 0 : -1;
}

/* ---- what carries the bytes */

static int send_out(void *arg, const unsigned char *bytes, size_t length)
{
	struct session *x = arg;
	ssize_t n = x->server->options.stream
			    ? send(x->socket.fd, bytes, length, MSG_NOSIGNAL)
			    : sendto(x->server->socket.fd, bytes, length, 0,
				     (const struct sockaddr *)&x->from, sizeof(x->from));

	if (n >= 0)
		return (int)n;
	return errno == EAGAIN ? MBEDTLS_ERR_SSL_WANT_WRITE : MBEDTLS_ERR_NET_CONN_RESET;
}

static int take_in(void *arg, unsigned char *out, size_t size)
{
	struct session *x = arg;
	struct link_server *s = x->server;
	ssize_t n;

	if (s->options.stream) {
		n = recv(x->socket.fd, out, size, 0);
		if (n >= 0)
			return (int)n;
		return errno == EAGAIN ? MBEDTLS_ERR_SSL_WANT_READ : MBEDTLS_ERR_NET_CONN_RESET;
	}
	if (!s->in || s->in_length > size)
		return MBEDTLS_ERR_SSL_WANT_READ;
	memcpy(out, s->in, s->in_length);
	s->in = NULL;
	return (int)s->in_length;
}

static void set_timer(void *arg, uint32_t interval_ms, uint32_t final_ms)
{
	struct session *x = arg;
	int64_t now = loop_now_us(x->server->loop);

	x->interval_us = now + (int64_t)interval_ms * 1000;
	x->final_us = final_ms ? now + (int64_t)final_ms * 1000 : 0;
	if (final_ms)
		loop_at(x->server->loop, &x->timer, x->final_us);
	else
		loop_cancel(x->server->loop, &x->timer);
}

static int get_timer(void *arg)
{
	const struct session *x = arg;
	int64_t now = loop_now_us(x->server->loop);

	if (x->final_us == 0)
		return -1;
	return now >= x->final_us ? 2 : now >= x->interval_us ? 1 : 0;
}

/* ---- sessions */

static void session_free(struct session *x)
{
	struct session **at = &x->server->sessions;

	while (*at != x)
		at = &(*at)->next;
	*at = x->next;
	if (x->server->last == x)
		x->server->last = NULL;
	loop_cancel(x->server->loop, &x->timer);
	if (x->socket.fd >= 0) {
		loop_unwatch(x->server->loop, &x->socket);
		close(x->socket.fd);
	}
	mbedtls_ssl_free(&x->ssl);
	free(x);
}

/* Frees it when it is over. */
static void session_run(struct session *x)
{
	unsigned char plaintext[PLAINTEXT_MAX];
	struct link_server *s = x->server;
	int r = 0;

	if (!x->open) {
		r = mbedtls_ssl_handshake(&x->ssl);
		if (r == 0) {
			x->open = true;
			s->handshakes++;
		}
	}
	while (x->open && (r = mbedtls_ssl_read(&x->ssl, plaintext, sizeof(plaintext))) > 0) {
		s->messages++;
		s->last = x;
		x->from = s->in_from;
		s->bytes += (size_t)r;
		if (!s->options.sink)
			mbedtls_ssl_write(&x->ssl, plaintext, (size_t)r);
	}
	s->farewells += r == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY;
	if (r == 0 || (r != MBEDTLS_ERR_SSL_WANT_READ && r != MBEDTLS_ERR_SSL_WANT_WRITE))
		session_free(x);
}

static void on_timer(void *arg)
{
	session_run(arg);
}

static void on_stream(void *arg, uint32_t events)
{
	struct session *x = arg;
	socklen_t length = sizeof(x->server->in_from);

	(void)events;
	getpeername(x->socket.fd, (struct sockaddr *)&x->server->in_from, &length);
	session_run(x);
}

static struct session *session_new(struct link_server *s, int fd)
{
	struct session *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	x->server = s;
	x->from = s->in_from;
	x->socket = (struct loop_fd){.call = on_stream, .arg = x, .fd = fd};
	x->timer = (struct loop_timer){.call = on_timer, .arg = x};
	mbedtls_ssl_init(&x->ssl);
	assert_int_equal(mbedtls_ssl_setup(&x->ssl, &s->config), 0);
	mbedtls_ssl_set_bio(&x->ssl, x, send_out, take_in, NULL);
	mbedtls_ssl_set_timer_cb(&x->ssl, x, set_timer, get_timer);
	if (!s->options.stream) {
		mbedtls_ssl_set_client_transport_id(&x->ssl, (const unsigned char *)&x->from,
						    sizeof(x->from));
		s->next_cid++;
		memcpy(x->cid, &s->next_cid, sizeof(x->cid));
		if (s->options.connection_id)
			mbedtls_ssl_set_cid(&x->ssl, MBEDTLS_SSL_CID_ENABLED, x->cid, CID_LENGTH);
	}
	x->next = s->sessions;
	s->sessions = x;
	return x;
}

static struct session *session_of(struct link_server *s, const uint8_t *bytes, size_t length)
{
	bool by_cid = length > CID_AT + CID_LENGTH && bytes[0] == RECORD_CID;
	struct session *x;

	for (x = s->sessions; x; x = x->next)
		if (by_cid ? memcmp(x->cid, bytes + CID_AT, CID_LENGTH) == 0
			   : memcmp(&x->from, &s->in_from, sizeof(x->from)) == 0)
			return x;
	/* A handshake begins with a ClientHello in epoch 0. */
	return length > 13 && bytes[0] == 22 && bytes[13] == 1 ? session_new(s, -1) : NULL;
}

static void on_datagram(void *arg, uint32_t events)
{
	struct link_server *s = arg;
	uint8_t bytes[DATAGRAM_MAX];
	socklen_t length = sizeof(s->in_from);
	ssize_t n;

	(void)events;
	while ((n = recvfrom(s->socket.fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&s->in_from,
			     &length)) >= 0) {
		struct session *x = session_of(s, bytes, (size_t)n);

		s->in = bytes;
		s->in_length = (size_t)n;
		if (x)
			session_run(x);
		s->in = NULL;
	}
}

static void on_accept(void *arg, uint32_t events)
{
	struct link_server *s = arg;
	int fd = accept4(s->socket.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	const int yes = 1;

	(void)events;
	if (fd < 0)
		return;
	/* What it sends is there at once, also when the last was not acknowledged yet. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	loop_watch(s->loop, &session_new(s, fd)->socket, EPOLLIN);
}

/* ---- life */

static int find_psk(void *arg, mbedtls_ssl_context *ssl, const unsigned char *identity, size_t n)
{
	const struct link_server *s = arg;

	if (n != strlen("psk-device") || memcmp(identity, "psk-device", n) != 0)
		return -1;
	return mbedtls_ssl_set_hs_psk(ssl, (const unsigned char *)s->options.psk,
				      strlen(s->options.psk));
}

static void read_pair(struct link_server *s, const char *name)
{
	char file[32];

	snprintf(file, sizeof(file), "%s.pem", name);
	assert_int_equal(mbedtls_x509_crt_parse_file(&s->certificate, link_pki(file)), 0);
	snprintf(file, sizeof(file), "%s.key", name);
	assert_int_equal(mbedtls_pk_parse_keyfile(&s->key, link_pki(file), NULL, rng, NULL), 0);
	assert_int_equal(mbedtls_ssl_conf_own_cert(&s->config, &s->certificate, &s->key), 0);
}

static void configure(struct link_server *s)
{
	const struct link_server_options *o = &s->options;
	char file[32];

	assert_int_equal(mbedtls_ssl_config_defaults(&s->config, MBEDTLS_SSL_IS_SERVER,
						     o->stream ? MBEDTLS_SSL_TRANSPORT_STREAM
							       : MBEDTLS_SSL_TRANSPORT_DATAGRAM,
						     MBEDTLS_SSL_PRESET_DEFAULT),
			 0);
	mbedtls_ssl_conf_rng(&s->config, rng, NULL);
	if (!o->stream) {
		mbedtls_ssl_conf_dtls_cookies(&s->config, NULL, NULL, NULL);
		mbedtls_ssl_conf_handshake_timeout(&s->config, 100, 2000);
	}
	if (o->connection_id)
		mbedtls_ssl_conf_cid(&s->config, CID_LENGTH, MBEDTLS_SSL_UNEXPECTED_CID_IGNORE);
	if (o->certificate)
		read_pair(s, o->certificate);
	if (o->devices) {
		snprintf(file, sizeof(file), "%s.pem", o->devices);
		assert_int_equal(mbedtls_x509_crt_parse_file(&s->devices, link_pki(file)), 0);
		mbedtls_ssl_conf_ca_chain(&s->config, &s->devices, NULL);
		mbedtls_ssl_conf_authmode(&s->config, MBEDTLS_SSL_VERIFY_REQUIRED);
	}
	if (o->psk)
		mbedtls_ssl_conf_psk_cb(&s->config, find_psk, s);
	s->suites[0] = o->suite;
	if (o->suite)
		mbedtls_ssl_conf_ciphersuites(&s->config, s->suites);
	if (o->tickets) {
		assert_int_equal(mbedtls_ssl_ticket_setup(&s->tickets, rng, NULL,
							  MBEDTLS_CIPHER_AES_256_GCM, 3600),
				 0);
		mbedtls_ssl_conf_session_tickets_cb(&s->config, mbedtls_ssl_ticket_write,
						    mbedtls_ssl_ticket_parse, &s->tickets);
	}
}

struct link_server *link_server_new(struct loop *loop, const struct link_server_options *o)
{
	struct link_server *s = calloc(1, sizeof(*s));
	struct sockaddr_in here = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	assert_non_null(s);
	s->loop = loop;
	s->options = *o;
	mbedtls_ssl_config_init(&s->config);
	mbedtls_x509_crt_init(&s->certificate);
	mbedtls_x509_crt_init(&s->devices);
	mbedtls_pk_init(&s->key);
	mbedtls_ssl_ticket_init(&s->tickets);
	configure(s);
	s->socket = (struct loop_fd){.call = o->stream ? on_accept : on_datagram, .arg = s};
	s->socket.fd = socket(
		AF_INET, (o->stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s->socket.fd, (const struct sockaddr *)&here, sizeof(here)), 0);
	if (o->stream)
		assert_int_equal(listen(s->socket.fd, 100), 0);
	assert_int_equal(loop_watch(loop, &s->socket, EPOLLIN), 0);
	return s;
}

void link_server_forget_all(struct link_server *s)
{
	while (s->sessions)
		session_free(s->sessions);
}

void link_server_free(struct link_server *s)
{
	if (!s)
		return;
	link_server_forget_all(s);
	loop_unwatch(s->loop, &s->socket);
	close(s->socket.fd);
	mbedtls_ssl_ticket_free(&s->tickets);
	mbedtls_ssl_config_free(&s->config);
	mbedtls_x509_crt_free(&s->certificate);
	mbedtls_x509_crt_free(&s->devices);
	mbedtls_pk_free(&s->key);
	free(s);
}

uint16_t link_server_port(const struct link_server *s)
{
	struct sockaddr_in here = {0};
	socklen_t length = sizeof(here);

	assert_int_equal(getsockname(s->socket.fd, (struct sockaddr *)&here, &length), 0);
	return ntohs(here.sin_port);
}

unsigned link_server_handshakes(const struct link_server *s)
{
	return s->handshakes;
}

unsigned link_server_sessions(const struct link_server *s)
{
	unsigned count = 0;

	for (const struct session *x = s->sessions; x; x = x->next)
		count++;
	return count;
}

unsigned link_server_messages(const struct link_server *s)
{
	return s->messages;
}

size_t link_server_bytes(const struct link_server *s)
{
	return s->bytes;
}

unsigned link_server_farewells(const struct link_server *s)
{
	return s->farewells;
}

uint16_t link_server_peer(const struct link_server *s)
{
	assert_non_null(s->last);
	return ntohs(s->last->from.sin_port);
}

void link_server_send(struct link_server *s, const void *bytes, size_t length)
{
	assert_non_null(s->last);
	assert_int_equal(mbedtls_ssl_write(&s->last->ssl, bytes, length), (int)length);
}

void link_server_close_last(struct link_server *s)
{
	assert_non_null(s->last);
	assert_int_equal(mbedtls_ssl_close_notify(&s->last->ssl), 0);
	session_free(s->last);
}

void link_server_send_raw(struct link_server *s, const void *bytes, size_t length)
{
	assert_non_null(s->last);
	assert_int_equal(sendto(s->socket.fd, bytes, length, 0,
				(const struct sockaddr *)&s->last->from, sizeof(s->last->from)),
			 (ssize_t)length);
}
