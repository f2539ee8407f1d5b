/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One TLS or DTLS session on top of whatever carries its bytes. All errors are Mbed TLS's, and
 * link_tls_explain turns them into ours. Only one of the functions runs at a time for a session,
 * and none of them calls anything but the two functions of link_tls_carrier.
 */
#ifndef FG_DEVICE_LINK_TLS_H
#define FG_DEVICE_LINK_TLS_H

#include "device-fw/ports/posix/link_trust.h"

struct link_tls;
struct link_tls_ticket; /* for an abbreviated handshake with the same server */

/* As mbedtls_ssl_send_t and mbedtls_ssl_recv_t. */
struct link_tls_carrier {
	int (*send)(void *arg, const unsigned char *bytes, size_t length);
	int (*receive)(void *arg, unsigned char *out, size_t size);
};

/* Takes the profile, in any case. NULL with an error in *error. */
struct link_tls *link_tls_new(struct link_profile *p, const struct loop *loop, const char *host,
			      const struct link_tls_carrier *carrier, void *arg, int *error);
void link_tls_free(struct link_tls *t);

/* Before the handshake; what cannot be used makes no difference. */
void link_tls_offer(struct link_tls *t, const struct link_tls_ticket *ticket);
/* 0: done; MBEDTLS_ERR_SSL_WANT_READ or _WRITE: call again with more bytes or at link_tls_due. */
int link_tls_handshake(struct link_tls *t);
int64_t link_tls_due(const struct link_tls *t); /* INT64_MAX: no timer runs */
bool link_tls_was_abbreviated(const struct link_tls *t);
bool link_tls_has_connection_id(const struct link_tls *t);
/* NULL: the server gave none, or it is too large to be worth it. */
struct link_tls_ticket *link_tls_ticket(struct link_tls *t);
void link_tls_ticket_free(struct link_tls_ticket *ticket);

/* All of it, or an error. */
int link_tls_write(struct link_tls *t, const void *bytes, size_t length);
int link_tls_read(struct link_tls *t, void *out, size_t size);
void link_tls_farewell(struct link_tls *t);

/* An established DTLS session as bytes; NULL: this one cannot be saved. The session is of no more
 * use after that. */
void *link_tls_save(struct link_tls *t, size_t *length);
int link_tls_load(struct link_tls *t, const void *saved, size_t length);

/* The longest plaintext of one record; for DTLS of one datagram. */
size_t link_tls_longest(const struct link_tls *t);

/* What the functions above have returned: a negative errno, and words in `text`. */
const mbedtls_ssl_context *link_tls_context(const struct link_tls *t);
int link_tls_explain(const struct link_tls *t, int error, char *text, size_t size);

#endif
