/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strict before clever. The three parts and both JSON texts are read here, by code that accepts one
 * form of each, before libjwt sees the token: it then only has a signature to check, with an
 * algorithm that was fixed beforehand (RFC 8725 section 3.1) and a key that the token had no say in
 * (section 3.10). The claims that are judged are those whose text was signed.
 */
#include "coap-server/auth/jwt.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/base/base64url.h"
#include "coap-server/auth/jwt_internal.h"

#define PARTS	 3
#define KEYS_MAX 4 /* signatures that one token may cost */

enum {
	PART_HEADER,
	PART_CLAIMS,
	PART_SIGNATURE,
};

struct part {
	const char *text;
	size_t len;
};

struct token {
	struct identity *who;
	char text[JWT_MAX + 1];
	struct part part[PARTS];
	uint8_t signature[BASE64URL_DECODED(JWT_MAX)];
};

#define refuse(t, ...) identify_refuse((t)->who, NULL, REFUSAL_UNKNOWN, __VA_ARGS__)

/* --- Its form --- */

static bool take_text(struct token *t, const char *text, size_t len)
{
	if (len == 0) {
		refuse(t, "there is no JWT in the request");
		return false;
	}
	if (len > JWT_MAX) {
		refuse(t, "the JWT has %zu bytes, more than %d", len, JWT_MAX);
		return false;
	}
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '.' || base64url_char(text[i]))
			continue;
		refuse(t,
		       "byte %zu of the JWT is 0x%02x: only base64url without padding and dots may "
		       "be in one, and nothing around it",
		       i, (unsigned)(unsigned char)text[i]);
		return false;
	}
	memcpy(t->text, text, len);
	t->text[len] = '\0';
	return true;
}

static bool split(struct token *t)
{
	const char *p = t->text;
	size_t n = 0;

	while (p) {
		const char *dot = strchr(p, '.');

		if (n < PARTS)
			t->part[n] = (struct part){p, dot ? (size_t)(dot - p) : strlen(p)};
		n++;
		p = dot ? dot + 1 : NULL;
	}
	if (n != PARTS) {
		refuse(t, "the JWT has %zu part(s) instead of %d", n, PARTS);
		return false;
	}
	for (size_t i = 0; i < PARTS; i++) {
		if (t->part[i].len > 0)
			continue;
		refuse(t, "part %zu of the JWT is empty", i + 1);
		return false;
	}
	return true;
}

static bool decode(struct token *t, int part, uint8_t *out, size_t *len)
{
	const struct part *p = &t->part[part];

	*len = BASE64URL_DECODED(p->len);
	if (base64url_decode(out, p->text, p->len))
		return true;
	refuse(t, "part %d of the JWT is no base64url: %zu characters, or stray bits in the last",
	       part + 1, p->len);
	return false;
}

/* A part that is a JSON object, every member of which is there once. To be released. */
static json_t *parse(struct token *t, int part, const char *name)
{
	uint8_t bytes[BASE64URL_DECODED(JWT_MAX)];
	json_error_t error;
	json_t *object;
	size_t len;

	if (!decode(t, part, bytes, &len))
		return NULL;
	object = json_loadb((const char *)bytes, len, JSON_REJECT_DUPLICATES, &error);
	if (!object) {
		refuse(t, "the JWT's %s is not the JSON that it must be: %.160s", name, error.text);
		return NULL;
	}
	if (json_is_object(object))
		return object;
	json_decref(object);
	refuse(t, "the JWT's %s is no JSON object", name);
	return NULL;
}

static bool check_header_members(struct token *t, const json_t *header)
{
	const json_t *alg = json_object_get(header, "alg"), *typ = json_object_get(header, "typ");

	if (!json_is_string(alg)) {
		refuse(t, "the JWT's header has no `alg`; ES256 is expected");
		return false;
	}
	if (strcmp(json_string_value(alg), "ES256") != 0) {
		refuse(t, "the JWT's `alg` is '%.32s'; only ES256 is accepted",
		       json_string_value(alg));
		return false;
	}
	if (typ && (!json_is_string(typ) || strcasecmp(json_string_value(typ), "JWT") != 0)) {
		refuse(t, "the JWT's `typ` is not JWT");
		return false;
	}
	/* RFC 7515 section 4.1.11: whoever does not understand what it lists must refuse. */
	if (json_object_get(header, "crit")) {
		refuse(t, "the JWT's header has `crit`: extensions are not accepted");
		return false;
	}
	if (json_object_get(header, "cty")) {
		refuse(t, "the JWT's header has `cty`: a token inside a token is not accepted");
		return false;
	}
	return true;
}

static bool check_header(struct token *t)
{
	json_t *header = parse(t, PART_HEADER, "header");
	bool good;

	if (!header)
		return false;
	good = check_header_members(t, header);
	json_decref(header);
	return good;
}

static bool check_signature_form(struct token *t)
{
	size_t len;

	if (!decode(t, PART_SIGNATURE, t->signature, &len))
		return false;
	if (len == JWT_SIGNATURE_LEN)
		return true;
	refuse(t,
	       "the JWT's signature has %zu bytes instead of %d (r and s, as they are and not in "
	       "DER)",
	       len, JWT_SIGNATURE_LEN);
	return false;
}

/* --- Whose it is --- */

static const struct principal *find_subject(struct token *t, const struct snapshot *s,
					    const json_t *claims)
{
	const json_t *sub = json_object_get(claims, "sub");
	const struct principal *p;

	if (!json_is_string(sub)) {
		refuse(t, "the JWT has no `sub`: it must be the device's id");
		return NULL;
	}
	if (!principal_id_valid(json_string_value(sub), json_string_length(sub))) {
		refuse(t,
		       "the JWT's `sub` is '%.80s', which can be no device's id: 1 to %d of A-Z "
		       "a-z 0-9 _ . : -",
		       json_string_value(sub), PRINCIPAL_ID_MAX);
		return NULL;
	}
	p = snapshot_principal(s, json_string_value(sub));
	if (!p)
		refuse(t,
		       "the JWT's `sub` is '%s', who is not registered; if it is yours: `pki/fleet "
		       "jwt-key %s FILE` with its public key",
		       json_string_value(sub), json_string_value(sub));
	return p;
}

struct trial {
	const struct token *token;
	const struct snapshot *snapshot;
	const struct principal *principal;
	unsigned tried;
	unsigned live; /* keys that are not revoked, tried or not */
	bool no_memory;
	const struct credential *bad; /* a row that is no key, and why */
	const char *problem;
};

/* The credential that signed, or NULL. */
static const struct credential *try_keys(struct trial *x, bool revoked)
{
	const struct credential *c = NULL;

	while ((c = snapshot_credential_next(x->snapshot, x->principal, CREDENTIAL_JWT, c))) {
		if (c->revoked != revoked)
			continue;
		x->live += !revoked;
		if (x->tried == KEYS_MAX)
			continue;
		x->tried++;
		switch (jwt_key_verify(c, x->token->text, x->token->signature, &x->problem)) {
		case 0:
			return c;
		case -EINVAL:
			x->bad = c;
			break;
		case -ENOMEM:
			x->no_memory = true;
			break;
		default:
			break;
		}
	}
	return NULL;
}

static void refuse_signature(struct identity *who, const struct trial *x)
{
	const char *id = x->principal->id;
	char note[256] = "";

	if (x->bad)
		snprintf(note, sizeof(note),
			 "; its row of kind jwt whose fingerprint begins with %02x%02x%02x%02x is "
			 "of no use: %s",
			 x->bad->fingerprint[0], x->bad->fingerprint[1], x->bad->fingerprint[2],
			 x->bad->fingerprint[3], x->problem);
	else if (x->live > KEYS_MAX)
		snprintf(note, sizeof(note), "; only %d were tried: revoke those that are replaced",
			 KEYS_MAX);
	if (x->no_memory)
		identify_refuse(who, x->principal, REFUSAL_UNKNOWN, "out of memory");
	else if (x->live == 0)
		identify_refuse(who, x->principal, REFUSAL_UNKNOWN,
				"it has no key for JWTs that is not revoked; register its public "
				"key with `pki/fleet jwt-key %s FILE`",
				id);
	else
		identify_refuse(who, x->principal, REFUSAL_UNKNOWN,
				"the JWT is signed with none of its %u key(s): was it replaced? "
				"register the new one with `pki/fleet jwt-key %s FILE`%s",
				x->live, id, note);
}

/*
 * Every key of the device is tried, as during a rotation it has two, and the token's `kid` is only
 * what somebody claims. Revoked ones come last, to say so in the log.
 */
static void prove(struct token *t, const struct snapshot *s, const struct principal *p)
{
	struct trial x = {.token = t, .snapshot = s, .principal = p};
	const struct credential *signer = try_keys(&x, false);

	if (!signer)
		signer = try_keys(&x, true);
	if (signer)
		identify_proven(t->who, s, signer);
	else
		refuse_signature(t->who, &x);
}

void jwt_authenticate(struct identity *who, const struct snapshot *s, const struct jwt_rules *rules,
		      const void *token, size_t len, int64_t now_s)
{
	struct token t = {.who = who};
	const struct principal *p;
	json_t *claims;

	if (!take_text(&t, token, len) || !split(&t) || !check_header(&t) ||
	    !check_signature_form(&t))
		return;
	claims = parse(&t, PART_CLAIMS, "payload");
	if (!claims)
		return;
	p = find_subject(&t, s, claims);
	if (p)
		prove(&t, s, p);
	if (p && who->refusal == REFUSAL_NONE)
		jwt_claims_judge(who, claims, rules, now_s);
	json_decref(claims);
}
