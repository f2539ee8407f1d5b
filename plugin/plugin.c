/* SPDX-License-Identifier: Apache-2.0 */
/* What Mosquitto calls by name: version, init, cleanup. The rest are callbacks, registered here. */
#include "plugin/plugin.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "plugin/log_bridge.h"
#include "plugin/tls.h"

#define EXPORT	       __attribute__((visibility("default")))
#define PLUGIN_VERSION 5

static const struct {
	int event;
	MOSQ_FUNC_generic_callback callback;
} callbacks[] = {
	{MOSQ_EVT_RELOAD, on_reload},	      {MOSQ_EVT_BASIC_AUTH, on_basic_auth},
	{MOSQ_EVT_ACL_CHECK, on_acl_check},   {MOSQ_EVT_MESSAGE, on_message},
	{MOSQ_EVT_DISCONNECT, on_disconnect}, {MOSQ_EVT_TICK, on_tick},
	{MOSQ_EVT_PSK_KEY, on_psk_key},
};

#define CALLBACK_COUNT (sizeof(callbacks) / sizeof(*callbacks))

EXPORT int mosquitto_plugin_version(int supported_version_count, const int *supported_versions)
{
	for (int i = 0; i < supported_version_count; i++)
		if (supported_versions[i] == PLUGIN_VERSION)
			return PLUGIN_VERSION;
	return -1;
}

void plugin_renew(struct plugin *p)
{
	uint64_t generation = registry_generation(p->registry);

	if (generation == p->generation)
		return;
	snapshot_release(p->snapshot);
	p->snapshot = registry_acquire(p->registry);
	p->generation = generation;
}

/* The path of fieldgate.conf from `plugin_opt_config`, or NULL when the options are not understood.
 */
static const char *config_path(const struct mosquitto_opt *options, int count)
{
	const char *path = NULL;

	for (int i = 0; i < count; i++) {
		if (strcmp(options[i].key, "config") != 0) {
			log_error("plugin_init", NULL,
				  "mosquitto.conf: there is no plugin_opt_%s; settings belong into "
				  "the file that plugin_opt_config names",
				  options[i].key);
			return NULL;
		}
		path = options[i].value;
	}
	if (!path)
		log_error("plugin_init", NULL,
			  "mosquitto.conf: plugin_opt_config is missing; give it the path of "
			  "fieldgate.conf");
	return path;
}

static int register_callbacks(struct plugin *p)
{
	int rc;

	for (size_t i = 0; i < CALLBACK_COUNT; i++) {
		rc = mosquitto_callback_register(p->id, callbacks[i].event, callbacks[i].callback,
						 NULL, p);
		if (rc != MOSQ_ERR_SUCCESS) {
			log_error("plugin_init", NULL, "the broker does not take callback %d: %d",
				  callbacks[i].event, rc);
			return -1;
		}
	}
	/* Mosquitto 2.0 does not know these and needs them not. */
	mosquitto_callback_register(p->id, EVT_CLIENT_OFFLINE, on_disconnect, NULL, p);
	rc = mosquitto_callback_register(p->id, EVT_CONNECT, on_connect, NULL, p);
	p->has_connect_event = rc == MOSQ_ERR_SUCCESS;
	return 0;
}

static int start(struct plugin *p, const struct mosquitto_opt *options, int count)
{
	const char *path = config_path(options, count);
	char err[512];

	if (!path)
		return -1;
	if (config_load(&p->config, path, err, sizeof(err)) != 0 ||
	    pipeline_open(&p->pipeline, &p->config, "mqtt", DURABILITY_WRITE, plugin_bus_of(p->bus),
			  err, sizeof(err)) != 0) {
		log_error("plugin_init", NULL, "%s", err);
		return -1;
	}
	if (downlink_open(p, err, sizeof(err)) != 0 || tls_open(p, err, sizeof(err)) != 0) {
		log_error("plugin_init", NULL, "%s", err);
		return -1;
	}
	log_set_level((enum log_level)p->config.log_level);
	p->registry = pipeline_registry(p->pipeline);
	p->generation = registry_generation(p->registry);
	p->judged_generation = p->generation;
	p->snapshot = registry_acquire(p->registry);
	return register_callbacks(p);
}

static void stop(struct plugin *p)
{
	tls_close(p);
	downlink_close(p);
	snapshot_release(p->snapshot);
	pipeline_close(p->pipeline);
	plugin_bus_close(p->bus);
	config_free(&p->config);
	sessions_free(&p->sessions);
	log_bridge_close();
	free(p);
}

EXPORT int mosquitto_plugin_init(mosquitto_plugin_id_t *identifier, void **userdata,
				 struct mosquitto_opt *options, int option_count)
{
	const struct presence started = {.event = PRESENCE_STARTED, .device = "", .client_id = ""};
	struct plugin *p;

	log_bridge_open();
	p = calloc(1, sizeof(*p));
	if (p)
		p->bus = plugin_bus_open();
	if (!p || !p->bus || sessions_init(&p->sessions) != 0) {
		log_error("plugin_init", NULL, "out of memory");
		if (p)
			plugin_bus_close(p->bus);
		free(p);
		return MOSQ_ERR_NOMEM;
	}
	p->id = identifier;
	p->next_end_us = INT64_MAX;
	if (start(p, options, option_count) != 0) {
		stop(p);
		return MOSQ_ERR_UNKNOWN;
	}
	pipeline_presence(p->pipeline, &started);
	*userdata = p;
	log_info("plugin_started", NULL, "%zu principals known%s",
		 snapshot_principal_count(p->snapshot),
		 registry_ready(p->registry) ? ""
					     : "; nobody is let in before the registry is loaded");
	return MOSQ_ERR_SUCCESS;
}

static void unregister_callbacks(struct plugin *p)
{
	for (size_t i = 0; i < CALLBACK_COUNT; i++)
		mosquitto_callback_unregister(p->id, callbacks[i].event, callbacks[i].callback,
					      NULL);
	mosquitto_callback_unregister(p->id, EVT_CLIENT_OFFLINE, on_disconnect, NULL);
	mosquitto_callback_unregister(p->id, EVT_CONNECT, on_connect, NULL);
}

/* The broker has freed its clients by now: only what the sessions hold themselves is left. */
EXPORT int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int option_count)
{
	struct plugin *p = userdata;
	struct session *s;

	(void)options;
	(void)option_count;
	if (!p)
		return MOSQ_ERR_SUCCESS;
	unregister_callbacks(p);
	will_take(p);
	for (s = TAILQ_FIRST(&p->sessions.open); s; s = TAILQ_NEXT(s, list))
		presence_ended(p, s, NULL, "the broker was stopped");
	stop(p);
	return MOSQ_ERR_SUCCESS;
}
