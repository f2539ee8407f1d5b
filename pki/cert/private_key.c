/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/cert/private_key.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/x509.h>

#include "core/base/clock.h"
#include "pki/cert/cert.h"
#include "pki/cert/file.h"
#include "pki/cert/secret_input.h"
#include "pki/cert/token.h"

/* scrypt (RFC 7914) with 16 MB of memory, so that guessing a passphrase is slow. */
#define SCRYPT_N    16384
#define SCRYPT_R    8
#define SCRYPT_P    1
#define SCRYPT_SALT 16
#define AES_BLOCK   16

static const char uri_scheme[] = "pkcs11:";

/* --- Reading --- */

struct opening {
	const char *path;
	bool asked, refused;
};

/* pem_password_cb */
static int give_passphrase(char *out, int size, int writing, void *arg)
{
	struct opening *o = arg;
	const char *passphrase;
	size_t len;

	(void)writing;
	/* It is asked again for each form that the key may have. */
	if (o->refused)
		return -1;
	passphrase = secret_input(SECRET_PASSPHRASE, o->path);
	len = passphrase ? strlen(passphrase) : 0;
	o->asked = true;
	o->refused = !passphrase;
	if (!passphrase || len > (size_t)size)
		return -1;
	memcpy(out, passphrase, len);
	return (int)len;
}

static EVP_PKEY *read_pem(const char *path, const char *data, size_t len)
{
	struct opening o = {.path = path};
	BIO *in = BIO_new_mem_buf(data, (int)len);
	EVP_PKEY *key = in ? PEM_read_bio_PrivateKey(in, NULL, give_passphrase, &o) : NULL;

	BIO_free(in);
	if (key || o.refused)
		return key;
	if (o.asked)
		complain("%s: the passphrase (%s) does not open it", path,
			 secret_input_source(SECRET_PASSPHRASE));
	else
		complain("%s holds no private key in PEM, and no pkcs11: URI", path);
	ERR_clear_error();
	return NULL;
}

EVP_PKEY *private_key_read(const char *path)
{
	EVP_PKEY *key;
	char *data;
	size_t len;

	if (cert_file_read(path, &data, &len) != 0)
		return NULL;
	if (strncmp(data, uri_scheme, sizeof(uri_scheme) - 1) == 0) {
		data[strcspn(data, "\r\n")] = '\0';
		key = token_key(path, data);
	} else {
		key = read_pem(path, data, len);
	}
	cert_file_free(data);
	return key;
}

/* --- A new one --- */

static int write_plain(BIO *out, EVP_PKEY *key)
{
	return PEM_write_bio_PKCS8PrivateKey(out, key, NULL, NULL, 0, NULL, NULL);
}

static int write_encrypted(BIO *out, EVP_PKEY *key, const char *passphrase)
{
	unsigned char salt[SCRYPT_SALT], iv[AES_BLOCK];
	PKCS8_PRIV_KEY_INFO *plain = EVP_PKEY2PKCS8(key);
	X509_ALGOR *algorithm;
	X509_SIG *sealed = NULL;
	int ok;

	random_bytes(salt, sizeof(salt));
	random_bytes(iv, sizeof(iv));
	algorithm = PKCS5_pbe2_set_scrypt(EVP_aes_256_cbc(), salt, sizeof(salt), iv, SCRYPT_N,
					  SCRYPT_R, SCRYPT_P);
	if (plain && algorithm)
		sealed = PKCS8_set0_pbe(passphrase, (int)strlen(passphrase), plain, algorithm);
	if (!sealed)
		X509_ALGOR_free(algorithm);
	ok = sealed && PEM_write_bio_PKCS8(out, sealed);
	X509_SIG_free(sealed);
	PKCS8_PRIV_KEY_INFO_free(plain);
	return ok;
}

static int write_key(const char *path, EVP_PKEY *key, bool encrypt)
{
	const char *passphrase = NULL;
	BIO *out;
	int status;

	if (encrypt && !(passphrase = secret_input_new(SECRET_PASSPHRASE, "the keys of the CAs")))
		return EXIT_FAILED;
	out = BIO_new(BIO_s_secmem());
	if (out && (encrypt ? write_encrypted(out, key, passphrase) : write_plain(out, key)))
		status = cert_file_new(path, out, 0600);
	else
		status = complain_openssl("%s: the key cannot be written", path);
	BIO_free(out);
	return status;
}

EVP_PKEY *private_key_new(const char *path, bool encrypt)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");

	if (!key) {
		complain_openssl("%s: no key could be made", path);
		return NULL;
	}
	if (write_key(path, key, encrypt) == 0)
		return key;
	EVP_PKEY_free(key);
	return NULL;
}
