/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Session tickets (RFC 5077), for devices without Connection ID. A ticket is
 *
 *     key's name (8) | nonce (12) | AES-256-GCM of: when issued (8), extended master secret (1),
 *     identity, Mbed TLS's session | tag (16)
 *
 * with the name as associated data. Keys are in memory only; one seals for as long as a ticket is
 * good, and opens for as long again. Who resumes is who the ticket says, if the caller still lets
 * him in; the Connection ID is negotiated anew. The caller is asked last, when nothing else can
 * refuse it.
 */
#include <endian.h>
#include <mbedtls/gcm.h>
#include <stdlib.h>
#include <string.h>

#include "coap-server/dtls/internal.h"
#include "core/base/clock.h"

enum {
	KEY_LEN = 32,
	NAME_LEN = 8,
	NONCE_LEN = 12,
	TAG_LEN = 16,
	OVERHEAD = NAME_LEN + NONCE_LEN + TAG_LEN,
	KEYS = 2, /* the one that seals, the one before */
};

struct ticket_key {
	uint8_t name[NAME_LEN];
	uint8_t key[KEY_LEN];
	int64_t made_us; /* 0: none */
};

struct tickets {
	int64_t lifetime_us;
	struct ticket_key key[KEYS];
};

/* In front of Mbed TLS's session. No padding. */
struct ticket_head {
	int64_t issued_us; /* wall clock: it must not stop with the machine */
	struct dtls_identity who;
	uint8_t extended_master_secret;
} __attribute__((packed));

struct tickets *tickets_new(int64_t lifetime_us)
{
	struct tickets *t = calloc(1, sizeof(*t));

	if (t)
		t->lifetime_us = lifetime_us;
	return t;
}

void tickets_free(struct tickets *t)
{
	if (!t)
		return;
	explicit_bzero(t, sizeof(*t));
	free(t);
}

static void rotate(struct tickets *t, int64_t now_us)
{
	struct ticket_key *k = &t->key[0];

	if (k->made_us && now_us - k->made_us < t->lifetime_us && now_us >= k->made_us)
		return;
	t->key[1] = *k;
	random_bytes(k->name, sizeof(k->name));
	random_bytes(k->key, sizeof(k->key));
	k->made_us = now_us;
}

static const struct ticket_key *key_named(const struct tickets *t, const uint8_t *name)
{
	for (size_t i = 0; i < KEYS; i++)
		if (t->key[i].made_us && memcmp(t->key[i].name, name, NAME_LEN) == 0)
			return &t->key[i];
	return NULL;
}

static int seal(const struct ticket_key *k, uint8_t *ticket, size_t len)
{
	uint8_t *nonce = ticket + NAME_LEN, *text = nonce + NONCE_LEN;
	mbedtls_gcm_context gcm;
	int ret;

	memcpy(ticket, k->name, NAME_LEN);
	random_bytes(nonce, NONCE_LEN);
	mbedtls_gcm_init(&gcm);
	ret = mbedtls_gcm_setkey(&gcm, MBEDTLS_CIPHER_ID_AES, k->key, 8 * KEY_LEN);
	if (ret == 0)
		ret = mbedtls_gcm_crypt_and_tag(&gcm, MBEDTLS_GCM_ENCRYPT, len, nonce, NONCE_LEN,
						ticket, NAME_LEN, text, text, TAG_LEN, text + len);
	mbedtls_gcm_free(&gcm);
	return ret;
}

static int unseal(const struct ticket_key *k, uint8_t *ticket, size_t len)
{
	uint8_t *nonce = ticket + NAME_LEN, *text = nonce + NONCE_LEN;
	mbedtls_gcm_context gcm;
	int ret;

	mbedtls_gcm_init(&gcm);
	ret = mbedtls_gcm_setkey(&gcm, MBEDTLS_CIPHER_ID_AES, k->key, 8 * KEY_LEN);
	if (ret == 0)
		ret = mbedtls_gcm_auth_decrypt(&gcm, len, nonce, NONCE_LEN, ticket, NAME_LEN,
					       text + len, TAG_LEN, text, text);
	mbedtls_gcm_free(&gcm);
	return ret == 0 ? 0 : MBEDTLS_ERR_SSL_INVALID_MAC;
}

int tickets_write(void *p, const mbedtls_ssl_session *session, unsigned char *start,
		  const unsigned char *end, size_t *len, uint32_t *lifetime_s)
{
	struct dtls_endpoint *e = p;
	const struct handshake *h = e->shaking->context->handshake;
	struct ticket_head head = {.issued_us = clock_realtime_us(), .who = h->who};
	uint8_t *text = start + NAME_LEN + NONCE_LEN;
	size_t session_len;
	int ret;

	*lifetime_s = (uint32_t)(e->tickets->lifetime_us / US_PER_S);
	if ((size_t)(end - start) < OVERHEAD + sizeof(head))
		return MBEDTLS_ERR_SSL_BUFFER_TOO_SMALL;
	head.extended_master_secret = h->extended_master_secret;
	memcpy(text, &head, sizeof(head));
	ret = mbedtls_ssl_session_save(session, text + sizeof(head),
				       (size_t)(end - start) - OVERHEAD - sizeof(head),
				       &session_len);
	if (ret != 0)
		return ret;
	rotate(e->tickets, clock_realtime_us());
	*len = OVERHEAD + sizeof(head) + session_len;
	return seal(&e->tickets->key[0], start, *len - OVERHEAD);
}

/* A session that had an extended master secret is not resumed without, nor the other way round (RFC
 * 7627 section 5.3). */
static int accept_ticket(struct dtls_endpoint *e, const struct ticket_head *head,
			 const uint8_t *session, size_t len, mbedtls_ssl_session *out)
{
	struct handshake *h = e->shaking->context->handshake;
	int64_t age_us = clock_realtime_us() - head->issued_us;
	struct dtls_identity who = head->who;
	int ret;

	if (age_us < 0 || age_us > e->tickets->lifetime_us)
		return MBEDTLS_ERR_SSL_SESSION_TICKET_EXPIRED;
	if (head->extended_master_secret != h->extended_master_secret)
		return MBEDTLS_ERR_SSL_BAD_INPUT_DATA;
	ret = mbedtls_ssl_session_load(out, session, len);
	if (ret != 0)
		return ret;
	/* The deadline in it is of this process's clock, as its key is. */
	if (dtls_identity_proven(&who) &&
	    (dtls_identity_expired(&who) || !e->callbacks.resumed(e->callbacks.arg, &who)))
		return MBEDTLS_ERR_SSL_BAD_INPUT_DATA;
	h->who = who;
	h->resumed = true;
	return 0;
}

int tickets_parse(void *p, mbedtls_ssl_session *session, unsigned char *bytes, size_t len)
{
	struct dtls_endpoint *e = p;
	const struct ticket_key *k;
	struct ticket_head head;
	uint8_t *text = bytes + NAME_LEN + NONCE_LEN;
	int ret;

	if (len < OVERHEAD + sizeof(head))
		return MBEDTLS_ERR_SSL_BAD_INPUT_DATA;
	k = key_named(e->tickets, bytes);
	if (!k)
		return MBEDTLS_ERR_SSL_SESSION_TICKET_EXPIRED;
	ret = unseal(k, bytes, len - OVERHEAD);
	if (ret != 0)
		return ret;
	memcpy(&head, text, sizeof(head));
	ret = accept_ticket(e, &head, text + sizeof(head), len - OVERHEAD - sizeof(head), session);
	explicit_bzero(text, len - OVERHEAD);
	return ret;
}
