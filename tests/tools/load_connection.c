/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/tools/load_connection.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/clock.h"

#define RETRY_US (100 * US_PER_MS)

/* Packet types, MQTT 3.1.1 section 2.2.1, with the flags of section 2.2.2. */
#define PACKET_CONNECT	  0x10
#define PACKET_CONNACK	  0x20
#define PACKET_PUBLISH_Q1 0x32
#define PACKET_PUBACK	  0x40
#define PACKET_DISCONNECT 0xe0
#define PUBLISH_DUP	  0x08

static void *must(void *p)
{
	if (!p) {
		fputs("mqtt-load: out of memory\n", stderr);
		exit(1);
	}
	return p;
}

static void reserve(struct load_buffer *b, size_t more)
{
	if (b->done == b->len)
		b->done = b->len = 0;
	if (b->len + more <= b->size)
		return;
	b->size = (b->len + more) * 2;
	b->data = must(realloc(b->data, b->size));
}

static void put(struct load_buffer *b, const void *data, size_t len)
{
	reserve(b, len);
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

static void put_u16(struct load_buffer *b, size_t v)
{
	unsigned char two[] = {(unsigned char)(v >> 8), (unsigned char)v};

	put(b, two, 2);
}

static void put_string(struct load_buffer *b, const char *s)
{
	put_u16(b, strlen(s));
	put(b, s, strlen(s));
}

static void put_head(struct load_buffer *b, unsigned char type, size_t remaining)
{
	put(b, &type, 1);
	do {
		unsigned char byte = remaining % 128;

		remaining /= 128;
		if (remaining)
			byte |= 128;
		put(b, &byte, 1);
	} while (remaining);
}

void load_connection_init(struct load_connection *c, const struct load_options *o,
			  const char *device, unsigned number)
{
	memset(c, 0, sizeof(*c));
	c->options = o;
	c->fd = -1;
	snprintf(c->device, sizeof(c->device), "%s", device);
	load_payload_init(&c->payload, o->cbor, number);
	c->slots = must(calloc(o->window, sizeof(*c->slots)));
	c->next_seq = LOAD_SEQ_FIRST;
}

static void close_socket(struct load_connection *c)
{
	SSL_free(c->ssl);
	c->ssl = NULL;
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->state = LOAD_IDLE;
	c->out.len = c->out.done = 0;
	c->in.len = c->in.done = 0;
	c->want_write = false;
}

void load_connection_free(struct load_connection *c)
{
	close_socket(c);
	free(c->slots);
	free(c->out.data);
	free(c->in.data);
}

void load_connection_lost(struct load_connection *c)
{
	if (c->state == LOAD_RUNNING)
		c->losses++;
	close_socket(c);
	c->retry_at_us = clock_monotonic_us() + RETRY_US;
}

static void queue_connect(struct load_connection *c)
{
	unsigned char flags = c->options->resume ? 0 : 0x02;
	size_t len = 10 + 2 + strlen(c->device);

	if (c->token) {
		flags |= 0xc0;
		len += 4 + strlen(c->device) + strlen(c->token);
	}
	put_head(&c->out, PACKET_CONNECT, len);
	put_string(&c->out, "MQTT");
	put(&c->out, (unsigned char[]){4, flags}, 2);
	put_u16(&c->out, c->options->keepalive_s);
	put_string(&c->out, c->device);
	if (c->token) {
		put_string(&c->out, c->device);
		put_string(&c->out, c->token);
	}
}

int load_connection_open(struct load_connection *c)
{
	const struct sockaddr *to = (const struct sockaddr *)&c->options->address;
	int one = 1;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -1;
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(c->fd, to, sizeof(c->options->address)) != 0 && errno != EINPROGRESS) {
		load_connection_lost(c);
		return 0;
	}
	c->connects++;
	c->state = LOAD_CONNECTING;
	c->want_write = true;
	return 0;
}

static void queue_publish(struct load_connection *c, unsigned slot, unsigned char dup)
{
	char payload[LOAD_PAYLOAD_MAX], topic[80];
	size_t len =
		load_payload_write(&c->payload, c->slots[slot].ts_ms, c->slots[slot].seq, payload);
	int topic_len = snprintf(topic, sizeof(topic), "m/d/%s/d2c", c->device);

	put_head(&c->out, PACKET_PUBLISH_Q1 | dup, 2 + (size_t)topic_len + 2 + len);
	put_u16(&c->out, (size_t)topic_len);
	put(&c->out, topic, (size_t)topic_len);
	put_u16(&c->out, slot + 1);
	put(&c->out, payload, len);
}

/* The slots are a ring: resend what is open in the order of its first sending. */
static void queue_again(struct load_connection *c)
{
	for (unsigned i = 0; i < c->options->window; i++) {
		unsigned slot = (c->next_slot + i) % c->options->window;

		if (c->slots[slot].used)
			queue_publish(c, slot, PUBLISH_DUP);
	}
}

bool load_connection_ready(const struct load_connection *c)
{
	return c->state == LOAD_RUNNING && !c->slots[c->next_slot].used;
}

void load_connection_publish(struct load_connection *c)
{
	struct load_slot *s = &c->slots[c->next_slot];

	s->used = true;
	s->seq = c->next_seq++;
	s->ts_ms = clock_realtime_us() / 1000;
	s->first_sent_us = clock_monotonic_us();
	queue_publish(c, c->next_slot, 0);
	c->next_slot = (c->next_slot + 1) % c->options->window;
	c->in_flight++;
}

/* 1: goes on; 0: would block; -1: lost. */
static int tls_result(struct load_connection *c, int rc)
{
	int e = SSL_get_error(c->ssl, rc);

	if (e == SSL_ERROR_WANT_READ)
		return 0;
	if (e == SSL_ERROR_WANT_WRITE) {
		c->want_write = true;
		return 0;
	}
	return -1;
}

static int start_tls(struct load_connection *c)
{
	c->ssl = must(SSL_new(c->tls));
	SSL_set_fd(c->ssl, c->fd);
	SSL_set_connect_state(c->ssl);
	c->state = LOAD_HANDSHAKE;
	return 0;
}

static int finish_connecting(struct load_connection *c)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error)
		return -1;
	if (c->tls)
		return start_tls(c);
	c->state = LOAD_CONNACK;
	queue_connect(c);
	return 0;
}

static int handshake(struct load_connection *c)
{
	int rc = SSL_do_handshake(c->ssl);

	if (rc != 1)
		return tls_result(c, rc);
	c->state = LOAD_CONNACK;
	queue_connect(c);
	return 0;
}

/* Bytes moved; 0: would block; -1: lost. */
static ssize_t socket_write(struct load_connection *c, const void *data, size_t len)
{
	ssize_t n;

	if (c->ssl) {
		int rc = SSL_write(c->ssl, data, (int)len);

		return rc > 0 ? rc : tls_result(c, rc);
	}
	n = send(c->fd, data, len, MSG_NOSIGNAL);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		c->want_write = true;
		return 0;
	}
	return n;
}

static ssize_t socket_read(struct load_connection *c, void *data, size_t len)
{
	ssize_t n;

	if (c->ssl) {
		int rc = SSL_read(c->ssl, data, (int)len);

		return rc > 0 ? rc : tls_result(c, rc);
	}
	n = recv(c->fd, data, len, 0);
	if (n == 0)
		return -1;
	return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : n;
}

int load_connection_flush(struct load_connection *c)
{
	int rc = 0;

	c->want_write = false;
	if (c->state == LOAD_CONNECTING)
		rc = finish_connecting(c);
	if (rc == 0 && c->state == LOAD_HANDSHAKE)
		rc = handshake(c);
	while (rc == 0 && c->state >= LOAD_CONNACK && c->out.done < c->out.len) {
		ssize_t n = socket_write(c, c->out.data + c->out.done, c->out.len - c->out.done);

		if (n == 0)
			return 0;
		if (n < 0)
			rc = -1;
		else
			c->out.done += (size_t)n;
	}
	if (rc != 0)
		load_connection_lost(c);
	return rc;
}

static void take_puback(struct load_connection *c, unsigned packet_id)
{
	struct load_slot *s;

	if (packet_id < 1 || packet_id > c->options->window)
		return;
	s = &c->slots[packet_id - 1];
	if (!s->used)
		return;
	s->used = false;
	c->in_flight--;
	c->options->on_ack(c->device, s->seq, clock_monotonic_us() - s->first_sent_us);
}

static int take_packet(struct load_connection *c, const unsigned char *body, size_t len,
		       unsigned char type)
{
	if (type == PACKET_CONNACK && len >= 2) {
		if (body[1] != 0) {
			c->refused++;
			return -1;
		}
		c->state = LOAD_RUNNING;
		queue_again(c);
	} else if (type == PACKET_PUBACK && len >= 2) {
		take_puback(c, (unsigned)(body[0] << 8 | body[1]));
	}
	return 0;
}

/* 1: one packet taken; 0: incomplete; -1: lost. Only packets with one length byte are expected. */
static int take_next(struct load_connection *c)
{
	const unsigned char *p = c->in.data + c->in.done;
	size_t left = c->in.len - c->in.done;

	if (left < 2)
		return 0;
	if (p[1] > 127)
		return -1;
	if (left < 2U + p[1])
		return 0;
	c->in.done += 2U + p[1];
	return take_packet(c, p + 2, p[1], p[0] & 0xf0) == 0 ? 1 : -1;
}

int load_connection_readable(struct load_connection *c)
{
	if (c->state == LOAD_CONNECTING || c->state == LOAD_HANDSHAKE)
		return load_connection_flush(c);
	for (;;) {
		ssize_t n;
		int rc;

		reserve(&c->in, 16384);
		n = socket_read(c, c->in.data + c->in.len, 16384);
		if (n > 0)
			c->in.len += (size_t)n;
		while ((rc = take_next(c)) > 0)
			;
		if (n < 0 || rc < 0) {
			load_connection_lost(c);
			return -1;
		}
		if (n < 16384 && !(c->ssl && n > 0))
			return 0;
	}
}

void load_connection_goodbye(struct load_connection *c)
{
	if (c->state == LOAD_RUNNING) {
		put_head(&c->out, PACKET_DISCONNECT, 0);
		if (load_connection_flush(c) != 0)
			return;
	}
	close_socket(c);
}
