/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/sink_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/payload/payload.h"

static struct sink_fixture fixture;
static unsigned marks;

int sink_fixture_group(void **state)
{
	int rc = store_fixture_group((void **)&fixture.base);

	pg_cluster_superuser_sql(&fixture.base->cluster,
				 "grant create on database fieldgate to fieldgate_owner");
	*state = &fixture;
	return rc;
}

int sink_fixture_group_end(void **state)
{
	(void)state;
	return store_fixture_group_end((void **)&fixture.base);
}

int sink_fixture_begin(void **state)
{
	struct sink_fixture *f = &fixture;

	*state = f;
	store_fixture_begin((void **)&f->base);
	f->options = (struct sink_options){
		.database_url = f->base->cluster.url,
		.source = "mqtt",
		.connect_timeout_s = 5,
		.statement_timeout_s = 20,
		.report_interval_ms = 50,
		.status_interval_s = 60,
		.limits = f->base->options.limits,
	};
	store_fixture_sql(f->base, "truncate rule, rule_counter, sink_position;"
				   " drop schema if exists app cascade; create schema app;"
				   " grant usage on schema app to fieldgate_ingest");
	return 0;
}

int sink_fixture_end(void **state)
{
	struct sink_fixture *f = *state;

	sink_fixture_stop(f);
	return store_fixture_end((void **)&f->base);
}

void sink_fixture_start(struct sink_fixture *f)
{
	char path[96], err[256];
	const struct registry_options o = {
		.database_url = f->base->cluster.url,
		.connect_timeout_s = 5,
		.statement_timeout_s = 20,
		.poll_ms = 100,
		.snapshot_path = path,
	};

	snprintf(path, sizeof(path), "%s/registry.snapshot", f->base->dir);
	if (registry_open(&f->registry, &o, err, sizeof(err)) != 0)
		fail_msg("%s", err);
	assert_int_equal(rules_open(&f->rules, f->registry), 0);
	f->options.registry = f->registry;
	if (sink_start(&f->sink, &f->options, f->base->journal, f->rules, err, sizeof(err)) != 0)
		fail_msg("%s", err);
}

void sink_fixture_stop(struct sink_fixture *f)
{
	sink_stop(f->sink);
	f->sink = NULL;
	rules_close(f->rules);
	f->rules = NULL;
	registry_close(f->registry);
	f->registry = NULL;
}

void sink_fixture_table(struct sink_fixture *f, const char *definition)
{
	char sql[1024];

	snprintf(sql, sizeof(sql), "create table app.%s", definition);
	store_fixture_sql(f->base, sql);
	store_fixture_sql(f->base, "grant insert on all tables in schema app to fieldgate_ingest");
}

void sink_fixture_rule(struct sink_fixture *f, const char *name, const char *sql,
		       const char *actions, const char *error_action)
{
	char text[4096], error[1024] = "null";

	if (error_action)
		snprintf(error, sizeof(error), "$e$%s$e$", error_action);
	snprintf(text, sizeof(text),
		 "insert into rule (name, sql, actions, error_action)"
		 " values ('%s', $s$%s$s$, $a$%s$a$, %s)",
		 name, sql, actions, error);
	store_fixture_sql(f->base, text);
}

void sink_fixture_store_rule(struct sink_fixture *f, const char *select, const char *table)
{
	char sql[512], actions[256];

	snprintf(sql, sizeof(sql), "SELECT %s FROM 'm/d/+/d2c/#'", select);
	snprintf(actions, sizeof(actions), "[{\"store\": {\"table\": \"app.%s\"}}]", table);
	sink_fixture_rule(f, "store", sql, actions, NULL);
}

void sink_fixture_in_force(struct sink_fixture *f)
{
	int64_t deadline = clock_monotonic_us() + 60 * US_PER_S;
	const char *problem;

	while (store_fixture_number(f->base, "select count(*) from rule where enabled and not"
					     " (judged_at is not null and problem is null)") > 0) {
		problem = store_fixture_text(f->base,
					     "select string_agg(problem, ' ') from rule_status");
		if (clock_monotonic_us() > deadline)
			fail_msg("not in force after a minute: %s", problem);
		usleep(5000);
	}
}

/* A rule of its own, which is made when it is first needed. Rows come in the order of the journal,
 * so when the mark is there, so is everything before it. */
void sink_fixture_settle(struct sink_fixture *f)
{
	char json[64], sql[128];
	struct journal_record r = {
		.kind = JOURNAL_MESSAGE,
		.format = PAYLOAD_JSON,
		.received_at_us = clock_realtime_us(),
		.device = "",
		.topic = "test/mark",
		.topic_len = strlen("test/mark"),
		.payload = json,
	};

	if (store_fixture_number(f->base, "select count(*) from rule where name = 'mark'") == 0) {
		sink_fixture_table(f, "mark (n int)");
		sink_fixture_rule(f, "mark", "SELECT n FROM 'test/mark'",
				  "[{\"store\": {\"table\": \"app.mark\"}}]", NULL);
		sink_fixture_in_force(f);
	}
	r.payload_len = (size_t)snprintf(json, sizeof(json), "{\"n\": %u}", ++marks);
	store_fixture_append(f->base, &r);
	snprintf(sql, sizeof(sql), "select count(*) from app.mark where n = %u", marks);
	store_fixture_await(f->base, sql, 1);
}
