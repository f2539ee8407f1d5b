/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mbed TLS contexts (12 kB each) are lent to sessions that need one now. Mbed TLS can only
 * serialise a session and reset its context in one step (mbedtls_ssl_context_save), so a context
 * that was parked is ready for the next session. Nothing is allocated when a session is parked: the
 * blob has its place since the session's first application record.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "coap-server/dtls/blob.h"
#include "coap-server/dtls/internal.h"
#include "core/base/clock.h"
#include "core/base/log.h"

enum {
	POOL_MAX = 64,
	/* IPv6's least MTU (RFC 8200 section 5) without the headers of IP and UDP: flights are cut
	 * to it; application data never is. */
	HANDSHAKE_MTU = 1280 - 40 - 8,
};

/* --- Lists --- */

void dtls_list_init(struct list *l)
{
	l->prev = l->next = l;
}

bool dtls_list_empty(const struct list *l)
{
	return l->next == l;
}

static void list_remove(struct list *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	dtls_list_init(l);
}

static void list_append(struct list *head, struct list *l)
{
	l->prev = head->prev;
	l->next = head;
	head->prev->next = l;
	head->prev = l;
}

static struct context *first_of(struct list *head)
{
	/* list is the first member */
	return dtls_list_empty(head) ? NULL : (struct context *)(void *)head->next;
}

void dtls_context_move(struct context *c, struct list *to)
{
	list_remove(&c->list);
	list_append(to, &c->list);
}

/* --- Mbed TLS's input and output --- */

/*
 * The slot is ahead of what was sent, always: a nonce used twice is the end of AES-GCM (RFC 5288
 * section 3). A session with slot has no flights to send: one call is one record.
 */
static void note_number(const struct dtls_session *s, const uint8_t *record, size_t len)
{
	uint64_t number = 0;

	if (!s->slot || len < RECORD_HEADER_LEN)
		return;
	for (size_t i = 0; i < 8; i++)
		number = number << 8 | record[3 + i];
	slots_set_out(s->endpoint->slots, s->slot, number + 1);
}

static int bio_send(void *arg, const unsigned char *bytes, size_t len)
{
	struct context *c = arg;
	struct dtls_session *s = c->session;
	const struct dtls_callbacks *cb = &c->endpoint->callbacks;

	note_number(s, bytes, len);
	c->sent++;
	cb->send(cb->arg, &s->address, bytes, len);
	return (int)len;
}

static int bio_receive(void *arg, unsigned char *bytes, size_t size)
{
	struct context *c = arg;
	size_t len = c->in_len < size ? c->in_len : size;

	if (!c->in)
		return MBEDTLS_ERR_SSL_WANT_READ;
	memcpy(bytes, c->in, len);
	c->in = NULL;
	return (int)len;
}

/* --- The pool --- */

static void context_free(struct context *c)
{
	list_remove(&c->list);
	dtls_handshake_free(c->handshake);
	mbedtls_ssl_free(&c->ssl);
	dtls_config_release(c->config);
	free(c);
}

static struct context *context_new(struct dtls_endpoint *e)
{
	struct context *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	dtls_list_init(&c->list);
	c->endpoint = e;
	c->config = dtls_config_retain(e->config);
	mbedtls_ssl_init(&c->ssl);
	if (mbedtls_ssl_setup(&c->ssl, &c->config->ssl) != 0) {
		context_free(c);
		return NULL;
	}
	mbedtls_ssl_set_bio(&c->ssl, c, bio_send, bio_receive, NULL);
	mbedtls_ssl_set_timer_cb(&c->ssl, c, dtls_handshake_set_timer, dtls_handshake_get_timer);
	mbedtls_ssl_set_user_data_p(&c->ssl, c);
	mbedtls_ssl_set_verify(&c->ssl, dtls_certificate_verify, c);
	if (e->keylog)
		mbedtls_ssl_set_export_keys_cb(&c->ssl, dtls_handshake_export, c);
	return c;
}

struct context *dtls_context_get(struct dtls_endpoint *e)
{
	struct context *c = first_of(&e->pool);

	if (!c) {
		c = context_new(e);
		if (!c)
			return NULL;
	} else {
		list_remove(&c->list);
		e->pool_count--;
	}
	mbedtls_ssl_set_mtu(&c->ssl, HANDSHAKE_MTU);
	return c;
}

/* Mbed TLS has reset it. */
static void pool_put(struct context *c)
{
	struct dtls_endpoint *e = c->endpoint;

	dtls_handshake_free(c->handshake);
	c->handshake = NULL;
	c->session = NULL;
	c->in = NULL;
	if (e->pool_count >= POOL_MAX || c->config != e->config) {
		context_free(c);
		return;
	}
	dtls_context_move(c, &e->pool);
	e->pool_count++;
}

void dtls_context_put(struct context *c)
{
	if (!c)
		return;
	if (mbedtls_ssl_session_reset(&c->ssl) != 0)
		context_free(c);
	else
		pool_put(c);
}

void dtls_contexts_free(struct dtls_endpoint *e)
{
	struct list *l = e->pool.next, *next;

	for (; l != &e->pool; l = next) {
		next = l->next;
		context_free((struct context *)(void *)l);
	}
	e->pool_count = 0;
}

/* --- Sessions come and go --- */

static void no_memory(struct dtls_endpoint *e, const char *what)
{
	uint64_t suppressed;
	char note[RATE_LIMIT_NOTE_MAX];

	if (rate_limit_pass(&e->log.memory, 10 * US_PER_S, &suppressed))
		log_error("dtls_no_memory", NULL,
			  "no memory %s; lower coap.live_contexts or "
			  "coap.max_sessions%s",
			  what, rate_limit_note(note, suppressed));
}

/*
 * One context fewer in use. false: there is none that could go. Silent sessions go before those
 * that can never be parked: they have nothing to lose. But not `keep`, whose handshake is just
 * complete: without it, contexts that are never parked would lock everybody out. So whoever makes
 * silent sessions costs the others one context.
 */
static bool evict(struct dtls_endpoint *e, const struct context *keep)
{
	struct list *const order[] = {&e->parkable, &e->silent, &e->stuck};

	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		struct context *c = first_of(order[i]);

		if (!c || c == keep)
			continue;
		if (order[i] == &e->parkable && dtls_session_park(c->session) == 0)
			return true;
		dtls_session_end(c->session, true,
				 "it cannot be parked, and coap.live_contexts is "
				 "exceeded");
		return true;
	}
	return false;
}

void dtls_contexts_trim(struct dtls_endpoint *e, const struct context *keep)
{
	while (e->stats.live > e->options.live_contexts && evict(e, keep))
		;
}

static struct list *list_of(const struct dtls_session *s)
{
	struct dtls_endpoint *e = s->endpoint;

	if (!s->active)
		return &e->silent;
	return s->parkable ? &e->parkable : &e->stuck;
}

/* The blob of a parked session. Zero, or what is wrong with it for ever. */
static int load(struct dtls_session *s, struct context *c)
{
	struct slot_content slot;
	int ret = MBEDTLS_ERR_SSL_BAD_INPUT_DATA;

	if (s->kept && s->kept->parked) {
		ret = mbedtls_ssl_context_load(&c->ssl, s->kept->blob, s->kept->blob_len);
	} else if (s->slot && slots_get(s->endpoint->slots, s->slot, &slot)) {
		ret = mbedtls_ssl_context_load(&c->ssl, slot.blob, slot.blob_len);
		explicit_bzero(&slot, sizeof(slot));
	}
	if (ret == 0)
		mbedtls_ssl_set_mtu(&c->ssl, 0);
	return ret;
}

static bool out_of_memory(int ret)
{
	/* They come alone or added to a high-level code (mbedtls/error.h). */
	return ret == MBEDTLS_ERR_SSL_ALLOC_FAILED || ret == MBEDTLS_ERR_CIPHER_ALLOC_FAILED ||
	       ret == MBEDTLS_ERR_MD_ALLOC_FAILED;
}

int dtls_session_wake(struct dtls_session *s)
{
	struct dtls_endpoint *e = s->endpoint;
	struct context *c = s->context;
	int ret;

	if (c) {
		dtls_context_move(c, list_of(s));
		return 0;
	}
	while (e->stats.live >= e->options.live_contexts && evict(e, NULL))
		;
	c = dtls_context_get(e);
	if (!c) {
		no_memory(e, "to wake a session");
		return -ENOMEM;
	}
	c->session = s;
	ret = load(s, c);
	if (ret != 0) {
		/* Mbed TLS has freed what was in it. */
		context_free(c);
		if (!out_of_memory(ret))
			return -EIO;
		no_memory(e, "to wake a session");
		return -ENOMEM;
	}
	if (s->kept)
		s->kept->parked = false;
	s->context = c;
	dtls_context_move(c, list_of(s));
	e->stats.live++;
	e->stats.parked--;
	e->stats.woken_total++;
	return 0;
}

/*
 * Takes the session out of its context. When only the reset that follows has failed, for want of
 * memory, the blob is complete all the same.
 */
static int save(struct dtls_session *s, uint8_t *blob, size_t size, size_t *len)
{
	struct context *c = s->context;
	int ret;

	*len = 0;
	ret = mbedtls_ssl_context_save(&c->ssl, blob, size, len);
	if (ret != 0 && (*len == 0 || *len > size || ret == MBEDTLS_ERR_SSL_BUFFER_TOO_SMALL))
		return -EIO;
	s->context = NULL;
	s->endpoint->stats.live--;
	s->endpoint->stats.parked++;
	if (ret != 0) {
		context_free(c);
		return 0;
	}
	list_remove(&c->list);
	pool_put(c);
	return 0;
}

int dtls_session_park(struct dtls_session *s)
{
	uint8_t blob[SLOT_BLOB_MAX];
	size_t len;
	int rc;

	if (!s->context)
		return 0;
	if (!s->parkable)
		return -EINVAL;
	/* With a slot the blob is there, and its counters are newer than any blob's. */
	rc = save(s, blob, sizeof(blob), &len);
	if (rc == 0 && !s->slot) {
		if (len == s->kept->blob_len) {
			memcpy(s->kept->blob, blob, len);
			s->kept->parked = true;
		} else {
			rc = -EIO;
		}
	}
	explicit_bzero(blob, sizeof(blob));
	if (rc == 0)
		s->endpoint->stats.parked_total++;
	return rc;
}

/* Into a slot: Mbed TLS gives the blob only in exchange for the context, so it goes out and in. */
static int activate_in_slot(struct dtls_session *s)
{
	struct dtls_endpoint *e = s->endpoint;
	uint8_t blob[SLOT_BLOB_MAX];
	size_t len;
	int rc;

	rc = save(s, blob, sizeof(blob), &len);
	if (rc == 0) {
		persist_put(s, blob, len);
		s->parkable = true;
		rc = dtls_session_wake(s);
	}
	explicit_bzero(blob, sizeof(blob));
	if (rc)
		return rc;
	e->stats.woken_total--; /* that was not for a record */
	return 0;
}

int dtls_session_activate(struct dtls_session *s)
{
	struct dtls_endpoint *e = s->endpoint;
	size_t len = 0;
	bool aead;

	s->active = true;
	/* A size of 0 asks how long it would be, and whether it can be (AEAD suites only). */
	aead = mbedtls_ssl_context_save(&s->context->ssl, NULL, 0, &len) ==
		       MBEDTLS_ERR_SSL_BUFFER_TOO_SMALL &&
	       len > BLOB_TAIL_LEN && len <= SLOT_BLOB_MAX;
	if (aead && e->slots && !s->slot) {
		s->slot = slots_take(e->slots);
		if (s->slot)
			return activate_in_slot(s);
	}
	if (!aead)
		len = 0;
	s->kept = calloc(1, sizeof(*s->kept) + len);
	if (s->kept) {
		s->kept->blob_len = (uint16_t)len;
		s->parkable = aead;
	} else {
		no_memory(e, "to park a session later; it stays awake");
	}
	dtls_context_move(s->context, list_of(s));
	return 0;
}
