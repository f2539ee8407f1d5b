/* SPDX-License-Identifier: Apache-2.0 */
/*
 * By OpenSSL's ENGINE interface and libp11's engine, which is what Debian 12 has: the provider for
 * PKCS#11 that follows it is not in that release. All that is deprecated stays in this file.
 */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "pki/cert/token.h"

#include <string.h>

#include <openssl/engine.h>
#include <openssl/err.h>

#include "pki/cert/cert.h"

EVP_PKEY *token_key(const char *path, const char *uri)
{
	ENGINE *e;
	EVP_PKEY *key;

	ENGINE_load_builtin_engines();
	e = ENGINE_by_id("pkcs11");
	if (!e) {
		ERR_clear_error();
		complain("%s: OpenSSL's engine for tokens is not installed: apt install "
			 "libengine-pkcs11-openssl",
			 path);
		return NULL;
	}
	if (ENGINE_init(e) != 1) {
		complain_openssl("%s: the PKCS#11 module cannot be loaded", path);
		return NULL;
	}
	key = ENGINE_load_private_key(e, uri, NULL, NULL);
	if (!key)
		complain_openssl("%s: there is no key %s", path, uri);
	return key;
}
