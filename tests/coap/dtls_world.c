/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <mbedtls/ssl_ciphersuites.h>
#include <mbedtls/x509_crt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coap-server/dtls/internal.h"
#include "tests/coap/dtls_world.h"
#include "tests/coap/world_pki.h"

static int64_t now_us;

int64_t world_now_us(void)
{
	return now_us;
}

struct address world_address(uint16_t port)
{
	struct address a = {.port = htons(port)};
	static const uint8_t ip[16] = {[10] = 0xff, [11] = 0xff, [12] = 192, [14] = 2, [15] = 1};

	memcpy(a.ip, ip, sizeof(a.ip));
	return a;
}

/* --- The network --- */

/* A nonce is the record's number: none is used twice. */
static void check_numbers(struct world_client *c, const uint8_t *data, size_t len)
{
	struct record r;

	for (; len > 0 && dtls_record_parse(&r, data, len) == 0; data += r.len, len -= r.len) {
		if (r.epoch == 0)
			continue;
		for (size_t i = 0; i < c->number_count; i++)
			if (c->numbers[i] == r.number)
				fail_msg("record number %llx was used twice",
					 (unsigned long long)r.number);
		if (c->number_count == c->number_size) {
			c->number_size = c->number_size ? 2 * c->number_size : 16;
			c->numbers = reallocarray(c->numbers, c->number_size, sizeof(uint64_t));
			assert_non_null(c->numbers);
		}
		c->numbers[c->number_count++] = r.number;
	}
}

static void from_endpoint(void *arg, const struct address *to, const uint8_t *data, size_t len)
{
	struct world *w = arg;

	w->out_count++;
	memcpy(w->out_last.bytes, data, len);
	w->out_last.len = len;
	w->out_bytes += len;
	if (len > w->out_longest)
		w->out_longest = len;
	for (size_t i = 0; i < w->client_count; i++) {
		struct world_client *c = w->client[i];

		if (!c || !address_equal(&c->address, to))
			continue;
		if (!c->shares_address)
			check_numbers(c, data, len);
		c->received++;
		if (!w->passes || w->passes(w, c, false, data, len))
			dtls_peer_deliver(c->peer, data, len);
		return;
	}
	w->unaddressed++;
}

static void from_client(void *arg, const uint8_t *data, size_t len)
{
	struct world_client *c = arg;
	struct world *w = c->world;
	struct world_datagram *d = &c->kept[c->sent++ % WORLD_KEPT];

	assert_true(len <= sizeof(d->bytes));
	memcpy(d->bytes, data, len);
	d->len = len;
	if (!c->mute && (!w->passes || w->passes(w, c, true, data, len)))
		world_inject(w, &c->address, data, len);
}

void world_inject(struct world *w, const struct address *from, const uint8_t *data, size_t len)
{
	/* What is read beyond it is found by the address sanitizer. */
	uint8_t *copy = malloc(len);

	assert_non_null(copy);
	memcpy(copy, data, len);
	dtls_receive(w->endpoint, from, copy, len);
	free(copy);
}

const struct world_datagram *world_sent(const struct world_client *c, size_t ago)
{
	assert_true(ago < c->sent && ago < WORLD_KEPT);
	return &c->kept[(c->sent - 1 - ago) % WORLD_KEPT];
}

/* --- What the endpoint asks and says --- */

static int psk(void *arg, const struct address *from, const uint8_t *identity, size_t len,
	       struct dtls_identity *who, uint8_t key[DTLS_PSK_MAX], size_t *key_len)
{
	const struct world *w = arg;

	(void)from;
	if (w->refuse_psk || len != strlen(WORLD_PSK_IDENTITY) ||
	    memcmp(identity, WORLD_PSK_IDENTITY, len) != 0)
		return -1;
	snprintf(who->id, sizeof(who->id), "%s", WORLD_PSK_IDENTITY);
	who->kind = CREDENTIAL_PSK;
	dtls_identity_limit(who, w->valid_for_s);
	*key_len = strlen(WORLD_PSK);
	memcpy(key, WORLD_PSK, *key_len);
	return 0;
}

static int certificate(void *arg, const struct address *from, const uint8_t *der, size_t len,
		       struct dtls_identity *who)
{
	struct world *w = arg;

	(void)from;
	w->certificate_asked++;
	if (w->refuse_certificate || !memmem(der, len, "device-crt", 10))
		return -1;
	snprintf(who->id, sizeof(who->id), "device-crt");
	who->kind = CREDENTIAL_X509;
	dtls_identity_limit(who, w->valid_for_s);
	return 0;
}

static bool resumed(void *arg, struct dtls_identity *who)
{
	struct world *w = arg;

	w->resumed_asked++;
	w->resumed_who = *who;
	return !w->refuse_resumed;
}

static void opened(void *arg, struct dtls_session *s)
{
	struct world *w = arg;

	w->opened = s;
	w->opened_count++;
}

static void data(void *arg, struct dtls_session *s, const uint8_t *bytes, size_t len)
{
	struct world *w = arg;

	assert_true(len < sizeof(w->text));
	w->data_count++;
	w->spoke = s;
	memcpy(w->text, bytes, len);
	w->text[len] = '\0';
	if (w->on_data)
		w->on_data(w, s);
	else if (w->echo)
		assert_int_equal(dtls_send(s, bytes, len), 0);
}

static void closed(void *arg, struct dtls_session *s, const char *reason)
{
	struct world *w = arg;

	w->closed_count++;
	snprintf(w->reason, sizeof(w->reason), "%s", reason);
	if (w->opened == s)
		w->opened = NULL;
	if (w->spoke == s)
		w->spoke = NULL;
}

/* --- The world --- */

static void no_log(enum log_level level, const char *line, void *arg)
{
	(void)arg;
	if (getenv("WORLD_LOG"))
		fprintf(stderr, "%d %s\n", (int)level, line);
}

const char *world_file(const char *name)
{
	return world_pki_file(name);
}

int world_setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	if (!w)
		return -1;
	log_set_sink(no_log, NULL);
	if (now_us == 0)
		now_us = 1000 * US_PER_S;
	clock_override(NULL, world_now_us);
	w->next_port = 40000;
	w->echo = true;
	w->valid_for_s = INT64_MAX;
	w->options = (struct dtls_options){
		.suites = "ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES128-CCM8 "
			  "ECDHE-PSK-CHACHA20-POLY1305 PSK-AES128-CCM8 PSK-AES128-GCM-SHA256",
		.certificate_file = world_file("server.pem"),
		.key_file = world_file("server.key"),
		.client_ca_file = world_file("ca.pem"),
		.connection_id = true,
		.resumption = true,
		.ticket_lifetime_us = US_PER_DAY,
		.max_sessions = 10000,
		.max_handshakes = 1000,
		.live_contexts = 1000,
		.handshake_timeout_us = 60 * US_PER_S,
		.silent_timeout_us = 30 * US_PER_S,
		.anonymous_timeout_us = 60 * US_PER_S,
		.idle_us = 30 * US_PER_DAY,
		.idle_without_cid_us = 3600 * US_PER_S,
		.lifetime_us = 365 * US_PER_DAY,
		.worker = 7,
		.user_size = 16,
	};
	w->callbacks = (struct dtls_callbacks){
		.arg = w,
		.send = from_endpoint,
		.psk = psk,
		.certificate = certificate,
		.resumed = resumed,
		.opened = opened,
		.data = data,
		.closed = closed,
	};
	*state = w;
	return 0;
}

int world_teardown(void **state)
{
	struct world *w = *state;

	w->passes = NULL; /* its arg was the test's */
	dtls_close(w->endpoint);
	for (size_t i = 0; i < w->client_count; i++)
		world_client_free(w->client[i]);
	free(w);
	clock_override(NULL, NULL);
	return 0;
}

void world_open(struct world *w)
{
	char err[512] = "";

	if (dtls_open(&w->endpoint, &w->options, &w->callbacks, err, sizeof(err)) != 0)
		fail_msg("dtls_open: %s", err);
}

static void to_nobody(void *arg, const struct address *to, const uint8_t *data, size_t len)
{
	(void)arg, (void)to, (void)data, (void)len;
}

static void forget_slot(void *arg, struct dtls_session *s)
{
	(void)arg;
	s->slot = 0;
	s->parkable = false;
}

void world_crash(struct world *w)
{
	struct dtls_endpoint *e = w->endpoint;
	uint64_t cursor = 0;

	e->callbacks.send = to_nobody;
	do {
		dtls_walk(e, &cursor, 1000, forget_slot, NULL);
	} while (cursor != 0);
	slots_close(e->slots);
	e->slots = NULL;
	dtls_close(e);
	w->endpoint = NULL;
	w->opened = w->spoke = NULL;
}

void world_stats(const struct world *w, struct dtls_stats *out)
{
	dtls_stats(w->endpoint, out);
}

void world_wait_clock(int64_t us)
{
	now_us += us;
}

void world_wait(struct world *w, int64_t us)
{
	now_us += us;
	dtls_tick(w->endpoint);
}

/* --- Clients --- */

void world_client_options(const struct world *w, enum world_kind kind, bool connection_id,
			  struct dtls_peer_options *o)
{
	static const int certificate_suites[] = {MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
						 0};
	static const int psk_suites[] = {MBEDTLS_TLS_PSK_WITH_AES_128_CCM_8, 0};

	(void)w;
	*o = (struct dtls_peer_options){
		.suites = kind == WORLD_PSK_CLIENT ? psk_suites : certificate_suites,
		.connection_id = connection_id,
	};
	if (kind == WORLD_PSK_CLIENT) {
		o->psk_identity = WORLD_PSK_IDENTITY;
		o->psk = WORLD_PSK;
		o->psk_len = strlen(WORLD_PSK);
		return;
	}
	o->ca_file = world_file("ca.pem");
	if (kind == WORLD_CLIENT_CERTIFICATE) {
		o->certificate_file = world_file("device.pem");
		o->key_file = world_file("device.key");
	}
}

struct world_client *world_client_with(struct world *w, const struct dtls_peer_options *o)
{
	struct world_client *c = calloc(1, sizeof(*c));
	size_t place = 0;

	assert_non_null(c);
	while (place < w->client_count && w->client[place])
		place++;
	assert_true(place < WORLD_CLIENTS);
	c->world = w;
	c->options = *o;
	c->options.send = from_client;
	c->options.arg = c;
	c->peer = dtls_peer_new(&c->options);
	c->address = world_address(w->next_port++);
	w->client[place] = c;
	if (place == w->client_count)
		w->client_count++;
	return c;
}

struct world_client *world_client(struct world *w, enum world_kind kind, bool connection_id)
{
	struct dtls_peer_options o;

	world_client_options(w, kind, connection_id, &o);
	return world_client_with(w, &o);
}

void world_client_free(struct world_client *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->world->client_count; i++)
		if (c->world->client[i] == c)
			c->world->client[i] = NULL;
	dtls_peer_free(c->peer);
	free(c->numbers);
	free(c);
}

void world_client_again(struct world_client *c)
{
	dtls_peer_free(c->peer);
	c->peer = dtls_peer_new(&c->options);
	c->number_count = 0;
}

void world_client_move(struct world_client *c)
{
	c->address = world_address(c->world->next_port++);
}

int world_handshake(struct world_client *c)
{
	size_t sent, received;
	int ret;

	do {
		sent = c->sent;
		received = c->received;
		ret = dtls_peer_handshake(c->peer);
	} while (ret == MBEDTLS_ERR_SSL_WANT_READ && (sent != c->sent || received != c->received));
	return ret;
}

int world_handshake_for(struct world_client *c, unsigned rounds)
{
	int ret = world_handshake(c);

	for (unsigned i = 0; i < rounds && ret == MBEDTLS_ERR_SSL_WANT_READ; i++) {
		world_wait(c->world, US_PER_S);
		ret = world_handshake(c);
	}
	return ret;
}

struct world_client *world_connect(struct world *w, enum world_kind kind, bool connection_id)
{
	struct world_client *c = world_client(w, kind, connection_id);
	int ret = world_handshake(c);

	if (ret != 0)
		fail_msg("handshake: -0x%x", (unsigned)-ret);
	return c;
}

void world_say(struct world_client *c, const char *text)
{
	assert_int_equal(dtls_peer_write(c->peer, text, strlen(text)), strlen(text));
}

const char *world_heard(struct world_client *c)
{
	static char text[DTLS_PEER_DATAGRAM_MAX];
	int len = dtls_peer_read(c->peer, text, sizeof(text) - 1);

	if (len <= 0)
		len = 0;
	text[len] = '\0';
	return text;
}

void world_check_echo(struct world_client *c, const char *text)
{
	world_say(c, text);
	assert_string_equal(world_heard(c), text);
}
