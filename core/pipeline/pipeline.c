/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wires registry, rules and journal together with those who follow the journal: store, relay and
 * sink. There is no queue here: what is accepted is in the journal before pipeline_publish returns,
 * and everything after that is theirs.
 */
#include "core/pipeline/pipeline.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/pipeline/commit.h"
#include "core/relay/relay.h"
#include "core/sink/sink.h"
#include "core/rule/set.h"

#define RULE_REPORT_MS 2000 /* how often counters of rules go to the database, at most */

#define DEVICE_PREFIX	"m/d/"
#define TELEMETRY_LEVEL "/d2c"
#define DOWNLINK_LEVEL	"/c2d"

struct pipeline {
	char *source;
	enum durability durability;
	struct registry *registry;
	struct rules *rules;
	struct journal *journal;
	struct commit *commit;
	struct relay *relay;
	struct sink *sink;
	struct store *store;

	/* The rules as the thread that publishes sees them. */
	const struct rule_set *set;
	uint64_t set_generation;
};

static int fail(char *err, size_t err_len, const char *what, const char *detail)
{
	snprintf(err, err_len, "%s: %s", what, detail);
	return -1;
}

/*
 * Who can write here can put a copy of the registry in its place that lets them in, so nobody else
 * may.
 */
static int check_dir(const char *path, const struct stat *st, char *err, size_t err_len)
{
	char what[128];

	if (!S_ISDIR(st->st_mode))
		return fail(err, err_len, path, "exists and is not a directory");
	if (st->st_uid != geteuid()) {
		snprintf(what, sizeof(what),
			 "belongs to the user %u, this process is %u; give it one of its own "
			 "(chown)",
			 (unsigned)st->st_uid, (unsigned)geteuid());
		return fail(err, err_len, path, what);
	}
	if (st->st_mode & 022)
		return fail(err, err_len, path, "other users may write in it; run: chmod 0700");
	return 0;
}

/* A directory of ours with mode 0700; its parent must exist. */
static int make_dir(const char *path, char *err, size_t err_len)
{
	struct stat st;

	if (mkdir(path, 0700) == 0)
		return 0;
	if (errno != EEXIST)
		return fail(err, err_len, path, strerror(errno));
	if (stat(path, &st) != 0)
		return fail(err, err_len, path, strerror(errno));
	return check_dir(path, &st, err, err_len);
}

static char *path_join(const char *dir, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

static int open_registry(struct pipeline *p, const struct config *c, const char *dir, char *err,
			 size_t err_len)
{
	char *path = path_join(dir, "registry.snapshot");
	const struct registry_options o = {
		.database_url = c->database_url,
		.connect_timeout_s = (int)c->database_connect_timeout_s,
		.statement_timeout_s = (int)c->database_timeout_s,
		.poll_ms = (int)c->registry_poll_ms,
		.snapshot_path = path,
		.max_enrolments = (size_t)c->registry_max_enrolments,
		.enrolments_per_minute = (unsigned)c->registry_enrolments_per_minute,
	};
	int rc = path ? registry_open(&p->registry, &o, err, err_len)
		      : fail(err, err_len, dir, "out of memory");

	free(path);
	return rc;
}

static int open_journal(struct pipeline *p, const struct config *c, const char *dir, char *err,
			size_t err_len)
{
	char *path = path_join(dir, "journal");
	const struct journal_options o = {
		.dir = path,
		.max_bytes = (uint64_t)c->journal_max_bytes,
		.segment_bytes = (uint64_t)c->journal_segment_bytes,
		.sync_interval_ms = (unsigned)c->journal_sync_interval_ms,
		.follower_max_bytes = (uint64_t)c->journal_follower_max_bytes,
	};
	int rc = path ? journal_open(&p->journal, &o, err, err_len)
		      : fail(err, err_len, dir, "out of memory");

	free(path);
	/* What a process that was killed has appended may be acknowledged from now on: to a device
	 * that sends again, say. A failure is logged there, and keeps nobody from storing it. */
	if (rc == 0 && p->durability == DURABILITY_FSYNC)
		(void)journal_sync_former(p->journal);
	return rc;
}

static int open_commit(struct pipeline *p, char *err, size_t err_len)
{
	int rc = commit_open(&p->commit, p->journal);

	return rc == 0 ? 0 : fail(err, err_len, p->source, strerror(-rc));
}

static struct decode_limits limits_of(const struct config *c)
{
	return (struct decode_limits){.max_bytes = (size_t)c->payload_max_bytes,
				      .max_depth = (unsigned)c->payload_max_depth,
				      .max_readings = (unsigned)c->payload_max_readings};
}

static int open_rules(struct pipeline *p, char *err, size_t err_len)
{
	int rc = rules_open(&p->rules, p->registry);

	return rc == 0 ? 0 : fail(err, err_len, p->source, strerror(-rc));
}

static int start_relay(struct pipeline *p, const struct config *c, const struct bus *bus,
		       const char *dir, char *err, size_t err_len)
{
	char *path = path_join(dir, "relay");
	const struct relay_options o = {
		.bus = bus,
		.position_path = path,
		.source = p->source,
		.telemetry = c->bus_telemetry,
		.status_interval_s = (int)c->store_status_interval_s,
		.limits = limits_of(c),
	};
	int rc = path ? relay_start(&p->relay, &o, p->journal, p->rules, err, err_len)
		      : fail(err, err_len, dir, "out of memory");

	free(path);
	return rc;
}

static int start_sink(struct pipeline *p, const struct config *c, char *err, size_t err_len)
{
	const struct sink_options o = {
		.database_url = c->database_url,
		.source = p->source,
		.connect_timeout_s = (int)c->database_connect_timeout_s,
		.statement_timeout_s = (int)c->database_timeout_s,
		.report_interval_ms = RULE_REPORT_MS,
		.status_interval_s = (int)c->store_status_interval_s,
		.limits = limits_of(c),
		.relay = p->relay,
		.registry = p->registry,
	};

	return sink_start(&p->sink, &o, p->journal, p->rules, err, err_len);
}

static int start_store(struct pipeline *p, const struct config *c, char *err, size_t err_len)
{
	const struct store_options o = {
		.database_url = c->database_url,
		.source = p->source,
		.connect_timeout_s = (int)c->database_connect_timeout_s,
		.statement_timeout_s = (int)c->database_timeout_s,
		.batch_rows = (size_t)c->store_batch_rows,
		.batch_delay_ms = (int)c->store_batch_delay_ms,
		.max_past_days = (int)c->store_max_past_days,
		.max_future_days = (int)c->store_max_future_days,
		.status_interval_s = (int)c->store_status_interval_s,
		.limits = limits_of(c),
		.rules = p->rules,
	};

	return store_start(&p->store, &o, p->journal, err, err_len);
}

/* The followers before the store: nothing may be released that they have not asked for. */
static int open_parts(struct pipeline *p, const struct config *c, const struct bus *bus, char *err,
		      size_t err_len)
{
	char *dir = path_join(c->state_dir, p->source);
	int rc = -1;

	if (!dir)
		return fail(err, err_len, c->state_dir, "out of memory");
	if (make_dir(c->state_dir, err, err_len) == 0 && make_dir(dir, err, err_len) == 0 &&
	    open_journal(p, c, dir, err, err_len) == 0 && open_commit(p, err, err_len) == 0 &&
	    open_registry(p, c, dir, err, err_len) == 0 && open_rules(p, err, err_len) == 0 &&
	    start_relay(p, c, bus, dir, err, err_len) == 0 && start_sink(p, c, err, err_len) == 0 &&
	    start_store(p, c, err, err_len) == 0)
		rc = 0;
	free(dir);
	return rc;
}

int pipeline_open(struct pipeline **out, const struct config *c, const char *source,
		  enum durability durability, const struct bus *bus, char *err, size_t err_len)
{
	struct pipeline *p = calloc(1, sizeof(*p));

	if (!p)
		return fail(err, err_len, source, "out of memory");
	p->source = strdup(source);
	p->durability = c->journal_durability == DURABILITY_DEFAULT
				? durability
				: (enum durability)c->journal_durability;
	if (!p->source) {
		free(p);
		return fail(err, err_len, source, "out of memory");
	}
	if (open_parts(p, c, bus, err, err_len) != 0) {
		pipeline_close(p);
		return -1;
	}
	*out = p;
	return 0;
}

void pipeline_close(struct pipeline *p)
{
	if (!p)
		return;
	commit_close(p->commit);
	store_stop(p->store);
	sink_stop(p->sink);
	relay_stop(p->relay);
	rule_set_release(p->set);
	rules_close(p->rules);
	registry_close(p->registry);
	journal_close(p->journal);
	free(p->source);
	free(p);
}

struct registry *pipeline_registry(struct pipeline *p)
{
	return p->registry;
}

/* m/d/<device><level>[/...] */
static bool is_device_topic(const char *topic, const char *level, const char **device,
			    size_t *device_len)
{
	const size_t prefix = strlen(DEVICE_PREFIX), level_len = strlen(level);
	const char *slash;

	if (strncmp(topic, DEVICE_PREFIX, prefix) != 0)
		return false;
	slash = strchr(topic + prefix, '/');
	if (!slash || strncmp(slash, level, level_len) != 0)
		return false;
	if (slash[level_len] != '\0' && slash[level_len] != '/')
		return false;
	if (!principal_id_valid(topic + prefix, (size_t)(slash - topic) - prefix))
		return false;
	*device = topic + prefix;
	*device_len = (size_t)(slash - *device);
	return true;
}

bool pipeline_is_telemetry(const char *topic, const char **device, size_t *device_len)
{
	return is_device_topic(topic, TELEMETRY_LEVEL, device, device_len);
}

bool pipeline_is_downlink(const char *topic, const char **device, size_t *device_len)
{
	return is_device_topic(topic, DOWNLINK_LEVEL, device, device_len);
}

/* --- What a message becomes --- */

static bool a_rule_wants(struct pipeline *p, const char *topic)
{
	uint64_t generation = rules_generation(p->rules);

	if (!p->set || generation != p->set_generation) {
		rule_set_release(p->set);
		p->set = rules_acquire(p->rules);
		p->set_generation = generation;
	}
	return rule_set_wants(p->set, topic);
}

/* An enum journal_kind; 0: nobody needs it. */
static int kind_of(struct pipeline *p, const struct message *m, const char **device,
		   size_t *device_len)
{
	*device = "";
	*device_len = 0;
	if (pipeline_is_telemetry(m->topic, device, device_len))
		return m->relayed ? 0 : JOURNAL_TELEMETRY;
	if (pipeline_is_downlink(m->topic, device, device_len) && !m->delivered)
		return m->relayed ? JOURNAL_DOWNLINK_RELAYED : JOURNAL_DOWNLINK;
	return !m->relayed && a_rule_wants(p, m->topic) ? JOURNAL_MESSAGE : 0;
}

bool pipeline_takes(struct pipeline *p, const char *topic)
{
	const struct message m = {.topic = topic};
	const char *device;
	size_t device_len;

	return kind_of(p, &m, &device, &device_len) != 0;
}

struct taken {
	bool any; /* false: there was nothing to do */
	struct journal_position end;
};

static int append(struct pipeline *p, const struct message *m, struct taken *t)
{
	struct journal_record r = {
		.format = (uint8_t)m->format,
		.topic = m->topic,
		.topic_len = strlen(m->topic),
		.payload = m->payload,
		.payload_len = m->payload_len,
	};
	int kind = kind_of(p, m, &r.device, &r.device_len);

	t->any = kind != 0;
	if (!t->any)
		return 0;
	r.kind = (uint8_t)kind;
	r.received_at_us = clock_realtime_us();
	return journal_append(p->journal, &r, &t->end);
}

int pipeline_publish(struct pipeline *p, const struct message *m)
{
	struct taken t;
	int rc = append(p, m, &t);

	if (rc == 0 && t.any && p->durability == DURABILITY_FSYNC)
		rc = journal_sync(p->journal, t.end);
	return rc;
}

int pipeline_submit(struct pipeline *p, const struct message *m, uint64_t *ticket)
{
	bool wait = p->durability == DURABILITY_FSYNC;
	struct taken t;
	int rc;

	*ticket = 0;
	rc = wait ? commit_prepare(p->commit) : 0;
	if (rc == 0)
		rc = append(p, m, &t);
	if (rc == 0 && wait && t.any)
		*ticket = commit_add(p->commit, t.end);
	return rc;
}

void pipeline_commit(struct pipeline *p)
{
	commit_run(p->commit);
}

int pipeline_commit_fd(const struct pipeline *p)
{
	return commit_fd(p->commit);
}

bool pipeline_settled(struct pipeline *p, uint64_t *ticket, int *rc)
{
	return commit_settled(p->commit, ticket, rc);
}

static const char *const presence_names[] = {"connected", "disconnected", "started"};

/* The record's payload: one small JSON object, read by core/store. */
static char *presence_payload(const struct pipeline *p, const struct presence *e)
{
	json_t *object = json_pack("{s:s, s:s, s:s*, s:s*, s:s*}", "event",
				   presence_names[e->event], "source", p->source, "client_id",
				   e->client_id, "address", e->address, "reason", e->reason);
	char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;

	json_decref(object);
	return text;
}

void pipeline_presence(struct pipeline *p, const struct presence *e)
{
	char *payload = presence_payload(p, e);
	const struct journal_record r = {
		.kind = JOURNAL_PRESENCE,
		.received_at_us = clock_realtime_us(),
		.device = e->device,
		.device_len = strlen(e->device),
		.topic = "",
		.payload = payload,
		.payload_len = payload ? strlen(payload) : 0,
	};
	int rc = payload ? journal_append_reserved(p->journal, &r, NULL) : -ENOMEM;

	free(payload);
	if (rc != 0)
		log_warn("presence_lost", e->device, "could not record that it %s: %s",
			 presence_names[e->event], strerror(-rc));
}

void pipeline_stats(struct pipeline *p, struct journal_stats *journal, struct store_stats *store)
{
	journal_stats(p->journal, journal);
	store_stats(p->store, store);
}

void pipeline_relay_stats(struct pipeline *p, struct relay_stats *relay)
{
	relay_stats(p->relay, relay);
}
