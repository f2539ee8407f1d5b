/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGHUP: certificates, keys and rules are read again, and hold for handshakes and tokens from now
 * on; sessions go on. The supervisor has read the same file just before, and has said what it found
 * and what needs a restart: here only what is new goes to the log. What cannot be used leaves in
 * force what was.
 */
#include "coap-server/worker/internal.h"

#include "coap-server/worker/settings.h"
#include "core/base/log.h"

int reload_keys(const struct config *c, struct secret_keys **keys, char *err, size_t err_len)
{
	return secret_keys_open(keys, c->secrets_key_file, err, err_len);
}

void reload_rules(struct worker *w)
{
	const struct config *c = w->config;

	w->resources.jwt_rules = (struct jwt_rules){
		.leeway_s = c->coap_jwt_leeway_s,
		.max_lifetime_s = c->coap_jwt_max_lifetime_s,
		.accept_clockless = c->coap_jwt_clockless == JWT_CLOCKLESS_ACCEPT,
		.audience = c->coap_jwt_audience,
	};
}

static void take_keys(struct worker *w)
{
	struct secret_keys *keys;
	char err[512];

	if (reload_keys(w->config, &keys, err, sizeof(err)) != 0) {
		log_error("reload_failed", NULL, "%s; the former master keys stay in force", err);
		return;
	}
	secret_keys_free(w->keys);
	w->keys = keys;
}

static void take_certificate(struct worker *w)
{
	struct dtls_options o;
	char path[WORKER_PATH_MAX], err[512];

	worker_dtls_options(&o, w->config, w->number, path);
	if (dtls_reload(w->dtls, &o, err, sizeof(err)) != 0)
		log_error("reload_failed", NULL, "%s; the former certificate stays in force", err);
	else
		authorities_give(w);
}

void reload(struct worker *w)
{
	struct config fresh;
	char err[512], pending[512];

	if (config_load(&fresh, w->config_path, err, sizeof(err)) != 0) {
		log_error("reload_failed", NULL, "%s; the former settings stay in force", err);
		return;
	}
	settings_adopt(w->config, &fresh, pending, sizeof(pending));
	log_set_level((enum log_level)w->config->log_level);
	reload_rules(w);
	take_keys(w);
	take_certificate(w);
	if (w->bus)
		bus_client_renew(w->bus);
	/* Only now: the rules pointed into it. */
	config_free(&fresh);
	log_info("reloaded", NULL, "certificate, keys and rules hold from now on");
}
