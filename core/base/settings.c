/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/settings.h"

#include "core/base/config.h"

#define TEXT(name, field, fallback, help)                                                          \
	{                                                                                          \
		name, SETTING_TEXT, offsetof(struct config, field), fallback, 0, 0, NULL, help,    \
			false                                                                      \
	}
#define OPTIONAL(name, field, help)                                                                \
	{                                                                                          \
		name, SETTING_TEXT, offsetof(struct config, field), NULL, 0, 0, NULL, help, true   \
	}
#define NUMBER(name, field, fallback, min, max, help)                                              \
	{                                                                                          \
		name, SETTING_NUMBER, offsetof(struct config, field), fallback, min, max, NULL,    \
			help, false                                                                \
	}
#define CHOICE(name, field, fallback, choices, help)                                               \
	{                                                                                          \
		name, SETTING_CHOICE, offsetof(struct config, field), fallback, 0, 0, choices,     \
			help, false                                                                \
	}

#define KIB INT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)

/* clang-format off */
const struct setting settings[] = {
	TEXT("database.url", database_url, NULL,
	     "PostgreSQL as a libpq connection string or URI. Keep the password out of it: use `passfile=`."),
	NUMBER("database.connect_timeout_s", database_connect_timeout_s, "5", 1, 300,
	       "How long one attempt to reach the database may take before the next."),
	NUMBER("database.timeout_s", database_timeout_s, "60", 1, 3600,
	       "A database that takes a statement and stays silent this long is given up and connected to again."),
	TEXT("state.dir", state_dir, NULL,
	     "Directory of the journals and of the registry's copies on disk, on a real disk, mode 0700. Each process has its own in it: `mqtt`, `coap`, `coap-1`."),
	NUMBER("registry.poll_ms", registry_poll_ms, "2000", 100, 5000,
	       "How often the database is asked whether devices, credentials or policies changed, should a notification be lost."),
	NUMBER("registry.max_enrolments", registry_max_enrolments, "1000", 0, 10000,
	       "How many unknown devices with a certificate of the fleet may wait until the database has registered them. The next ones are told to try again."),
	NUMBER("registry.enrolments_per_minute", registry_enrolments_per_minute, "3000", 0, 1000000,
	       "How many certificates of one CA that nobody has registered are looked at in a minute. 0 means no limit."),
	CHOICE("journal.durability", journal_durability, "default", "default|write|fsync",
	       "When a message may be acknowledged: `write` survives the death of the process (fsync follows), `fsync` survives the loss of power. `default` is `write` for MQTT and `fsync` for CoAP."),
	NUMBER("journal.max_bytes", journal_max_bytes, "1073741824", MIB, 1024 * GIB,
	       "Bound of the journal. When it is full, messages are refused and devices keep them."),
	NUMBER("journal.segment_bytes", journal_segment_bytes, "16777216", 64 * KIB, GIB,
	       "Size of one file of the journal; space is given back a file at a time."),
	NUMBER("journal.sync_interval_ms", journal_sync_interval_ms, "50", 1, 10000,
	       "With durability `write`: the longest time that an acknowledged message waits for fsync."),
	NUMBER("journal.follower_max_bytes", journal_follower_max_bytes, "268435456", MIB, 1024 * GIB,
	       "How much of the journal, at most half of it, is kept for rules and the broker when telemetry is stored already but they are behind: because the broker is away, or a table that a rule stores into is locked."),
	NUMBER("payload.max_bytes", payload_max_bytes, "131072", 64, 16 * MIB,
	       "A longer payload is not decoded: it goes to `dead_letter`."),
	NUMBER("payload.max_depth", payload_max_depth, "8", 1, 64,
	       "A payload nested deeper goes to `dead_letter`."),
	NUMBER("payload.max_readings", payload_max_readings, "256", 1, 1600,
	       "A message with more readings goes to `dead_letter`."),
	NUMBER("store.batch_rows", store_batch_rows, "2000", 1, 50000,
	       "Most messages that one transaction stores."),
	NUMBER("store.batch_delay_ms", store_batch_delay_ms, "5", 0, 10000,
	       "How long the writer lets a batch grow before it sends it; more saves database CPU, less shows rows sooner. A message to a device does not wait for it."),
	NUMBER("store.max_past_days", store_max_past_days, "400", 1, 36500,
	       "A device's time older than this is not believed: the time of receipt is used and `ts_source` says so."),
	NUMBER("store.max_future_days", store_max_future_days, "1", 0, 36500,
	       "The same for a time ahead of the server's."),
	NUMBER("store.status_interval_s", store_status_interval_s, "60", 1, 86400,
	       "How often a line with backlog, lag and counters is logged."),
	NUMBER("mqtt.max_keepalive_s", mqtt_max_keepalive_s, "1200", 0, 65535,
	       "Largest keepalive a device may ask for; keepalive 0 is then refused too. 0 switches the cap off. Nordic's client asks for 1200."),
	CHOICE("mqtt.client_id_suffix", mqtt_client_id_suffix, "no", "no|yes",
	       "`yes`: a client id may be the device id followed by `/` or `:` and anything, so that one device can hold several connections. Services always may."),
	CHOICE("mqtt.refused_publish", mqtt_refused_publish, "disconnect", "disconnect|ignore",
	       "What an MQTT 3.1.1 client gets for a publish that its policy forbids: that protocol has no negative answer, so either its connection is closed or it is told a lie. MQTT 5 clients get reason 0x87 in any case."),
	CHOICE("mqtt.token_auth", mqtt_token_auth, "off", "off|services|all",
	       "Who may log in with user name and token instead of a certificate, on listeners that do not require one."),
	OPTIONAL("secrets.key_file", secrets_key_file,
	     "File with the master key that opens the pre-shared keys in the database: 64 hexadecimal digits a line, mode 0600. The first seals, all open. When it is not set, the environment variable `FIELDGATE_MASTER_KEY` is asked: keys in the same order, separated by newlines, blanks or commas."),
	OPTIONAL("bus.host", bus_host,
	     "The broker, by the name in its certificate: what CoAP devices post is published there, and what rules republish. Without it fieldgate-coap publishes nothing."),
	NUMBER("bus.port", bus_port, "8883", 1, 65535,
	       "Its port (TLS)."),
	OPTIONAL("bus.ca_file", bus_ca_file,
	     "The CA of the broker's certificate."),
	OPTIONAL("bus.certificate_file", bus_certificate_file,
	     "The certificate of a service with the policy `bus`, with which fieldgate-coap shows itself to the broker."),
	OPTIONAL("bus.key_file", bus_key_file,
	     "Its private key."),
	NUMBER("bus.max_in_flight", bus_max_in_flight, "1000", 1, 65535,
	       "Messages that may wait for the broker's acknowledgement at the same time; the others wait in the journal."),
	CHOICE("bus.telemetry", bus_telemetry, "yes", "no|yes",
	     "`no`: what CoAP devices post is stored, and rules see it, but MQTT subscribers do not."),
	TEXT("coap.listen", coap_listen, "[::]:5684",
	     "Address and port of the CoAP server; `[::]` is every IPv6 and IPv4 address, `0.0.0.0` every IPv4 address."),
	NUMBER("coap.workers", coap_workers, "1", 1, 64,
	     "Processes that share the port. Each has its own journal, and three connections to the database."),
	OPTIONAL("coap.certificate_file", coap_certificate_file,
	     "The server's certificate chain (PEM, P-256, at most 4 kB in all for nRF9160). Without it devices can use pre-shared keys only."),
	OPTIONAL("coap.key_file", coap_key_file,
	     "Its private key."),
	OPTIONAL("coap.client_ca_file", coap_client_ca_file,
	     "CAs of device certificates, roots or not; the registry's table `authority` completes chains to them. With it a device may show its certificate instead of a JWT."),
	TEXT("coap.suites", coap_suites, "ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES128-CCM8 ECDHE-PSK-CHACHA20-POLY1305 PSK-AES128-CCM8 PSK-AES128-GCM-SHA256",
	     "Cipher suites, best first, by their OpenSSL names."),
	CHOICE("coap.legacy_cbc", coap_legacy_cbc, "no", "no|yes",
	     "`yes`: also the CBC suites of modem firmware before 1.3.1. Their sessions stay in memory whole and end with the process."),
	CHOICE("coap.connection_id", coap_connection_id, "yes", "no|yes",
	     "Offer Connection IDs (RFC 9146), so that sessions survive sleep and changes of address."),
	CHOICE("coap.resumption", coap_resumption, "yes", "no|yes",
	     "Session tickets (RFC 5077), for devices without Connection ID. The device's state is looked up again."),
	NUMBER("coap.ticket_lifetime_s", coap_ticket_lifetime_s, "86400", 60, 604800,
	     "How long such a ticket is good."),
	OPTIONAL("coap.sessions_dir", coap_sessions_dir,
	     "Directory on tmpfs, mode 0700, where sessions survive the end of the process: `/dev/shm/fieldgate`, say. Never on a disk: an old copy would repeat nonces."),
	NUMBER("coap.max_sessions", coap_max_sessions, "200000", 16, 10000000,
	     "Sessions of one worker; beyond that new handshakes are not begun."),
	NUMBER("coap.live_contexts", coap_live_contexts, "2000", 16, 1000000,
	     "Sessions of one worker that are kept ready (12 kB each); the others are parked (1.3 to 1.6 kB)."),
	NUMBER("coap.max_handshakes", coap_max_handshakes, "4096", 16, 1000000,
	     "Handshakes of one worker at the same time."),
	NUMBER("coap.handshake_timeout_s", coap_handshake_timeout_s, "60", 5, 600,
	     "How long a handshake may take; the longest that Nordic's modem waits by default is 31 or 63 s."),
	NUMBER("coap.silent_timeout_s", coap_silent_timeout_s, "30", 5, 3600,
	     "A session without a first request is closed after this."),
	NUMBER("coap.authentication_timeout_s", coap_authentication_timeout_s, "60", 5, 3600,
	     "A session that has not proven who it is is closed after this."),
	NUMBER("coap.idle_days", coap_idle_days, "30", 1, 3650,
	     "A session with Connection ID is forgotten when it was silent for so long."),
	NUMBER("coap.idle_without_cid_s", coap_idle_without_cid_s, "3600", 30, 31536000,
	     "The same for one without."),
	NUMBER("coap.lifetime_days", coap_lifetime_days, "365", 1, 3650,
	     "Longest life of a session; then the device shakes hands again."),
	NUMBER("coap.handshakes_per_source", coap_handshakes_per_source, "600", 0, 1000000,
	     "Handshakes a minute that one IPv4 address or IPv6 /64 may begin; 0 for any number. Carriers put thousands of devices behind one address."),
	NUMBER("coap.forgeries_per_source", coap_forgeries_per_source, "1000", 0, 1000000,
	     "Records a minute that may fail to authenticate before the rest from that source is dropped unread; 0 for any number."),
	NUMBER("coap.requests_per_s", coap_requests_per_s, "20", 1, 100000,
	     "Requests a second of one device on average; beyond it the answer is 4.29."),
	NUMBER("coap.requests_burst", coap_requests_burst, "200", 1, 1000000,
	     "And at once."),
	NUMBER("coap.max_body_bytes", coap_max_body_bytes, "131072", 1024, 16 * MIB,
	     "Longest request put together from blocks (RFC 7959); more is 4.13."),
	NUMBER("coap.max_transfers", coap_max_transfers, "256", 1, 100000,
	     "Block-wise transfers of one worker at the same time."),
	NUMBER("coap.max_exchanges", coap_max_exchanges, "1000", 1, 100000,
	     "Requests of one worker that wait for the database at the same time; beyond that 5.03."),
	NUMBER("coap.max_observations", coap_max_observations, "8", 0, 1000,
	     "Resources that one session may observe at the same time. All sessions of a device "
	     "together observe one resource twice as often at most; one more ends the oldest."),
	NUMBER("coap.dedup_bytes", coap_dedup_bytes, "67108864", 65536, 16 * GIB,
	     "Memory of one worker for answers that are kept for repeated requests."),
	NUMBER("coap.jwt_leeway_s", coap_jwt_leeway_s, "300", 0, 86400,
	     "How far a device's clock may be off when its JWT is judged."),
	NUMBER("coap.jwt_max_lifetime_s", coap_jwt_max_lifetime_s, "604800", 0, 315360000,
	     "Longest time from `iat` (or now) to `exp`; 0 for any."),
	CHOICE("coap.jwt_clockless", coap_jwt_clockless, "refuse", "refuse|accept",
	     "A JWT with neither `exp` nor `iat`, from a modem without network time: accepted, it is good for ever for whoever has a copy."),
	OPTIONAL("coap.jwt_audience", coap_jwt_audience,
	     "What `aud` must name when a JWT has one."),
	OPTIONAL("coap.keylog_device", coap_keylog_device,
	     "Debugging: the secrets of this one device's sessions are written down, so that Wireshark can read them."),
	OPTIONAL("coap.keylog_file", coap_keylog_file,
	     "Where to: NSS key log format, mode 0600."),
	NUMBER("document.max_bytes", document_max_bytes, "65536", 64, 16 * MIB,
	     "Largest state or stored value of a device."),
	NUMBER("document.max_values", document_max_values, "100", 1, 1000000,
	     "Stored values of one device."),
	CHOICE("log.level", log_level, "info", "debug|info|warn|error",
	       "Least important line that is logged."),
};
/* clang-format on */

const size_t setting_count = sizeof(settings) / sizeof(*settings);

_Static_assert(sizeof(settings) / sizeof(*settings) <= SETTINGS_MAX, "raise SETTINGS_MAX");
