/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a certificate of ours must look, beyond what a verifier of TLS asks (for that:
 * core/registry/certificate_fault.h): RFC 5280's rules for CAs, and our own profile
 * (pki/cert/profile.c). Pure functions of the certificate.
 */
#ifndef FG_PKI_CERT_STRICT_H
#define FG_PKI_CERT_STRICT_H

#include <openssl/x509.h>

#include "core/registry/certificate_fault.h"

/* Called once for each fault, in words that end with what to do. */
typedef void strict_report_fn(void *arg, const char *text);

/* issuer: NULL when it is not known or is the certificate itself. */
void strict_check(X509 *x, X509 *issuer, enum certificate_purpose purpose, strict_report_fn *report,
		  void *arg);

/* Is this the name of the device, or one of the names of the server? Says so when not. */
void strict_check_name(X509 *x, enum certificate_purpose purpose, const char *name,
		       strict_report_fn *report, void *arg);

#endif
