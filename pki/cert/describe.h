/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates in the words that fleet and the registry use: hexadecimal in lower case, UTC. */
#ifndef FG_PKI_CERT_DESCRIBE_H
#define FG_PKI_CERT_DESCRIBE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <openssl/x509.h>

#include "core/base/hex.h"

#define HEX_MAX	      HEX_SIZE(32)
#define TIME_TEXT_MAX sizeof("2026-01-02T03:04:05Z")
#define NAME_TEXT_MAX 512

/* 2026-01-02T03:04:05Z, or ? for what is no time. Returns out. */
char *time_print(char out[TIME_TEXT_MAX], const ASN1_TIME *t);

/* A serial number in whole bytes, as in the column credential.serial. Returns out. */
char *serial_print(char out[HEX_MAX], const X509 *x);

/* The common name when it is all there is, else /O=.../CN=...; control characters are escaped. */
char *name_print(char out[NAME_TEXT_MAX], const X509_NAME *name);

/*
 * One line: name, serial, fingerprint, not before, not after, fingerprint of the key, fingerprint
 * of the issuer; issuer may be NULL: then `-`. 0, or EXIT_FAILED after a complaint.
 */
int describe(FILE *out, X509 *x, const X509 *issuer);

/* The subject alternative names, DNS:a,IP:b; nothing when there are none. For OPENSSL_free; NULL
 * without memory. Names of other kinds are left out. */
char *names_print(X509 *x);

#endif
