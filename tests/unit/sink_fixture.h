/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sink with what it needs, on top of store_fixture's journal and database: the registry, the
 * rules that it reads, and a schema `app` for tables of one's own. Everything here asserts.
 */
#ifndef FG_TESTS_SINK_FIXTURE_H
#define FG_TESTS_SINK_FIXTURE_H

#include "core/sink/sink.h"
#include "tests/unit/store_fixture.h"

struct sink_fixture {
	struct store_fixture *base; /* for store_fixture_... */
	struct registry *registry;
	struct rules *rules;
	struct sink *sink;
	struct sink_options options; /* of the next sink_fixture_start */
};

/* Group setup and teardown of cmocka; *state is the fixture. */
int sink_fixture_group(void **state);
int sink_fixture_group_end(void **state);

/* Setup and teardown of a test: no rules, no tables in app. */
int sink_fixture_begin(void **state);
int sink_fixture_end(void **state);

/* Open registry and rules and start the sink; stop and close them. */
void sink_fixture_start(struct sink_fixture *f);
void sink_fixture_stop(struct sink_fixture *f);

/* create table app.<definition>, which the processes may insert into. */
void sink_fixture_table(struct sink_fixture *f, const char *definition);

/* A row of the table rule; error_action NULL: none. */
void sink_fixture_rule(struct sink_fixture *f, const char *name, const char *sql,
		       const char *actions, const char *error_action);

/* Rule `store`: each message on m/d/+/d2c/# into columns of the same name. */
void sink_fixture_store_rule(struct sink_fixture *f, const char *select, const char *table);

/* Wait until a sink has read all rules as they are now, and has them in force. */
void sink_fixture_in_force(struct sink_fixture *f);

/* Wait until every record that was appended is done: a mark in app.mark says so. */
void sink_fixture_settle(struct sink_fixture *f);

#endif
