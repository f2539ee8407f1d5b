/* SPDX-License-Identifier: Apache-2.0 */
/* Between certificate_fault.c, which looks at the certificate, and certificate_issuer.c, which
 * looks at those who signed it. */
#ifndef FG_REGISTRY_CERTIFICATE_FAULT_INTERNAL_H
#define FG_REGISTRY_CERTIFICATE_FAULT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/x509.h>

#include "core/registry/certificate_fault.h"

struct judgement {
	enum certificate_purpose purpose;
	int64_t now_s;
	const char *id; /* what it calls itself, if that is an id, for commands to copy: "DEVICE" */
	struct certificate_finding *out;
	size_t count;
};

void judgement_add(struct judgement *j, enum certificate_fault fault, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* NULL: not an X.509 certificate, or bytes behind it. */
X509 *certificate_parse(const void *der, size_t len);

#define CERTIFICATE_NAME_MAX 96
/* As RFC 2253 writes it, cut; "nobody" when it is empty. Returns text. */
const char *certificate_name_text(char text[CERTIFICATE_NAME_MAX], const X509_NAME *name);

#define CERTIFICATE_DATE_MAX 32
/* "2026-01-31T12:00:00Z". Returns text. */
const char *certificate_date_text(char text[CERTIFICATE_DATE_MAX], const ASN1_TIME *at);

/* Seconds since 1970; INT64_MIN when it cannot be read. */
int64_t certificate_time(const ASN1_TIME *at);

/* What the extended key usage allows, if there is one. */
bool certificate_usage_allows(X509 *x, enum certificate_purpose purpose);

/* The chain of its issuers; at most one finding. */
void certificate_judge_issuers(struct judgement *j, X509 *x,
			       const struct certificate_issuers *issuers);

#endif
