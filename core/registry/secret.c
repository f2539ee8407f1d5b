/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file is read into one buffer on the stack, which is wiped: a FILE would leave the keys in
 * memory that others get. What is in the environment stays there, for the next reading.
 */
#include "core/registry/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "core/base/clock.h"
#include "core/base/hex.h"

#define VERSION	     1
#define KEY_LEN	     32 /* AES-256 */
#define KEY_HEX	     (2 * KEY_LEN)
#define KEY_ID_LEN   SECRET_KEY_ID_LEN
#define NONCE_LEN    12 /* SP 800-38D section 5.2.1.1: what GCM is meant for */
#define TAG_LEN	     16
#define NONCE_AT     (1 + KEY_ID_LEN)
#define SEALED_AT    (NONCE_AT + NONCE_LEN)
#define KEYS_MAX     32
#define FILE_MAX     8192
#define SEPARATORS   " \t\r\n,"
#define ROOT_MODES   (S_IWGRP | S_IXGRP | S_IRWXO)
#define OTHERS_MODES (S_IRWXG | S_IRWXO)

struct master_key {
	uint8_t id[KEY_ID_LEN];
	uint8_t key[KEY_LEN];
};

struct secret_keys {
	size_t count;
	struct master_key keys[KEYS_MAX];
};

struct reading {
	struct secret_keys *keys;
	const char *from; /* path of the file, or name of the variable */
	const char *unit; /* what is counted there */
	char *err;
	size_t err_len;
};

static int refuse(const struct reading *r, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static int refuse(const struct reading *r, const char *fmt, ...)
{
	char what[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	snprintf(r->err, r->err_len, "%s: %s", r->from, what);
	return -1;
}

static bool parse_key(const char *hex, size_t len, uint8_t out[KEY_LEN])
{
	return len == KEY_HEX && hex_parse(out, hex, len);
}

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* What is wrong with a line is said without any of it: it may be most of a key. */
static int take_line(const struct reading *r, const char *line, size_t len, unsigned number)
{
	struct master_key *k = &r->keys->keys[r->keys->count];
	uint8_t digest[EVP_MAX_MD_SIZE];

	while (len > 0 && blank(line[0])) {
		line++;
		len--;
	}
	while (len > 0 && blank(line[len - 1]))
		len--;
	if (len == 0 || line[0] == '#')
		return 0;
	if (r->keys->count == KEYS_MAX)
		return refuse(r, "%s %u: more than %d keys; remove those that seal nothing more",
			      r->unit, number, KEYS_MAX);
	if (!parse_key(line, len, k->key))
		return refuse(r,
			      "%s %u is no master key: %d hexadecimal digits are, as `openssl rand "
			      "-hex %d` prints them",
			      r->unit, number, KEY_HEX, KEY_LEN);
	if (EVP_Digest(k->key, KEY_LEN, digest, NULL, EVP_sha256(), NULL) != 1)
		return refuse(r, "out of memory");
	memcpy(k->id, digest, KEY_ID_LEN);
	r->keys->count++;
	return 0;
}

static int take_all(const struct reading *r, const char *text, size_t len)
{
	unsigned number = 1;

	for (size_t at = 0; at < len; number++) {
		const char *end = memchr(text + at, '\n', len - at);
		size_t n = end ? (size_t)(end - text) - at : len - at;

		if (take_line(r, text + at, n, number) != 0)
			return -1;
		at += n + 1;
	}
	if (r->keys->count == 0)
		return refuse(r, "there is no key in it; `fieldgate-secret make-key FILE` makes a "
				 "file with one");
	return 0;
}

/* As PostgreSQL has it: a file of root's may be read by a group, as systemd's credentials are. */
static int check_mode(const struct reading *r, int fd)
{
	struct stat st;
	mode_t forbidden;

	if (fstat(fd, &st) != 0)
		return refuse(r, "%s", strerror(errno));
	if (!S_ISREG(st.st_mode))
		return refuse(r, "is no regular file");
	forbidden = st.st_uid == 0 ? ROOT_MODES : OTHERS_MODES;
	if (st.st_mode & forbidden)
		return refuse(r,
			      "others can read or change it (mode %04o): chmod 0600, and "
			      "replace the key if anybody may have seen it",
			      (unsigned)st.st_mode & 07777);
	if (st.st_size > FILE_MAX)
		return refuse(r, "is longer than %d bytes: is it the right file?", FILE_MAX);
	return 0;
}

static int read_all(const struct reading *r, int fd, char *text, size_t *len)
{
	*len = 0;
	while (*len < FILE_MAX) {
		ssize_t n = read(fd, text + *len, FILE_MAX - *len);

		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return refuse(r, "%s", strerror(errno));
		if (n > 0)
			*len += (size_t)n;
	}
	return 0;
}

static int load(const struct reading *r)
{
	int fd = open(r->from, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc;
	char text[FILE_MAX];
	size_t len;

	if (fd < 0)
		return refuse(r, "%s%s", strerror(errno),
			      errno == ENOENT ? "; `fieldgate-secret make-key FILE` makes one"
					      : "");
	rc = check_mode(r, fd);
	if (rc == 0)
		rc = read_all(r, fd, text, &len);
	if (rc == 0)
		rc = take_all(r, text, len);
	OPENSSL_cleanse(text, sizeof(text));
	close(fd);
	return rc;
}

static int finish(const struct reading *r, int rc, struct secret_keys **out)
{
	*out = NULL;
	if (rc == -ENOMEM)
		return refuse(r, "out of memory");
	if (rc != 0) {
		secret_keys_free(r->keys);
		return -1;
	}
	*out = r->keys;
	return 0;
}

int secret_keys_load(struct secret_keys **out, const char *path, char *err, size_t err_len)
{
	struct reading r = {calloc(1, sizeof(*r.keys)), path, "line", err, err_len};

	return finish(&r, r.keys ? load(&r) : -ENOMEM, out);
}

static int load_variable(const struct reading *r, const char *text)
{
	unsigned number = 1;

	for (text += strspn(text, SEPARATORS); *text; text += strspn(text, SEPARATORS), number++) {
		size_t n = strcspn(text, SEPARATORS);

		if (take_line(r, text, n, number) != 0)
			return -1;
		text += n;
	}
	return 0;
}

/* A variable that is set to nothing is what a template makes of one that is not set. */
static const char *variable(void)
{
	const char *text = getenv(SECRET_KEYS_VARIABLE);

	return text && text[strspn(text, SEPARATORS)] ? text : NULL;
}

bool secret_keys_given(const char *path)
{
	return path || variable();
}

int secret_keys_open(struct secret_keys **out, const char *path, char *err, size_t err_len)
{
	struct reading r = {NULL, SECRET_KEYS_VARIABLE, "key", err, err_len};

	*out = NULL;
	if (path)
		return secret_keys_load(out, path, err, err_len);
	if (!secret_keys_given(path))
		return 0;
	r.keys = calloc(1, sizeof(*r.keys));
	return finish(&r, r.keys ? load_variable(&r, variable()) : -ENOMEM, out);
}

size_t secret_keys_count(const struct secret_keys *k)
{
	return k ? k->count : 0;
}

const uint8_t *secret_key_id(const struct secret_keys *k, size_t i)
{
	return k->keys[i].id;
}

void secret_keys_free(struct secret_keys *k)
{
	if (!k)
		return;
	OPENSSL_cleanse(k, sizeof(*k));
	free(k);
}

size_t secret_context(uint8_t out[SECRET_CONTEXT_MAX], enum credential_kind kind,
		      const uint8_t fingerprint[FINGERPRINT_LEN], const char *principal)
{
	const char *name = credential_kind_name(kind);
	size_t name_len = strlen(name) + 1, id_len = strnlen(principal, PRINCIPAL_ID_MAX);

	memcpy(out, name, name_len);
	memcpy(out + name_len, fingerprint, FINGERPRINT_LEN);
	memcpy(out + name_len + FINGERPRINT_LEN, principal, id_len);
	return name_len + FINGERPRINT_LEN + id_len;
}

struct pass {
	const struct master_key *key;
	const uint8_t *nonce;
	const void *context;
	size_t context_len;
	uint8_t *tag; /* written by encrypt, compared by decrypt */
};

static int encrypt(EVP_CIPHER_CTX *c, const struct pass *p, const uint8_t *in, int len,
		   uint8_t *out)
{
	int n;

	if (EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, p->key->key, p->nonce) != 1 ||
	    EVP_EncryptUpdate(c, NULL, &n, p->context, (int)p->context_len) != 1 ||
	    EVP_EncryptUpdate(c, out, &n, in, len) != 1 ||
	    EVP_EncryptFinal_ex(c, out + n, &n) != 1 ||
	    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, TAG_LEN, p->tag) != 1)
		return -ENOMEM;
	return 0;
}

static int decrypt(EVP_CIPHER_CTX *c, const struct pass *p, const uint8_t *in, int len,
		   uint8_t *out)
{
	int n;

	if (EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, p->key->key, p->nonce) != 1 ||
	    EVP_DecryptUpdate(c, NULL, &n, p->context, (int)p->context_len) != 1 ||
	    EVP_DecryptUpdate(c, out, &n, in, len) != 1 ||
	    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, TAG_LEN, p->tag) != 1)
		return -ENOMEM;
	return EVP_DecryptFinal_ex(c, out + n, &n) == 1 ? 0 : -EBADMSG;
}

static int run(int (*one)(EVP_CIPHER_CTX *c, const struct pass *p, const uint8_t *in, int len,
			  uint8_t *out),
	       const struct pass *p, const uint8_t *in, size_t len, uint8_t *out)
{
	EVP_CIPHER_CTX *c;
	int rc;

	if (p->context_len > SECRET_CONTEXT_MAX)
		return -EINVAL;
	/* The caller may be in the middle of TLS, which looks at the same queue of errors. */
	ERR_set_mark();
	c = EVP_CIPHER_CTX_new();
	rc = c ? one(c, p, in, (int)len, out) : -ENOMEM;
	EVP_CIPHER_CTX_free(c);
	ERR_pop_to_mark();
	return rc;
}

int secret_seal(const struct secret_keys *k, const void *secret, size_t len, const void *context,
		size_t context_len, uint8_t *out)
{
	struct pass p;

	if (len < 1 || len > SECRET_MAX)
		return -EINVAL;
	if (!k)
		return -ENOKEY;
	out[0] = VERSION;
	memcpy(out + 1, k->keys[0].id, KEY_ID_LEN);
	/* Random nonces are good for 2^32 secrets of one key (SP 800-38D section 8.3). */
	random_bytes(out + NONCE_AT, NONCE_LEN);
	p = (struct pass){&k->keys[0], out + NONCE_AT, context, context_len, out + SEALED_AT + len};
	return run(encrypt, &p, secret, len, out + SEALED_AT);
}

static const struct master_key *find_key(const struct secret_keys *k, const uint8_t *id)
{
	for (size_t i = 0; k && i < k->count; i++)
		if (memcmp(k->keys[i].id, id, KEY_ID_LEN) == 0)
			return &k->keys[i];
	return NULL;
}

int secret_open(const struct secret_keys *k, const void *sealed, size_t sealed_len,
		const void *context, size_t context_len, uint8_t out[SECRET_MAX], size_t *len)
{
	const uint8_t *s = sealed;
	uint8_t tag[TAG_LEN];
	struct pass p;
	size_t n;
	int rc;

	*len = 0;
	if (sealed_len <= SECRET_OVERHEAD || sealed_len > SECRET_OVERHEAD + SECRET_MAX ||
	    s[0] != VERSION)
		return -EBADMSG;
	n = sealed_len - SECRET_OVERHEAD;
	memcpy(tag, s + SEALED_AT + n, TAG_LEN);
	p = (struct pass){find_key(k, s + 1), s + NONCE_AT, context, context_len, tag};
	if (!p.key)
		return -ENOKEY;
	rc = run(decrypt, &p, s + SEALED_AT, n, out);
	/* Plaintext that nobody vouches for goes nowhere. */
	if (rc != 0)
		OPENSSL_cleanse(out, n);
	else
		*len = n;
	return rc;
}
