/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The settings of a Fieldgate process. One file, `name = value` a line; a line that begins with `#`
 * is a comment, a `#` behind a value is part of the value. The same file serves the Mosquitto
 * plugin and fieldgate-coap. The table in config.c is the only place where a setting's name,
 * default, range and meaning are written; README's table is checked against it.
 */
#ifndef FG_BASE_CONFIG_H
#define FG_BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum durability {
	DURABILITY_DEFAULT, /* each protocol's own: MQTT write, CoAP fsync */
	DURABILITY_WRITE,   /* survives the death of the process; fsync follows */
	DURABILITY_FSYNC,   /* survives the loss of power */
};

enum refused_publish {
	REFUSED_PUBLISH_DISCONNECT,
	REFUSED_PUBLISH_IGNORE,
};

enum token_auth {
	TOKEN_AUTH_OFF,
	TOKEN_AUTH_SERVICES,
	TOKEN_AUTH_ALL,
};

enum jwt_clockless {
	JWT_CLOCKLESS_REFUSE,
	JWT_CLOCKLESS_ACCEPT,
};

struct config {
	char *database_url;
	int64_t database_connect_timeout_s;
	int64_t database_timeout_s;

	char *state_dir;

	int64_t registry_poll_ms;
	int64_t registry_max_enrolments, registry_enrolments_per_minute;

	int64_t journal_durability; /* enum durability */
	int64_t journal_max_bytes;
	int64_t journal_segment_bytes;
	int64_t journal_sync_interval_ms;
	int64_t journal_follower_max_bytes;

	int64_t payload_max_bytes;
	int64_t payload_max_depth;
	int64_t payload_max_readings;

	int64_t store_batch_rows;
	int64_t store_batch_delay_ms;
	int64_t store_max_past_days;
	int64_t store_max_future_days;
	int64_t store_status_interval_s;

	int64_t mqtt_max_keepalive_s;
	int64_t mqtt_client_id_suffix; /* bool */
	int64_t mqtt_refused_publish;  /* enum refused_publish */
	int64_t mqtt_token_auth;       /* enum token_auth */

	char *secrets_key_file; /* NULL: none */

	char *bus_host; /* NULL: fieldgate-coap does not publish; likewise the files */
	int64_t bus_port;
	char *bus_ca_file;
	char *bus_certificate_file;
	char *bus_key_file;
	int64_t bus_max_in_flight;
	int64_t bus_telemetry; /* bool */

	char *coap_listen;
	int64_t coap_workers;
	char *coap_certificate_file; /* NULL: PSK only; likewise the next two */
	char *coap_key_file;
	char *coap_client_ca_file;
	char *coap_suites;
	int64_t coap_legacy_cbc;    /* bool */
	int64_t coap_connection_id; /* bool */
	int64_t coap_resumption;    /* bool */
	int64_t coap_ticket_lifetime_s;
	char *coap_sessions_dir; /* NULL: sessions end with the process */
	int64_t coap_max_sessions;
	int64_t coap_live_contexts;
	int64_t coap_max_handshakes;
	int64_t coap_handshake_timeout_s;
	int64_t coap_silent_timeout_s;
	int64_t coap_authentication_timeout_s;
	int64_t coap_idle_days;
	int64_t coap_idle_without_cid_s;
	int64_t coap_lifetime_days;
	int64_t coap_handshakes_per_source;
	int64_t coap_forgeries_per_source;
	int64_t coap_requests_per_s;
	int64_t coap_requests_burst;
	int64_t coap_max_body_bytes;
	int64_t coap_max_transfers;
	int64_t coap_max_exchanges;
	int64_t coap_max_observations;
	int64_t coap_dedup_bytes;
	int64_t coap_jwt_leeway_s;
	int64_t coap_jwt_max_lifetime_s;
	int64_t coap_jwt_clockless; /* enum jwt_clockless */
	char *coap_jwt_audience;    /* NULL: none */
	char *coap_keylog_device;   /* NULL: none; likewise the next */
	char *coap_keylog_file;

	int64_t document_max_bytes;
	int64_t document_max_values;

	int64_t log_level; /* enum log_level */
};

/*
 * Fill c from the file. 0, or -1 with what is wrong, where (file:line) and what to do in err; c
 * then holds nothing to free. An unknown name, a bad value, a setting given twice or a missing
 * required setting is an error: a misspelt limit must not pass silently.
 */
int config_load(struct config *c, const char *path, char *err, size_t err_len);

void config_free(struct config *c);

/* The settings as a Markdown table, as it stands in README.md. */
void config_print_markdown(FILE *out);

#endif
