/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions in slots: the proof that Mbed TLS's serialised sessions look as blob.h says, and their
 * return after a restart.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coap-server/dtls/blob.h"
#include "coap-server/dtls/internal.h"
#include "core/base/clock.h"
#include "core/base/log.h"

/* --- The proof: two contexts of our own shake hands over a buffer each --- */

enum { TEST_BUFFER = 2048, TEST_STEPS = 32 };

static const int test_suites[] = {MBEDTLS_TLS_PSK_WITH_AES_128_CCM_8, 0};
static const unsigned char test_psk[16] = "layout self-test", test_identity[] = "t";

struct test_peer {
	mbedtls_ssl_context ssl;
	mbedtls_ssl_config conf;
	struct test_peer *other;
	uint8_t in[TEST_BUFFER], last[TEST_BUFFER]; /* last: the datagram that it sent last */
	size_t in_len;
};

static int test_send(void *arg, const unsigned char *bytes, size_t len)
{
	struct test_peer *p = arg;
	size_t at = p->other->in_len;

	if (len > sizeof(p->last) || at + len > sizeof(p->other->in))
		return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
	memcpy(p->last, bytes, len);
	memcpy(p->other->in + at, bytes, len); /* several datagrams make one */
	p->other->in_len += len;
	return (int)len;
}

static int test_receive(void *arg, unsigned char *bytes, size_t size)
{
	struct test_peer *p = arg;
	size_t len = p->in_len;

	if (len == 0 || len > size)
		return MBEDTLS_ERR_SSL_WANT_READ;
	memcpy(bytes, p->in, len);
	p->in_len = 0;
	return (int)len;
}

static void test_set_timer(void *arg, uint32_t intermediate_ms, uint32_t final_ms)
{
	(void)arg, (void)intermediate_ms, (void)final_ms;
}

static int test_get_timer(void *arg)
{
	(void)arg;
	return 0;
}

static void test_attach(struct test_peer *p, mbedtls_ssl_context *ssl)
{
	mbedtls_ssl_set_bio(ssl, p, test_send, test_receive, NULL);
	mbedtls_ssl_set_timer_cb(ssl, p, test_set_timer, test_get_timer);
}

static int test_set_up(struct test_peer *p, int endpoint)
{
	static const unsigned char cid[DTLS_CID_LEN] = {1};

	if (mbedtls_ssl_config_defaults(&p->conf, endpoint, MBEDTLS_SSL_TRANSPORT_DATAGRAM,
					MBEDTLS_SSL_PRESET_DEFAULT) != 0)
		return -1;
	mbedtls_ssl_conf_rng(&p->conf, dtls_config_random, NULL);
	mbedtls_ssl_conf_ciphersuites(&p->conf, test_suites);
	mbedtls_ssl_conf_dtls_cookies(&p->conf, NULL, NULL, NULL);
	if (mbedtls_ssl_conf_cid(&p->conf, sizeof(cid), MBEDTLS_SSL_UNEXPECTED_CID_IGNORE) != 0 ||
	    mbedtls_ssl_conf_psk(&p->conf, test_psk, sizeof(test_psk), test_identity, 1) != 0 ||
	    mbedtls_ssl_setup(&p->ssl, &p->conf) != 0 ||
	    mbedtls_ssl_set_cid(&p->ssl, MBEDTLS_SSL_CID_ENABLED, cid, sizeof(cid)) != 0)
		return -1;
	test_attach(p, &p->ssl);
	return 0;
}

static int test_shake_hands(struct test_peer *server, struct test_peer *client)
{
	for (int i = 0; i < TEST_STEPS; i++) {
		int a = mbedtls_ssl_handshake(&client->ssl),
		    b = mbedtls_ssl_handshake(&server->ssl);

		if (a == 0 && b == 0)
			return 0;
		if ((a != 0 && a != MBEDTLS_ERR_SSL_WANT_READ) ||
		    (b != 0 && b != MBEDTLS_ERR_SSL_WANT_READ))
			return -1;
	}
	return -1;
}

/* One message from a to b; does b take it? */
static bool test_message(struct test_peer *a, mbedtls_ssl_context *a_ssl,
			 mbedtls_ssl_context *b_ssl)
{
	unsigned char byte = 'x', got[8];

	return mbedtls_ssl_write(a_ssl, &byte, 1) == 1 && a->other->in_len > 0 &&
	       mbedtls_ssl_read(b_ssl, got, sizeof(got)) == 1;
}

/* The counters in the blob are those of the records that went over; changed ones are obeyed. */
static int test_blob(struct test_peer *server, struct test_peer *client)
{
	const uint64_t jump = 1000;
	struct blob_counters c;
	struct record r;
	mbedtls_ssl_context woken;
	uint8_t blob[SLOT_BLOB_MAX], again[TEST_BUFFER];
	size_t len, again_len;
	bool good = false;

	if (!test_message(client, &client->ssl, &server->ssl) ||
	    dtls_record_parse(&r, client->last, TEST_BUFFER) != 0 ||
	    mbedtls_ssl_context_save(&server->ssl, blob, sizeof(blob), &len) != 0 ||
	    blob_counters(blob, len, &c) != 0)
		return -1;
	if (c.top != (r.number & RECORD_SEQUENCE_MASK) || !(c.window & 1) || c.out >> 48 != 1)
		return -1;
	memcpy(again, client->last, TEST_BUFFER);
	again_len = r.len;

	mbedtls_ssl_init(&woken);
	c.out += jump;
	blob_received(&c, r.number + jump);
	if (mbedtls_ssl_setup(&woken, &server->conf) != 0 || blob_patch(blob, len, &c) != 0)
		goto out;
	test_attach(server, &woken);
	if (mbedtls_ssl_context_load(&woken, blob, len) != 0)
		goto out;
	/* The next records from here have the number that the blob said, those from there are too
	 * old by what it says of the window. */
	good = test_message(server, &woken, &client->ssl) &&
	       dtls_record_parse(&r, server->last, TEST_BUFFER) == 0 && r.number == c.out &&
	       !test_message(client, &client->ssl, &woken);
	memcpy(server->in, again, again_len);
	server->in_len = again_len;
	good = good && mbedtls_ssl_read(&woken, again, sizeof(again)) == MBEDTLS_ERR_SSL_WANT_READ;
out:
	mbedtls_ssl_free(&woken);
	explicit_bzero(blob, sizeof(blob));
	return good ? 0 : -1;
}

static void test_free(struct test_peer *p)
{
	mbedtls_ssl_free(&p->ssl);
	mbedtls_ssl_config_free(&p->conf);
}

int persist_self_test(char *err, size_t err_len)
{
	struct test_peer *p = calloc(2, sizeof(*p));
	int rc = -1;

	if (!p) {
		snprintf(err, err_len, "no memory");
		return -1;
	}
	for (int i = 0; i < 2; i++) {
		p[i].other = &p[1 - i];
		mbedtls_ssl_init(&p[i].ssl);
		mbedtls_ssl_config_init(&p[i].conf);
	}
	if (test_set_up(&p[0], MBEDTLS_SSL_IS_SERVER) == 0 &&
	    test_set_up(&p[1], MBEDTLS_SSL_IS_CLIENT) == 0 && test_shake_hands(&p[0], &p[1]) == 0)
		rc = test_blob(&p[0], &p[1]);
	test_free(&p[0]);
	test_free(&p[1]);
	free(p);
	if (rc != 0)
		snprintf(err, err_len,
			 "coap.sessions_dir: this Mbed TLS does not save sessions as expected, so "
			 "they cannot survive a restart safely; use the version that deps/ builds, "
			 "or take coap.sessions_dir out");
	return rc;
}

/* --- Sessions --- */

void persist_put(struct dtls_session *s, const uint8_t *blob, size_t len)
{
	struct slot_content c = {
		.id = s->id,
		.has_cid = s->has_cid,
		.opened_us = s->opened_us,
		.last_us = s->last_us,
		.address = s->address,
		.identity = s->identity,
		.blob_len = len,
	};

	memcpy(c.cid, s->cid, sizeof(c.cid));
	memcpy(c.blob, blob, len);
	slots_put(s->endpoint->slots, s->slot, &c);
	explicit_bzero(&c, sizeof(c));
}

struct restoring {
	struct dtls_endpoint *endpoint;
	bool no_memory;
};

static void restore_one(void *arg, uint32_t slot, const struct slot_content *c)
{
	struct restoring *r = arg;
	struct dtls_endpoint *e = r->endpoint;
	struct dtls_session *s;

	if (r->no_memory)
		return;
	if (dtls_session_by_cid(e, c->cid)) {
		slots_drop(e->slots, slot);
		e->stats.slots_damaged++;
		return;
	}
	s = dtls_session_restore(e, c);
	if (!s) {
		r->no_memory = true;
		return;
	}
	s->slot = slot;
	if (c->id >= e->next_id && (c->id ^ e->next_id) >> ID_WORKER_SHIFT == 0)
		e->next_id = c->id + 1;
	e->stats.restored++;
}

int persist_restore(struct dtls_endpoint *e, char *err, size_t err_len)
{
	struct restoring r = {.endpoint = e};
	size_t damaged = 0;

	e->stats.slots_lacked = slots_lacked(e->slots);
	slots_restore(e->slots, restore_one, &r, &damaged);
	e->stats.slots_damaged += damaged;
	if (r.no_memory) {
		snprintf(err, err_len, "no memory for the %zu sessions in %s", e->stats.sessions,
			 e->options.slots_path);
		return -1;
	}
	if (e->stats.restored > 0 || e->stats.slots_damaged > 0)
		log_info("dtls_sessions_restored", NULL,
			 "%s: %llu sessions go on where they were%s", e->options.slots_path,
			 (unsigned long long)e->stats.restored,
			 e->stats.slots_damaged
				 ? "; some were damaged, those devices shake hands again"
				 : "");
	return 0;
}
