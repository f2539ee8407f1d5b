/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fieldgate-cert requests: would issue sign for these? A list of a thousand devices is checked with
 * it before the first is made, so unlike issue it goes on behind one that is no good.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "pki/cert/cert.h"
#include "pki/cert/csr.h"
#include "pki/cert/describe.h"
#include "pki/cert/file.h"
#include "pki/cert/spki.h"

static const char from_file[] = "csr:", from_text[] = "text:";

static int fingerprint(char out[HEX_MAX], const EVP_PKEY *key)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned digest_len = 0;
	struct spki spki;
	int ok;

	if (spki_of_key(&spki, key) != 0)
		return complain_openssl("a public key cannot be read");
	ok = EVP_Digest(spki.der, spki.len, digest, &digest_len, EVP_sha256(), NULL);
	spki_free(&spki);
	if (ok != 1)
		return complain_openssl("a public key has no fingerprint");
	hex_print(out, digest, digest_len);
	return 0;
}

/* A line of stdout: what is known of the key, or why there is none. */
static int judge(const char *data, size_t len)
{
	char err[256], text[HEX_MAX];
	EVP_PKEY *key;
	int status;

	if (csr_read(&key, data, len, err, sizeof(err)) != 0) {
		printf("-\t%s\n", err);
		return 0;
	}
	status = fingerprint(text, key);
	EVP_PKEY_free(key);
	if (status == 0)
		puts(text);
	return status;
}

static int judge_file(const char *path)
{
	char *data;
	size_t len;
	int status;

	if (cert_file_read(path, &data, &len) != 0) {
		puts("-\tit cannot be read");
		return 0;
	}
	status = judge(data, len);
	cert_file_free(data);
	return status;
}

int requests_main(int argc, char **argv)
{
	size_t room = 0;
	char *line = NULL;
	int status = 0;

	(void)argv;
	if (argc != 1)
		return usage();
	while (status == 0 && getline(&line, &room, stdin) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, from_file, sizeof(from_file) - 1) == 0)
			status = judge_file(line + sizeof(from_file) - 1);
		else if (strncmp(line, from_text, sizeof(from_text) - 1) == 0)
			status = judge(line + sizeof(from_text) - 1,
				       strlen(line) - (sizeof(from_text) - 1));
		else
			status = complain("stdin: csr:FILE and text:REQUEST can be");
	}
	if (status == 0 && ferror(stdin))
		status = complain("stdin: %s", strerror(errno));
	free(line);
	return status;
}
