/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pre-shared keys over TLS (RFC 4279). The broker asks PSK_KEY in the middle of a handshake, for
 * whatever identity a peer has named: that proves nothing. The proof is the end of that handshake,
 * of which the broker tells nothing and OpenSSL does. So the question, which comes with the
 * broker's client, has to be joined to the SSL that it is about. The broker keeps its client in the
 * SSL's ex_data, under an index that we find by looking.
 *
 * A proof lives from the end of the handshake until the SSL is freed. It is found by the client's
 * address, and the broker may use the memory of a client again: but it frees the SSL before the
 * client, and that takes the proof with it.
 */
#include "plugin/tls_internal.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>

#include "core/base/clock.h"
#include "core/base/hash.h"
#include "core/base/hex.h"
#include "core/base/log.h"
#include "core/registry/psk.h"

#define EX_DATA_MAX    64   /* indices that are looked at; libssl, libwebsockets and we use few */
#define PROVEN_BUCKETS 1024 /* power of two */

static struct tls_peers proven[PROVEN_BUCKETS];

static struct tls_peers *bucket_of(const struct mosquitto *client)
{
	const uintptr_t address = (uintptr_t)client;

	return &proven[hash_siphash(hash_table_key(), &address, sizeof(address)) &
		       (PROVEN_BUCKETS - 1)];
}

/* --- whose handshake --- */

static bool belongs_to(const SSL *ssl, const struct mosquitto *client)
{
	for (int i = 0; i < EX_DATA_MAX; i++)
		if (SSL_get_ex_data(ssl, i) == client)
			return true;
	return false;
}

/* Nearly always it is the one that went on last. Not so when its message came in two pieces. */
static struct tls_peer *find_peer(const struct mosquitto *client)
{
	struct tls_peer *peer;

	if (tls.last && tls.last->shaking_hands && belongs_to(tls.last->ssl, client))
		return tls.last;
	LIST_FOREACH(peer, &tls.handshakes, list)
	if (belongs_to(peer->ssl, client))
		return peer;
	return NULL;
}

/* --- the key --- */

/* What cannot be used leaves in force what was. */
static const struct secret_keys *master_keys(void)
{
	struct secret_keys *fresh;
	char err[512];

	if (tls.keys_tried)
		return tls.keys;
	tls.keys_tried = true;
	if (secret_keys_open(&fresh, tls.plugin->config.secrets_key_file, err, sizeof(err)) == 0) {
		secret_keys_free(tls.keys);
		tls.keys = fresh;
	} else {
		log_error("psk_unusable", NULL, "%s; then send the broker SIGHUP%s", err,
			  tls.keys ? "; the former master keys stay in force" : "");
	}
	return tls.keys;
}

void tls_reload(void)
{
	tls.keys_tried = false;
}

static uint64_t hash_of_material(const struct credential *c)
{
	return hash_siphash(hash_table_key(), c->material, c->material_len);
}

/* The key of a device that is let in; else false, and it has been said why. */
static bool find_key(struct tls_peer *peer, const struct mosquitto_evt_psk_key *e,
		     uint8_t key[SECRET_MAX], size_t *len)
{
	struct plugin *p = tls.plugin;
	struct identity who;

	plugin_renew(p);
	if (!registry_ready(p->registry)) {
		tls_say_psk(peer, NULL,
			    "the registry is not loaded yet; is the database reachable?");
		return false;
	}
	psk_find(&who, p->snapshot, master_keys(), e->identity, strlen(e->identity), key, len);
	if (who.refusal != REFUSAL_NONE) {
		tls_say_psk(peer, who.principal ? who.principal->id : NULL, who.why);
		return false;
	}
	memcpy(peer->fingerprint, who.credential->fingerprint, FINGERPRINT_LEN);
	peer->material = hash_of_material(who.credential);
	return true;
}

/* Who is refused gets a key that nobody has: that looks like a wrong key from outside, whether the
 * identity is known or not (RFC 4279 section 2). */
static void random_key(uint8_t key[SECRET_MAX], size_t *len)
{
	*len = 32;
	random_bytes(key, *len);
}

static bool answer(struct tls_peer *peer, struct mosquitto_evt_psk_key *e)
{
	uint8_t key[SECRET_MAX];
	size_t len = 0;
	bool fits;

	peer->asked = true;
	if (find_key(peer, e, key, &len)) {
		peer->identity = strdup(e->identity);
		peer->client = peer->identity ? e->client : NULL;
	} else {
		random_key(key, &len);
	}
	fits = e->max_key_len > 0 && 2 * len < (size_t)e->max_key_len;
	if (fits)
		hex_print(e->key, key, len);
	OPENSSL_cleanse(key, sizeof(key));
	return fits;
}

int on_psk_key(int event, void *event_data, void *userdata)
{
	struct mosquitto_evt_psk_key *e = event_data;
	struct tls_peer *peer;
	bool given;

	(void)event;
	(void)userdata;
	peer = tls.plugin ? find_peer(e->client) : NULL;
	if (!peer || peer->asked || !e->identity)
		return MOSQ_ERR_AUTH;
	ERR_set_mark();
	given = answer(peer, e);
	ERR_pop_to_mark();
	return given ? MOSQ_ERR_SUCCESS : MOSQ_ERR_AUTH;
}

/* --- the proof --- */

void tls_psk_done(struct tls_peer *peer)
{
	const char *identity = SSL_get_psk_identity(peer->ssl);

	/* A session that is resumed has not asked, and is none of ours: see restrict_psk. */
	if (!peer->client || !identity || strcmp(identity, peer->identity) != 0 ||
	    SSL_session_reused(peer->ssl) || !belongs_to(peer->ssl, peer->client))
		return;
	peer->proven = true;
	LIST_INSERT_HEAD(bucket_of(peer->client), peer, list);
}

/* Between handshake and CONNECT somebody may have replaced the key, or removed the row. */
static void judge(struct identity *who, const struct snapshot *s, const struct tls_peer *peer)
{
	const struct credential *c = snapshot_credential(s, CREDENTIAL_PSK, peer->fingerprint);

	if (c && hash_of_material(c) == peer->material)
		identify_proven(who, s, c);
	else
		identify_refuse(who, c ? c->principal : NULL, REFUSAL_UNKNOWN,
				"its pre-shared key has been replaced or removed since it began to "
				"connect; give it the new one, if it does not have that");
}

bool tls_psk_identify(struct identity *who, const struct plugin *p, const struct mosquitto *client)
{
	const struct tls_peer *peer;

	LIST_FOREACH(peer, bucket_of(client), list)
	if (peer->client == client) {
		judge(who, p->snapshot, peer);
		return true;
	}
	return false;
}

void tls_psk_close(void)
{
	secret_keys_free(tls.keys);
	tls.keys = NULL;
	tls.keys_tried = false;
}
