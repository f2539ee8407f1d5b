/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Credentials as they were read, and the configurations of Mbed TLS that were made of them: one for
 * all links that have trust, identity, transport and options in common, for as long as one of them
 * is open.
 */
#ifndef FG_DEVICE_LINK_TRUST_H
#define FG_DEVICE_LINK_TRUST_H

#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>

#include "device-fw/ports/posix/link.h"

struct link_profile {
	struct link_profile *next, **list;
	const struct link_trust *trust;
	unsigned users;
	bool datagrams, connection_id, only_cbc;
	uint32_t min_ms, max_ms;
	mbedtls_ssl_config config;
};

struct link_trust {
	mbedtls_x509_crt certificates;
	/* Of anonymous links. It is its own `first`, by a way on which const does not matter. */
	struct link_profile **profiles;
	struct link_profile *first;
};

struct link_identity {
	bool is_psk;
	mbedtls_x509_crt certificates;
	mbedtls_pk_context key;
	unsigned char *psk, *psk_identity;
	size_t psk_length, psk_identity_length;
	struct link_profile **profiles; /* likewise */
	struct link_profile *first;
};

/* NULL with the error of Mbed TLS in *error. Give each back with link_profile_put. */
struct link_profile *link_profile_get(const struct link_config *c, bool datagrams, int *error);
void link_profile_put(struct link_profile *p);

int link_random(void *arg, unsigned char *out, size_t length); /* as Mbed TLS wants it */

#endif
