/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DTLS 1.2 endpoint of one worker: datagrams in, the plaintext of authenticated records out.
 * RFC 6347 (DTLS 1.2), RFC 9146 (Connection ID), by Mbed TLS 3.6. README.md beside this file says
 * how a record finds its session and why a crash at each point repeats no nonce.
 *
 * What it promises:
 * - Nothing is allocated for a ClientHello without a valid cookie (RFC 6347 section 4.2.1).
 * - A record with a Connection ID finds its session by that alone. A session's address changes only
 *   when a record from the new one is authentic and newer than all before (RFC 9146 section 6).
 * - A handshake makes a new session without identity, whatever its address was used for before; the
 *   old session works until the new one is complete.
 * - An identity is bound to one session, once, until it ends; it ends with the credential that
 *   proved it.
 * - Of `live_contexts` sessions at most the Mbed TLS context is in memory; the others are parked as
 *   small blobs and woken by their next record.
 * - With slots (slots.h), sessions survive the death of the process, and no record number is used
 *   twice.
 *
 * One thread. All times are microseconds of clock_monotonic_us(). Callbacks are called from
 * dtls_receive, dtls_tick and dtls_close, and when a call ends or sends; unless said otherwise they
 * may call any function here on any session, also end the session that they are called for, but not
 * dtls_receive, dtls_tick, dtls_reload or dtls_close.
 */
#ifndef FG_DTLS_ENDPOINT_H
#define FG_DTLS_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coap-server/dtls/identity.h"
#include "coap-server/net/address.h"
#include "core/registry/certificate_fault.h"

#define DTLS_CID_LEN	   8
#define DTLS_PSK_MAX	   64	/* bytes of a key */
#define DTLS_PLAINTEXT_MAX 2048 /* bytes that dtls_send takes */

struct dtls_endpoint;
struct dtls_session;

/* Why a handshake was refused or has failed, as far as that can be told. Of the peer nothing is
 * proven: anybody can name a device, and an alert in clear can be anybody's. */
struct dtls_refusal {
	const char *device;	 /* whose pre-shared key it has named, or NULL */
	const void *certificate; /* DER, what it has shown; NULL: none */
	size_t certificate_len;
	const char *why;
};

struct dtls_callbacks {
	void *arg;

	/* A datagram is to be sent. The bytes are valid during the call only. Do not call back into
	 * the endpoint. */
	void (*send)(void *arg, const struct address *to, const uint8_t *data, size_t len);

	/*
	 * Handshakes: who is that? These must not call back into the endpoint.
	 * psk: fill *who and key, *key_len (at most DTLS_PSK_MAX); 0, or -1 to refuse (the peer
	 * then cannot tell an unknown identity from a wrong key: RFC 4279 section 2). certificate:
	 * it chains to a CA of ours and its key was used; fill *who; 0, or -1. resumed: a session
	 * is resumed without any of that; is *who still let in, and until when (it may be made
	 * shorter)? NULL: the kind of handshake is not offered.
	 */
	int (*psk)(void *arg, const struct address *from, const uint8_t *identity, size_t len,
		   struct dtls_identity *who, uint8_t key[DTLS_PSK_MAX], size_t *key_len);
	int (*certificate)(void *arg, const struct address *from, const uint8_t *der, size_t len,
			   struct dtls_identity *who);
	bool (*resumed)(void *arg, struct dtls_identity *who);

	/* For the log: everything that was refused, but what the callbacks above have refused
	 * themselves. The same rules as for them. NULL: the endpoint writes it itself. */
	void (*refused)(void *arg, const struct address *from, const struct dtls_refusal *r);

	/* The handshake is complete; the identity is what it proved, or empty. Not called for
	 * sessions that were restored from slots. */
	void (*opened)(void *arg, struct dtls_session *s);

	/* The plaintext of one authentic record that is no replay. */
	void (*data)(void *arg, struct dtls_session *s, const uint8_t *data, size_t len);

	/* The last call for a session whose handshake was completed or that was restored; reason:
	 * static text. Do not send here. Not called by dtls_close, which ends the process's part
	 * only. */
	void (*closed)(void *arg, struct dtls_session *s, const char *reason);
};

/* Names as OpenSSL's `ciphers` prints them. */
struct dtls_options {
	const char *suites;	      /* separated by spaces or colons, best first */
	bool legacy_cbc;	      /* add the CBC suites of old modem firmware; logged */
	const char *certificate_file; /* PEM chain, P-256; NULL: PSK only */
	const char *key_file;
	const char *client_ca_file; /* NULL: clients are not asked for certificates */
	bool connection_id;
	bool resumption; /* session tickets (RFC 5077), with the identity inside */
	int64_t ticket_lifetime_us;

	size_t max_sessions;   /* beyond it new handshakes are not begun */
	size_t max_handshakes; /* at one time */
	size_t live_contexts;
	unsigned handshakes_per_source; /* begun in a minute by one source (address_source); 0: any
					 */
	unsigned
		forgeries_per_source; /* records in a minute that fail to authenticate, from one
					 source, before its records are dropped unread until the
					 minute is over; established CID sessions of others behind
					 the same source must not be hurt by unknown CIDs; 0: any */
	int64_t handshake_timeout_us; /* of the whole handshake */
	int64_t silent_timeout_us;    /* established, but no application record yet */
	int64_t anonymous_timeout_us; /* application records, but no identity yet */
	int64_t idle_us;	      /* sessions with a Connection ID: since the last record */
	int64_t idle_without_cid_us;
	int64_t lifetime_us; /* of any session */

	unsigned worker; /* byte 0 of the Connection IDs that are handed out */
	const char
		*slots_path; /* file on tmpfs, see slots.h; NULL: sessions end with the process */
	const char *keylog_file;   /* NSS key log format; NULL: none */
	const char *keylog_device; /* principal whose sessions are written there */

	size_t user_size; /* bytes of the caller in every session: see dtls_user */
};

struct dtls_stats {
	uint64_t datagrams, records;
	uint64_t hellos, cookies_sent, handshakes_begun, handshakes_done, handshakes_failed,
		resumed;
	uint64_t authentic, unknown_cid, dropped, moved, limited;
	uint64_t parked_total, woken_total, closed, restored, slots_damaged;
	size_t sessions, parked, live, handshaking;
	bool slots_lacked; /* by the process before: it had sessions that are not restored */
};

/*
 * Restores what is in the slots. 0; or -1 with what is wrong, where and what to do in err (a file
 * that cannot be read, a key that does not fit, a suite that is not known, slots that are not on
 * tmpfs or in use by another process, a self-test that failed). Strings are copied.
 */
int dtls_open(struct dtls_endpoint **out, const struct dtls_options *o,
	      const struct dtls_callbacks *callbacks, char *err, size_t err_len);

/* Park every session and free all. Sessions that cannot be parked (no CID-capable slot, CBC suites,
 * silent ones) are told with close_notify. NULL is allowed. */
void dtls_close(struct dtls_endpoint *e);

/* Read certificate, key and CAs again, for handshakes from now on. 0, or -1 with a message, and
 * what was in force stays. */
int dtls_reload(struct dtls_endpoint *e, const struct dtls_options *o, char *err, size_t err_len);

/*
 * CAs that may complete the chains of devices, beside those of client_ca_file, until the next call
 * or dtls_reload; bytes are copied. Each must chain to one of that file, when a device shows a
 * certificate of it as well as now; `ignored` is told of those that cannot, with a static text.
 */
void dtls_set_authorities(struct dtls_endpoint *e, const struct certificate_der *list, size_t count,
			  void (*ignored)(void *arg, size_t i, const char *why), void *arg);

/* One datagram. */
void dtls_receive(struct dtls_endpoint *e, const struct address *from, const uint8_t *data,
		  size_t len);

/* Timers: handshake flights, timeouts, parking. Returns when it must be called again at the latest,
 * INT64_MAX: when a datagram came. */
int64_t dtls_tick(struct dtls_endpoint *e);

/* One record with this plaintext to the session's address. 0; -EMSGSIZE; -ENOTCONN: the session has
 * ended meanwhile (only inside its own callbacks) or its context could not be woken. */
int dtls_send(struct dtls_session *s, const uint8_t *data, size_t len);

/* End it: close_notify if asked, then `closed`. Its memory is valid until the outermost callback
 * returns. */
void dtls_end(struct dtls_session *s, bool notify, const char *reason);

/* --- A session --- */

/* Never used twice by the workers that share a directory of slots files. */
uint64_t dtls_session_id(const struct dtls_session *s);

const struct dtls_identity *dtls_session_identity(const struct dtls_session *s);

/* 0, or -EALREADY: a session has one identity until it ends. Kept in the slot. */
int dtls_identify(struct dtls_session *s, const struct dtls_identity *who);

/* Where its newest record came from. */
const struct address *dtls_session_address(const struct dtls_session *s);

bool dtls_session_has_cid(const struct dtls_session *s);

/* user_size bytes, zero at first (also after a restart), aligned for pointers, the caller's until
 * `closed` returns. */
void *dtls_user(struct dtls_session *s);

/*
 * A few bytes of the caller that survive the death of the process with the session, such as its
 * last exchange: at most DTLS_NOTE_MAX; what was set last, complete or not at all. Reading gives
 * the length.
 */
#define DTLS_NOTE_MAX 48
void dtls_session_set_note(struct dtls_session *s, const void *note, size_t len);
size_t dtls_session_note(const struct dtls_session *s, uint8_t note[DTLS_NOTE_MAX]);

/*
 * Walk: visits up to `count` sessions from *cursor on, 0 at the beginning; *cursor is 0 again when
 * all were visited. Every session that exists from the first to the last step is visited at least
 * once. visit may end the session it is given.
 */
void dtls_walk(struct dtls_endpoint *e, uint64_t *cursor, size_t count,
	       void (*visit)(void *arg, struct dtls_session *s), void *arg);

void dtls_stats(const struct dtls_endpoint *e, struct dtls_stats *out);

#endif
