/* SPDX-License-Identifier: Apache-2.0 */
/*
 * By OpenSSL's ENGINE interface and libp11's engine, which is what Debian 12 has: the provider for
 * PKCS#11 that follows it is not in that release. All that is deprecated stays in this file.
 *
 * The engine is given the path of the URI only and asks for the PIN when it has found the token. So
 * a PIN stands in no message of the engine's, and whether it has asked tells a token that is not
 * there from a key that is not in it.
 */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "pki/cert/token.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/engine.h>
#include <openssl/err.h>
#include <openssl/ui.h>

#include "core/base/hex.h"
#include "pki/cert/cert.h"
#include "pki/cert/secret_input.h"
#include "pki/cert/spki.h"

#define URI_MAX	 1024
#define PATH_LEN 4096

/* PKCS #11 v2.40 section 5.1.6; libp11 hands these on as reasons of OpenSSL. */
#define CKR_PIN_INCORRECT 0xa0
#define CKR_PIN_LEN_RANGE 0xa2
#define CKR_PIN_LOCKED	  0xa4

struct token_uri {
	const char *file;	    /* it was in, for complaints */
	char path[URI_MAX];	    /* pkcs11:token=...;object=..., without the query */
	char module[PATH_LEN];	    /* "": the one of the environment, or p11-kit's */
	char pin[SECRET_INPUT_MAX]; /* "": not in the URI */
	bool asked;		    /* for the PIN: the token is there */
	bool refused;		    /* there was no PIN to be had, and it was said */
};

/* --- The URI --- */

/* RFC 3986 section 2.1. False: it does not fit, or is none. */
static bool percent_decode(char *out, size_t max, const char *text)
{
	size_t n = 0;

	for (; *text; text++) {
		char c = *text;

		if (c == '%') {
			int high = hex_digit(text[1]), low = high < 0 ? -1 : hex_digit(text[2]);

			if (low < 0)
				return false;
			c = (char)(high << 4 | low);
			text += 2;
		}
		if (c == '\0' || n + 1 >= max)
			return false;
		out[n++] = c;
	}
	out[n] = '\0';
	return true;
}

static int take_pin_source(struct token_uri *u, const char *encoded)
{
	static const char scheme[] = "file:";
	char path[PATH_LEN];

	if (strncmp(encoded, scheme, sizeof(scheme) - 1) == 0)
		encoded += sizeof(scheme) - 1;
	if (strncmp(encoded, "//", 2) == 0)
		encoded += 2;
	if (*encoded != '/' || !percent_decode(path, sizeof(path), encoded))
		return complain("%s: pin-source is not file:/PATH", u->file);
	return secret_input_file(u->pin, path);
}

/* RFC 7512 section 2.3: pk11-query. */
static int take_attribute(struct token_uri *u, const char *name, const char *value)
{
	if (strcmp(name, "pin-source") == 0)
		return take_pin_source(u, value);
	if (strcmp(name, "pin-value") == 0)
		return percent_decode(u->pin, sizeof(u->pin), value)
			       ? 0
			       : complain("%s: pin-value cannot be read", u->file);
	if (strcmp(name, "module-path") == 0)
		return percent_decode(u->module, sizeof(u->module), value)
			       ? 0
			       : complain("%s: module-path cannot be read", u->file);
	return complain("%s: '%s' is not understood: pin-source, pin-value and module-path may "
			"stand behind the ?",
			u->file, name);
}

static int parse_uri(struct token_uri *u, const char *uri)
{
	size_t len = strcspn(uri, "?");
	char query[PATH_LEN], *rest = query, *attribute;
	int status = 0;

	if (len >= sizeof(u->path) || strlen(uri + len) >= sizeof(query))
		return complain("%s: the URI is too long", u->file);
	memcpy(u->path, uri, len);
	snprintf(query, sizeof(query), "%s", uri[len] ? uri + len + 1 : "");
	while (status == 0 && (attribute = strsep(&rest, "&"))) {
		char *value = strchr(attribute, '=');

		if (value)
			*value++ = '\0';
		if (*attribute)
			status = take_attribute(u, attribute, value ? value : "");
	}
	OPENSSL_cleanse(query, sizeof(query));
	return status;
}

/* --- The engine --- */

/* A module that cannot be loaded is best explained by the loader. */
static int check_module(const struct token_uri *u)
{
	const char *path = u->module[0] ? u->module : getenv("PKCS11_MODULE_PATH");
	void *module;

	if (!path || !*path)
		return 0;
	module = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
	if (!module)
		return complain("%s: the PKCS#11 module of the token cannot be loaded: %s. Install "
				"it, or name it with module-path in the URI",
				u->file, dlerror());
	dlclose(module);
	return 0;
}

static ENGINE *start_engine(const struct token_uri *u)
{
	ENGINE *e;

	if (check_module(u) != 0)
		return NULL;
	ENGINE_load_builtin_engines();
	e = ENGINE_by_id("pkcs11");
	if (!e) {
		ERR_clear_error();
		complain("%s: OpenSSL's engine for tokens is not installed: apt install "
			 "libengine-pkcs11-openssl",
			 u->file);
		return NULL;
	}
	ENGINE_ctrl_cmd_string(e, "QUIET", NULL, 1);
	if ((u->module[0] && ENGINE_ctrl_cmd_string(e, "MODULE_PATH", u->module, 0) != 1) ||
	    ENGINE_init(e) != 1) {
		complain_openssl("%s: OpenSSL's engine for tokens does not start", u->file);
		ENGINE_free(e);
		return NULL;
	}
	ENGINE_free(e);
	return e;
}

static int give_pin(UI *ui, UI_STRING *prompt)
{
	struct token_uri *u = UI_get0_user_data(ui);
	const char *pin;

	if (UI_get_string_type(prompt) != UIT_PROMPT)
		return 1;
	u->asked = true;
	pin = u->pin[0] ? u->pin : secret_input(SECRET_PIN, u->path);
	u->refused = !pin;
	return pin && UI_set_result(ui, prompt, pin) >= 0;
}

/* The first thing that went wrong tells; what follows it is what came of that. */
static void explain(const struct token_uri *u, bool with_kept_pin)
{
	unsigned long error = ERR_peek_error();
	int reason = ERR_GET_REASON(error);

	if (ERR_GET_LIB(error) == ERR_LIB_UI || reason == CKR_PIN_LEN_RANGE)
		complain("%s: the PIN of %s has too few or too many characters: 4 to 32 is usual",
			 u->file, u->path);
	else if (reason == CKR_PIN_INCORRECT)
		complain("%s: the PIN is not that of %s. Do not try many: a token locks itself",
			 u->file, u->path);
	else if (reason == CKR_PIN_LOCKED)
		complain("%s: %s has locked itself after too many wrong PINs: its security officer "
			 "can set a new one",
			 u->file, u->path);
	else if (u->asked)
		complain(
			"%s: the token is there, but it has no private key %s: pkcs11-tool --login "
			"--list-objects shows what it has",
			u->file, u->path);
	else
		complain("%s: there is no token %s%s: is it connected, and is it that module's? "
			 "pkcs11-tool --list-slots shows what is",
			 u->file, with_kept_pin ? "or key " : "", u->path);
}

/* The engine keeps a PIN for all tokens, and asks no more: one of its own goes into the URI. */
static void put_pin_into_path(struct token_uri *u)
{
	size_t n = strlen(u->path);

	n += (size_t)snprintf(u->path + n, sizeof(u->path) - n, "?pin-value=");
	for (const char *p = u->pin; *p && n < sizeof(u->path); p++)
		n += (size_t)snprintf(u->path + n, sizeof(u->path) - n, "%%%02x",
				      (unsigned)(unsigned char)*p);
}

static EVP_PKEY *load(ENGINE *e, UI_METHOD *ui, struct token_uri *u)
{
	static bool pin_kept;
	const size_t len = strlen(u->path);
	EVP_PKEY *key;

	if (pin_kept && u->pin[0])
		put_pin_into_path(u);
	key = ENGINE_load_private_key(e, u->path, ui, u);
	OPENSSL_cleanse(u->path + len, sizeof(u->path) - len);
	if (!key && !u->refused)
		explain(u, pin_kept);
	pin_kept = pin_kept || u->asked;
	return key;
}

static bool signs_for(EVP_PKEY *key, EVP_PKEY *public)
{
	static const unsigned char text[] = "fieldgate-cert";
	EVP_MD_CTX *signing = EVP_MD_CTX_new(), *verifying = EVP_MD_CTX_new();
	unsigned char signature[256];
	size_t len = sizeof(signature);
	bool good;

	good = signing && verifying &&
	       EVP_DigestSignInit(signing, NULL, EVP_sha256(), NULL, key) == 1 &&
	       EVP_DigestSign(signing, signature, &len, text, sizeof(text)) == 1 &&
	       EVP_DigestVerifyInit(verifying, NULL, EVP_sha256(), NULL, public) == 1 &&
	       EVP_DigestVerify(verifying, signature, len, text, sizeof(text)) == 1;
	EVP_MD_CTX_free(signing);
	EVP_MD_CTX_free(verifying);
	return good;
}

/*
 * The engine finds the private key by the URI, and its public half by the object's id: where keys
 * have none, or the same, that is the half of another one, and all that would be signed is void.
 */
static int check_halves(const struct token_uri *u, EVP_PKEY *key)
{
	struct spki spki = {0};
	const unsigned char *der;
	EVP_PKEY *public = NULL;
	bool good = false;

	if (spki_of_key(&spki, key) == 0) {
		der = spki.der;
		public = d2i_PUBKEY(NULL, &der, (long)spki.len);
		good = public && (!spki_is_p256(&spki) || signs_for(key, public));
	}
	EVP_PKEY_free(public);
	spki_free(&spki);
	if (good)
		return 0;
	return complain(
		"%s: the token does not sign with %s so that its public key verifies it. Keys that "
		"have the same id, or none, are taken for each other: give each its own "
		"(pkcs11-tool --keypairgen --id)",
		u->file, u->path);
}

EVP_PKEY *token_key(const char *path, const char *uri)
{
	struct token_uri u = {.file = path};
	UI_METHOD *ui = UI_create_method("fieldgate-cert");
	EVP_PKEY *key = NULL;
	ENGINE *e;

	if (ui && UI_method_set_reader(ui, give_pin) == 0 && parse_uri(&u, uri) == 0 &&
	    (e = start_engine(&u))) {
		key = load(e, ui, &u);
		if (key && check_halves(&u, key) != 0) {
			EVP_PKEY_free(key);
			key = NULL;
		}
		ENGINE_finish(e);
	}
	ERR_clear_error();
	UI_destroy_method(ui);
	OPENSSL_cleanse(&u, sizeof(u));
	return key;
}
