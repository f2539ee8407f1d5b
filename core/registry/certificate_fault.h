/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is wrong with a certificate, in one vocabulary for both protocols and for fieldgate-cert.
 * TLS has refused it, or is about to, with a word that helps nobody; this says why in a sentence
 * that ends with what to do. Pure functions of the certificate, the time and the CAs; any thread.
 */
#ifndef FG_REGISTRY_CERTIFICATE_FAULT_H
#define FG_REGISTRY_CERTIFICATE_FAULT_H

#include <stddef.h>
#include <stdint.h>

/* Most telling first: certificate_faults finds them in this order. */
enum certificate_fault {
	CERTIFICATE_GOOD,
	CERTIFICATE_UNREADABLE,	    /* not a certificate, bytes behind it, extensions that make no
				       sense */
	CERTIFICATE_SELF_SIGNED,    /* by itself, and not one of the trusted */
	CERTIFICATE_UNKNOWN_ISSUER, /* nobody with its issuer's name is known */
	CERTIFICATE_BAD_SIGNATURE,  /* somebody is, and did not sign it */
	CERTIFICATE_BAD_ISSUER, /* an issuer may not sign this: no CA, wrong usage, path length */
	CERTIFICATE_ISSUER_EXPIRED, /* or not yet valid */
	CERTIFICATE_IS_CA,	    /* used by a device or server */
	CERTIFICATE_NOT_A_CA,	    /* the other way round */
	CERTIFICATE_WRONG_USAGE,    /* extended key usage, or key usage */
	CERTIFICATE_WRONG_KEY,	    /* not P-256 */
	CERTIFICATE_EXPIRED,
	CERTIFICATE_NOT_YET_VALID,
	CERTIFICATE_WEAK_SIGNATURE, /* not ECDSA with SHA-256 or better */
};

#define CERTIFICATE_FAULTS_MAX	   8   /* that one certificate can have at the same time */
#define CERTIFICATE_FAULT_TEXT_MAX 400 /* bytes */

struct certificate_finding {
	enum certificate_fault fault;
	/* "it expired on 2026-01-31T12:00:00Z; renew it with ..." May hold text of the certificate;
	 * control characters are escaped, long names cut. */
	char text[CERTIFICATE_FAULT_TEXT_MAX];
};

enum certificate_purpose {
	CERTIFICATE_DEVICE, /* clientAuth */
	CERTIFICATE_SERVER, /* serverAuth */
	CERTIFICATE_AUTHORITY,
};

struct certificate_der {
	const void *der;
	size_t len;
};

/*
 * Who may have signed it. `trusted`: where a chain may end, roots or not. `others`: CAs that may
 * stand in between, as the peer sends them; what cannot be read is passed over. Without any trusted
 * one it is not known who is, and nothing is said about issuers.
 */
struct certificate_issuers {
	const struct certificate_der *trusted;
	size_t trusted_count;
	const struct certificate_der *others;
	size_t other_count;
};

/* All faults, most telling first; returns how many. now_s: seconds since 1970. */
size_t certificate_faults(struct certificate_finding out[CERTIFICATE_FAULTS_MAX], const void *der,
			  size_t len, enum certificate_purpose purpose, int64_t now_s,
			  const struct certificate_issuers *issuers);

/* The first of them, CERTIFICATE_GOOD (and text "") if there is none. */
void certificate_fault(struct certificate_finding *out, const void *der, size_t len,
		       enum certificate_purpose purpose, int64_t now_s,
		       const struct certificate_issuers *issuers);

/* A word for machines, the same in every release: "expired". */
const char *certificate_fault_name(enum certificate_fault fault);

#endif
