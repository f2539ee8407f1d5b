/* SPDX-License-Identifier: Apache-2.0 */
/* What Fieldgate reads of an X.509 certificate (RFC 5280) that the TLS layer has already verified.
 */
#ifndef FG_REGISTRY_CERTIFICATE_H
#define FG_REGISTRY_CERTIFICATE_H

#include <stddef.h>
#include <stdint.h>

#include "core/registry/snapshot.h"

#define DEVICE_URN_PREFIX "urn:fieldgate:device:"

struct certificate {
	uint8_t fingerprint[FINGERPRINT_LEN];	  /* SHA-256 of the DER certificate */
	uint8_t key_fingerprint[FINGERPRINT_LEN]; /* SHA-256 of the DER SubjectPublicKeyInfo */
	char name[PRINCIPAL_ID_MAX + 1];	  /* CN, or SAN URI urn:fieldgate:device:<id> */
};

/*
 * 0; -EBADMSG: not a certificate, bytes behind it; -EINVAL: no name, several common names, a name
 * that is no principal id, or common name and SAN that disagree: err says which. Any thread.
 */
int certificate_read(struct certificate *out, const void *der, size_t len, char *err,
		     size_t err_len);

#endif
