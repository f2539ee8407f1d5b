/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap-client/device.h"

#include <errno.h>
#include <mbedtls/error.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "tests/coap-client/capture.h"
#include "tests/coap-client/die.h"
#include "tests/coap-client/events.h"
#include "tests/coap-client/request.h"

static struct device *devices;

static json_t *error_fields(int error, int alert)
{
	char text[128];

	mbedtls_strerror(error, text, sizeof(text));
	return json_pack("{s:s, s:i, s:i}", "reason", text, "tls_error", error, "alert", alert);
}

static void on_send(struct tls *t, const uint8_t *datagram, size_t len)
{
	capture_pass(t->owner, DIRECTION_OUT, datagram, len);
}

static json_t *session_fields(const struct tls *t)
{
	return json_pack("{s:s, s:b, s:b, s:o, s:o, s:f}", "suite",
			 mbedtls_ssl_get_ciphersuite(&t->ssl), "cid", t->cid_negotiated, "resumed",
			 !t->full_handshake, "own_cid",
			 json_hex(t->cid, t->config->cid ? t->config->cid_len : 0), "peer_cid",
			 json_hex(t->peer_cid, t->peer_cid_len), "ms",
			 (double)(t->opened_us - t->begun_us) / US_PER_MS);
}

static void on_opened(struct tls *t)
{
	struct device *d = t->owner;

	reply(d->handshake_id, session_fields(t));
	d->handshake_id = 0;
}

static void on_stopped(struct tls *t)
{
	struct device *d = t->owner;

	reply(d->handshake_id, json_pack("{s:i}", "stopped_after", (int)t->stop_after));
	d->handshake_id = 0;
}

static void on_failed(struct tls *t, int error, int alert)
{
	struct device *d = t->owner;

	reply_error(d->handshake_id, error_fields(error, alert), "handshake",
		    "%s: the handshake failed", d->name);
	d->handshake_id = 0;
}

static void on_data(struct tls *t, const uint8_t *plaintext, size_t len)
{
	request_receive(t->owner, plaintext, len);
}

static void on_closed(struct tls *t, int error, int alert)
{
	struct device *d = t->owner;

	event("closed", d->name, error_fields(error, alert));
	request_fail_all(d, "closed");
}

static void on_reused(struct tls *t, uint64_t number)
{
	struct device *d = t->owner;

	event("nonce_reused", d->name,
	      json_pack("{s:I, s:I}", "epoch", (json_int_t)(number >> 48), "seq",
			(json_int_t)(number & ((UINT64_C(1) << 48) - 1))));
}

static const struct tls_events events = {
	.send = on_send,
	.opened = on_opened,
	.stopped = on_stopped,
	.failed = on_failed,
	.data = on_data,
	.closed = on_closed,
	.reused = on_reused,
};

/* Files are read once for each device: there are not many here. */
static int load_files(json_t *in, struct tls_options *o, char *err, size_t err_len)
{
	const char *ca = arg_text(in, "ca", NULL), *chain = arg_text(in, "certificate", NULL);
	const char *key = arg_text(in, "key", NULL);

	o->ca = ca ? tls_load_certificates(ca) : NULL;
	o->chain = chain ? tls_load_certificates(chain) : NULL;
	o->key = key ? tls_load_key(key) : NULL;
	if ((!ca || o->ca) && (!chain || o->chain) && (!key || o->key) && !chain == !key)
		return 0;
	snprintf(err, err_len, "ca, certificate or key cannot be read");
	return -1;
}

static void free_files(mbedtls_x509_crt *ca, mbedtls_x509_crt *chain, mbedtls_pk_context *key)
{
	mbedtls_x509_crt_free(ca);
	mbedtls_x509_crt_free(chain);
	mbedtls_pk_free(key);
	free(ca);
	free(chain);
	free(key);
}

static int configure(struct device *d, json_t *in, char *err, size_t err_len)
{
	size_t psk_len = 0, identity_len = 0;
	uint8_t *psk = arg_hex(in, "psk", &psk_len);
	uint8_t *identity_hex = arg_hex(in, "identity_hex", &identity_len);
	const char *identity = arg_text(in, "identity", "");
	struct tls_options o = {
		.psk = psk,
		.psk_len = psk_len,
		.identity = identity_hex ? (const char *)identity_hex : identity,
		.identity_len = identity_hex ? identity_len : strlen(identity),
		.host = d->host,
		.suites = arg_text(in, "suites", NULL),
		.cid = arg_bool(in, "cid", true),
		.cid_len = (size_t)arg_int(in, "cid_length", 0),
		.tickets = arg_bool(in, "tickets", false),
		.mtu = (uint16_t)arg_int(in, "mtu", 0),
		.one_record = arg_bool(in, "one_record", false),
		.retransmit_min_ms = (uint32_t)arg_int(in, "retransmit_min_ms", 0),
		.retransmit_max_ms = (uint32_t)arg_int(in, "retransmit_max_ms", 0),
	};
	int r = -1;

	if (!psk && json_object_get(in, "psk"))
		snprintf(err, err_len, "psk: expected hexadecimal digits");
	else if (o.cid_len > TLS_CID_MAX)
		snprintf(err, err_len, "cid_length: at most %d", TLS_CID_MAX);
	else if (load_files(in, &o, err, err_len) == 0)
		r = tls_config_init(&d->config, &o, err, err_len);
	if (r != 0)
		free_files(o.ca, o.chain, o.key);
	free(psk);
	free(identity_hex);
	return r;
}

struct device *device_new(json_t *in, char *err, size_t err_len)
{
	const char *name = arg_text(in, "device", ""), *host = arg_text(in, "host", NULL);
	struct device *d = calloc(1, sizeof(*d));

	if (!d)
		die("out of memory");
	snprintf(d->name, sizeof(d->name), "%s", name);
	if (!*name || device_find(name)) {
		snprintf(err, err_len, "device: a name that is not taken is needed");
		goto bad;
	}
	if (target_parse(&d->server, arg_text(in, "server", "127.0.0.1"),
			 (uint16_t)arg_int(in, "port", 5684)) != 0) {
		snprintf(err, err_len, "server: expected a numeric address");
		goto bad;
	}
	d->port = port_open(&d->server, arg_text(in, "bind", NULL),
			    (uint16_t)arg_int(in, "local_port", 0));
	if (!d->port) {
		snprintf(err, err_len, "bind: %s", strerror(errno));
		goto bad;
	}
	d->port->device = d;
	d->host = host ? strdup(host) : NULL;
	if (configure(d, in, err, err_len) != 0)
		goto bad;
	random_bytes(&d->next_mid, sizeof(d->next_mid));
	random_bytes(&d->next_token, sizeof(d->next_token));
	d->chance = impairment_seed(1);
	tls_init(&d->tls, &d->config, &events, d);
	d->next = devices;
	devices = d;
	return d;
bad:
	if (d->port)
		port_close(d->port);
	free(d->host);
	free(d);
	return NULL;
}

void device_free(struct device *d)
{
	for (struct device **at = &devices; *at; at = &(*at)->next)
		if (*at == d) {
			*at = d->next;
			break;
		}
	request_fail_all(d, "closed");
	if (d->handshake_id)
		reply_error(d->handshake_id, NULL, "closed", "%s: ended before that", d->name);
	capture_forget(d);
	tls_free(&d->tls);
	tls_config_free(&d->config);
	free_files(d->config.ca, d->config.chain, d->config.key);
	port_close(d->port);
	free(d->host);
	free(d);
}

struct device *device_find(const char *name)
{
	for (struct device *d = devices; d; d = d->next)
		if (strcmp(d->name, name) == 0)
			return d;
	return NULL;
}

int device_rebind(struct device *d, const char *host, uint16_t number, bool keep)
{
	struct port *p = port_open(&d->server, host, number);

	if (!p)
		return -errno;
	d->port->device = NULL;
	if (!keep)
		port_close(d->port);
	d->port = p;
	p->device = d;
	return 0;
}

void device_swap(struct device *a, struct device *b)
{
	struct port *p = a->port;

	a->port = b->port;
	b->port = p;
	a->port->device = a;
	b->port->device = b;
}

void device_handshake(struct device *d, json_t *in, json_int_t id)
{
	int r = 0;

	if (d->handshake_id) {
		reply_error(id, NULL, "command", "%s: a handshake is under way", d->name);
		return;
	}
	d->handshake_id = id;
	d->handshake_end_us = clock_monotonic_us() + arg_int(in, "timeout_ms", 30000) * US_PER_MS;
	if (arg_bool(in, "go_on", false)) {
		tls_go_on(&d->tls);
		return;
	}
	request_fail_all(d, "closed");
	d->tls.stop_after = (unsigned)arg_int(in, "stop_after", 0);
	r = tls_begin(&d->tls, arg_bool(in, "resume", false));
	if (r != 0)
		on_failed(&d->tls, r, -1);
}

void device_receive(struct port *p, const uint8_t *datagram, size_t len)
{
	if (p->device)
		capture_pass(p->device, DIRECTION_IN, datagram, len);
	else
		event("datagram", NULL,
		      json_pack("{s:i, s:o}", "port", p->number, "hex", json_hex(datagram, len)));
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int64_t device_deadlines(void)
{
	int64_t first = capture_deadline();

	for (const struct device *d = devices; d; d = d->next) {
		first = earlier(first, tls_deadline(&d->tls));
		first = earlier(first, request_deadline(d));
		if (d->handshake_id)
			first = earlier(first, d->handshake_end_us);
	}
	return first;
}

void device_ticks(int64_t now_us)
{
	capture_tick(now_us);
	for (struct device *d = devices; d; d = d->next) {
		tls_tick(&d->tls, now_us);
		request_tick(d, now_us);
		if (d->handshake_id && now_us >= d->handshake_end_us) {
			tls_close(&d->tls, false);
			on_failed(&d->tls, MBEDTLS_ERR_SSL_TIMEOUT, -1);
		}
	}
}

json_t *device_stats(const struct device *d)
{
	const struct tls_counts *c = &d->tls.counts;

	return json_pack("{s:i, s:b, s:I, s:I, s:I, s:I, s:I}", "port", d->port->number, "open",
			 d->tls.state == TLS_OPEN, "records", (json_int_t)c->records, "authentic",
			 (json_int_t)c->authentic, "rejected", (json_int_t)c->rejected, "repeated",
			 (json_int_t)c->repeated, "nonces_reused", (json_int_t)c->reused);
}
