/* SPDX-License-Identifier: Apache-2.0 */
/* Files of keys, certificates and requests: small, and whole. */
#ifndef FG_PKI_CERT_FILE_H
#define FG_PKI_CERT_FILE_H

#include <stddef.h>

#include <openssl/bio.h>

#define CERT_FILE_MAX 65536 /* bytes; a chain of ours has less than 4096 */

/*
 * All of a file, with a NUL behind it, for cert_file_free. 0, or EXIT_FAILED after a complaint: not
 * there, empty, or more than CERT_FILE_MAX.
 */
int cert_file_read(const char *path, char **data, size_t *len);

/* It may have held a key: it is wiped. NULL is nothing. */
void cert_file_free(char *data);

/*
 * Make a file of what is in this memory BIO; mode as in open(2). It must not be there yet. Nothing
 * is synced. 0, or EXIT_FAILED after a complaint.
 */
int cert_file_new(const char *path, BIO *content, unsigned mode);

/* The same, but what is there is replaced, by a rename. PATH.new must not be anybody else's. */
int cert_file_replace(const char *path, BIO *content, unsigned mode);

#endif
