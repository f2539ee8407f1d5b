/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of the endpoint. A datagram goes through dispatch.c (which session is each record for)
 * to hello.c (a ClientHello: cookie, then a session), handshake.c (a session that shakes hands) or
 * session.c (one that is established). context.c lends Mbed TLS contexts to sessions.
 */
#ifndef FG_DTLS_INTERNAL_H
#define FG_DTLS_INTERNAL_H

#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_cookie.h>
#include <mbedtls/x509_crt.h>
#include <stdalign.h>

#include "coap-server/dtls/endpoint.h"
#include "coap-server/dtls/limits.h"
#include "coap-server/dtls/record.h"
#include "coap-server/dtls/slots.h"
#include "coap-server/dtls/table.h"
#include "coap-server/dtls/timers.h"
#include "core/base/rate_limit.h"

struct list {
	struct list *prev, *next;
};

/* --- Configuration, shared by the contexts that were made with it (config.c) --- */

#define SUITES_MAX	32
#define CHAIN_MAX	4 /* certificates of a client that are looked at */
#define ID_WORKER_SHIFT 56

struct dtls_config {
	size_t references;
	mbedtls_ssl_config ssl;
	mbedtls_x509_crt chain, client_ca;
	mbedtls_x509_crt *authorities; /* behind client_ca's last: see certificates.c */
	mbedtls_pk_context key;
	int suites[SUITES_MAX + 1];
	bool connection_id;
};

/* What is wrong, in err; NULL. One reference is the caller's. */
struct dtls_config *dtls_config_new(struct dtls_endpoint *e, const struct dtls_options *o,
				    char *err, size_t err_len);
struct dtls_config *dtls_config_retain(struct dtls_config *c);
void dtls_config_release(struct dtls_config *c);

/* mbedtls's random numbers. */
int dtls_config_random(void *arg, unsigned char *out, size_t len);

/* Suites of OpenSSL's names, best first, 0 behind them (suites.c). -1 with a message. */
int suites_parse(const char *names, bool legacy_cbc, bool certificate, bool psk,
		 int out[SUITES_MAX + 1], char *err, size_t err_len);

/* --- Contexts (context.c) --- */

struct context {
	struct list list; /* of the endpoint: one of its lists below */
	mbedtls_ssl_context ssl;
	struct dtls_config *config;
	struct dtls_endpoint *endpoint;
	struct dtls_session *session; /* NULL in the pool */
	struct handshake *handshake;  /* NULL once it is complete */
	const uint8_t *in;	      /* the one record that Mbed TLS may read now */
	size_t in_len;
	unsigned sent; /* datagrams */
};

/* What is needed until a handshake is complete. */
struct handshake {
	uint8_t random[HELLO_RANDOM_LEN]; /* ClientHello's, tells a repeated one from a new one */
	int64_t deadline_us, resend_us;	  /* resend_us: INT64_MAX if nothing waits for an answer */
	bool resend_now;
	bool extended_master_secret;
	bool resumed;
	bool psk_refused;
	const char *failure; /* known better than by Mbed TLS's error */
	bool told;	     /* the log knows already why it fails */
	bool alerted;	     /* and has heard of an alert in clear */
	struct dtls_identity who;
	uint8_t *certificate; /* the client's chain (DER), to be asked about when its key has
				 signed */
	size_t chain_len[CHAIN_MAX], chain_count; /* its own first */
	int64_t certificate_left_s;
	bool has_secret;
	uint8_t secret[48]; /* only with a key log */
};

/* --- Sessions (session.c) --- */

enum session_state {
	SESSION_HANDSHAKE,
	SESSION_ESTABLISHED,
	SESSION_ENDED,
};

/* What a session without slot keeps in memory, and one with slot there. */
struct kept {
	uint8_t note_len;
	bool parked; /* the blob is the session; else it is older than the context */
	uint16_t blob_len;
	uint8_t note[DTLS_NOTE_MAX];
	uint8_t blob[];
};

struct dtls_session {
	struct table_link by_cid, by_address;
	struct dtls_endpoint *endpoint;
	struct context *context; /* NULL: parked */
	struct kept *kept;	 /* NULL: in the slot, or nothing to keep yet */
	uint64_t id;
	int64_t opened_us, last_us;
	uint32_t slot;	/* 0: none */
	uint32_t timer; /* see timers.c */
	uint8_t cid[DTLS_CID_LEN];
	uint8_t state;	 /* enum session_state */
	bool has_cid;	 /* negotiated */
	bool active;	 /* it has sent application data */
	bool parkable;	 /* active, with an AEAD suite */
	bool in_address; /* is in the table of addresses */
	struct dtls_identity identity;
	struct address address;
	alignas(void *) uint8_t user[];
};

#define SESSION_OF(link, member)                                                                   \
	((struct dtls_session *)(void *)((char *)(link)-offsetof(struct dtls_session, member)))

struct dtls_endpoint {
	struct dtls_options options; /* strings are copies */
	struct dtls_callbacks callbacks;
	struct dtls_stats stats;
	struct dtls_config *config;
	struct table cids;	/* all sessions */
	struct table addresses; /* handshakes, and sessions that are found by address only */
	struct timers timers;
	/* Contexts: free ones; of handshakes, oldest first; of sessions, least recently used first:
	 * silent ones, ones that may be parked, and ones that never can. */
	struct list pool, handshakes, silent, parkable, stuck;
	size_t pool_count;
	struct dtls_session *ended; /* freed when the outermost callback has returned */
	unsigned depth;
	uint64_t next_id; /* its first byte is the worker's number */
	struct slots *slots;
	mbedtls_ssl_cookie_ctx cookie;
	struct dtls_session *shaking; /* Mbed TLS's ticket callbacks do not say whose it is */
	struct tickets *tickets;
	struct keylog *keylog;
	struct limits limits;
	int64_t swept_us;
	uint64_t sweep_cursor;
	struct {
		struct rate_limit failed, limited, full, alert, slots, memory, psk;
	} log;
	char why[CERTIFICATE_FAULT_TEXT_MAX + 32]; /* room for a handshake's failure */
	uint8_t plain[MBEDTLS_SSL_IN_CONTENT_LEN];
};

/* Frees what has ended, if no callback is running. */
void endpoint_enter(struct dtls_endpoint *e);
void endpoint_leave(struct dtls_endpoint *e);

/* context.c */
void dtls_list_init(struct list *l);
bool dtls_list_empty(const struct list *l);

/* NULL without memory. It is in no list. */
struct context *dtls_context_get(struct dtls_endpoint *e);
/* Into the pool or freed; whatever session was in it is gone. NULL is allowed. */
void dtls_context_put(struct context *c);
/* For lists of e above; counts. */
void dtls_context_move(struct context *c, struct list *to);
void dtls_contexts_free(struct dtls_endpoint *e);

/* context.c: a session's context is there, and is the most recently used; -ENOMEM: not now;
 * -EIO: never again. Others may be parked or ended for it. */
int dtls_session_wake(struct dtls_session *s);
/* Its first application record has come: from now on it may be parked. */
int dtls_session_activate(struct dtls_session *s);
int dtls_session_park(struct dtls_session *s);
/* Park or end until no more than live_contexts are in use; not keep, NULL is allowed. */
void dtls_contexts_trim(struct dtls_endpoint *e, const struct context *keep);

/* session.c */
struct dtls_session *dtls_session_new(struct dtls_endpoint *e, const struct address *from);
/* One that was in a slot, parked; NULL without memory. */
struct dtls_session *dtls_session_restore(struct dtls_endpoint *e, const struct slot_content *c);
struct dtls_session *dtls_session_by_cid(const struct dtls_endpoint *e, const uint8_t *cid);
struct dtls_session *dtls_session_by_address(const struct dtls_endpoint *e, const struct address *a,
					     enum session_state state);
void dtls_session_leave_address(struct dtls_session *s);
void dtls_session_end(struct dtls_session *s, bool notify, const char *reason);
void dtls_session_free_ended(struct dtls_endpoint *e);
/* The timer of an established session, by what it still has to show. */
void dtls_session_set_timer(struct dtls_session *s);
/* A record for it (epoch 1) from there. */
void dtls_session_record(struct dtls_session *s, const struct record *r,
			 const struct address *from);
uint64_t hash_cid(const struct table_link *link);
uint64_t hash_address(const struct table_link *link);

/* hello.c */
void dtls_hello_record(struct dtls_endpoint *e, const struct record *r, const struct address *from);

/* handshake.c */
void dtls_handshake_record(struct dtls_session *s, const struct record *r);
void dtls_handshake_timer(struct dtls_session *s, int64_t now_us);
void dtls_handshake_free(struct handshake *h);
/* For config.c */
int dtls_handshake_psk(void *arg, mbedtls_ssl_context *ssl, const unsigned char *identity,
		       size_t len);
/* For context.c, on contexts of which p is the struct context */
void dtls_handshake_export(void *p, mbedtls_ssl_key_export_type type, const unsigned char *secret,
			   size_t len, const unsigned char client_random[32],
			   const unsigned char server_random[32], mbedtls_tls_prf_types prf);
void dtls_handshake_set_timer(void *p, uint32_t intermediate_ms, uint32_t final_ms);
int dtls_handshake_get_timer(void *p);

/* certificates.c */
const mbedtls_x509_crt_profile *dtls_certificate_profile(void);
bool dtls_key_is_p256(const mbedtls_pk_context *pk);
void dtls_authorities_free(struct dtls_config *c);
/* Seconds until it expires, below 0 after that. */
int64_t dtls_certificate_left_s(const mbedtls_x509_crt *crt);
/* For context.c, as above. */
int dtls_certificate_verify(void *p, mbedtls_x509_crt *crt, int depth, uint32_t *flags);
/* After each step of a handshake: 0; or it ends with this error of Mbed TLS, and its failure or
 * told is set. */
int dtls_certificate_check(struct context *c);

/* dispatch.c */
void dtls_dispatch(struct dtls_endpoint *e, const struct address *from, const uint8_t *data,
		   size_t len);

/* tickets.c. NULL without memory. */
struct tickets *tickets_new(int64_t lifetime_us);
void tickets_free(struct tickets *t);
int tickets_write(void *p, const mbedtls_ssl_session *session, unsigned char *start,
		  const unsigned char *end, size_t *len, uint32_t *lifetime_s);
int tickets_parse(void *p, mbedtls_ssl_session *session, unsigned char *bytes, size_t len);

/* keylog.c */
struct keylog;
int keylog_open(struct keylog **out, const char *path, const char *device, char *err,
		size_t err_len);
void keylog_close(struct keylog *k);
/* The handshake is complete; and: it is known whose the session is; and: it has ended. k: NULL is
 * allowed. */
void keylog_secret(struct keylog *k, const struct dtls_session *s,
		   const uint8_t random[HELLO_RANDOM_LEN], const uint8_t secret[48]);
void keylog_identified(struct keylog *k, const struct dtls_session *s);
void keylog_forget(struct keylog *k, const struct dtls_session *s);

/* persist.c */
/* Is a blob laid out as blob.h says? 0; -1 with a message. */
int persist_self_test(char *err, size_t err_len);
/* Every session of the slots, parked. */
int persist_restore(struct dtls_endpoint *e, char *err, size_t err_len);
void persist_put(struct dtls_session *s, const uint8_t *blob, size_t len);

#endif
