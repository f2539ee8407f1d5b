/* SPDX-License-Identifier: Apache-2.0 */
/* A rule that cannot store is refused with what to do about it; against a real PostgreSQL. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/pgconn.h"
#include "core/rule/ast.h"
#include "core/sink/sink.h"
#include "tests/unit/pg_cluster.h"

#define COLUMNS_MOST 8

static struct pg_cluster cluster;
static PGconn *ingest, *owner;
static char why[RULE_WHY_MAX];

static PGconn *open_as(const char *url)
{
	const struct pgconn_options o = {url, "fieldgate test", 10, 10};
	char err[256];
	PGconn *c;

	if (pgconn_open(&c, &o, -1, err, sizeof(err)) != 0)
		fail_msg("%s", err);
	return c;
}

static int start_cluster(void **state)
{
	(void)state;
	pg_cluster_init(&cluster);
	pg_cluster_superuser_sql(&cluster, "grant create on database fieldgate to fieldgate_owner");
	pg_cluster_sql(&cluster,
		       "create schema app; grant usage on schema app to fieldgate_ingest");
	ingest = open_as(cluster.url);
	owner = open_as(cluster.owner_url);
	return 0;
}

static int drop_cluster(void **state)
{
	(void)state;
	PQfinish(ingest);
	PQfinish(owner);
	pg_cluster_free(&cluster);
	return 0;
}

struct test_rule {
	struct rule rule;
	struct rule_action action;
	struct rule_column columns[COLUMNS_MOST];
	struct rule_statement statement;
	struct rule_field fields[COLUMNS_MOST];
};

static struct rule *store_rule(struct test_rule *t, const char *schema, const char *table)
{
	*t = (struct test_rule){
		.rule = {.name = "hot", .actions = {&t->action, 1}},
		.action = {.kind = RULE_STORE,
			   .store = {.schema = (char *)(uintptr_t)schema,
				     .table = (char *)(uintptr_t)table,
				     .columns = t->columns}},
	};
	return &t->rule;
}

/* One that maps these columns. */
static struct rule *mapped(struct test_rule *t, const char *schema, const char *table, size_t n,
			   const char *const *columns)
{
	store_rule(t, schema, table);
	for (size_t i = 0; i < n; i++)
		t->columns[i] = (struct rule_column){.column = (char *)(uintptr_t)columns[i],
						     .member = (char *)(uintptr_t) "t"};
	t->action.store.column_count = n;
	return &t->rule;
}

#define MAPPED(t, schema, table, ...)                                                              \
	mapped(t, schema, table,                                                                   \
	       sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *),                  \
	       (const char *const[]){__VA_ARGS__})

/* One that maps none; these are its members. NULL is `*`. */
static struct rule *selecting(struct test_rule *t, const char *table, size_t n,
			      const char *const *members)
{
	store_rule(t, "app", table);
	for (size_t i = 0; i < n; i++)
		t->fields[i] =
			(struct rule_field){.everything = !members[i],
					    .alias = members[i],
					    .alias_len = members[i] ? strlen(members[i]) : 0};
	t->statement = (struct rule_statement){.fields = t->fields, .field_count = n};
	t->rule.statement = &t->statement;
	return &t->rule;
}

#define SELECTING(t, table, ...)                                                                   \
	selecting(t, table, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *),     \
		  (const char *const[]){__VA_ARGS__})

static int check(const struct rule *r)
{
	why[0] = '\0';
	return sink_check_rule(ingest, -1, 10, NULL, r, why, sizeof(why));
}

static void assert_fits(const struct rule *r)
{
	if (check(r) != 0)
		fail_msg("%s", why);
}

#define assert_refused(r, expected)                                                                \
	do {                                                                                       \
		assert_int_equal(check(r), -EINVAL);                                               \
		assert_string_equal(why, expected);                                                \
	} while (0)

static void make(const char *sql)
{
	pg_cluster_sql(&cluster, sql);
}

static void test_rule_that_fits_its_table_is_accepted(void **state)
{
	struct test_rule t;

	(void)state;
	make("create table app.fits (device text not null, degrees float8, at timestamptz not null"
	     " default now()); grant insert on app.fits to fieldgate_ingest");
	assert_fits(MAPPED(&t, "app", "fits", "device", "degrees"));
	assert_fits(SELECTING(&t, "fits", "device", "at"));
	assert_fits(SELECTING(&t, "fits", NULL));
}

static void test_partitioned_tables_and_simple_views_are_accepted(void **state)
{
	struct test_rule t;

	(void)state;
	make("create table app.parted (a int) partition by range (a);"
	     " create view app.simple as select a, a + 1 as more from app.parted;"
	     " grant insert on app.parted, app.simple to fieldgate_ingest");
	assert_fits(MAPPED(&t, "app", "parted", "a"));
	assert_fits(MAPPED(&t, "app", "simple", "a"));
	assert_refused(
		MAPPED(&t, "app", "simple", "more"),
		"rule 'hot', actions[0].store: the column more of the view app.simple cannot "
		"be written to; leave it out");
}

static void test_view_takes_rows_when_a_trigger_does_it(void **state)
{
	struct test_rule t;

	(void)state;
	make("create view app.summed as select 1 as a union select 2; grant insert on app.summed to"
	     " fieldgate_ingest");
	assert_refused(MAPPED(&t, "app", "summed", "a"),
		       "rule 'hot', actions[0].store: nothing can be inserted into the view "
		       "app.summed; give a table, or the view a trigger INSTEAD OF INSERT");
	make("create function app.nothing() returns trigger language plpgsql as 'begin return null;"
	     " end'; create trigger t instead of insert on app.summed for each row execute function"
	     " app.nothing()");
	assert_fits(MAPPED(&t, "app", "summed", "a"));
}

static void test_table_without_a_schema_is_in_public(void **state)
{
	struct test_rule t;

	(void)state;
	assert_refused(MAPPED(&t, NULL, "policy", "name"),
		       "rule 'hot', actions[0].store: there is no table public.policy; create it, "
		       "or correct the name");
}

static void test_missing_schema_and_table_are_named(void **state)
{
	struct test_rule t;

	(void)state;
	make("create table app.\"Alarm\" (a int)");
	assert_refused(MAPPED(&t, "nowhere", "x", "a"),
		       "rule 'hot', actions[0].store: there is no schema nowhere; create it, or "
		       "correct the name (case matters)");
	assert_refused(
		MAPPED(&t, "app", "x", "a"),
		"rule 'hot', actions[0].store: there is no table app.x; create it, or correct "
		"the name");
	assert_refused(
		MAPPED(&t, "app", "ALARM", "a"),
		"rule 'hot', actions[0].store: there is no table app.\"ALARM\", but one that is "
		"called \"Alarm\"; correct the name (case matters)");
}

static void test_tables_of_the_system_are_refused(void **state)
{
	static const char *const schemas[] = {"fieldgate", "pg_catalog", "information_schema",
					      "pg_toast", "pg_temp_3"};
	struct test_rule t;

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(check(MAPPED(&t, schemas[i], "policy", "name")), -EINVAL);
		assert_non_null(strstr(why, "are not for rules; make one in a schema of your own"));
	}
}

static void test_what_is_no_table_is_refused(void **state)
{
	struct test_rule t;

	(void)state;
	make("create materialized view app.stale as select 1 as a; create sequence app.numbers");
	assert_refused(
		MAPPED(&t, "app", "stale", "a"),
		"rule 'hot', actions[0].store: app.stale is no table or view that rows can be "
		"inserted into in a transaction; give a table");
	assert_int_equal(check(MAPPED(&t, "app", "numbers", "last_value")), -EINVAL);
}

static void test_missing_rights_come_with_the_grant_to_run(void **state)
{
	struct test_rule t;

	(void)state;
	make("create table app.\"odd \"\"table\" (a int, b int); create schema closed;"
	     " create table closed.t (a int)");
	assert_refused(
		MAPPED(&t, "app", "odd \"table", "a"),
		"rule 'hot', actions[0].store: the role fieldgate_ingest may not insert into "
		"app.\"odd \"\"table\"; run: grant insert on app.\"odd \"\"table\" to "
		"fieldgate_ingest;");
	make("grant insert (a) on app.\"odd \"\"table\" to fieldgate_ingest");
	assert_fits(MAPPED(&t, "app", "odd \"table", "a"));
	assert_int_equal(check(MAPPED(&t, "app", "odd \"table", "a", "b")), -EINVAL);
	assert_refused(MAPPED(&t, "closed", "t", "a"),
		       "rule 'hot', actions[0].store: the role fieldgate_ingest may not use the "
		       "schema; run: grant usage on schema closed to fieldgate_ingest;");
}

static void test_owner_asks_for_the_role_of_the_processes(void **state)
{
	struct test_rule t;
	const struct rule *r = MAPPED(&t, "app", "mine", "a");

	(void)state;
	make("create table app.mine (a int)");
	assert_int_equal(sink_check_rule(owner, -1, 10, NULL, r, why, sizeof(why)), 0);
	assert_int_equal(sink_check_rule(owner, -1, 10, "fieldgate_ingest", r, why, sizeof(why)),
			 -EINVAL);
	assert_non_null(strstr(why, "run: grant insert on app.mine to fieldgate_ingest;"));
	make("grant insert on app.mine to fieldgate_ingest");
	assert_int_equal(sink_check_rule(owner, -1, 10, "fieldgate_ingest", r, why, sizeof(why)),
			 0);
	assert_int_equal(sink_check_rule(owner, -1, 10, "nobody", r, why, sizeof(why)), -EBADMSG);
	assert_non_null(strstr(why, "nobody"));
}

static void test_column_that_is_not_there_is_named(void **state)
{
	struct test_rule t;

	(void)state;
	make("create table app.few (a int); grant insert on app.few to fieldgate_ingest");
	assert_refused(
		MAPPED(&t, "app", "few", "a", "A"),
		"rule 'hot', actions[0].store: the table app.few has no column A; add it, or "
		"correct the name (case matters)");
	assert_refused(
		SELECTING(&t, "few", "a", "b"),
		"rule 'hot', actions[0].store: the table app.few has no column b; add it, or "
		"correct the name (case matters)");
	make("alter table app.few drop column a, add column z int");
	assert_int_equal(check(MAPPED(&t, "app", "few", "a")), -EINVAL);
}

static void test_column_that_must_be_written_is_named(void **state)
{
	static const char expected[] =
		"rule 'hot', actions[0].store: the column must of app.strict is NOT NULL and has "
		"no "
		"default, and the rule does not write it; map it, or give it a default";
	struct test_rule t;

	(void)state;
	make("create table app.strict (a int, must int not null, may int not null default 1, id int"
	     " generated always as identity, twice int generated always as (1 + 1) stored);"
	     " grant insert on app.strict to fieldgate_ingest");
	assert_refused(MAPPED(&t, "app", "strict", "a"), expected);
	assert_refused(SELECTING(&t, "strict", "a"), expected);
	assert_fits(MAPPED(&t, "app", "strict", "must"));
	assert_fits(SELECTING(&t, "strict", "must"));
	assert_fits(SELECTING(&t, "strict", NULL)); /* a message may bring it */
}

static void test_not_null_of_a_domain_counts_too(void **state)
{
	struct test_rule t;

	(void)state;
	make("create domain app.needed as int not null;"
	     " create table app.domained (a int, b app.needed);"
	     " grant insert on app.domained to fieldgate_ingest");
	assert_int_equal(check(MAPPED(&t, "app", "domained", "a")), -EINVAL);
	assert_fits(MAPPED(&t, "app", "domained", "a", "b"));
}

static void test_generated_columns_are_refused(void **state)
{
	struct test_rule t;

	(void)state;
	make("create table app.made (a int, id int generated always as identity, twice int "
	     "generated"
	     " always as (a * 2) stored, own int generated by default as identity);"
	     " grant insert on app.made to fieldgate_ingest");
	assert_refused(MAPPED(&t, "app", "made", "twice"),
		       "rule 'hot', actions[0].store: the column twice of app.made is always "
		       "generated, nothing can be written to it; leave it out");
	assert_int_equal(check(MAPPED(&t, "app", "made", "id")), -EINVAL);
	assert_fits(MAPPED(&t, "app", "made", "own"));
}

static void test_serial_column_needs_its_sequence(void **state)
{
	static const char expected[] = "rule 'hot', actions[0].store: the role fieldgate_ingest "
				       "may not use the sequence that "
				       "the column id takes its value from; run: grant usage on "
				       "sequence app.counted_id_seq to "
				       "fieldgate_ingest;";
	struct test_rule t;

	(void)state;
	make("create table app.counted (id bigserial, a int);"
	     " grant insert on app.counted to fieldgate_ingest");
	assert_refused(MAPPED(&t, "app", "counted", "a"), expected);
	assert_refused(SELECTING(&t, "counted", NULL), expected);
	assert_fits(MAPPED(&t, "app", "counted", "a", "id"));
	make("grant usage on sequence app.counted_id_seq to fieldgate_ingest");
	assert_fits(MAPPED(&t, "app", "counted", "a"));
}

static void test_error_actions_are_checked_too(void **state)
{
	struct test_rule t;
	struct rule *r = MAPPED(&t, "app", "absent", "a");

	(void)state;
	r->error_actions = r->actions;
	r->actions = (struct rule_actions){0};
	assert_refused(r,
		       "rule 'hot', error_action.store: there is no table app.absent; create it, "
		       "or correct the name");
}

static void test_actions_of_other_kinds_are_not_looked_at(void **state)
{
	struct test_rule t;
	struct rule *r = MAPPED(&t, "app", "absent", "a");

	(void)state;
	t.action.kind = RULE_DROP;
	assert_fits(r);
}

static void test_search_path_cannot_lead_astray(void **state)
{
	struct test_rule t;

	(void)state;
	make("create function app.quote_ident(text) returns text language sql as 'select ''evil''';"
	     " create table app.path (a int); grant insert on app.path to fieldgate_ingest");
	PQclear(PQexec(owner, "set search_path = app, public"));
	assert_int_equal(sink_check_rule(owner, -1, 10, "fieldgate_ingest",
					 MAPPED(&t, "app", "path", "x"), why, sizeof(why)),
			 -EINVAL);
	assert_null(strstr(why, "evil"));
	PQclear(PQexec(owner, "set search_path = fieldgate, pg_temp"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rule_that_fits_its_table_is_accepted),
		cmocka_unit_test(test_partitioned_tables_and_simple_views_are_accepted),
		cmocka_unit_test(test_view_takes_rows_when_a_trigger_does_it),
		cmocka_unit_test(test_table_without_a_schema_is_in_public),
		cmocka_unit_test(test_missing_schema_and_table_are_named),
		cmocka_unit_test(test_tables_of_the_system_are_refused),
		cmocka_unit_test(test_what_is_no_table_is_refused),
		cmocka_unit_test(test_missing_rights_come_with_the_grant_to_run),
		cmocka_unit_test(test_owner_asks_for_the_role_of_the_processes),
		cmocka_unit_test(test_column_that_is_not_there_is_named),
		cmocka_unit_test(test_column_that_must_be_written_is_named),
		cmocka_unit_test(test_not_null_of_a_domain_counts_too),
		cmocka_unit_test(test_generated_columns_are_refused),
		cmocka_unit_test(test_serial_column_needs_its_sequence),
		cmocka_unit_test(test_error_actions_are_checked_too),
		cmocka_unit_test(test_actions_of_other_kinds_are_not_looked_at),
		cmocka_unit_test(test_search_path_cannot_lead_astray),
	};

	return cmocka_run_group_tests_name("sink_check", tests, start_cluster, drop_cluster);
}
