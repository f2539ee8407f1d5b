/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON Web Tokens: the good ones of a modem, and every bad one that somebody has thought of, a line
 * each with what the operator reads. The bad ones are well signed unless their line says otherwise:
 * what is refused is refused for the reason given and for no other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "core/base/base64url.h"
#include "coap-server/auth/jwt.h"
#include "tests/coap/jwt_text.h"

#define COUNT_OF(a) (sizeof(a) / sizeof(*(a)))
#define NOW	    INT64_C(1700000000)

/* --- The fleet --- */

enum key {
	KEY_DEV_1,
	KEY_DEV_1_NEW, /* a second one that it has, as during a rotation */
	KEY_DEV_1_REVOKED,
	KEY_DEV_2,
	KEY_PENDING,
	KEY_SUSPENDED,
	KEY_REVOKED,
	KEY_ALL_REVOKED,
	KEY_MISFILED, /* its row's fingerprint is not its own */
	KEY_NOBODYS,  /* the attacker's */
	KEY_MANY,     /* KEY_MANY + 0 ... + 5 are of one device */
	KEY_P384 = KEY_MANY + 6,
	KEY_EXPLICIT, /* P-256, its curve written out */
	KEY_COMPRESSED,
	KEY_SM2, /* another curve, whose public keys are as long */
	KEY_COUNT,
};

static EVP_PKEY *keys[KEY_COUNT];
static const struct snapshot *fleet;
static char err[256];

static EVP_PKEY *make_key(enum key which)
{
	EVP_PKEY *key = EVP_EC_gen(which == KEY_P384  ? "P-384"
				   : which == KEY_SM2 ? "SM2"
						      : "P-256");

	assert_non_null(key);
	if (which == KEY_EXPLICIT)
		assert_true(EVP_PKEY_set_utf8_string_param(key, "encoding", "explicit"));
	if (which == KEY_COMPRESSED)
		assert_true(EVP_PKEY_set_utf8_string_param(key, "point-format", "compressed"));
	return key;
}

static size_t spki(enum key which, uint8_t **der)
{
	return jwt_public_key(keys[which], der);
}

static void add_row(struct snapshot_builder *b, const char *id, const uint8_t *fingerprint,
		    bool revoked, const void *material, size_t len)
{
	assert_int_equal(snapshot_add_credential(b, CREDENTIAL_JWT, fingerprint, id, revoked,
						 material, len, err, sizeof(err)),
			 0);
}

static void add_key(struct snapshot_builder *b, const char *id, enum key which, bool revoked)
{
	uint8_t *der, fingerprint[FINGERPRINT_LEN];
	size_t len = spki(which, &der);

	assert_true(EVP_Digest(der, len, fingerprint, NULL, EVP_sha256(), NULL));
	if (which == KEY_MISFILED)
		fingerprint[0] ^= 1;
	add_row(b, id, fingerprint, revoked, der, len);
	OPENSSL_free(der);
}

static void add_device(struct snapshot_builder *b, const char *id, enum principal_state state)
{
	assert_int_equal(
		snapshot_add_principal(b, id, PRINCIPAL_DEVICE, state, "device", err, sizeof(err)),
		0);
}

static int make_fleet(void **state)
{
	struct snapshot_builder *b = snapshot_builder_new();
	const uint8_t one[FINGERPRINT_LEN] = {1}, two[FINGERPRINT_LEN] = {2};

	(void)state;
	for (int i = 0; i < KEY_COUNT; i++)
		keys[i] = make_key((enum key)i);
	assert_int_equal(snapshot_add_policy(b, "device", err, sizeof(err)), 0);
	add_device(b, "dev-1", PRINCIPAL_ACTIVE);
	add_key(b, "dev-1", KEY_DEV_1, false);
	add_key(b, "dev-1", KEY_DEV_1_REVOKED, true);
	add_key(b, "dev-1", KEY_DEV_1_NEW, false);
	add_device(b, "dev-2", PRINCIPAL_ACTIVE);
	add_key(b, "dev-2", KEY_DEV_2, false);
	add_device(b, "dev-p", PRINCIPAL_PENDING);
	add_key(b, "dev-p", KEY_PENDING, false);
	add_device(b, "dev-s", PRINCIPAL_SUSPENDED);
	add_key(b, "dev-s", KEY_SUSPENDED, false);
	add_device(b, "dev-r", PRINCIPAL_REVOKED);
	add_key(b, "dev-r", KEY_REVOKED, true);
	add_device(b, "dev-old", PRINCIPAL_ACTIVE);
	add_key(b, "dev-old", KEY_ALL_REVOKED, true);
	add_device(b, "dev-bare", PRINCIPAL_ACTIVE);
	add_device(b, "dev-misfiled", PRINCIPAL_ACTIVE);
	add_key(b, "dev-misfiled", KEY_MISFILED, false);
	add_device(b, "dev-p384", PRINCIPAL_ACTIVE);
	add_key(b, "dev-p384", KEY_P384, false);
	add_device(b, "dev-sm2", PRINCIPAL_ACTIVE);
	add_key(b, "dev-sm2", KEY_SM2, false);
	add_device(b, "dev-explicit", PRINCIPAL_ACTIVE);
	add_key(b, "dev-explicit", KEY_EXPLICIT, false);
	add_device(b, "dev-compressed", PRINCIPAL_ACTIVE);
	add_key(b, "dev-compressed", KEY_COMPRESSED, false);
	add_device(b, "dev-null", PRINCIPAL_ACTIVE);
	add_row(b, "dev-null", one, false, NULL, 0);
	add_device(b, "dev-empty", PRINCIPAL_ACTIVE);
	add_row(b, "dev-empty", two, false, "", 0);
	add_device(b, "dev-many", PRINCIPAL_ACTIVE);
	for (int i = 0; i < 6; i++)
		add_key(b, "dev-many", (enum key)(KEY_MANY + i), false);
	fleet = snapshot_build(b, 1);
	return fleet ? 0 : -1;
}

static int drop_fleet(void **state)
{
	(void)state;
	snapshot_release(fleet);
	for (int i = 0; i < KEY_COUNT; i++)
		EVP_PKEY_free(keys[i]);
	return 0;
}

/* --- Making tokens --- */

/* Who signs, and how. Behind the text in t comes the dot and the signature. */
typedef void signer(struct jwt_text *t, enum key key);

static void raw(struct jwt_text *t, enum key key)
{
	ECDSA_SIG *s = jwt_sign(keys[key], t->at, t->len);

	jwt_append(t, ".", 1);
	jwt_append_raw(t, ECDSA_SIG_get0_r(s), ECDSA_SIG_get0_s(s), key == KEY_P384 ? 48 : 32);
	ECDSA_SIG_free(s);
}

static void der(struct jwt_text *t, enum key key)
{
	ECDSA_SIG *s = jwt_sign(keys[key], t->at, t->len);
	uint8_t *bytes = NULL;
	int len = i2d_ECDSA_SIG(s, &bytes);

	jwt_append(t, ".", 1);
	jwt_append_encoded(t, bytes, (size_t)len);
	OPENSSL_free(bytes);
	ECDSA_SIG_free(s);
}

/* r, s or both replaced by a number; 0: as signed. */
static void forged(struct jwt_text *t, enum key key, const BIGNUM *new_r, const BIGNUM *new_s)
{
	ECDSA_SIG *s = jwt_sign(keys[key], t->at, t->len);

	jwt_append(t, ".", 1);
	jwt_append_raw(t, new_r ? new_r : ECDSA_SIG_get0_r(s), new_s ? new_s : ECDSA_SIG_get0_s(s),
		       32);
	ECDSA_SIG_free(s);
}

static const BIGNUM *order(void)
{
	static EC_GROUP *group;

	if (!group)
		group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
	return EC_GROUP_get0_order(group);
}

static void zeros(struct jwt_text *t, enum key key)
{
	BIGNUM *zero = BN_new();

	forged(t, key, zero, zero);
	BN_free(zero);
}

static void r_zero(struct jwt_text *t, enum key key)
{
	BIGNUM *zero = BN_new();

	forged(t, key, zero, NULL);
	BN_free(zero);
}

static void s_zero(struct jwt_text *t, enum key key)
{
	BIGNUM *zero = BN_new();

	forged(t, key, NULL, zero);
	BN_free(zero);
}

static void orders(struct jwt_text *t, enum key key)
{
	forged(t, key, order(), order());
}

static void ones(struct jwt_text *t, enum key key)
{
	BIGNUM *one = BN_new();

	BN_one(one);
	forged(t, key, one, one);
	BN_free(one);
}

static void other_s(struct jwt_text *t, enum key key)
{
	ECDSA_SIG *s = jwt_sign(keys[key], t->at, t->len);
	BIGNUM *other = BN_new();

	BN_sub(other, order(), ECDSA_SIG_get0_s(s));
	jwt_append(t, ".", 1);
	jwt_append_raw(t, ECDSA_SIG_get0_r(s), other, 32);
	BN_free(other);
	ECDSA_SIG_free(s);
}

static void swapped(struct jwt_text *t, enum key key)
{
	ECDSA_SIG *s = jwt_sign(keys[key], t->at, t->len);

	jwt_append(t, ".", 1);
	jwt_append_raw(t, ECDSA_SIG_get0_s(s), ECDSA_SIG_get0_r(s), 32);
	ECDSA_SIG_free(s);
}

static void of_another(struct jwt_text *t, enum key key)
{
	ECDSA_SIG *s = jwt_sign(keys[key], "another token", 13);

	jwt_append(t, ".", 1);
	jwt_append_raw(t, ECDSA_SIG_get0_r(s), ECDSA_SIG_get0_s(s), 32);
	ECDSA_SIG_free(s);
}

static void hmac(struct jwt_text *t, const void *secret, size_t len)
{
	uint8_t mac[EVP_MAX_MD_SIZE];
	unsigned mac_len;

	HMAC(EVP_sha256(), secret, (int)len, (const uint8_t *)t->at, t->len, mac, &mac_len);
	jwt_append(t, ".", 1);
	jwt_append_encoded(t, mac, mac_len);
}

static void hmac_pem(struct jwt_text *t, enum key key)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *pem;
	long len;

	assert_true(PEM_write_bio_PUBKEY(bio, keys[key]));
	len = BIO_get_mem_data(bio, &pem);
	hmac(t, pem, (size_t)len);
	BIO_free(bio);
}

static void hmac_der(struct jwt_text *t, enum key key)
{
	uint8_t *bytes;
	size_t len = spki(key, &bytes);

	hmac(t, bytes, len);
	OPENSSL_free(bytes);
}

static void without(struct jwt_text *t, enum key key)
{
	(void)key;
	jwt_append(t, ".", 1);
}

static void long_one(struct jwt_text *t, enum key key)
{
	raw(t, key);
	jwt_append(t, "AAAA", 4);
}

/* What happens to a signed token on its way. */
typedef void change(struct jwt_text *t);

static void insert(struct jwt_text *t, size_t at, const char *bytes, size_t len)
{
	memmove(t->at + at + len, t->at + at, t->len - at + 1);
	memcpy(t->at + at, bytes, len);
	t->len += len;
}

static size_t dot(const struct jwt_text *t, int n)
{
	size_t at = strcspn(t->at, ".");

	while (--n > 0)
		at += 1 + strcspn(t->at + at + 1, ".");
	return at;
}

static void cut(struct jwt_text *t, size_t from, size_t to)
{
	memmove(t->at + from, t->at + to, t->len - to + 1);
	t->len -= to - from;
}

/* clang-format off */
static void newline_behind(struct jwt_text *t) { jwt_append(t, "\n", 1); }
static void space_before(struct jwt_text *t) { insert(t, 0, " ", 1); }
static void newline_inside(struct jwt_text *t) { insert(t, dot(t, 2) + 20, "\r\n", 2); }
static void nul_behind(struct jwt_text *t) { jwt_append(t, "\0", 1); }
static void nul_inside(struct jwt_text *t) { insert(t, dot(t, 2), "\0", 1); }
static void padded(struct jwt_text *t) { jwt_append(t, "==", 2); }
static void bytes_behind(struct jwt_text *t) { jwt_append(t, "A", 1); }
static void fourth_part(struct jwt_text *t) { jwt_append(t, ".AAAA", 5); }
static void fifth_part(struct jwt_text *t) { jwt_append(t, "..AAAA", 6); }
static void dot_behind(struct jwt_text *t) { jwt_append(t, ".", 1); }
static void dot_before(struct jwt_text *t) { insert(t, 0, ".", 1); }
static void no_header(struct jwt_text *t) { cut(t, 0, dot(t, 1)); }
static void no_claims(struct jwt_text *t) { cut(t, dot(t, 1) + 1, dot(t, 2)); }
static void no_signature(struct jwt_text *t) { cut(t, dot(t, 2) + 1, t->len); }
static void no_last_part(struct jwt_text *t) { cut(t, dot(t, 2), t->len); }
static void one_part(struct jwt_text *t) { cut(t, dot(t, 1), t->len); }
static void nothing(struct jwt_text *t) { cut(t, 0, t->len); }
static void two_dots(struct jwt_text *t) { cut(t, 0, t->len); jwt_append(t, "..", 2); }
static void half_signature(struct jwt_text *t) { cut(t, dot(t, 2) + 1 + 44, t->len); }
static void short_header(struct jwt_text *t) { cut(t, dot(t, 1) - 4, dot(t, 1)); }
static void odd_header(struct jwt_text *t) { insert(t, dot(t, 1), "A", 1); }
static void bearer(struct jwt_text *t) { insert(t, 0, "Bearer ", 7); }
static void quoted(struct jwt_text *t) { insert(t, 0, "\"", 1); jwt_append(t, "\"", 1); }
/* clang-format on */

/* Whole groups of four characters are left: good base64url of half a JSON text. */
static void short_claims(struct jwt_text *t)
{
	size_t from = dot(t, 1) + 1, len = dot(t, 2) - from;

	cut(t, from + len / 4 * 4 - 4, from + len);
}

static void stray_bits(struct jwt_text *t)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

	/* 64 bytes leave 4 of the last character's 6 bits unused. */
	t->at[t->len - 1] = digits[strchr(digits, t->at[t->len - 1]) - digits + 1];
}

static void standard_alphabet(struct jwt_text *t)
{
	t->at[t->len - 40] = '+';
	t->at[t->len - 39] = '/';
}

static void lower_case(struct jwt_text *t)
{
	/* All but the last, of which not every letter may be there. */
	for (size_t i = dot(t, 2) + 1; i < t->len - 1; i++)
		if (t->at[i] >= 'A' && t->at[i] <= 'Z')
			t->at[i] = (char)(t->at[i] - 'A' + 'a');
}

/* Both of these are made of a good token's JSON, so nothing else is wrong with them. */
#define HEADER	   "{\"typ\":\"JWT\",\"alg\":\"ES256\"}"
#define ALG(alg)   "{\"typ\":\"JWT\",\"alg\":" alg "}"
#define HEAD(more) "{\"typ\":\"JWT\",\"alg\":\"ES256\"," more "}"
#define DATES	   "\"iat\":1699999990,\"exp\":1700000600"
#define CLAIMS	   "{\"sub\":\"dev-1\"," DATES "}"
#define SUB(sub)   "{\"sub\":" sub "," DATES "}"
#define TIME(more) "{\"sub\":\"dev-1\"," more "}"
#define WITH(more) "{\"sub\":\"dev-1\"," DATES "," more "}"

struct line {
	const char *name;
	const char *header, *claims;
	enum key key;
	signer *sign;
	change *change;
	const char *device; /* that the line in the log is about; NULL: about none */
	const char *why;
};

static const struct jwt_rules strict = {.leeway_s = 300, .max_lifetime_s = 3600};

static void make_of(struct jwt_text *t, const char *header, const void *claims, size_t claims_len,
		    signer *sign_it, enum key key)
{
	t->len = 0;
	jwt_append_encoded(t, header, strlen(header));
	jwt_append(t, ".", 1);
	jwt_append_encoded(t, claims, claims_len);
	sign_it(t, key);
}

static void make(struct jwt_text *t, const struct line *l)
{
	make_of(t, l->header, l->claims, strlen(l->claims), l->sign ? l->sign : raw, l->key);
	if (l->change)
		l->change(t);
}

/* As it comes in a datagram: without a NUL, and nothing readable behind it. */
static void judge_at(struct identity *who, const struct jwt_rules *rules, const char *text,
		     size_t len, int64_t now_s)
{
	char *copy = malloc(len ? len : 1);

	assert_non_null(copy);
	memcpy(copy, text, len);
	memset(who, 0xa5, sizeof(*who));
	jwt_authenticate(who, fleet, rules, copy, len, now_s);
	free(copy);
	assert_int_equal(ERR_peek_error(), 0);
}

static void judge(struct identity *who, const struct jwt_rules *rules, const struct jwt_text *t)
{
	judge_at(who, rules, t->at, t->len, NOW);
}

static void expect_refused(const struct identity *who, const char *name, const char *device,
			   const char *why)
{
	if (who->refusal == REFUSAL_NONE)
		fail_msg("%s: accepted", name);
	if (!strstr(who->why, why))
		fail_msg("%s: '%s' is not in '%s'", name, why, who->why);
	if (!device && who->principal)
		fail_msg("%s: names %s", name, who->principal->id);
	if (device && (!who->principal || strcmp(who->principal->id, device) != 0))
		fail_msg("%s: does not name %s", name, device);
}

/* --- The bad ones --- */

#define UNSIGNED "signed with none of its"
#define NOT_JSON "is not the JSON that it must be"

/* clang-format off */
static const struct line bad[] = {
	/* The algorithm. */
	{"alg none", ALG("\"none\""), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "`alg` is 'none'; only ES256"},
	{"alg none without signature", ALG("\"none\""), CLAIMS, KEY_DEV_1, without, NULL, NULL, "part 3 of the JWT is empty"},
	{"alg None", ALG("\"None\""), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "`alg` is 'None'"},
	{"alg nOnE", ALG("\"nOnE\""), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "`alg` is 'nOnE'"},
	{"alg empty", ALG("\"\""), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "`alg` is ''"},
	{"alg es256", ALG("\"es256\""), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "`alg` is 'es256'"},
	{"alg with a space", ALG("\"ES256 \""), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "`alg` is 'ES256 '"},
	{"alg with a NUL", ALG("\"ES256\\u0000\""), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "header " NOT_JSON},
	{"alg HS256, PEM as secret", ALG("\"HS256\""), CLAIMS, KEY_DEV_1, hmac_pem, NULL, NULL, "`alg` is 'HS256'"},
	{"alg HS256, DER as secret", ALG("\"HS256\""), CLAIMS, KEY_DEV_1, hmac_der, NULL, NULL, "`alg` is 'HS256'"},
	{"alg ES256, PEM as HMAC secret", HEADER, CLAIMS, KEY_DEV_1, hmac_pem, NULL, NULL, "32 bytes instead of 64"},
	{"alg HS512", ALG("\"HS512\""), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "`alg` is 'HS512'"},
	{"alg ES384", ALG("\"ES384\""), CLAIMS, KEY_P384, NULL, NULL, NULL, "`alg` is 'ES384'"},
	{"alg ES512", ALG("\"ES512\""), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "`alg` is 'ES512'"},
	{"alg ES256K", ALG("\"ES256K\""), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "`alg` is 'ES256K'"},
	{"alg RS256", ALG("\"RS256\""), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "`alg` is 'RS256'"},
	{"alg PS256", ALG("\"PS256\""), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "`alg` is 'PS256'"},
	{"alg EdDSA", ALG("\"EdDSA\""), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "`alg` is 'EdDSA'"},
	{"alg a number", ALG("256"), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "has no `alg`"},
	{"alg null", ALG("null"), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "has no `alg`"},
	{"alg a list", ALG("[\"ES256\"]"), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "has no `alg`"},
	{"no alg", "{\"typ\":\"JWT\"}", CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "has no `alg`"},
	{"Alg", "{\"typ\":\"JWT\",\"Alg\":\"ES256\"}", CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "has no `alg`"},

	/* The rest of the header. */
	{"alg twice, none first", "{\"alg\":\"none\",\"alg\":\"ES256\"}", CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "header " NOT_JSON},
	{"alg twice, none last", "{\"alg\":\"ES256\",\"alg\":\"none\"}", CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "header " NOT_JSON},
	{"alg twice, one escaped", "{\"alg\":\"ES256\",\"\\u0061lg\":\"none\"}", CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "header " NOT_JSON},
	{"another member twice", HEAD("\"kid\":\"a\",\"kid\":\"b\""), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "header " NOT_JSON},
	{"typ JWE", "{\"typ\":\"JWE\",\"alg\":\"ES256\"}", CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "`typ` is not JWT"},
	{"typ at+jwt", "{\"typ\":\"at+jwt\",\"alg\":\"ES256\"}", CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "`typ` is not JWT"},
	{"typ null", "{\"typ\":null,\"alg\":\"ES256\"}", CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "`typ` is not JWT"},
	{"crit", HEAD("\"crit\":[\"exp\"]"), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "has `crit`"},
	{"crit b64", HEAD("\"b64\":false,\"crit\":[\"b64\"]"), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "has `crit`"},
	{"crit null", HEAD("\"crit\":null"), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "has `crit`"},
	{"cty JWT", HEAD("\"cty\":\"JWT\""), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "has `cty`"},
	{"a token inside", HEADER, "eyJhbGciOiJFUzI1NiJ9.e30.AAAA", KEY_DEV_1, NULL, NULL, NULL, "payload " NOT_JSON},
	{"header a list", "[{\"alg\":\"ES256\"}]", CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "header is no JSON object"},
	{"header a text", "\"ES256\"", CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "header " NOT_JSON},
	{"two headers", HEADER HEADER, CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "header " NOT_JSON},
	{"comma at the end", HEAD("\"kid\":\"a\","), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "header " NOT_JSON},
	{"jwk of the attacker", HEAD("\"jwk\":{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"}"), CLAIMS, KEY_NOBODYS, NULL, NULL, "dev-1", UNSIGNED},
	{"kid of another device", HEAD("\"kid\":\"dev-2\""), CLAIMS, KEY_DEV_2, NULL, NULL, "dev-1", UNSIGNED},
	{"kid a file", HEAD("\"kid\":\"/dev/null\""), CLAIMS, KEY_NOBODYS, NULL, NULL, "dev-1", UNSIGNED},
	{"jku of the attacker", HEAD("\"jku\":\"https://192.0.2.1/keys\""), CLAIMS, KEY_NOBODYS, NULL, NULL, "dev-1", UNSIGNED},
	{"x5u and x5c of the attacker", HEAD("\"x5u\":\"https://192.0.2.1/\",\"x5c\":[\"MAA=\"]"), CLAIMS, KEY_NOBODYS, NULL, NULL, "dev-1", UNSIGNED},

	/* Its form. */
	{"nothing", HEADER, CLAIMS, KEY_DEV_1, NULL, nothing, NULL, "there is no JWT"},
	{"one part", HEADER, CLAIMS, KEY_DEV_1, NULL, one_part, NULL, "1 part(s) instead of 3"},
	{"two parts", HEADER, CLAIMS, KEY_DEV_1, NULL, no_last_part, NULL, "2 part(s) instead of 3"},
	{"four parts", HEADER, CLAIMS, KEY_DEV_1, NULL, fourth_part, NULL, "4 part(s) instead of 3"},
	{"five parts, as JWE has", HEADER, CLAIMS, KEY_DEV_1, NULL, fifth_part, NULL, "5 part(s) instead of 3"},
	{"a dot behind", HEADER, CLAIMS, KEY_DEV_1, NULL, dot_behind, NULL, "4 part(s) instead of 3"},
	{"a dot before", HEADER, CLAIMS, KEY_DEV_1, NULL, dot_before, NULL, "4 part(s) instead of 3"},
	{"two dots only", HEADER, CLAIMS, KEY_DEV_1, NULL, two_dots, NULL, "part 1 of the JWT is empty"},
	{"no header", HEADER, CLAIMS, KEY_DEV_1, NULL, no_header, NULL, "part 1 of the JWT is empty"},
	{"no claims", HEADER, CLAIMS, KEY_DEV_1, NULL, no_claims, NULL, "part 2 of the JWT is empty"},
	{"no signature", HEADER, CLAIMS, KEY_DEV_1, NULL, no_signature, NULL, "part 3 of the JWT is empty"},
	{"header cut short", HEADER, CLAIMS, KEY_DEV_1, NULL, short_header, NULL, "header " NOT_JSON},
	{"claims cut short", HEADER, CLAIMS, KEY_DEV_1, NULL, short_claims, NULL, "payload " NOT_JSON},
	{"signature cut short", HEADER, CLAIMS, KEY_DEV_1, NULL, half_signature, NULL, "33 bytes instead of 64"},
	{"a length no bytes have", HEADER, CLAIMS, KEY_DEV_1, NULL, odd_header, NULL, "part 1 of the JWT is no base64url"},
	{"stray bits at the end", HEADER, CLAIMS, KEY_DEV_1, NULL, stray_bits, NULL, "part 3 of the JWT is no base64url"},
	{"standard base64", HEADER, CLAIMS, KEY_DEV_1, NULL, standard_alphabet, NULL, "is 0x2b: only base64url"},
	{"padding", HEADER, CLAIMS, KEY_DEV_1, NULL, padded, NULL, "is 0x3d: only base64url"},
	{"newline behind", HEADER, CLAIMS, KEY_DEV_1, NULL, newline_behind, NULL, "is 0x0a: only base64url"},
	{"newline inside", HEADER, CLAIMS, KEY_DEV_1, NULL, newline_inside, NULL, "is 0x0d: only base64url"},
	{"space before", HEADER, CLAIMS, KEY_DEV_1, NULL, space_before, NULL, "byte 0 of the JWT is 0x20"},
	{"NUL behind", HEADER, CLAIMS, KEY_DEV_1, NULL, nul_behind, NULL, "is 0x00: only base64url"},
	{"NUL inside", HEADER, CLAIMS, KEY_DEV_1, NULL, nul_inside, NULL, "is 0x00: only base64url"},
	{"Bearer", HEADER, CLAIMS, KEY_DEV_1, NULL, bearer, NULL, "byte 6 of the JWT is 0x20"},
	{"in quotes", HEADER, CLAIMS, KEY_DEV_1, NULL, quoted, NULL, "byte 0 of the JWT is 0x22"},

	/* The signature. */
	{"the attacker's signature", HEADER, CLAIMS, KEY_NOBODYS, NULL, NULL, "dev-1", UNSIGNED " 2 key(s)"},
	{"another device's signature", HEADER, CLAIMS, KEY_DEV_2, NULL, NULL, "dev-1", UNSIGNED " 2 key(s)"},
	{"own signature, another's sub", HEADER, SUB("\"dev-2\""), KEY_DEV_1, NULL, NULL, "dev-2", UNSIGNED " 1 key(s)"},
	{"another token's signature", HEADER, CLAIMS, KEY_DEV_1, of_another, NULL, "dev-1", UNSIGNED},
	{"DER signature", HEADER, CLAIMS, KEY_DEV_1, der, NULL, NULL, "and not in DER"},
	{"r and s 0", HEADER, CLAIMS, KEY_DEV_1, zeros, NULL, "dev-1", UNSIGNED},
	{"r 0", HEADER, CLAIMS, KEY_DEV_1, r_zero, NULL, "dev-1", UNSIGNED},
	{"s 0", HEADER, CLAIMS, KEY_DEV_1, s_zero, NULL, "dev-1", UNSIGNED},
	{"r and s 1", HEADER, CLAIMS, KEY_DEV_1, ones, NULL, "dev-1", UNSIGNED},
	{"r and s the order", HEADER, CLAIMS, KEY_DEV_1, orders, NULL, "dev-1", UNSIGNED},
	{"r and s swapped", HEADER, CLAIMS, KEY_DEV_1, swapped, NULL, "dev-1", UNSIGNED},
	{"67 bytes", HEADER, CLAIMS, KEY_DEV_1, long_one, NULL, NULL, "67 bytes instead of 64"},
	{"one character more", HEADER, CLAIMS, KEY_DEV_1, NULL, bytes_behind, NULL, "65 bytes instead of 64"},
	{"lower case", HEADER, CLAIMS, KEY_DEV_1, NULL, lower_case, "dev-1", UNSIGNED},
	{"P-384", HEADER, SUB("\"dev-p384\""), KEY_P384, NULL, NULL, NULL, "96 bytes instead of 64"},

	/* What is wrong with the registry's row. */
	{"row with a key of P-384", HEADER, SUB("\"dev-p384\""), KEY_DEV_1, NULL, NULL, "dev-p384", "`material` is no P-256 public key"},
	{"row with a key of SM2", HEADER, SUB("\"dev-sm2\""), KEY_DEV_1, NULL, NULL, "dev-sm2", "`material` is no P-256 public key"},
	{"row with a curve of its own", HEADER, SUB("\"dev-explicit\""), KEY_EXPLICIT, NULL, NULL, "dev-explicit", "`material` is no P-256 public key"},
	{"row with a compressed point", HEADER, SUB("\"dev-compressed\""), KEY_COMPRESSED, NULL, NULL, "dev-compressed", "`material` is no P-256 public key"},
	{"row without material", HEADER, SUB("\"dev-null\""), KEY_DEV_1, NULL, NULL, "dev-null", "begins with 01000000 is of no use: `material` is no"},
	{"row with empty material", HEADER, SUB("\"dev-empty\""), KEY_DEV_1, NULL, NULL, "dev-empty", "begins with 02000000 is of no use: `material` is no"},
	{"row with another's fingerprint", HEADER, SUB("\"dev-misfiled\""), KEY_MISFILED, NULL, NULL, "dev-misfiled", "`fingerprint` is not the SHA-256 of `material`"},
	{"no key at all", HEADER, SUB("\"dev-bare\""), KEY_DEV_1, NULL, NULL, "dev-bare", "it has no key for JWTs that is not revoked"},
	{"more keys than are tried", HEADER, SUB("\"dev-many\""), KEY_NOBODYS, NULL, NULL, "dev-many", UNSIGNED " 6 key(s): was it replaced? register the new one with `pki/fleet jwt-key dev-many FILE`; only 4 were tried"},

	/* Who it is. */
	{"revoked key", HEADER, CLAIMS, KEY_DEV_1_REVOKED, NULL, NULL, "dev-1", "the key of this JWT is revoked; dev-1 itself is active and has 2 other"},
	{"only key revoked", HEADER, SUB("\"dev-old\""), KEY_ALL_REVOKED, NULL, NULL, "dev-old", "the key of this JWT is revoked"},
	{"only key revoked, forged", HEADER, SUB("\"dev-old\""), KEY_DEV_1, NULL, NULL, "dev-old", "it has no key for JWTs that is not revoked"},
	{"pending device", HEADER, SUB("\"dev-p\""), KEY_PENDING, NULL, NULL, "dev-p", "pending: registered but not let in yet"},
	{"suspended device", HEADER, SUB("\"dev-s\""), KEY_SUSPENDED, NULL, NULL, "dev-s", "suspended; to let it in again"},
	{"revoked device", HEADER, SUB("\"dev-r\""), KEY_REVOKED, NULL, NULL, "dev-r", "revoked, which is meant to be for good"},
	{"unknown device", HEADER, SUB("\"dev-9\""), KEY_DEV_1, NULL, NULL, NULL, "`sub` is 'dev-9', who is not registered"},
	{"sub in other case", HEADER, SUB("\"DEV-1\""), KEY_DEV_1, NULL, NULL, NULL, "`sub` is 'DEV-1', who is not registered"},
	{"no sub", HEADER, "{\"iss\":\"dev-1\"," DATES "}", KEY_DEV_1, NULL, NULL, NULL, "has no `sub`"},
	{"sub empty", HEADER, SUB("\"\""), KEY_DEV_1, NULL, NULL, NULL, "`sub` is '', which can be no device's id"},
	{"sub a list", HEADER, SUB("[\"dev-1\"]"), KEY_DEV_1, NULL, NULL, NULL, "has no `sub`"},
	{"sub a number", HEADER, SUB("1"), KEY_DEV_1, NULL, NULL, NULL, "has no `sub`"},
	{"sub null", HEADER, SUB("null"), KEY_DEV_1, NULL, NULL, NULL, "has no `sub`"},
	{"sub with a slash", HEADER, SUB("\"dev-1/x\""), KEY_DEV_1, NULL, NULL, NULL, "which can be no device's id"},
	{"sub with a space", HEADER, SUB("\"dev-1 \""), KEY_DEV_1, NULL, NULL, NULL, "which can be no device's id"},
	{"sub with a NUL", HEADER, SUB("\"dev-1\\u0000\""), KEY_DEV_1, NULL, NULL, NULL, "payload " NOT_JSON},
	{"sub too long", HEADER, SUB("\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\""), KEY_DEV_1, NULL, NULL, NULL, "which can be no device's id"},
	{"sub twice", HEADER, "{\"sub\":\"dev-2\",\"sub\":\"dev-1\"," DATES "}", KEY_DEV_1, NULL, NULL, NULL, "payload " NOT_JSON},
	{"sub twice, one escaped", HEADER, "{\"sub\":\"dev-1\",\"\\u0073ub\":\"dev-2\"," DATES "}", KEY_DEV_1, NULL, NULL, NULL, "payload " NOT_JSON},

	/* Dates. Now is 1700000000, leeway 300 s, lifetime 3600 s. */
	{"expired", HEADER, TIME("\"iat\":1699996100,\"exp\":1699999700"), KEY_DEV_1, NULL, NULL, "dev-1", "expired 300 s ago"},
	{"expired long ago", HEADER, TIME("\"iat\":1,\"exp\":2"), KEY_DEV_1, NULL, NULL, "dev-1", "expired 1699999998 s ago"},
	{"issued in the future", HEADER, TIME("\"iat\":1700000301,\"exp\":1700000600"), KEY_DEV_1, NULL, NULL, "dev-1", "was issued 301 s in the future"},
	{"not valid yet", HEADER, WITH("\"nbf\":1700000301"), KEY_DEV_1, NULL, NULL, "dev-1", "not valid before 301 s from now"},
	{"iat, no exp", HEADER, TIME("\"iat\":1699999990"), KEY_DEV_1, NULL, NULL, "dev-1", "has `iat` but no `exp`"},
	{"neither iat nor exp", HEADER, "{\"sub\":\"dev-1\"}", KEY_DEV_1, NULL, NULL, "dev-1", "coap.jwt_clockless = accept"},
	{"nbf only", HEADER, TIME("\"nbf\":1699999990"), KEY_DEV_1, NULL, NULL, "dev-1", "coap.jwt_clockless = accept"},
	{"good for too long", HEADER, TIME("\"iat\":1700000000,\"exp\":1700003601"), KEY_DEV_1, NULL, NULL, "dev-1", "is good for 3601 s, longer than the 3600 s"},
	{"good for too long from now", HEADER, TIME("\"exp\":1700003601"), KEY_DEV_1, NULL, NULL, "dev-1", "is good for 3601 s, longer than the 3600 s"},
	{"good for ever", HEADER, TIME("\"exp\":253402300799"), KEY_DEV_1, NULL, NULL, "dev-1", "longer than the 3600 s"},
	{"exp before iat", HEADER, TIME("\"iat\":1700000100,\"exp\":1700000099"), KEY_DEV_1, NULL, NULL, "dev-1", "`exp` is not after its `iat`"},
	{"exp at iat", HEADER, TIME("\"iat\":1700000100,\"exp\":1700000100"), KEY_DEV_1, NULL, NULL, "dev-1", "`exp` is not after its `iat`"},
	{"exp a text", HEADER, TIME("\"exp\":\"1700000600\""), KEY_DEV_1, NULL, NULL, "dev-1", "`exp` is no whole number"},
	{"exp a fraction", HEADER, TIME("\"exp\":1700000600.5"), KEY_DEV_1, NULL, NULL, "dev-1", "`exp` is no whole number"},
	{"exp with an exponent", HEADER, TIME("\"exp\":17e8"), KEY_DEV_1, NULL, NULL, "dev-1", "`exp` is no whole number"},
	{"exp null", HEADER, TIME("\"exp\":null"), KEY_DEV_1, NULL, NULL, "dev-1", "`exp` is no whole number"},
	{"exp true", HEADER, TIME("\"exp\":true"), KEY_DEV_1, NULL, NULL, "dev-1", "`exp` is no whole number"},
	{"exp a list", HEADER, TIME("\"exp\":[1700000600]"), KEY_DEV_1, NULL, NULL, "dev-1", "`exp` is no whole number"},
	{"exp negative", HEADER, TIME("\"exp\":-1"), KEY_DEV_1, NULL, NULL, "dev-1", "`exp` is -1, which is not between"},
	{"exp 0", HEADER, TIME("\"exp\":0"), KEY_DEV_1, NULL, NULL, "dev-1", "expired 1700000000 s ago"},
	{"exp of the year 10000", HEADER, TIME("\"exp\":253402300800"), KEY_DEV_1, NULL, NULL, "dev-1", "which is not between"},
	{"exp 2^63 - 1", HEADER, TIME("\"exp\":9223372036854775807"), KEY_DEV_1, NULL, NULL, "dev-1", "which is not between"},
	{"exp 2^63", HEADER, TIME("\"exp\":9223372036854775808"), KEY_DEV_1, NULL, NULL, NULL, "payload " NOT_JSON},
	{"exp 2^64 + 1700000600", HEADER, TIME("\"exp\":18446744075409552216"), KEY_DEV_1, NULL, NULL, NULL, "payload " NOT_JSON},
	{"exp 1e999", HEADER, TIME("\"exp\":1e999"), KEY_DEV_1, NULL, NULL, NULL, "payload " NOT_JSON},
	{"exp NaN", HEADER, TIME("\"exp\":NaN"), KEY_DEV_1, NULL, NULL, NULL, "payload " NOT_JSON},
	{"exp twice", HEADER, WITH("\"exp\":253402300799"), KEY_DEV_1, NULL, NULL, NULL, "payload " NOT_JSON},
	{"iat before 1970", HEADER, TIME("\"iat\":-86400,\"exp\":1700000600"), KEY_DEV_1, NULL, NULL, "dev-1", "`iat` is -86400, which is not between"},
	{"iat -2^63", HEADER, TIME("\"iat\":-9223372036854775808,\"exp\":1700000600"), KEY_DEV_1, NULL, NULL, "dev-1", "which is not between"},
	{"iat a text", HEADER, TIME("\"iat\":\"1699999990\",\"exp\":1700000600"), KEY_DEV_1, NULL, NULL, "dev-1", "`iat` is no whole number"},
	{"nbf a text", HEADER, WITH("\"nbf\":\"0\""), KEY_DEV_1, NULL, NULL, "dev-1", "`nbf` is no whole number"},
	{"nbf 2^63 - 1", HEADER, WITH("\"nbf\":9223372036854775807"), KEY_DEV_1, NULL, NULL, "dev-1", "which is not between"},

	/* The rest of the payload. */
	{"aud a number", HEADER, WITH("\"aud\":5"), KEY_DEV_1, NULL, NULL, "dev-1", "`aud` is neither a text nor a list"},
	{"aud null", HEADER, WITH("\"aud\":null"), KEY_DEV_1, NULL, NULL, "dev-1", "`aud` is neither a text nor a list"},
	{"aud an object", HEADER, WITH("\"aud\":{}"), KEY_DEV_1, NULL, NULL, "dev-1", "`aud` is neither a text nor a list"},
	{"aud an empty list", HEADER, WITH("\"aud\":[]"), KEY_DEV_1, NULL, NULL, "dev-1", "`aud` is neither a text nor a list"},
	{"aud a list with a number", HEADER, WITH("\"aud\":[\"a\",1]"), KEY_DEV_1, NULL, NULL, "dev-1", "`aud` holds something that is no text"},
	{"payload a list", HEADER, "[" CLAIMS "]", KEY_DEV_1, NULL, NULL, NULL, "payload is no JSON object"},
	{"payload a text", HEADER, "\"dev-1\"", KEY_DEV_1, NULL, NULL, NULL, "payload " NOT_JSON},
	{"payload null", HEADER, "null", KEY_DEV_1, NULL, NULL, NULL, "payload " NOT_JSON},
	{"payload not JSON", HEADER, "dev-1", KEY_DEV_1, NULL, NULL, NULL, "payload " NOT_JSON},
	{"payload with bytes behind", HEADER, CLAIMS "x", KEY_DEV_1, NULL, NULL, NULL, "payload " NOT_JSON},
	{"payload twice", HEADER, CLAIMS CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "payload " NOT_JSON},
	{"invalid UTF-8", HEADER, WITH("\"iss\":\"\xff\""), KEY_DEV_1, NULL, NULL, NULL, "payload " NOT_JSON},
	{"overlong UTF-8", HEADER, WITH("\"iss\":\"\xc0\xaf\""), KEY_DEV_1, NULL, NULL, NULL, "payload " NOT_JSON},
	{"half a surrogate pair", HEADER, WITH("\"iss\":\"\\ud800\""), KEY_DEV_1, NULL, NULL, NULL, "payload " NOT_JSON},
	{"byte order mark", HEADER, "\xef\xbb\xbf" CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "payload " NOT_JSON},
	{"control character in a text", HEADER, WITH("\"iss\":\"\n\""), KEY_DEV_1, NULL, NULL, NULL, "payload " NOT_JSON},
	{"comment", HEADER, "/**/" CLAIMS, KEY_DEV_1, NULL, NULL, NULL, "payload " NOT_JSON},
};
/* clang-format on */

static void test_bad_tokens_are_refused_and_the_log_says_why(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		struct identity who;
		struct jwt_text t;

		make(&t, &bad[i]);
		assert_true(t.len <= JWT_MAX);
		judge(&who, &strict, &t);
		expect_refused(&who, bad[i].name, bad[i].device, bad[i].why);
	}
}

static void expect_dev_1(const struct identity *who, const char *name, enum key key)
{
	uint8_t *bytes;
	size_t len = spki(key, &bytes);

	if (who->refusal != REFUSAL_NONE)
		fail_msg("%s: %s", name, who->why);
	assert_string_equal(who->principal->id, "dev-1");
	assert_string_equal(who->why, "");
	assert_int_equal(who->credential->kind, CREDENTIAL_JWT);
	assert_int_equal(who->credential->material_len, len);
	assert_memory_equal(who->credential->material, bytes, len);
	OPENSSL_free(bytes);
}

/* A token of this many bytes, all of them signed. */
static void make_long(struct jwt_text *t, size_t wanted)
{
	char claims[JWT_TEXT_MAX] = WITH("\"jti\":\"");
	size_t n = strlen(claims) - 1; /* without the brace at the end */

	/* A member that is filled up until the length is right; 4 characters stand for 3 bytes. */
	for (;;) {
		memcpy(claims + n, "\"}", 3);
		make_of(t, "{\"typ\":\"JWT\", \"alg\":\"ES256\"}", claims, n + 2, raw, KEY_DEV_1);
		if (t->len >= wanted)
			return;
		claims[n++] = 'x';
	}
}

static void test_1024_bytes_are_the_most(void **state)
{
	struct identity who;
	struct jwt_text t;

	(void)state;
	make_long(&t, JWT_MAX);
	assert_int_equal(t.len, JWT_MAX);
	judge(&who, &strict, &t);
	expect_dev_1(&who, "1024 bytes", KEY_DEV_1);
	make_long(&t, JWT_MAX + 1);
	assert_int_equal(t.len, JWT_MAX + 1);
	judge(&who, &strict, &t);
	expect_refused(&who, "1025 bytes", NULL, "the JWT has 1025 bytes, more than 1024");
}

static void test_every_shorter_token_is_refused(void **state)
{
	const struct line good = {"good", HEADER, CLAIMS, KEY_DEV_1, NULL, NULL, NULL, ""};
	struct identity who;
	struct jwt_text t;

	(void)state;
	make(&t, &good);
	for (size_t len = 0; len < t.len; len++) {
		judge_at(&who, &strict, t.at, len, NOW);
		if (who.refusal == REFUSAL_NONE)
			fail_msg("accepted with %zu of %zu bytes", len, t.len);
	}
}

static void test_no_bit_of_a_token_can_be_changed(void **state)
{
	const struct line good = {"good", HEADER, CLAIMS, KEY_DEV_1, NULL, NULL, NULL, ""};
	struct identity who;
	struct jwt_text t;

	(void)state;
	make(&t, &good);
	for (size_t bit = 0; bit < 8 * t.len; bit++) {
		t.at[bit / 8] = (char)(t.at[bit / 8] ^ (1 << bit % 8));
		judge(&who, &strict, &t);
		if (who.refusal == REFUSAL_NONE)
			fail_msg("accepted with bit %zu changed", bit);
		t.at[bit / 8] = (char)(t.at[bit / 8] ^ (1 << bit % 8));
	}
	judge(&who, &strict, &t);
	expect_dev_1(&who, "unchanged", KEY_DEV_1);
}

static void test_lists_without_end_are_no_json(void **state)
{
	char claims[600];
	struct identity who;
	struct jwt_text t;

	(void)state;
	memset(claims, '[', sizeof(claims));
	make_of(&t, HEADER, claims, sizeof(claims), raw, KEY_DEV_1);
	judge(&who, &strict, &t);
	expect_refused(&who, "lists", NULL, "payload " NOT_JSON);
	for (size_t i = 0; i + 4 < sizeof(claims); i += 5)
		memcpy(claims + i, "{\"a\":", 5);
	make_of(&t, HEADER, claims, sizeof(claims), raw, KEY_DEV_1);
	judge(&who, &strict, &t);
	expect_refused(&who, "objects", NULL, "payload " NOT_JSON);
}

/* --- The good ones --- */

/* What AT%JWT makes: the ids are those of Nordic's documentation in form. */
#define NORDIC                                                                                     \
	"{\"iss\":\"nRF9160.50503041-3633-4261-803d-1e2b8f70111a\","                               \
	"\"jti\":\"nRF9160.9a2e0ab7-0c2a-4a87-a2e2-5f3b3c3c9f4b."                                  \
	"02aa05d09f3a1e1ab50b8a0f3ba2b4c5\",\"sub\":\"dev-1\"," DATES "}"

/* clang-format off */
static const struct line good[] = {
	{"Nordic's modem", "{\"alg\":\"ES256\",\"typ\":\"JWT\"}", NORDIC, KEY_DEV_1, NULL, NULL, NULL, ""},
	{"sub and exp only", "{\"alg\":\"ES256\"}", TIME("\"exp\":1700000600"), KEY_DEV_1, NULL, NULL, NULL, ""},
	{"typ jwt", "{\"alg\":\"ES256\",\"typ\":\"jwt\"}", CLAIMS, KEY_DEV_1, NULL, NULL, NULL, ""},
	{"white space in the JSON", "{ \"alg\" : \"ES256\" }\n", " " CLAIMS "\r\n", KEY_DEV_1, NULL, NULL, NULL, ""},
	{"escapes in the JSON", "{\"\\u0061lg\":\"\\u0045S256\"}", SUB("\"\\u0064ev-1\""), KEY_DEV_1, NULL, NULL, NULL, ""},
	{"second key, as after a rotation", HEADER, CLAIMS, KEY_DEV_1_NEW, NULL, NULL, NULL, ""},
	{"kid of another device", HEAD("\"kid\":\"dev-2\""), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, ""},
	{"kid no text", HEAD("\"kid\":5"), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, ""},
	{"jwk, jku, x5u, x5c", HEAD("\"jwk\":{},\"jku\":\"x\",\"x5u\":\"x\",\"x5c\":[]"), CLAIMS, KEY_DEV_1, NULL, NULL, NULL, ""},
	{"aud a text", HEADER, WITH("\"aud\":\"anybody\""), KEY_DEV_1, NULL, NULL, NULL, ""},
	{"aud a list", HEADER, WITH("\"aud\":[\"anybody\",\"else\"]"), KEY_DEV_1, NULL, NULL, NULL, ""},
	{"unknown claims", HEADER, WITH("\"iss\":7,\"jti\":null,\"x\":{\"sub\":\"dev-2\"}"), KEY_DEV_1, NULL, NULL, NULL, ""},
	{"deep but whole", HEADER, WITH("\"x\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"), KEY_DEV_1, NULL, NULL, NULL, ""},
	{"last second", HEADER, TIME("\"iat\":1699996101,\"exp\":1699999701"), KEY_DEV_1, NULL, NULL, NULL, ""},
	{"a fast clock", HEADER, TIME("\"iat\":1700000300,\"nbf\":1700000300,\"exp\":1700003900"), KEY_DEV_1, NULL, NULL, NULL, ""},
	{"longest lifetime", HEADER, TIME("\"iat\":1700000000,\"exp\":1700003600"), KEY_DEV_1, NULL, NULL, NULL, ""},
	/* ECDSA is malleable: (r, n - s) verifies wherever (r, s) does. RFC 7518 does not ask for the
	 * lower one, modems make both, and nothing here takes a token for unique. */
	{"the other s", HEADER, CLAIMS, KEY_DEV_1, other_s, NULL, NULL, ""},
};
/* clang-format on */

static void test_good_tokens_are_their_device(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT_OF(good); i++) {
		struct identity who;
		struct jwt_text t;

		make(&t, &good[i]);
		judge(&who, &strict, &t);
		expect_dev_1(&who, good[i].name, good[i].key);
	}
}

static void test_at_most_four_keys_are_tried(void **state)
{
	unsigned accepted = 0;

	(void)state;
	for (int i = 0; i < 6; i++) {
		struct identity who;
		struct jwt_text t;

		make_of(&t, HEADER, SUB("\"dev-many\""), strlen(SUB("\"dev-many\"")), raw,
			(enum key)(KEY_MANY + i));
		judge(&who, &strict, &t);
		accepted += who.refusal == REFUSAL_NONE;
	}
	assert_int_equal(accepted, 4);
}

/* --- What the operator has set --- */

static void with_rules(struct identity *who, const struct jwt_rules *rules, const char *claims,
		       int64_t now_s)
{
	struct jwt_text t;

	make_of(&t, HEADER, claims, strlen(claims), raw, KEY_DEV_1);
	judge_at(who, rules, t.at, t.len, now_s);
}

static void test_clockless_tokens_only_when_they_are_let_in(void **state)
{
	const struct jwt_rules accept = {
		.leeway_s = 300, .max_lifetime_s = 3600, .accept_clockless = true};
	struct identity who;

	(void)state;
	with_rules(&who, &accept, "{\"sub\":\"dev-1\",\"jti\":\"a\"}", NOW);
	expect_dev_1(&who, "clockless", KEY_DEV_1);
	/* A modem that knows the time is held to it all the same. */
	with_rules(&who, &accept, TIME("\"exp\":1699999700"), NOW);
	expect_refused(&who, "expired", "dev-1", "expired 300 s ago");
	with_rules(&who, &accept, TIME("\"iat\":1699999990"), NOW);
	expect_refused(&who, "no exp", "dev-1", "has `iat` but no `exp`");
	with_rules(&who, &accept, TIME("\"nbf\":1700000301"), NOW);
	expect_refused(&who, "nbf", "dev-1", "not valid before");
	with_rules(&who, &strict, "{\"sub\":\"dev-1\"}", NOW);
	expect_refused(&who, "clockless", "dev-1", "coap.jwt_clockless");
}

static void test_audience_is_asked_of_those_who_name_one(void **state)
{
	const struct jwt_rules rules = {.leeway_s = 300, .audience = "fieldgate"};
	static const char *const in[] = {
		CLAIMS,
		WITH("\"aud\":\"fieldgate\""),
		WITH("\"aud\":[\"x\",\"fieldgate\"]"),
		WITH("\"aud\":[\"fieldgate\",\"x\"]"),
	};
	static const char *const out[] = {
		WITH("\"aud\":\"fieldgat\""),
		WITH("\"aud\":\"fieldgate2\""),
		WITH("\"aud\":\"Fieldgate\""),
		WITH("\"aud\":\"\""),
		WITH("\"aud\":[\"x\",\"y\"]"),
		WITH("\"aud\":[[\"fieldgate\"]]"),
		WITH("\"aud\":[\"fieldgate\",7]"),
		WITH("\"aud\":{\"fieldgate\":1}"),
		WITH("\"aud\":[]"),
	};
	struct identity who;

	(void)state;
	for (size_t i = 0; i < COUNT_OF(in); i++) {
		with_rules(&who, &rules, in[i], NOW);
		expect_dev_1(&who, in[i], KEY_DEV_1);
	}
	for (size_t i = 0; i < COUNT_OF(out); i++) {
		with_rules(&who, &rules, out[i], NOW);
		expect_refused(&who, out[i], "dev-1", "`aud`");
	}
}

static void test_leeway_and_lifetime_can_be_switched_off(void **state)
{
	const struct jwt_rules any = {0};
	struct identity who;

	(void)state;
	with_rules(&who, &any, TIME("\"iat\":0,\"exp\":253402300799"), NOW);
	expect_dev_1(&who, "any lifetime", KEY_DEV_1);
	with_rules(&who, &any, TIME("\"iat\":1700000000,\"exp\":1700000001"), NOW);
	expect_dev_1(&who, "to the second", KEY_DEV_1);
	with_rules(&who, &any, TIME("\"iat\":1700000001,\"exp\":1700000002"), NOW);
	expect_refused(&who, "1 s early", "dev-1", "issued 1 s in the future");
	with_rules(&who, &any, TIME("\"iat\":1699999999,\"exp\":1700000000"), NOW);
	expect_refused(&who, "at its end", "dev-1", "expired 0 s ago");
}

/* --- base64url --- */

static void test_base64url_is_strict(void **state)
{
	static const struct {
		const char *text, *bytes; /* NULL: refused */
	} lines[] = {
		{"", ""},	    {"Zg", "f"},	  {"Zm8", "fo"},       {"Zm9v", "foo"},
		{"Zm9vYg", "foob"}, {"Zm9vYmE", "fooba"}, {"_-8", "\xff\xef"}, {"Z", NULL},
		{"Zm9vY", NULL},    {"Zg==", NULL},	  {"Zh", NULL},	       {"Zm9", NULL},
		{"Zm 9v", NULL},    {"+/8", NULL},	  {"Zm9v.", NULL},
	};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(lines); i++) {
		size_t len = strlen(lines[i].text);
		uint8_t out[16] = {0};
		bool done = base64url_decode(out, lines[i].text, len);

		if (done != (lines[i].bytes != NULL))
			fail_msg("'%s'", lines[i].text);
		if (!done)
			continue;
		assert_int_equal(BASE64URL_DECODED(len), strlen(lines[i].bytes));
		assert_memory_equal(out, lines[i].bytes, strlen(lines[i].bytes));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_tokens_are_refused_and_the_log_says_why),
		cmocka_unit_test(test_1024_bytes_are_the_most),
		cmocka_unit_test(test_every_shorter_token_is_refused),
		cmocka_unit_test(test_no_bit_of_a_token_can_be_changed),
		cmocka_unit_test(test_lists_without_end_are_no_json),
		cmocka_unit_test(test_good_tokens_are_their_device),
		cmocka_unit_test(test_at_most_four_keys_are_tried),
		cmocka_unit_test(test_clockless_tokens_only_when_they_are_let_in),
		cmocka_unit_test(test_audience_is_asked_of_those_who_name_one),
		cmocka_unit_test(test_leeway_and_lifetime_can_be_switched_off),
		cmocka_unit_test(test_base64url_is_strict),
	};

	return cmocka_run_group_tests(tests, make_fleet, drop_fleet);
}
