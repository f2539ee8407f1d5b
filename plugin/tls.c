/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What we do to a listener's SSL_CTX. OpenSSL calls new_context for each SSL_CTX of the process;
 * those of servers are told by their method. Others (libpq's, bridges') are left alone.
 *
 * verify: the registry's authorities help to complete the chain, so that a new device CA under a
 * trusted root needs no restart, and keys other than P-256 are refused. info: follows handshakes,
 * for the log and for pre-shared keys.
 *
 * The broker unloads plugins before it frees its SSL_CTX (2.0): the library is linked with
 * nodelete, so these functions stay where they are, and find no plugin.
 */
#include "plugin/tls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "plugin/tls_internal.h"

#define GROUPS "P-256:X25519" /* RFC 8422 section 5.1.1; best first */

struct tls tls = {.context_index = -1, .peer_index = -1};

/* --- certificates --- */

static bool key_is_p256(X509 *x)
{
	EVP_PKEY *key = X509_get0_pubkey(x);
	char group[64];

	return key && EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
	       EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) &&
	       strcmp(group, SN_X9_62_prime256v1) == 0;
}

/* Of the snapshot that is in force. Without memory, or of a row that is no certificate, one is
 * missing: its devices are refused, and the log says that their issuer is not known. */
static void renew_authorities(void)
{
	const struct snapshot *s = tls.plugin->snapshot;

	if (tls.authorities && tls.generation == tls.plugin->generation)
		return;
	sk_X509_pop_free(tls.authorities, X509_free);
	tls.authorities = sk_X509_new_null();
	for (size_t i = 0; tls.authorities && i < snapshot_authority_count(s); i++) {
		const struct authority *a = snapshot_authority_at(s, i);
		const unsigned char *der = a->certificate;
		X509 *x = d2i_X509(NULL, &der, (long)a->certificate_len);

		if (x && !sk_X509_push(tls.authorities, x))
			X509_free(x);
	}
	tls.generation = tls.plugin->generation;
}

/* What the peer sent, and what the registry knows. NULL without memory. */
static STACK_OF(X509) * with_authorities(STACK_OF(X509) * sent)
{
	STACK_OF(X509) *all = sent ? sk_X509_dup(sent) : sk_X509_new_null();

	for (int i = 0; all && i < sk_X509_num(tls.authorities); i++)
		if (!sk_X509_push(all, sk_X509_value(tls.authorities, i))) {
			sk_X509_free(all);
			return NULL;
		}
	return all;
}

/* None of these is trusted by being here: a chain ends in the broker's cafile. */
static int verify_chain(X509_STORE_CTX *chain)
{
	STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(chain), *all;
	int good;

	if (!tls.authorities || sk_X509_num(tls.authorities) == 0)
		return X509_verify_cert(chain);
	all = with_authorities(sent);
	if (!all) {
		X509_STORE_CTX_set_error(chain, X509_V_ERR_OUT_OF_MEM);
		return 0;
	}
	X509_STORE_CTX_set0_untrusted(chain, all);
	good = X509_verify_cert(chain);
	X509_STORE_CTX_set0_untrusted(chain, sent);
	sk_X509_free(all);
	return good;
}

static struct tls_peer *peer_of(const SSL *ssl)
{
	return tls.plugin ? SSL_get_ex_data(ssl, tls.peer_index) : NULL;
}

static int verify(X509_STORE_CTX *chain, void *arg)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_peer *peer = ssl ? peer_of(ssl) : NULL;
	int good;

	(void)arg;
	if (!peer)
		return X509_verify_cert(chain);
	plugin_renew(tls.plugin);
	renew_authorities();
	good = verify_chain(chain);
	if (good > 0 && !key_is_p256(X509_STORE_CTX_get0_cert(chain))) {
		/* The alert for this one is unsupported_certificate. */
		X509_STORE_CTX_set_error(chain, X509_V_ERR_INVALID_PURPOSE);
		good = 0;
	}
	if (good <= 0)
		tls_say_certificate(peer, chain);
	return good;
}

/* --- handshakes --- */

/* Without a certificate it is a listener for pre-shared keys. A resumed session would not ask for
 * the key, and TLS 1.3 would ask in another way: neither is worth anything to who has no
 * certificate to save. The first handshake comes too late to say so to the SSL_CTX alone. */
static void restrict_psk(SSL *ssl)
{
	const uint64_t off = SSL_OP_NO_TICKET | SSL_OP_NO_TLSv1_3;
	SSL_CTX *context = SSL_get_SSL_CTX(ssl);

	if (SSL_CTX_get0_certificate(context))
		return;
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(context, off);
	SSL_set_options(ssl, off);
}

static void begin(SSL *ssl)
{
	struct tls_peer *peer;

	restrict_psk(ssl);
	peer = calloc(1, sizeof(*peer));
	if (!peer)
		return;
	if (!SSL_set_ex_data(ssl, tls.peer_index, peer)) {
		free(peer);
		return;
	}
	peer->ssl = ssl;
	peer->shaking_hands = true;
	LIST_INSERT_HEAD(&tls.handshakes, peer, list);
}

/* `where` and `value` as in SSL_CTX_set_info_callback(3). TLS 1.3 says of what follows a handshake,
 * such as tickets, that a handshake starts. */
static void info(const SSL *const_ssl, int where, int value)
{
	SSL *ssl = (SSL *)(uintptr_t)const_ssl;
	struct tls_peer *peer;

	if (!tls.plugin || !SSL_is_server(ssl))
		return;
	if ((where & SSL_CB_HANDSHAKE_START) && !peer_of(ssl))
		begin(ssl);
	peer = peer_of(ssl);
	if (!peer)
		return;
	tls.last = peer;
	if (!peer->shaking_hands)
		return;
	if (where & SSL_CB_HANDSHAKE_DONE) {
		LIST_REMOVE(peer, list);
		peer->shaking_hands = false;
		tls_psk_done(peer);
	} else if ((where & SSL_CB_ALERT) && value >> 8 == SSL3_AL_FATAL) {
		tls_say_alert(peer, !(where & SSL_CB_WRITE), value);
	} else if ((where & SSL_CB_EXIT) && value <= 0 && ERR_peek_error() != 0) {
		tls_say_broken(peer);
	}
}

static void free_peer(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int index, long argl, void *argp)
{
	struct tls_peer *peer = ptr;

	(void)parent;
	(void)ad;
	(void)index;
	(void)argl;
	(void)argp;
	if (!peer)
		return;
	if (tls.last == peer)
		tls.last = NULL;
	if (peer->shaking_hands || peer->proven)
		LIST_REMOVE(peer, list);
	free(peer->identity);
	free(peer);
}

/* --- contexts --- */

static void new_context(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int index, long argl,
			void *argp)
{
	SSL_CTX *context = parent;

	(void)ptr;
	(void)ad;
	(void)index;
	(void)argl;
	(void)argp;
	if (SSL_CTX_get_ssl_method(context) != TLS_server_method())
		return;
	SSL_CTX_set_cert_verify_callback(context, verify, NULL);
	SSL_CTX_set_info_callback(context, info);
	SSL_CTX_set1_groups_list(context, GROUPS);
	/* Mosquitto sets these itself; they do not depend on how it was built. */
	SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
}

int tls_open(struct plugin *p, char *err, size_t err_len)
{
	if (tls.plugin) {
		snprintf(err, err_len,
			 "the plugin is loaded twice; give mosquitto.conf one line "
			 "`plugin` for it");
		return -EBUSY;
	}
	LIST_INIT(&tls.handshakes);
	if (tls.peer_index < 0)
		tls.peer_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_peer);
	if (tls.context_index < 0)
		tls.context_index = CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL_CTX, 0, NULL,
							    new_context, NULL, NULL);
	if (tls.peer_index < 0 || tls.context_index < 0) {
		snprintf(err, err_len, "TLS: out of memory");
		return -ENOMEM;
	}
	tls.plugin = p;
	return 0;
}

/* The indices stay: what a broker still holds frees its peers by them. */
void tls_close(struct plugin *p)
{
	if (tls.plugin != p)
		return;
	tls.plugin = NULL;
	tls_psk_close();
	sk_X509_pop_free(tls.authorities, X509_free);
	tls.authorities = NULL;
}
