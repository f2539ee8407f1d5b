/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/worker/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <unistd.h>

#include "coap-server/worker/internal.h"
#include "core/base/clock.h"
#include "core/base/log.h"

/* As the store's, so that both come to the same verdict about a message. */
#define ARENA_CHUNK (256 * 1024)
#define ARENA_RATIO 64

#define TRANSFERS_PER_SESSION 4
#define ANSWERS_PER_SESSION   4
#define OBSERVERS_PER_SESSION 2	 /* of one resource, as often as coap.max_observations */
#define DOCUMENT_WAIT_MAX_S   10 /* longer than that no device waits */
#define DOCUMENTS_OF_DEVICE   2	 /* a large state takes the database long */
#define ACKNOWLEDGE_AFTER_US  (500 * US_PER_MS) /* most answers of the database come before */
#define CLOSE_LIMIT_MS	      300

const char *worker_source(char text[WORKER_SOURCE_MAX], unsigned number)
{
	if (number == 0)
		snprintf(text, WORKER_SOURCE_MAX, "coap");
	else
		snprintf(text, WORKER_SOURCE_MAX, "coap-%u", number);
	return text;
}

void worker_dtls_options(struct dtls_options *o, const struct config *c, unsigned number,
			 char path[WORKER_PATH_MAX])
{
	*o = (struct dtls_options){
		.suites = c->coap_suites,
		.legacy_cbc = c->coap_legacy_cbc != 0,
		.certificate_file = c->coap_certificate_file,
		.key_file = c->coap_key_file,
		.client_ca_file = c->coap_client_ca_file,
		.connection_id = c->coap_connection_id != 0,
		.resumption = c->coap_resumption != 0,
		.ticket_lifetime_us = c->coap_ticket_lifetime_s * US_PER_S,
		.max_sessions = (size_t)c->coap_max_sessions,
		.max_handshakes = (size_t)c->coap_max_handshakes,
		.live_contexts = (size_t)c->coap_live_contexts,
		.handshakes_per_source = (unsigned)c->coap_handshakes_per_source,
		.forgeries_per_source = (unsigned)c->coap_forgeries_per_source,
		.handshake_timeout_us = c->coap_handshake_timeout_s * US_PER_S,
		.silent_timeout_us = c->coap_silent_timeout_s * US_PER_S,
		.anonymous_timeout_us = c->coap_authentication_timeout_s * US_PER_S,
		.idle_us = c->coap_idle_days * US_PER_DAY,
		.idle_without_cid_us = c->coap_idle_without_cid_s * US_PER_S,
		.lifetime_us = c->coap_lifetime_days * US_PER_DAY,
		.worker = number,
		.keylog_file = c->coap_keylog_file,
		.keylog_device = c->coap_keylog_device,
		.user_size = sizeof(struct session),
	};
	if (!c->coap_sessions_dir)
		return;
	snprintf(path, WORKER_PATH_MAX, "%s/worker-%u.slots", c->coap_sessions_dir, number);
	o->slots_path = path;
}

/* The broker binds a client id to the service of the certificate; the first worker has the
 * service's own, each other one that goes on behind a slash. */
void worker_bus_options(struct bus_client_options *o, const struct config *c, unsigned number,
			char suffix[WORKER_SOURCE_MAX])
{
	*o = (struct bus_client_options){
		.tls = {.host = c->bus_host,
			.ca_file = c->bus_ca_file,
			.certificate_file = c->bus_certificate_file,
			.key_file = c->bus_key_file},
		.port = (uint16_t)c->bus_port,
		.suffix = number == 0 ? NULL : worker_source(suffix, number),
		.max_in_flight = (size_t)c->bus_max_in_flight,
	};
}

int worker_bus_open(struct bus_client **out, const struct config *c, unsigned number)
{
	struct bus_client_options o;
	char suffix[WORKER_SOURCE_MAX];

	*out = NULL;
	if (!c->bus_host)
		return 0;
	worker_bus_options(&o, c, number, suffix);
	return bus_client_open(out, &o);
}

void worker_renew(struct worker *w)
{
	uint64_t generation = registry_generation(w->registry);

	if (generation == w->generation && w->snapshot)
		return;
	snapshot_release(w->snapshot);
	w->confirmed = registry_confirmed(w->registry) != 0; /* never truer than the snapshot */
	w->snapshot = registry_acquire(w->registry);
	w->resources.snapshot = w->snapshot;
	w->generation = generation;
	authorities_renew(w);
}

/* --- A session's life --- */

static void session_opened(void *arg, struct dtls_session *session)
{
	struct worker *w = arg;
	struct session *s = dtls_user(session);

	s->dtls = session;
	s->known = true;
	/* Without memory: once more with its first request. */
	if (dtls_identity_proven(dtls_session_identity(session)))
		presence_attach(w, s);
}

static void session_authenticated(struct resources *r, struct dtls_session *session)
{
	struct worker *w = worker_of(r);
	struct session *s = dtls_user(session);

	if (s->device || presence_attach(w, s))
		presence_heard(w, s);
}

static void session_data(void *arg, struct dtls_session *session, const uint8_t *data, size_t len)
{
	struct worker *w = arg;
	struct session *s = dtls_user(session);
	uint64_t id = dtls_session_id(session);
	uint8_t note[DTLS_NOTE_MAX];
	size_t note_len;

	s->dtls = session;
	if (!s->known) {
		s->known = true;
		note_len = dtls_session_note(session, note);
		if (note_len > 0)
			coap_peer_load(w->coap, id, note, note_len);
	}
	coap_server_receive(w->coap, &s->peer, id, session, data, len);
	if (s->end_reason && s->dtls)
		dtls_end(session, true, s->end_reason);
}

static void session_closed(void *arg, struct dtls_session *session, const char *reason)
{
	struct worker *w = arg;
	struct session *s = dtls_user(session);

	if (strcmp(reason, refusal_reason(REFUSAL_EXPIRED)) == 0)
		log_warn("session_closed", dtls_session_identity(session)->id,
			 "session %016llx: its credential has expired; the device needs a new one "
			 "(`pki/fleet renew`)",
			 (unsigned long long)dtls_session_id(session));
	coap_server_forget(w->coap, &s->peer);
	presence_detach(w, s, reason);
	s->dtls = NULL;
}

static bool session_proven(void *arg, void *session)
{
	(void)arg;
	return dtls_identity_proven(dtls_session_identity(session));
}

/* Also when there is nothing to note any more: what the note says was then taken back. */
static void session_keep(void *arg, void *session)
{
	struct worker *w = worker_of(arg);
	uint8_t note[DTLS_NOTE_MAX];

	if (w->config->coap_sessions_dir)
		dtls_session_set_note(
			session, note,
			coap_peer_save(w->coap, dtls_session_id(session), note, sizeof(note)));
}

/* The note goes first: an answer that may have been seen is never forgotten. */
static int session_send(void *arg, void *session, const uint8_t *data, size_t len)
{
	session_keep(arg, session);
	return dtls_send(session, data, len);
}

/* --- Start and stop --- */

static int fail(const char *what)
{
	log_error("worker_start", NULL, "%s", what);
	return -1;
}

static int open_bus(struct worker *w)
{
	int rc = worker_bus_open(&w->bus, w->config, w->number);

	return rc == 0 ? 0 : fail(strerror(-rc));
}

static int open_pipeline(struct worker *w)
{
	char source[WORKER_SOURCE_MAX], err[512];

	if (reload_keys(w->config, &w->keys, err, sizeof(err)) != 0)
		return fail(err);
	if (pipeline_open(&w->pipeline, w->config, worker_source(source, w->number),
			  DURABILITY_FSYNC, w->bus ? bus_client_bus(w->bus) : NULL, err,
			  sizeof(err)) != 0)
		return fail(err);
	w->registry = pipeline_registry(w->pipeline);
	worker_renew(w);
	w->swept_generation = w->generation;
	return 0;
}

static int open_documents(struct worker *w)
{
	const struct config *c = w->config;
	int64_t wait = c->database_timeout_s < DOCUMENT_WAIT_MAX_S ? c->database_timeout_s
								   : DOCUMENT_WAIT_MAX_S;
	const struct document_options o = {
		.database_url = c->database_url,
		.connect_timeout_s = (int)c->database_connect_timeout_s,
		.statement_timeout_s = (int)wait,
		.max_queue = (size_t)c->coap_max_exchanges,
		.max_of_device = DOCUMENTS_OF_DEVICE,
		.max_bytes = (size_t)c->document_max_bytes,
		.max_values = (size_t)c->document_max_values,
	};
	char err[512];

	return documents_open(&w->documents, &o, err, sizeof(err)) == 0 ? 0 : fail(err);
}

static int open_dtls(struct worker *w)
{
	const struct dtls_callbacks callbacks = {
		.arg = w,
		.send = loop_send,
		.psk = handshake_psk,
		.certificate = handshake_certificate,
		.resumed = handshake_resumed,
		.refused = handshake_refused,
		.opened = session_opened,
		.data = session_data,
		.closed = session_closed,
	};
	struct dtls_options o;
	char path[WORKER_PATH_MAX], err[512];

	worker_dtls_options(&o, w->config, w->number, path);
	if (dtls_open(&w->dtls, &o, &callbacks, err, sizeof(err)) != 0)
		return fail(err);
	authorities_give(w);
	return 0;
}

static int open_coap(struct worker *w)
{
	const struct config *c = w->config;
	const struct coap_server_options o = {
		.routes = resource_routes,
		.route_count = resource_route_count,
		.arg = &w->resources,
		.admit = access_admit,
		.known = session_proven,
		.send = session_send,
		.keep = session_keep,
		.delivered = resource_delivered,
		.max_body = (size_t)c->coap_max_body_bytes,
		.max_transfers = TRANSFERS_PER_SESSION,
		.max_transfers_all = (size_t)c->coap_max_transfers,
		.acknowledge_after_us = ACKNOWLEDGE_AFTER_US,
		.max_exchanges = (size_t)c->coap_max_exchanges,
		.max_observations = (size_t)c->coap_max_observations,
		.max_observers = OBSERVERS_PER_SESSION * (size_t)c->coap_max_observations,
		.dedup_per_session = ANSWERS_PER_SESSION,
		.dedup_bytes = (size_t)c->coap_dedup_bytes,
	};
	int rc = coap_server_open(&w->coap, &o);

	return rc == 0 ? 0 : fail(strerror(-rc));
}

static void fill_resources(struct worker *w)
{
	const struct config *c = w->config;
	struct resources *r = &w->resources;

	r->config = c;
	r->pipeline = w->pipeline;
	r->documents = w->documents;
	r->server = w->coap;
	r->limits = (struct decode_limits){.max_bytes = (size_t)c->payload_max_bytes,
					   .max_depth = (unsigned)c->payload_max_depth,
					   .max_readings = (unsigned)c->payload_max_readings};
	r->authenticated = session_authenticated;
	r->let_in = access_let_in;
	arena_init(&r->arena, ARENA_CHUNK, ARENA_CHUNK * 16 + r->limits.max_bytes * ARENA_RATIO);
	reload_rules(w);
}

static int open_signals(struct worker *w)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	w->signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
	return w->signal_fd >= 0 ? 0 : fail(strerror(errno));
}

static int start_parts(struct worker *w)
{
	int rc;

	if (open_signals(w) != 0 || devices_init(&w->devices) != 0)
		return fail("out of memory");
	rc = datagrams_open(&w->datagrams, w->socket);
	if (rc != 0)
		return fail(strerror(-rc));
	if (open_bus(w) != 0 || open_pipeline(w) != 0 || open_documents(w) != 0 ||
	    open_dtls(w) != 0 || open_coap(w) != 0)
		return -1;
	fill_resources(w);
	presence_restore(w);
	return 0;
}

static void say_started(const struct worker *w)
{
	struct dtls_stats dtls;

	dtls_stats(w->dtls, &dtls);
	log_info("coap_started", NULL, "worker=%u: %zu sessions restored, %zu principals known%s",
		 w->number, (size_t)dtls.restored, snapshot_principal_count(w->snapshot),
		 registry_ready(w->registry) ? ""
					     : "; nobody is let in before the registry is loaded");
}

static void left_at_once(int signal)
{
	(void)signal;
	_exit(0);
}

/*
 * By now every session is parked or told, and what was acknowledged is in the journal. What is left
 * is to take leave of the database, which may not answer: nobody waits longer for that.
 */
void worker_limit_close(void)
{
	const struct itimerval limit = {.it_value = {.tv_usec = CLOSE_LIMIT_MS * US_PER_MS}};
	struct sigaction action = {.sa_handler = left_at_once};
	sigset_t alarm;

	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &limit, NULL);
	sigprocmask(SIG_UNBLOCK, &alarm, NULL);
}

static void stop_parts(struct worker *w)
{
	if (w->pipeline && w->devices.buckets)
		presence_stop(w);
	coap_server_close(w->coap);
	dtls_close(w->dtls);
	if (w->datagrams)
		datagrams_flush(w->datagrams);
	datagrams_close(w->datagrams);
	worker_limit_close();
	documents_close(w->documents);
	snapshot_release(w->snapshot);
	pipeline_close(w->pipeline);
	bus_client_close(w->bus);
	secret_keys_free(w->keys);
	arena_free(&w->resources.arena);
	devices_free(&w->devices);
	if (w->signal_fd >= 0)
		close(w->signal_fd);
}

int worker_run(const struct worker_start *start)
{
	struct worker *w = calloc(1, sizeof(*w));
	int rc;

	if (!w)
		return fail("out of memory"), 1;
	w->config = start->config;
	w->config_path = start->config_path;
	w->number = start->number;
	w->socket = start->socket;
	w->restored_anew = start->moved;
	w->signal_fd = -1;
	log_set_level((enum log_level)w->config->log_level);
	rc = start_parts(w);
	if (rc == 0) {
		say_started(w);
		rc = loop_run(w, start->ready_fd);
	}
	stop_parts(w);
	free(w);
	return rc == 0 ? 0 : 1;
}
