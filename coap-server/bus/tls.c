/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/bus/tls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "core/registry/certificate.h"

static int fail(char *err, size_t err_len, const char *setting, const char *file)
{
	unsigned long code = ERR_peek_error();
	const char *why = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code))
						 : ERR_reason_error_string(code);

	snprintf(err, err_len, "%s: %s: %s", setting, file, why ? why : "cannot be read");
	ERR_clear_error();
	return -EINVAL;
}

/* A key with a passphrase is an error, not a question at the terminal. */
static int no_passphrase(char *buf, int size, int writing, void *arg)
{
	(void)buf;
	(void)size;
	(void)writing;
	(void)arg;
	return 0;
}

static int note_refusal(int ok, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct bus_tls *t = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	if (!ok)
		snprintf(t->why, sizeof(t->why), "%s (at depth %d of its chain)",
			 X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)),
			 X509_STORE_CTX_get_error_depth(store));
	return ok;
}

/*
 * libmosquitto is given an address, one of those that the name has, and puts that into the
 * handshake as the server's name. What belongs there is the name itself, or nothing when the host
 * was given as an address (RFC 6066 section 3).
 */
static void name_server(const SSL *ssl, int where, int ret)
{
	struct bus_tls *t = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	(void)ret;
	if (where & SSL_CB_HANDSHAKE_START)
		SSL_set_tlsext_host_name((SSL *)ssl, t->is_address ? NULL : t->host);
}

static int expect_host(struct bus_tls *t)
{
	X509_VERIFY_PARAM *param = SSL_CTX_get0_param(t->context);

	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	t->is_address = X509_VERIFY_PARAM_set1_ip_asc(param, t->host) == 1;
	if (t->is_address)
		return 0;
	ERR_clear_error();
	return X509_VERIFY_PARAM_set1_host(param, t->host, 0) == 1 ? 0 : -ENOMEM;
}

static int load_files(SSL_CTX *c, const struct bus_tls_options *o, char *err, size_t err_len)
{
	if (SSL_CTX_load_verify_file(c, o->ca_file) != 1)
		return fail(err, err_len, "bus.ca_file", o->ca_file);
	if (SSL_CTX_use_certificate_chain_file(c, o->certificate_file) != 1)
		return fail(err, err_len, "bus.certificate_file", o->certificate_file);
	if (SSL_CTX_use_PrivateKey_file(c, o->key_file, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_check_private_key(c) != 1)
		return fail(err, err_len, "bus.key_file", o->key_file);
	return 0;
}

static int read_service(struct bus_tls *t, const char *file, char *err, size_t err_len)
{
	struct certificate cert;
	unsigned char *der = NULL;
	char why[256];
	int len = i2d_X509(SSL_CTX_get0_certificate(t->context), &der), rc;

	if (len < 0)
		return fail(err, err_len, "bus.certificate_file", file);
	rc = certificate_read(&cert, der, (size_t)len, why, sizeof(why));
	OPENSSL_free(der);
	if (rc != 0) {
		snprintf(err, err_len, "bus.certificate_file: %s: %s", file, why);
		return -EINVAL;
	}
	memcpy(t->service, cert.name, sizeof(t->service));
	return 0;
}

static int set_up(struct bus_tls *t, const struct bus_tls_options *o, char *err, size_t err_len)
{
	int rc;

	t->context = SSL_CTX_new(TLS_client_method());
	if (!t->context || SSL_CTX_set_min_proto_version(t->context, TLS1_2_VERSION) != 1 ||
	    expect_host(t) != 0)
		return fail(err, err_len, "TLS", "no context");
	SSL_CTX_set_app_data(t->context, t);
	SSL_CTX_set_default_passwd_cb(t->context, no_passphrase);
	SSL_CTX_set_verify(t->context, SSL_VERIFY_PEER, note_refusal);
	SSL_CTX_set_info_callback(t->context, name_server);
	rc = load_files(t->context, o, err, err_len);
	return rc == 0 ? read_service(t, o->certificate_file, err, err_len) : rc;
}

int bus_tls_open(struct bus_tls **out, const struct bus_tls_options *o, char *err, size_t err_len)
{
	struct bus_tls *t = calloc(1, sizeof(*t));
	int rc;

	*out = NULL;
	if (!t) {
		snprintf(err, err_len, "out of memory");
		return -ENOMEM;
	}
	if ((size_t)snprintf(t->host, sizeof(t->host), "%s", o->host) >= sizeof(t->host)) {
		snprintf(err, err_len, "bus.host is longer than %zu bytes", sizeof(t->host) - 1);
		free(t);
		return -EINVAL;
	}
	ERR_clear_error();
	rc = set_up(t, o, err, err_len);
	if (rc != 0) {
		bus_tls_close(t);
		return rc;
	}
	*out = t;
	return 0;
}

void bus_tls_close(struct bus_tls *t)
{
	if (!t)
		return;
	SSL_CTX_free(t->context);
	free(t);
}
