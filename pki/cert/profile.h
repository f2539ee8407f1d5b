/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What our certificates say (RFC 5280), as a table: each profile is a kind of certificate. The CAs
 * of devices and servers carry an extended key usage too, so that a certificate of the server CA
 * can never pass for a client, whatever is written in it.
 */
#ifndef FG_PKI_CERT_PROFILE_H
#define FG_PKI_CERT_PROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/x509.h>

/* RFC 5280 section 4.1.2.2 allows 20 octets; all 16 random ones are used. */
#define SERIAL_LEN 16

struct profile {
	const char *name;
	bool ca;
	int path_length;   /* of a CA: how many CAs may follow */
	int purpose;	   /* NID of the one extended key usage, NID_undef for the root */
	uint32_t xku_flag; /* the same as X509_get_extended_key_usage gives it, 0 for none */
};

/* NULL: there is none of this name. */
const struct profile *profile_find(const char *name);

/* What a certificate is to say; the texts as in a job of `fieldgate-cert issue`. */
struct certificate_plan {
	const struct profile *profile;
	const char *name;
	const char *san; /* NULL: none */
	EVP_PKEY *key;
	const X509 *issuer;	       /* NULL: itself */
	int64_t not_before, not_after; /* seconds since 1970 */
};

/*
 * Everything but the signature, with a random serial number. For X509_free; NULL with what is wrong
 * with the plan in err: a name or SAN that the profile does not take, or no memory. Any thread.
 */
X509 *profile_certificate(const struct certificate_plan *plan, char *err, size_t err_len);

#endif
