/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A journal, a store and a database for tests of core/store. One cluster for a test program; each
 * test begins with empty tables, an empty journal and no store. Everything here asserts.
 */
#ifndef FG_TESTS_STORE_FIXTURE_H
#define FG_TESTS_STORE_FIXTURE_H

#include <stdint.h>

#include "core/store/store.h"
#include "tests/unit/pg_cluster.h"

struct store_fixture {
	struct pg_cluster cluster;
	char dir[64];
	char journal_dir[80];
	struct journal *journal;
	struct store *store;
	struct store_options options; /* of the next store_fixture_start */
	uint64_t appended;	      /* records, in this test */
};

/* Group setup and teardown of cmocka; *state is the fixture. */
int store_fixture_group(void **state);
int store_fixture_group_end(void **state);

/* Setup and teardown of a test. */
int store_fixture_begin(void **state);
int store_fixture_end(void **state);

void store_fixture_start(struct store_fixture *f);
void store_fixture_stop(struct store_fixture *f);

/* Append a telemetry message to m/d/<device>/d2c<rest>, received now or at a time. */
void store_fixture_put(struct store_fixture *f, const char *device, const char *json);
void store_fixture_put_at(struct store_fixture *f, const char *device, const char *rest,
			  const char *json, int64_t received_us);
void store_fixture_presence(struct store_fixture *f, const char *device, const char *json,
			    int64_t at_us);
void store_fixture_append(struct store_fixture *f, const struct journal_record *r);

/* Wait until the running store has taken everything that was appended. */
void store_fixture_settle(struct store_fixture *f);

/* Start, settle, stop. */
void store_fixture_run(struct store_fixture *f);

/* The first value of the first row, as text; "" if there is none, "null" for null. Valid until the
 * next. */
const char *store_fixture_text(struct store_fixture *f, const char *sql);
long store_fixture_number(struct store_fixture *f, const char *sql);
void store_fixture_sql(struct store_fixture *f, const char *sql);

/* Wait until the query returns the number. */
void store_fixture_await(struct store_fixture *f, const char *sql, long number);

#define assert_sql(f, sql, expected) assert_string_equal(store_fixture_text(f, sql), expected)

#endif
