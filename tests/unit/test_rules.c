/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules in force: they follow a registry over a real PostgreSQL, are compiled again only when
 * they changed, and any number of threads ask for them. MODE=tsan watches these threads.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/rule/set.h"
#include "tests/unit/pg_cluster.h"

#define PATIENCE_S 60
#define NEVER_MS   3600000

static struct pg_cluster cluster;
static char dir[] = "/tmp/fieldgate-rules-XXXXXX";
static char path[64];

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char logged[64 * 1024];

static void keep_line(enum log_level level, const char *line, void *arg)
{
	size_t used;

	(void)level;
	(void)arg;
	pthread_mutex_lock(&log_lock);
	used = strlen(logged);
	snprintf(logged + used, sizeof(logged) - used, "%s\n", line);
	pthread_mutex_unlock(&log_lock);
}

static int times_logged(const char *text)
{
	int n = 0;

	pthread_mutex_lock(&log_lock);
	for (const char *p = logged; (p = strstr(p, text)); p++)
		n++;
	pthread_mutex_unlock(&log_lock);
	return n;
}

static int start_all(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/registry", dir);
	pg_cluster_init(&cluster);
	log_set_sink(keep_line, NULL);
	return 0;
}

static int stop_all(void **state)
{
	(void)state;
	pg_cluster_free(&cluster);
	unlink(path);
	return rmdir(dir);
}

struct world {
	struct registry *registry;
	struct rules *rules;
};

static struct world world;

static void open_world(void)
{
	const struct registry_options o = {
		.database_url = cluster.url,
		.connect_timeout_s = 5,
		.statement_timeout_s = 30,
		.poll_ms = NEVER_MS,
		.snapshot_path = path,
	};
	char err[512];

	if (registry_open(&world.registry, &o, err, sizeof(err)) != 0)
		fail_msg("%s", err);
	assert_int_equal(rules_open(&world.rules, world.registry), 0);
}

static int set_up(void **state)
{
	(void)state;
	pg_cluster_sql(&cluster, "delete from rule; delete from principal");
	unlink(path);
	logged[0] = '\0';
	open_world();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	rules_close(world.rules);
	registry_close(world.registry);
	return 0;
}

#define await(condition)                                                                           \
	do {                                                                                       \
		int64_t give_up_us = clock_monotonic_us() + PATIENCE_S * US_PER_S;                 \
                                                                                                   \
		while (!(condition)) {                                                             \
			if (clock_monotonic_us() > give_up_us)                                     \
				fail_msg("never: %s; log:\n%s", #condition, logged);               \
			usleep(2000);                                                              \
		}                                                                                  \
	} while (0)

static bool wants(const char *topic)
{
	const struct rule_set *s = rules_acquire(world.rules);
	bool yes = rule_set_wants(s, topic);

	rule_set_release(s);
	return yes;
}

static bool knows(const char *id)
{
	const struct snapshot *s = registry_acquire(world.registry);
	bool yes = snapshot_principal(s, id) != NULL;

	snapshot_release(s);
	return yes;
}

/* The set itself, without a reference: to compare. */
static const void *current(void)
{
	const struct rule_set *s = rules_acquire(world.rules);

	rule_set_release(s);
	return s;
}

static void test_rules_follow_their_table(void **state)
{
	(void)state;
	assert_false(wants("a"));
	pg_cluster_sql(&cluster,
		       "insert into rule (name, sql) values ('r', 'SELECT * FROM ''a''')");
	await(wants("a"));
	pg_cluster_sql(&cluster, "update rule set sql = 'SELECT * FROM ''b'''");
	await(wants("b"));
	assert_false(wants("a"));
	pg_cluster_sql(&cluster, "update rule set enabled = false");
	await(!wants("b"));
	pg_cluster_sql(&cluster, "update rule set enabled = true");
	await(wants("b"));
	pg_cluster_sql(&cluster, "delete from rule");
	await(!wants("b"));
}

static void test_other_changes_of_the_registry_compile_nothing(void **state)
{
	const void *before;

	(void)state;
	pg_cluster_sql(&cluster,
		       "insert into rule (name, sql) values ('r', 'SELECT * FROM ''a''')");
	await(wants("a"));
	before = current();
	pg_cluster_sql(&cluster, "insert into principal (id) values ('dev-1')");
	await(knows("dev-1"));
	assert_ptr_equal(current(), before);
	pg_cluster_sql(&cluster, "update rule set description = 'x', problem = 'y'");
	assert_ptr_equal(current(), before);
	pg_cluster_sql(&cluster, "update rule set actions = '[{\"drop\": {}}]'");
	await(current() != before);
}

static void test_the_generation_moves_when_there_may_be_another_set(void **state)
{
	uint64_t generation;

	(void)state;
	await(registry_confirmed(world.registry));
	current();
	generation = rules_generation(world.rules);
	assert_int_equal(rules_generation(world.rules), generation);
	pg_cluster_sql(&cluster,
		       "insert into rule (name, sql) values ('r', 'SELECT * FROM ''a''')");
	await(rules_generation(world.rules) != generation);
	generation = rules_generation(world.rules);
	assert_true(wants("a"));
	/* Whoever asked while it was compiled has the set before, and must ask again. */
	assert_int_not_equal(rules_generation(world.rules), generation);
}

static void test_a_rule_that_is_refused_is_listed_until_it_is_mended(void **state)
{
	const struct rule_set *s;

	(void)state;
	pg_cluster_sql(&cluster, "insert into rule (name, sql) values"
				 " ('bad', 'SELECT * FRM ''a'''), ('good', 'SELECT * FROM ''b''')");
	await(wants("b"));
	s = rules_acquire(world.rules);
	assert_int_equal(rule_set_count(s), 2);
	assert_non_null(rule_set_at(s, 0)->problem);
	assert_int_equal(
		rule_set_at(s, 0)->revision,
		pg_cluster_number(&cluster, "select revision from rule where name = 'bad'"));
	rule_set_release(s);
	pg_cluster_sql(&cluster,
		       "insert into rule (name, sql) values ('c', 'SELECT * FROM ''c''')");
	await(wants("c"));
	assert_int_equal(times_logged("event=rule_refused"), 1);
	pg_cluster_sql(&cluster, "update rule set sql = 'SELECT * FROM ''a''' where name = 'bad'");
	await(wants("a"));
}

static void test_without_the_database_the_copy_on_disk_has_the_rules(void **state)
{
	(void)state;
	pg_cluster_sql(&cluster,
		       "insert into rule (name, sql) values ('r', 'SELECT * FROM ''a''')");
	await(wants("a"));
	tear_down(NULL);
	pg_cluster_stop(&cluster);
	open_world();
	assert_true(wants("a"));
	pg_cluster_start(&cluster);
}

static void test_a_set_that_is_held_stays_as_it_is(void **state)
{
	const struct rule_set *held;

	(void)state;
	pg_cluster_sql(&cluster,
		       "insert into rule (name, sql) values ('r', 'SELECT * FROM ''a''')");
	await(wants("a"));
	held = rules_acquire(world.rules);
	pg_cluster_sql(&cluster, "delete from rule");
	await(!wants("a"));
	assert_true(rule_set_wants(held, "a"));
	rule_set_release(held);
}

/* --- Threads --- */

static atomic_bool enough;
static _Atomic uint64_t fired_by[2], rules_of[2]; /* of each thread */

static int count_fired(void *arg, const struct rule_firing *f, char *why, size_t why_len)
{
	(void)f;
	(void)why;
	(void)why_len;
	atomic_fetch_add((_Atomic uint64_t *)arg, 1);
	return -EIO; /* so that the counters' text is written by several threads, too */
}

/* As a reader of the journal does it: asks again when the generation has moved. */
static void *run_messages(void *arg)
{
	const uintptr_t me = (uintptr_t)arg;
	const struct rule_visitor visitor = {
		.arg = &fired_by[me], .fired = count_fired, .counts = me == 0};
	const struct rule_input in = {.topic = "a", .raw = "", .raw_len = 0};
	const struct rule_set *s = NULL;
	uint64_t generation = 0, sets = 0;
	char why[RULE_WHY_MAX];
	struct arena a;

	arena_init(&a, 4096, 1024 * 1024);
	while (!atomic_load(&enough)) {
		uint64_t now = rules_generation(world.rules);

		if (!s || now != generation) {
			generation = now;
			rule_set_release(s);
			s = rules_acquire(world.rules);
			sets++;
		}
		rule_set_run(s, &in, &a, &visitor);
		atomic_store(&rules_of[me], rule_set_count(s));
		if (rule_set_count(s) > 0)
			rule_counters_last_error(rule_set_at(s, 0)->counters, why);
		arena_reset(&a);
	}
	rule_set_release(s);
	arena_free(&a);
	return (void *)(uintptr_t)sets;
}

static void test_threads_ask_while_rules_change(void **state)
{
	pthread_t threads[2];
	void *sets;

	(void)state;
	atomic_store(&enough, false);
	pg_cluster_sql(&cluster,
		       "insert into rule (name, sql, actions) values"
		       " ('r', 'SELECT 1 AS n FROM ''a''', '[{\"store\": {\"table\": \"t\"}}]')");
	for (uintptr_t i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_messages, (void *)i), 0);
	for (int i = 0; i < 2; i++)
		await(atomic_load(&fired_by[i]) > 0);
	for (int i = 0; i < 5; i++) {
		char sql[160], topic[16];

		snprintf(topic, sizeof(topic), "new/%d", i);
		snprintf(sql, sizeof(sql),
			 "insert into rule (name, sql) values ('r%d', 'SELECT 1 AS n FROM ''%s''')",
			 i, topic);
		pg_cluster_sql(&cluster, sql);
		await(wants(topic));
	}
	for (int i = 0; i < 2; i++)
		await(atomic_load(&rules_of[i]) == 6);
	atomic_store(&enough, true);
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], &sets);
		/* Each saw changes, and asked for no set more often than something changed. */
		assert_true((uintptr_t)sets >= 2);
		assert_true((uintptr_t)sets < 100);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_rules_follow_their_table),
		TEST(test_other_changes_of_the_registry_compile_nothing),
		TEST(test_the_generation_moves_when_there_may_be_another_set),
		TEST(test_a_rule_that_is_refused_is_listed_until_it_is_mended),
		TEST(test_without_the_database_the_copy_on_disk_has_the_rules),
		TEST(test_a_set_that_is_held_stays_as_it_is),
		TEST(test_threads_ask_while_rules_change),
	};

	return cmocka_run_group_tests(tests, start_all, stop_all);
}
