/* SPDX-License-Identifier: Apache-2.0 */
/*
 * First whose credential it is, then whether it names itself so, then whether that principal is let
 * in, and last the dates. The texts are what an operator reads at three in the morning: they end
 * with what to do.
 */
#include "core/registry/identify.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "core/base/clock.h"
#include "core/base/hex.h"

#define TOKEN_MAX	1024 /* bytes */
#define FINGERPRINT_HEX HEX_SIZE(FINGERPRINT_LEN)

static void refuse(struct identity *out, enum refusal refusal, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void refuse(struct identity *out, enum refusal refusal, const char *fmt, ...)
{
	va_list ap;

	out->refusal = refusal;
	va_start(ap, fmt);
	vsnprintf(out->why, sizeof(out->why), fmt, ap);
	va_end(ap);
}

static void judge_state(struct identity *out, const struct principal *p)
{
	switch (p->state) {
	case PRINCIPAL_ACTIVE:
		return;
	case PRINCIPAL_PENDING:
		refuse(out, REFUSAL_PENDING,
		       "pending: registered but not let in yet; to let it in: `pki/fleet approve "
		       "%s`",
		       p->id);
		return;
	case PRINCIPAL_SUSPENDED:
		refuse(out, REFUSAL_SUSPENDED,
		       "suspended; to let it in again: `pki/fleet resume %s`", p->id);
		return;
	case PRINCIPAL_REVOKED:
		break;
	}
	refuse(out, REFUSAL_REVOKED,
	       "revoked, which is meant to be for good: find out who still uses its key; if it was "
	       "a mistake: `pki/fleet resume %s`",
	       p->id);
}

static void refuse_revoked_credential(struct identity *out, const struct snapshot *s,
				      const struct credential *c)
{
	const char *id = c->principal->id;
	size_t others = snapshot_credential_count(s, c->principal);

	switch (c->kind) {
	case CREDENTIAL_X509:
	case CREDENTIAL_X509_KEY:
		refuse(out, REFUSAL_CREDENTIAL_REVOKED,
		       "this certificate is revoked; %s itself is active and has %zu other "
		       "credential(s): use one of them, or issue a new one with `pki/fleet add %s`",
		       id, others, id);
		return;
	case CREDENTIAL_JWT:
		refuse(out, REFUSAL_CREDENTIAL_REVOKED,
		       "the key of this JWT is revoked; %s itself is active and has %zu other "
		       "credential(s): use one of them, or register a new key with `pki/fleet "
		       "jwt-key %s FILE`",
		       id, others, id);
		return;
	case CREDENTIAL_PSK:
		refuse(out, REFUSAL_CREDENTIAL_REVOKED,
		       "this pre-shared key is revoked; %s itself is active and has %zu other "
		       "credential(s): use one of them, or make a new one with `pki/fleet psk %s`",
		       id, others, id);
		return;
	case CREDENTIAL_TOKEN:
		break;
	}
	refuse(out, REFUSAL_CREDENTIAL_REVOKED,
	       "this credential is revoked; %s itself is active and has %zu other "
	       "credential(s): use one of them, or register a new one in "
	       "fieldgate.credential",
	       id, others);
}

static void start(struct identity *out)
{
	memset(out, 0, sizeof(*out));
	out->valid_for_s = INT64_MAX;
}

static int64_t now_s(void)
{
	return clock_realtime_us() / US_PER_S;
}

/* The principal's state goes first: of a suspended device that is what there is to mend. */
static void judge_staying(struct identity *out, const struct snapshot *s,
			  const struct credential *c)
{
	const int64_t now = now_s();

	out->credential = c;
	out->principal = c->principal;
	if (c->not_after != INT64_MAX)
		out->valid_for_s = c->not_after > now ? c->not_after - now : 0;
	judge_state(out, c->principal);
	if (out->refusal == REFUSAL_NONE && c->revoked)
		refuse_revoked_credential(out, s, c);
}

/* The command that gives the device a new credential of this kind. */
static void refuse_expired(struct identity *out, const struct credential *c)
{
	const char *id = c->principal->id;
	char since[CLOCK_DATE_MAX];

	clock_date_text(since, c->not_after);
	switch (c->kind) {
	case CREDENTIAL_X509:
	case CREDENTIAL_X509_KEY:
		refuse(out, REFUSAL_EXPIRED,
		       "its certificate has expired, on %s; issue a new one with `pki/fleet renew "
		       "%s`",
		       since, id);
		return;
	case CREDENTIAL_JWT:
		refuse(out, REFUSAL_EXPIRED,
		       "the key of its JWT has expired, on %s; register a new one with `pki/fleet "
		       "jwt-key %s FILE`",
		       since, id);
		return;
	case CREDENTIAL_PSK:
		refuse(out, REFUSAL_EXPIRED,
		       "its pre-shared key has expired, on %s; make a new one with `pki/fleet psk "
		       "%s`",
		       since, id);
		return;
	case CREDENTIAL_TOKEN:
		break;
	}
	refuse(out, REFUSAL_EXPIRED,
	       "its token has expired, on %s; register a new one in fieldgate.credential", since);
}

static void judge_dates(struct identity *out, const struct credential *c)
{
	const int64_t now = now_s();
	char date[CLOCK_DATE_MAX];

	if (now > c->not_after)
		refuse_expired(out, c);
	else if (now < c->not_before)
		refuse(out, REFUSAL_NOT_YET_VALID,
		       "its credential is not valid before %s; is the clock of this machine right?",
		       clock_date_text(date, c->not_before));
}

static void judge(struct identity *out, const struct snapshot *s, const struct credential *c)
{
	judge_staying(out, s, c);
	if (out->refusal == REFUSAL_NONE)
		judge_dates(out, c);
}

static void refuse_unknown_certificate(struct identity *out, const struct snapshot *s,
				       const struct certificate *cert)
{
	const struct principal *p = snapshot_principal(s, cert->name);
	char fingerprint[FINGERPRINT_HEX];

	hex_print(fingerprint, cert->fingerprint, FINGERPRINT_LEN);
	out->principal = p;
	if (!p)
		refuse(out, REFUSAL_UNKNOWN,
		       "not registered: neither the certificate nor a principal %s; if it is "
		       "yours, "
		       "issue a certificate with `pki/fleet add %s` (this one has SHA-256 %s)",
		       cert->name, cert->name, fingerprint);
	else
		refuse(out, REFUSAL_UNKNOWN,
		       "%s is registered with another certificate: this one is not, and it has %zu "
		       "other credential(s); was the key replaced? register it with: insert into "
		       "fieldgate.credential (kind, "
		       "fingerprint, principal) values ('x509', decode('%s', 'hex'), '%s')",
		       p->id, snapshot_credential_count(s, p), fingerprint, p->id);
}

void identify_certificate(struct identity *out, const struct snapshot *s,
			  const struct certificate *cert)
{
	const struct credential *c = snapshot_credential(s, CREDENTIAL_X509, cert->fingerprint);

	start(out);
	if (!c)
		c = snapshot_credential(s, CREDENTIAL_X509_KEY, cert->key_fingerprint);
	if (!c) {
		refuse_unknown_certificate(out, s, cert);
		return;
	}
	judge(out, s, c);
	if (strcmp(c->principal->id, cert->name) != 0)
		refuse(out, REFUSAL_NAME,
		       "the certificate names %s but is registered for %s; issue a new one with "
		       "`pki/fleet add %s`",
		       cert->name, c->principal->id, c->principal->id);
}

static bool token_fingerprint(uint8_t out[FINGERPRINT_LEN], const char *id, const char *token)
{
	size_t id_len = strlen(id), token_len = strlen(token);
	unsigned char both[PRINCIPAL_ID_MAX + 1 + TOKEN_MAX];
	bool done;

	if (!principal_id_valid(id, id_len) || token_len < 1 || token_len > TOKEN_MAX)
		return false;
	memcpy(both, id, id_len + 1);
	memcpy(both + id_len + 1, token, token_len);
	done = EVP_Digest(both, id_len + 1 + token_len, out, NULL, EVP_sha256(), NULL) == 1;
	OPENSSL_cleanse(both, sizeof(both));
	return done;
}

static void refuse_unknown_token(struct identity *out, const struct snapshot *s, const char *id)
{
	const struct principal *p = snapshot_principal(s, id);

	out->principal = p;
	if (!p)
		refuse(out, REFUSAL_UNKNOWN,
		       "the user name is no principal: register it in fieldgate.principal, and its "
		       "token in fieldgate.credential");
	else
		refuse(out, REFUSAL_UNKNOWN,
		       "wrong token; %s has %zu credential(s): was the token replaced? its row in "
		       "fieldgate.credential has kind 'token'",
		       p->id, snapshot_credential_count(s, p));
}

void identify_token(struct identity *out, const struct snapshot *s, const char *id,
		    const char *token)
{
	uint8_t fingerprint[FINGERPRINT_LEN];
	const struct credential *c = NULL;

	start(out);
	/* The digest is what is looked up, so how long that takes tells nothing of any token. */
	if (token_fingerprint(fingerprint, id, token))
		c = snapshot_credential(s, CREDENTIAL_TOKEN, fingerprint);
	if (!c) {
		refuse_unknown_token(out, s, id);
		return;
	}
	judge(out, s, c);
	if (strcmp(c->principal->id, id) != 0)
		refuse(out, REFUSAL_NAME,
		       "the token was made for %s but is registered for %s; correct "
		       "fieldgate.credential.principal",
		       id, c->principal->id);
}

/* Who has proven to hold a pre-shared key has not proven to hold the next one of the same identity:
 * it may have been replaced because of him. */
static bool key_was_replaced(const struct credential *c, uint32_t edition)
{
	return edition != 0 && c->edition != 0 && c->edition != edition;
}

void identify_again(struct identity *out, const struct snapshot *s, const char *id,
		    enum credential_kind kind, const uint8_t *fingerprint, uint32_t edition)
{
	const struct principal *p = snapshot_principal(s, id);
	const struct credential *c;

	start(out);
	out->principal = p;
	if (!p) {
		refuse(out, REFUSAL_UNKNOWN,
		       "not registered any more; to let it in again: `pki/fleet add %.64s`", id);
		return;
	}
	if (!fingerprint) {
		judge_state(out, p);
		return;
	}
	c = snapshot_credential(s, kind, fingerprint);
	if (!c) {
		refuse(out, REFUSAL_UNKNOWN,
		       "its credential is not registered any more; %s has %zu other(s)", p->id,
		       snapshot_credential_count(s, p));
		return;
	}
	judge_staying(out, s, c);
	if (c->principal != p)
		refuse(out, REFUSAL_NAME,
		       "its credential is now registered for %s, no longer for %s",
		       c->principal->id, p->id);
	else if (out->refusal == REFUSAL_NONE && key_was_replaced(c, edition))
		refuse(out, REFUSAL_CREDENTIAL_REVOKED,
		       "its pre-shared key has been replaced since it has proven to hold it; give "
		       "it the new one, if it does not have that: `pki/fleet psk %s --replace`",
		       p->id);
}

void identify_resumed(struct identity *out, const struct snapshot *s, const char *id,
		      enum credential_kind kind, const uint8_t *fingerprint, uint32_t edition)
{
	identify_again(out, s, id, kind, fingerprint, edition);
	if (out->refusal == REFUSAL_NONE)
		judge_dates(out, out->credential);
}

void identify_proven(struct identity *out, const struct snapshot *s, const struct credential *c)
{
	start(out);
	judge(out, s, c);
}

void identify_refuse(struct identity *out, const struct principal *principal, enum refusal refusal,
		     const char *fmt, ...)
{
	va_list ap;

	start(out);
	out->principal = principal;
	out->refusal = refusal;
	va_start(ap, fmt);
	vsnprintf(out->why, sizeof(out->why), fmt, ap);
	va_end(ap);
}

const char *refusal_reason(enum refusal refusal)
{
	switch (refusal) {
	case REFUSAL_SUSPENDED:
		return "it was suspended";
	case REFUSAL_REVOKED:
		return "it was revoked";
	case REFUSAL_PENDING:
		return "it was set back to pending";
	case REFUSAL_CREDENTIAL_REVOKED:
		return "its credential was revoked";
	case REFUSAL_EXPIRED:
		return "its credential expired";
	case REFUSAL_NOT_YET_VALID:
		return "its credential is not valid yet";
	default:
		return "it is not registered any more";
	}
}
