/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a handshake failed, in words. Mosquitto logs OpenSSL's error codes, some without an address;
 * here is one line with the address, the name in the certificate and what to do. Whoever can reach
 * the port can cause these lines: one address gets ten in ten seconds.
 *
 * event=tls_refused (warn): we have refused a certificate, a key, a version, suites.
 * event=tls_failed: the peer has refused us (warn: a device that does not trust our certificate
 * must be mended), or spoke something else than TLS (info: the internet is full of that).
 */
#include "plugin/tls_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/err.h>
#include <openssl/x509.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/registry/certificate_fault.h"

#define REFUSAL_INTERVAL_US (10 * US_PER_S)
#define REFUSAL_BURST	    10
#define CAS_MAX		    64 /* of the cafile, and of what is known besides */

const char *tls_address(char text[TLS_ADDRESS_MAX], const SSL *ssl)
{
	struct sockaddr_storage a = {.ss_family = AF_UNSPEC};
	socklen_t len = sizeof(a);
	const void *bytes = NULL;

	if (getpeername(SSL_get_fd(ssl), (struct sockaddr *)&a, &len) == 0) {
		if (a.ss_family == AF_INET)
			bytes = &((struct sockaddr_in *)&a)->sin_addr;
		else if (a.ss_family == AF_INET6)
			bytes = &((struct sockaddr_in6 *)&a)->sin6_addr;
	}
	if (!bytes || !inet_ntop(a.ss_family, bytes, text, TLS_ADDRESS_MAX))
		snprintf(text, TLS_ADDRESS_MAX, "?");
	return text;
}

/* May a line about this peer be written? `note` is for its end. */
static bool may_say(struct tls_peer *peer, char address[TLS_ADDRESS_MAX],
		    char note[RATE_LIMIT_NOTE_MAX])
{
	uint64_t suppressed;

	if (peer->said)
		return false;
	peer->said = true;
	tls_address(address, peer->ssl);
	if (!rate_limit_pass_burst(refusal_limit(&tls.refused, address), REFUSAL_INTERVAL_US,
				   REFUSAL_BURST, &suppressed))
		return false;
	rate_limit_note(note, suppressed);
	return true;
}

static void say(struct tls_peer *peer, enum log_level level, const char *event, const char *device,
		const char *fmt, ...) __attribute__((format(printf, 5, 6)));

static void say(struct tls_peer *peer, enum log_level level, const char *event, const char *device,
		const char *fmt, ...)
{
	char address[TLS_ADDRESS_MAX], note[RATE_LIMIT_NOTE_MAX], why[640];
	va_list ap;

	if (!may_say(peer, address, note))
		return;
	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	log_event(level, event, device, "client from %s: %s%s", address, why, note);
}

/* --- certificates --- */

struct cas {
	struct certificate_der list[CAS_MAX];
	size_t count;
};

static void add_cas(struct cas *to, const STACK_OF(X509) * from)
{
	for (int i = 0; i < sk_X509_num(from) && to->count < CAS_MAX; i++) {
		unsigned char *der = NULL;
		int len = i2d_X509(sk_X509_value(from, i), &der);

		if (len > 0)
			to->list[to->count++] = (struct certificate_der){der, (size_t)len};
	}
}

static void free_cas(struct cas *c)
{
	for (size_t i = 0; i < c->count; i++)
		OPENSSL_free((void *)(uintptr_t)c->list[i].der);
}

/* Those that call themselves as its issuer does: there may be more than certificate_fault looks at.
 */
static void add_issuers(struct cas *to, const STACK_OF(X509) * from, X509 *x)
{
	STACK_OF(X509) *some = sk_X509_new_null();

	for (int i = 0; some && i < sk_X509_num(from); i++) {
		X509 *ca = sk_X509_value(from, i);

		if (X509_NAME_cmp(X509_get_subject_name(ca), X509_get_issuer_name(x)) == 0)
			sk_X509_push(some, ca);
	}
	add_cas(to, some);
	sk_X509_free(some);
}

/* By the broker's cafile, what the peer sent and what the registry knows. */
static void find_fault(struct certificate_finding *out, X509_STORE_CTX *chain)
{
	STACK_OF(X509) *trusted = X509_STORE_get1_all_certs(X509_STORE_CTX_get0_store(chain));
	struct cas anchors = {.count = 0}, others = {.count = 0};
	unsigned char *der = NULL;
	int len = i2d_X509(X509_STORE_CTX_get0_cert(chain), &der);

	add_cas(&anchors, trusted);
	add_issuers(&others, tls.authorities, X509_STORE_CTX_get0_cert(chain));
	add_cas(&others, X509_STORE_CTX_get0_untrusted(chain));
	certificate_fault(out, der, len > 0 ? (size_t)len : 0, CERTIFICATE_DEVICE,
			  clock_realtime_us() / US_PER_S,
			  &(struct certificate_issuers){anchors.list, anchors.count, others.list,
							others.count});
	OPENSSL_free(der);
	free_cas(&anchors);
	free_cas(&others);
	sk_X509_pop_free(trusted, X509_free);
}

static void name_of(char text[PRINCIPAL_ID_MAX + 1], X509 *x)
{
	if (X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, text,
				      PRINCIPAL_ID_MAX + 1) <= 0)
		snprintf(text, PRINCIPAL_ID_MAX + 1, "(no name)");
}

/* The name is only what the certificate says, and the peer has not shown yet that it has the key:
 * so the line is about no device. */
void tls_say_certificate(struct tls_peer *peer, X509_STORE_CTX *chain)
{
	char address[TLS_ADDRESS_MAX], note[RATE_LIMIT_NOTE_MAX], name[PRINCIPAL_ID_MAX + 1];
	int error = X509_STORE_CTX_get_error(chain);
	struct certificate_finding fault;

	if (!may_say(peer, address, note))
		return;
	ERR_set_mark();
	name_of(name, X509_STORE_CTX_get0_cert(chain));
	find_fault(&fault, chain);
	if (fault.fault == CERTIFICATE_GOOD)
		snprintf(fault.text, sizeof(fault.text),
			 "OpenSSL says: %s (certificate %d of its chain); compare it with the CAs "
			 "in the broker's cafile",
			 X509_verify_cert_error_string(error),
			 X509_STORE_CTX_get_error_depth(chain));
	ERR_pop_to_mark();
	log_warn("tls_refused", NULL, "client from %s: the certificate of %s is refused: %s%s",
		 address, name, fault.text, note);
}

/* --- alerts --- */

static void say_distrust(struct tls_peer *peer, int alert)
{
	const char *what = SSL_alert_desc_string_long(alert);

	switch (alert & 0xff) {
	case SSL_AD_UNKNOWN_CA:
		say(peer, LOG_LEVEL_WARN, "tls_failed", NULL,
		    "it does not trust this server (alert: %s): the CA that it has been given is "
		    "not the one above the broker's certfile; give it the fleet's ca.pem",
		    what);
		return;
	case SSL_AD_CERTIFICATE_EXPIRED:
		say(peer, LOG_LEVEL_WARN, "tls_failed", NULL,
		    "it says that this server's certificate has expired (alert: %s): renew it with "
		    "`pki/fleet server NAME` and send the broker SIGHUP; or its clock is wrong",
		    what);
		return;
	case SSL_AD_BAD_CERTIFICATE:
	case SSL_AD_CERTIFICATE_UNKNOWN:
	case SSL_AD_CERTIFICATE_REVOKED:
	case SSL_AD_UNSUPPORTED_CERTIFICATE:
		say(peer, LOG_LEVEL_WARN, "tls_failed", NULL,
		    "it does not accept this server's certificate (alert: %s): is the host name "
		    "that it connects to in it, and does it have the CA? issue it with `pki/fleet "
		    "server NAME...`",
		    what);
		return;
	default:
		say(peer, LOG_LEVEL_INFO, "tls_failed", NULL,
		    "it has ended the handshake (alert: %s)", what);
	}
}

/* By OpenSSL's last error; alert: 0 if there was none. */
static void say_refusal(struct tls_peer *peer, int alert)
{
	const unsigned long error = ERR_peek_last_error();
	const char *reason = ERR_reason_error_string(error);

	if (!reason)
		reason = alert ? SSL_alert_desc_string_long(alert) : "no reason is known";
	switch (ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0) {
	case SSL_R_NO_SHARED_CIPHER:
		say(peer, LOG_LEVEL_WARN, "tls_refused", NULL,
		    "it offers no cipher suite (or no group or signature) that this listener "
		    "accepts; docs/tls.md says what old modem firmware needs");
		return;
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_VERSION_TOO_LOW:
		say(peer, LOG_LEVEL_WARN, "tls_refused", NULL,
		    "it offers no version of TLS that this listener accepts (%s); TLS 1.2 is the "
		    "least",
		    reason);
		return;
	case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
		say(peer, LOG_LEVEL_WARN, "tls_refused", NULL,
		    "it shows no certificate; give it its certificate and key (pki/fleet add)");
		return;
	case SSL_R_UNEXPECTED_EOF_WHILE_READING:
		/* Who only looks whether the port is open is no news. */
		return;
	default:
		say(peer, LOG_LEVEL_INFO, "tls_failed", NULL, "the handshake failed: %s", reason);
	}
}

/* Behind a pre-shared key that we have given, the first thing that a wrong one does is not to
 * decrypt. Whose device it is, only the identity says: anybody can send that. */
static bool is_wrong_key(const struct tls_peer *peer, int alert)
{
	return peer->client && (alert & 0xff) == SSL_AD_BAD_RECORD_MAC;
}

void tls_say_alert(struct tls_peer *peer, bool from_peer, int alert)
{
	if (is_wrong_key(peer, alert))
		say(peer, LOG_LEVEL_WARN, "tls_refused", NULL,
		    "wrong pre-shared key for the identity '%.128s'; make a new one with "
		    "`pki/fleet "
		    "psk DEVICE --replace`",
		    peer->identity);
	else if (from_peer)
		say_distrust(peer, alert);
	else
		say_refusal(peer, alert);
}

void tls_say_broken(struct tls_peer *peer)
{
	say_refusal(peer, 0);
}

void tls_say_psk(struct tls_peer *peer, const char *device, const char *why)
{
	say(peer, LOG_LEVEL_WARN, "tls_refused", device, "%s", why);
}
