/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wires registry, journal and store together. There is no queue and no state of its own here: what
 * is accepted is in the journal before pipeline_publish returns, and everything after that is the
 * store's.
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

#define TELEMETRY_PREFIX "m/d/"
#define TELEMETRY_LEVEL	 "/d2c"

struct pipeline {
	char *source;
	enum durability durability;
	struct registry *registry;
	struct journal *journal;
	struct commit *commit;
	struct store *store;
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
		.limits = {.max_bytes = (size_t)c->payload_max_bytes,
			   .max_depth = (unsigned)c->payload_max_depth,
			   .max_readings = (unsigned)c->payload_max_readings},
	};

	return store_start(&p->store, &o, p->journal, err, err_len);
}

static int open_parts(struct pipeline *p, const struct config *c, char *err, size_t err_len)
{
	char *dir = path_join(c->state_dir, p->source);
	int rc = -1;

	if (!dir)
		return fail(err, err_len, c->state_dir, "out of memory");
	if (make_dir(c->state_dir, err, err_len) == 0 && make_dir(dir, err, err_len) == 0 &&
	    open_journal(p, c, dir, err, err_len) == 0 && open_commit(p, err, err_len) == 0 &&
	    open_registry(p, c, dir, err, err_len) == 0 && start_store(p, c, err, err_len) == 0)
		rc = 0;
	free(dir);
	return rc;
}

int pipeline_open(struct pipeline **out, const struct config *c, const char *source,
		  enum durability durability, char *err, size_t err_len)
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
	if (open_parts(p, c, err, err_len) != 0) {
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
	registry_close(p->registry);
	journal_close(p->journal);
	free(p->source);
	free(p);
}

struct registry *pipeline_registry(struct pipeline *p)
{
	return p->registry;
}

bool pipeline_is_telemetry(const char *topic, const char **device, size_t *device_len)
{
	const size_t prefix = strlen(TELEMETRY_PREFIX), level = strlen(TELEMETRY_LEVEL);
	const char *slash;

	if (strncmp(topic, TELEMETRY_PREFIX, prefix) != 0)
		return false;
	slash = strchr(topic + prefix, '/');
	if (!slash || strncmp(slash, TELEMETRY_LEVEL, level) != 0)
		return false;
	if (slash[level] != '\0' && slash[level] != '/')
		return false;
	*device = topic + prefix;
	*device_len = (size_t)(slash - *device);
	return principal_id_valid(*device, *device_len);
}

static int append(struct pipeline *p, const struct message *m, const char *device,
		  size_t device_len, struct journal_position *end)
{
	const struct journal_record r = {
		.kind = JOURNAL_TELEMETRY,
		.format = (uint8_t)m->format,
		.received_at_us = clock_realtime_us(),
		.device = device,
		.device_len = device_len,
		.topic = m->topic,
		.topic_len = strlen(m->topic),
		.payload = m->payload,
		.payload_len = m->payload_len,
	};

	return journal_append(p->journal, &r, end);
}

int pipeline_publish(struct pipeline *p, const struct message *m)
{
	struct journal_position end;
	const char *device;
	size_t device_len;
	int rc;

	if (!pipeline_is_telemetry(m->topic, &device, &device_len))
		return 0;
	rc = append(p, m, device, device_len, &end);
	if (rc == 0 && p->durability == DURABILITY_FSYNC)
		rc = journal_sync(p->journal, end);
	return rc;
}

int pipeline_submit(struct pipeline *p, const struct message *m, uint64_t *ticket)
{
	bool wait = p->durability == DURABILITY_FSYNC;
	struct journal_position end;
	const char *device;
	size_t device_len;
	int rc;

	*ticket = 0;
	if (!pipeline_is_telemetry(m->topic, &device, &device_len))
		return 0;
	rc = wait ? commit_prepare(p->commit) : 0;
	if (rc == 0)
		rc = append(p, m, device, device_len, &end);
	if (rc == 0 && wait)
		*ticket = commit_add(p->commit, end);
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
