/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/store_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <libpq-fe.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/payload/payload.h"

#define PATIENCE_US (60 * US_PER_S) /* far more than anything here takes */
#define TICK_US	    2000

static struct store_fixture fixture;
static PGconn *owner;

static void remove_dir(const char *dir)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	assert_int_equal(system(command), 0);
}

/* What the store says in the course of its troubles is worth reading only when a test fails. */
static void quiet(enum log_level level, const char *line, void *arg)
{
	(void)level;
	(void)arg;
	if (getenv("FIELDGATE_TEST_LOG"))
		fprintf(stderr, "%s\n", line);
}

int store_fixture_group(void **state)
{
	log_set_sink(quiet, NULL);
	pg_cluster_init(&fixture.cluster);
	*state = &fixture;
	return 0;
}

int store_fixture_group_end(void **state)
{
	(void)state;
	PQfinish(owner);
	owner = NULL;
	pg_cluster_free(&fixture.cluster);
	return 0;
}

static void open_journal(struct store_fixture *f)
{
	const struct journal_options o = {.dir = f->journal_dir,
					  .max_bytes = 256 << 20,
					  .segment_bytes = 1 << 20,
					  .sync_interval_ms = 1000};
	char err[256];

	if (journal_open(&f->journal, &o, err, sizeof(err)) != 0)
		fail_msg("%s", err);
}

int store_fixture_begin(void **state)
{
	struct store_fixture *f = &fixture;

	*state = f;
	strcpy(f->dir, "/tmp/fieldgate-store-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	strcpy(f->journal_dir, f->dir);
	strcat(f->journal_dir, "/journal");
	open_journal(f);
	f->appended = 0;
	f->store = NULL;
	f->options = (struct store_options){
		.database_url = f->cluster.url,
		.source = "mqtt",
		.connect_timeout_s = 5,
		.statement_timeout_s = 20,
		.batch_rows = 1000,
		.batch_delay_ms = 2,
		.max_past_days = 400,
		.max_future_days = 1,
		.status_interval_s = 60,
		.limits = {.max_bytes = 131072, .max_depth = 8, .max_readings = 256},
	};
	store_fixture_sql(f, "truncate telemetry, telemetry_latest, sequence_seen, dead_letter,"
			     " presence_event, presence, ingest");
	return 0;
}

int store_fixture_end(void **state)
{
	struct store_fixture *f = *state;

	store_stop(f->store);
	f->store = NULL;
	journal_close(f->journal);
	f->journal = NULL;
	remove_dir(f->dir);
	return 0;
}

void store_fixture_start(struct store_fixture *f)
{
	char err[256];

	assert_null(f->store);
	if (store_start(&f->store, &f->options, f->journal, err, sizeof(err)) != 0)
		fail_msg("%s", err);
}

void store_fixture_stop(struct store_fixture *f)
{
	store_stop(f->store);
	f->store = NULL;
}

void store_fixture_append(struct store_fixture *f, const struct journal_record *r)
{
	assert_int_equal(journal_append(f->journal, r, NULL), 0);
	f->appended++;
}

void store_fixture_put_at(struct store_fixture *f, const char *device, const char *rest,
			  const char *json, int64_t received_us)
{
	char topic[256];
	struct journal_record r = {.kind = JOURNAL_TELEMETRY,
				   .format = PAYLOAD_AUTO,
				   .received_at_us = received_us,
				   .device = device,
				   .device_len = strlen(device),
				   .topic = topic,
				   .payload = json,
				   .payload_len = strlen(json)};

	r.topic_len = (size_t)snprintf(topic, sizeof(topic), "m/d/%s/d2c%s", device, rest);
	store_fixture_append(f, &r);
}

void store_fixture_put(struct store_fixture *f, const char *device, const char *json)
{
	store_fixture_put_at(f, device, "", json, clock_realtime_us());
}

void store_fixture_presence(struct store_fixture *f, const char *device, const char *json,
			    int64_t at_us)
{
	const struct journal_record r = {.kind = JOURNAL_PRESENCE,
					 .received_at_us = at_us,
					 .device = device,
					 .device_len = strlen(device),
					 .topic = "",
					 .payload = json,
					 .payload_len = strlen(json)};

	store_fixture_append(f, &r);
}

void store_fixture_settle(struct store_fixture *f)
{
	int64_t deadline = clock_monotonic_us() + PATIENCE_US;
	char id[40] = "", sql[256];
	const uint8_t *raw = journal_id(f->journal);
	struct journal_position end = journal_end(f->journal);

	for (size_t i = 0; i < 16; i++)
		snprintf(id + 2 * i, 3, "%02x", raw[i]);
	snprintf(sql, sizeof(sql),
		 "select count(*) from ingest where journal = '%s' and (segment, \"offset\") >="
		 " (%llu, %llu)",
		 id, (unsigned long long)end.segment, (unsigned long long)end.offset);
	while (store_fixture_number(f, sql) == 0) {
		if (clock_monotonic_us() > deadline)
			fail_msg("the journal is not stored after a minute");
		usleep(TICK_US);
	}
}

void store_fixture_run(struct store_fixture *f)
{
	store_fixture_start(f);
	store_fixture_settle(f);
	store_fixture_stop(f);
}

/* The test may have killed the server: it comes back. */
static void connect_owner(struct store_fixture *f)
{
	int64_t deadline = clock_monotonic_us() + PATIENCE_US;

	while (!owner || PQstatus(owner) != CONNECTION_OK) {
		if (clock_monotonic_us() > deadline)
			fail_msg("no connection: %s", PQerrorMessage(owner));
		PQfinish(owner);
		owner = PQconnectdb(f->cluster.owner_url);
		PQclear(PQexec(owner, "set search_path = fieldgate; set timezone = 'UTC';"
				      " set client_min_messages = warning"));
		usleep(TICK_US);
	}
}

static PGresult *query(struct store_fixture *f, const char *sql)
{
	for (;;) {
		PGresult *r;

		connect_owner(f);
		r = PQexec(owner, sql);
		if (PQresultStatus(r) == PGRES_TUPLES_OK || PQresultStatus(r) == PGRES_COMMAND_OK)
			return r;
		if (PQstatus(owner) == CONNECTION_OK)
			fail_msg("%s: %s", sql, PQresultErrorMessage(r));
		PQclear(r);
	}
}

const char *store_fixture_text(struct store_fixture *f, const char *sql)
{
	static char text[65536];
	PGresult *r = query(f, sql);
	const char *value = "";

	if (PQntuples(r) > 0)
		value = PQgetisnull(r, 0, 0) ? "null" : PQgetvalue(r, 0, 0);
	assert_true(strlen(value) < sizeof(text));
	strcpy(text, value);
	PQclear(r);
	return text;
}

long store_fixture_number(struct store_fixture *f, const char *sql)
{
	return strtol(store_fixture_text(f, sql), NULL, 10);
}

void store_fixture_sql(struct store_fixture *f, const char *sql)
{
	PQclear(query(f, sql));
}

void store_fixture_await(struct store_fixture *f, const char *sql, long number)
{
	int64_t deadline = clock_monotonic_us() + PATIENCE_US;

	while (store_fixture_number(f, sql) != number) {
		if (clock_monotonic_us() > deadline)
			fail_msg("not %ld after a minute: %s", number, sql);
		usleep(TICK_US);
	}
}
