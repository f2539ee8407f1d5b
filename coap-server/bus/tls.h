/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the connection to the broker needs of TLS: version 1.2 or newer, the broker's certificate
 * checked against one file of CAs and for the name that was asked for, and the service's own
 * certificate and key. All of it is read from files by bus_tls_open: whoever connects anew calls it
 * anew, and a renewed certificate is used.
 */
#ifndef FG_BUS_TLS_H
#define FG_BUS_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include <openssl/ssl.h>

#include "core/registry/snapshot.h"

struct bus_tls_options {
	const char *host; /* a name, or an address that stands in the certificate */
	const char *ca_file;
	const char *certificate_file;
	const char *key_file;
};

struct bus_tls {
	SSL_CTX *context;
	char host[256];
	bool is_address;		    /* and no name */
	char service[PRINCIPAL_ID_MAX + 1]; /* the name in the service's certificate */
	char why[160]; /* why the broker's certificate was not believed, or ""; one thread's */
};

/* 0, or -errno with what is wrong, where and what to do in err. */
int bus_tls_open(struct bus_tls **out, const struct bus_tls_options *o, char *err, size_t err_len);
void bus_tls_close(struct bus_tls *t); /* NULL is allowed */

#endif
