/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS of the broker's listeners. Mosquitto owns it and tells plugins nothing of it, so we ask
 * OpenSSL, which calls us for each SSL_CTX that is made: from then on we see each handshake, verify
 * each certificate, and say who was refused and why.
 */
#ifndef FG_PLUGIN_TLS_H
#define FG_PLUGIN_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/registry/identify.h"

struct mosquitto;
struct plugin;

/* Before the broker opens its listeners, which it does after it has loaded its plugins. One plugin
 * of a process has it: -EBUSY for another, with a message in err. */
int tls_open(struct plugin *p, char *err, size_t err_len);

/* Contexts and connections may live longer than the plugin: they get OpenSSL's own verification. */
void tls_close(struct plugin *p);

/* SIGHUP: the master keys of pre-shared keys are read again when they are needed. */
void tls_reload(void);

/*
 * Has this client proven, in the handshake of the connection that it has now, to hold a pre-shared
 * key? If so, `who` is what identify_* make of it.
 */
bool tls_psk_identify(struct identity *who, const struct plugin *p, const struct mosquitto *client);

/* PSK_KEY. userdata is the struct plugin. */
int on_psk_key(int event, void *event_data, void *userdata);

#endif
