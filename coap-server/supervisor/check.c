/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/supervisor/check.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "coap-server/bus/tls.h"
#include "coap-server/worker/worker.h"
#include "core/registry/secret.h"

#define TRIAL_SIZE 16 /* sessions of an endpoint that is closed again at once */

static int fail(char *err, size_t err_len, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(char *err, size_t err_len, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, err_len, fmt, ap);
	va_end(ap);
	return -1;
}

static int check_together(const struct config *c, char *err, size_t err_len)
{
	if (c->coap_certificate_file && !c->coap_key_file)
		return fail(err, err_len,
			    "coap.certificate_file is set, coap.key_file is not: name the "
			    "certificate's private key");
	if (c->coap_key_file && !c->coap_certificate_file)
		return fail(err, err_len,
			    "coap.key_file is set, coap.certificate_file is not: name the "
			    "certificate");
	if (c->coap_client_ca_file && !c->coap_certificate_file)
		return fail(err, err_len,
			    "coap.client_ca_file is set, coap.certificate_file is not: who asks "
			    "for certificates must show one");
	if (!c->coap_certificate_file && !secret_keys_given(c->secrets_key_file))
		return fail(err, err_len,
			    "neither coap.certificate_file nor secrets.key_file is set, so nobody "
			    "could connect: set the first for certificates and JWT, the second "
			    "(or " SECRET_KEYS_VARIABLE " in the environment) for pre-shared keys");
	if (!c->coap_keylog_device != !c->coap_keylog_file)
		return fail(err, err_len,
			    "coap.keylog_device and coap.keylog_file need each other: set both, "
			    "or none");
	return 0;
}

static int check_sessions_dir(const char *path, char *err, size_t err_len)
{
	struct statfs fs;
	struct stat st;

	if (mkdir(path, 0700) != 0 && errno != EEXIST)
		return fail(err, err_len, "coap.sessions_dir: %s: %s", path, strerror(errno));
	if (stat(path, &st) != 0 || statfs(path, &fs) != 0)
		return fail(err, err_len, "coap.sessions_dir: %s: %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return fail(err, err_len, "coap.sessions_dir: %s is not a directory", path);
	if (fs.f_type != TMPFS_MAGIC)
		return fail(err, err_len,
			    "coap.sessions_dir: %s is not on tmpfs; sessions on a disk could come "
			    "back as an old copy and repeat nonces: use a directory below /dev/shm "
			    "or /run",
			    path);
	if (st.st_uid != geteuid())
		return fail(err, err_len,
			    "coap.sessions_dir: %s belongs to the user %u, this process is %u; "
			    "give it one of its own",
			    path, (unsigned)st.st_uid, (unsigned)geteuid());
	if (st.st_mode & 077)
		return fail(err, err_len,
			    "coap.sessions_dir: others may look into %s; run: chmod 0700 %s", path,
			    path);
	return 0;
}

static int check_keys(const struct config *c, char *err, size_t err_len)
{
	struct secret_keys *keys;
	char why[512];

	if (secret_keys_open(&keys, c->secrets_key_file, why, sizeof(why)) != 0)
		return fail(err, err_len, "secrets.key_file: %s", why);
	secret_keys_free(keys);
	return 0;
}

static int check_bus(const struct config *c, char *err, size_t err_len)
{
	const struct {
		const char *name, *file;
	} files[] = {
		{"bus.ca_file", c->bus_ca_file},
		{"bus.certificate_file", c->bus_certificate_file},
		{"bus.key_file", c->bus_key_file},
	};
	struct bus_client_options o;
	char suffix[WORKER_SOURCE_MAX];
	struct bus_tls *tls;

	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
		if (!files[i].file != !c->bus_host)
			return fail(err, err_len,
				    "%s is set, %s is not: the broker's name, its CA and the "
				    "service's certificate and key need each other; set all, or "
				    "none",
				    c->bus_host ? "bus.host" : files[i].name,
				    c->bus_host ? files[i].name : "bus.host");
	if (!c->bus_host)
		return 0;
	worker_bus_options(&o, c, 0, suffix);
	if (bus_tls_open(&tls, &o.tls, err, err_len) != 0)
		return -1;
	bus_tls_close(tls);
	return 0;
}

/* --- An endpoint that nobody will reach --- */

static void never_sent(void *arg, const struct address *to, const uint8_t *data, size_t len)
{
	(void)arg;
	(void)to;
	(void)data;
	(void)len;
}

static int nobody_by_psk(void *arg, const struct address *from, const uint8_t *identity, size_t len,
			 struct dtls_identity *who, uint8_t key[DTLS_PSK_MAX], size_t *key_len)
{
	(void)arg;
	(void)from;
	(void)identity;
	(void)len;
	(void)who;
	(void)key;
	(void)key_len;
	return -1;
}

static int nobody_by_certificate(void *arg, const struct address *from, const uint8_t *der,
				 size_t len, struct dtls_identity *who)
{
	(void)arg;
	(void)from;
	(void)der;
	(void)len;
	(void)who;
	return -1;
}

static void never(void *arg, struct dtls_session *s)
{
	(void)arg;
	(void)s;
}

static void never_data(void *arg, struct dtls_session *s, const uint8_t *data, size_t len)
{
	(void)arg;
	(void)s;
	(void)data;
	(void)len;
}

static void never_closed(void *arg, struct dtls_session *s, const char *reason)
{
	(void)arg;
	(void)s;
	(void)reason;
}

/* Certificate, key, CAs and suites are the endpoint's to judge. */
static int check_endpoint(const struct config *c, char *err, size_t err_len)
{
	const struct dtls_callbacks nobody = {
		.send = never_sent,
		.psk = nobody_by_psk,
		.certificate = nobody_by_certificate,
		.opened = never,
		.data = never_data,
		.closed = never_closed,
	};
	struct dtls_endpoint *e;
	struct dtls_options o;
	char path[WORKER_PATH_MAX];

	worker_dtls_options(&o, c, 0, path);
	o.slots_path = NULL;
	o.keylog_file = NULL;
	o.keylog_device = NULL;
	o.max_sessions = o.max_handshakes = o.live_contexts = TRIAL_SIZE;
	if (dtls_open(&e, &o, &nobody, err, err_len) != 0)
		return -1;
	dtls_close(e);
	return 0;
}

int check_settings(const struct config *c, char *err, size_t err_len)
{
	if (check_together(c, err, err_len) != 0 || check_keys(c, err, err_len) != 0 ||
	    check_bus(c, err, err_len) != 0)
		return -1;
	if (c->coap_sessions_dir && check_sessions_dir(c->coap_sessions_dir, err, err_len) != 0)
		return -1;
	return check_endpoint(c, err, err_len);
}
