/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registry over a real PostgreSQL that changes, dies, falls silent and comes back. Nothing here
 * waits for a fixed time where it can wait for what it expects; a test that would never see it
 * fails after PATIENCE_S.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/registry/identify.h"
#include "core/registry/registry.h"
#include "tests/unit/pg_cluster.h"

#define PATIENCE_S 60
#define NEVER_MS   3600000

static struct pg_cluster cluster;
static char dir[] = "/tmp/fieldgate-registry-XXXXXX";
static char path[64];

/* --- The log, as the operator sees it --- */

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char logged[256 * 1024];

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

static void clear_log(void)
{
	pthread_mutex_lock(&log_lock);
	logged[0] = '\0';
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

/* --- Setting up --- */

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

/* Each test begins with an empty registry, no copy on disk and an empty log. */
static int clean(void **state)
{
	(void)state;
	pg_cluster_sql(&cluster, "delete from principal; delete from policy_rule; delete from rule;"
				 "delete from policy where name not in ('device', 'none');"
				 "insert into policy_rule (policy, action, filter) values"
				 " ('device', 'publish', 'm/d/${device}/d2c')");
	unlink(path);
	clear_log();
	return 0;
}

static struct registry *open_with(int poll_ms, int connect_timeout_s, int statement_timeout_s)
{
	const struct registry_options o = {
		.database_url = cluster.url,
		.connect_timeout_s = connect_timeout_s,
		.statement_timeout_s = statement_timeout_s,
		.poll_ms = poll_ms,
		.snapshot_path = path,
	};
	struct registry *r;
	char err[512];

	if (registry_open(&r, &o, err, sizeof(err)) != 0)
		fail_msg("%s", err);
	return r;
}

static struct registry *open_registry(int poll_ms)
{
	return open_with(poll_ms, 5, 30);
}

/* --- Waiting for things to become true --- */

static bool state_is(struct registry *r, const char *id, int state)
{
	const struct snapshot *s = registry_acquire(r);
	const struct principal *p = snapshot_principal(s, id);
	bool is = p ? (int)p->state == state : state < 0;

	snapshot_release(s);
	return is;
}

static bool may_publish(struct registry *r, const char *id, const char *topic)
{
	const struct snapshot *s = registry_acquire(r);
	const struct principal *p = snapshot_principal(s, id);
	bool may = p && policy_allows(p->policy, POLICY_PUBLISH, id, topic);

	snapshot_release(s);
	return may;
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

#define await_state(r, id, state) await(state_is(r, id, state))
#define MISSING			  (-1)

static void add_device(const char *id)
{
	char sql[160];

	snprintf(sql, sizeof(sql), "insert into principal (id) values ('%s')", id);
	pg_cluster_sql(&cluster, sql);
}

/* A change that nobody is notified of. */
static void change_silently(const char *sql, const char *new_version)
{
	char all[512];

	snprintf(all, sizeof(all),
		 "alter table principal disable trigger registry_changed; %s;"
		 "alter table principal enable trigger registry_changed;"
		 "update registry_version set version = %s",
		 sql, new_version);
	pg_cluster_sql(&cluster, all);
}

/* --- Changes --- */

static void test_change_is_in_force_after_its_notification(void **state)
{
	struct registry *r = open_registry(NEVER_MS);
	uint64_t generation;

	(void)state;
	await(registry_ready(r));
	generation = registry_generation(r);
	add_device("dev-1");
	await_state(r, "dev-1", PRINCIPAL_ACTIVE);
	assert_true(registry_generation(r) > generation);
	pg_cluster_sql(&cluster, "update principal set state = 'suspended' where id = 'dev-1'");
	await_state(r, "dev-1", PRINCIPAL_SUSPENDED);
	assert_false(may_publish(r, "dev-1", "a/b"));
	pg_cluster_sql(&cluster,
		       "insert into policy_rule values ('device', 'allow', 'publish', 'a/+')");
	await(may_publish(r, "dev-1", "a/b"));
	pg_cluster_sql(&cluster, "delete from principal where id = 'dev-1'");
	await_state(r, "dev-1", MISSING);
	registry_close(r);
}

static void test_change_is_in_force_by_poll_alone(void **state)
{
	struct registry *r = open_registry(100);

	(void)state;
	await(registry_ready(r));
	change_silently("insert into principal (id) values ('dev-1')", "version + 1");
	await_state(r, "dev-1", PRINCIPAL_ACTIVE);
	registry_close(r);
}

static void test_version_that_goes_back_is_a_change(void **state)
{
	struct registry *r = open_registry(100);

	(void)state;
	await(registry_ready(r));
	change_silently("insert into principal (id) values ('restored')", "version - 3");
	await_state(r, "restored", PRINCIPAL_ACTIVE);
	registry_close(r);
}

static void test_nothing_is_loaded_when_nothing_changed(void **state)
{
	struct registry *r = open_registry(100);
	uint64_t generation;

	(void)state;
	await(registry_ready(r));
	generation = registry_generation(r);
	usleep(500 * 1000);
	assert_int_equal(registry_generation(r), generation);
	registry_close(r);
}

/* At most one load for each 200 ms, however long this takes. */
static void test_loads_are_spaced_when_devices_come_one_by_one(void **state)
{
	struct registry *r = open_registry(NEVER_MS);
	int64_t start;
	uint64_t before;

	(void)state;
	await(registry_ready(r));
	start = clock_monotonic_us();
	before = registry_generation(r);
	pg_cluster_sql(&cluster,
		       "do $$ begin for i in 1..100 loop"
		       " insert into principal (id) values ('dev-' || i); end loop; end $$");
	for (int i = 101; i <= 140; i++) {
		char id[16];

		snprintf(id, sizeof(id), "dev-%d", i);
		add_device(id);
	}
	await_state(r, "dev-140", PRINCIPAL_ACTIVE);
	assert_true((int64_t)(registry_generation(r) - before) <=
		    1 + (clock_monotonic_us() - start) / (200 * US_PER_MS));
	registry_close(r);
}

static void test_credentials_are_loaded_as_they_stand(void **state)
{
	struct registry *r = open_registry(NEVER_MS);
	const uint8_t ones[FINGERPRINT_LEN] = {[0 ... FINGERPRINT_LEN - 1] = 0x11};
	const struct snapshot *s;
	const struct credential *c;
	struct identity who;

	(void)state;
	pg_cluster_sql(
		&cluster,
		"insert into principal (id, kind, policy) values ('backend', 'service', 'none');"
		"insert into credential (kind, fingerprint, principal) values"
		" ('token', sha256('backend\\000secret'), 'backend');"
		"insert into credential (kind, fingerprint, principal, material, revoked_at)"
		" values ('psk', decode(repeat('11', 32), 'hex'), 'backend', '\\x6100ff', now());"
		"insert into principal (id) values ('last')");
	await_state(r, "last", PRINCIPAL_ACTIVE);
	s = registry_acquire(r);
	identify_token(&who, s, "backend", "secret");
	assert_int_equal(who.refusal, REFUSAL_NONE);
	assert_int_equal(who.principal->kind, PRINCIPAL_SERVICE);
	assert_string_equal(who.principal->policy->name, "none");
	assert_null(who.credential->material);
	c = snapshot_credential(s, CREDENTIAL_PSK, ones);
	assert_non_null(c);
	assert_true(c->revoked);
	assert_int_equal(c->material_len, 3);
	assert_memory_equal(c->material, "a\0\xff", 3);
	snapshot_release(s);
	registry_close(r);
}

static void assert_dates(const struct snapshot *s, uint8_t byte, int64_t not_before,
			 int64_t not_after)
{
	uint8_t fingerprint[FINGERPRINT_LEN];
	const struct credential *c;

	memset(fingerprint, byte, sizeof(fingerprint));
	c = snapshot_credential(s, CREDENTIAL_X509, fingerprint);
	assert_non_null(c);
	assert_int_equal(c->not_before, not_before);
	assert_int_equal(c->not_after, not_after);
}

static void test_dates_are_loaded_as_they_stand(void **state)
{
	struct registry *r = open_registry(NEVER_MS);
	const struct snapshot *s;

	(void)state;
	pg_cluster_sql(
		&cluster,
		"insert into principal (id) values ('dev-1');"
		"insert into credential (kind, principal, fingerprint, not_before, not_after)"
		" select 'x509', 'dev-1', decode(repeat(b, 32), 'hex'), f, t from (values"
		" ('11', '2026-01-01T00:00:00Z'::timestamptz, '2026-01-31T00:00:00Z'::timestamptz),"
		" ('22', '1999-12-31T23:59:59.5Z', '2999-12-31T23:59:59Z'),"
		" ('33', '-infinity', 'infinity'), ('44', null, null)) v(b, f, t);"
		"insert into principal (id) values ('last')");
	await_state(r, "last", PRINCIPAL_ACTIVE);
	s = registry_acquire(r);
	assert_dates(s, 0x11, 1767225600, 1769817600);
	assert_dates(s, 0x22, 946684799, 32503679999);
	assert_dates(s, 0x33, INT64_MIN, INT64_MAX);
	assert_dates(s, 0x44, INT64_MIN, INT64_MAX);
	snapshot_release(s);
	registry_close(r);
}

/* --- A database that is not there --- */

static void test_copy_on_disk_serves_while_the_database_is_down(void **state)
{
	struct registry *r;

	(void)state;
	add_device("dev-1");
	r = open_registry(NEVER_MS);
	await_state(r, "dev-1", PRINCIPAL_ACTIVE);
	registry_close(r);
	pg_cluster_stop(&cluster);

	r = open_registry(100);
	assert_true(registry_ready(r));
	assert_false(registry_confirmed(r));
	assert_int_equal(registry_generation(r), 1);
	assert_true(state_is(r, "dev-1", PRINCIPAL_ACTIVE));
	assert_true(may_publish(r, "dev-1", "m/d/dev-1/d2c"));
	await(times_logged("event=registry_database_lost") == 1);
	assert_int_equal(times_logged("the 1 principals known so far stay in force"), 1);

	pg_cluster_start(&cluster);
	await(registry_confirmed(r));
	assert_int_equal(registry_generation(r), 2);
	add_device("dev-2");
	await_state(r, "dev-2", PRINCIPAL_ACTIVE);
	await(times_logged("event=registry_database_back") == 1);
	registry_close(r);
}

static void test_without_copy_and_database_nobody_is_known(void **state)
{
	const struct snapshot *s;
	struct registry *r;

	(void)state;
	add_device("dev-1");
	pg_cluster_stop(&cluster);
	r = open_registry(100);
	await(times_logged("event=registry_database_lost") == 1);
	assert_int_equal(times_logged("level=error"), 1);
	assert_false(registry_ready(r));
	s = registry_acquire(r);
	assert_int_equal(snapshot_version(s), 0);
	assert_int_equal(snapshot_principal_count(s), 0);
	snapshot_release(s);
	pg_cluster_start(&cluster);
	await(registry_ready(r));
	assert_true(state_is(r, "dev-1", PRINCIPAL_ACTIVE));
	registry_close(r);
}

static void test_killed_database_is_told_once_and_found_again(void **state)
{
	struct registry *r = open_registry(100);

	(void)state;
	add_device("dev-1");
	await_state(r, "dev-1", PRINCIPAL_ACTIVE);
	pg_cluster_kill(&cluster);
	await(times_logged("event=registry_database_lost") == 1);
	/* Several attempts to connect: 100 ms of backoff, then 200. */
	usleep(600 * 1000);
	assert_int_equal(times_logged("event=registry_database_lost"), 1);
	assert_true(state_is(r, "dev-1", PRINCIPAL_ACTIVE));
	pg_cluster_start(&cluster);
	await(times_logged("event=registry_database_back") == 1);
	pg_cluster_sql(&cluster, "update principal set state = 'revoked'");
	await_state(r, "dev-1", PRINCIPAL_REVOKED);
	assert_int_equal(times_logged("event=registry_database_lost"), 1);
	registry_close(r);
}

static void test_paused_database_is_given_up_and_the_old_snapshot_serves(void **state)
{
	struct registry *r = open_with(100, 1, 1);

	(void)state;
	add_device("dev-1");
	await_state(r, "dev-1", PRINCIPAL_ACTIVE);
	pg_cluster_pause(&cluster);
	await(times_logged("event=registry_database_lost") == 1);
	assert_int_equal(times_logged("the database does not answer"), 1);
	assert_true(state_is(r, "dev-1", PRINCIPAL_ACTIVE));
	pg_cluster_resume(&cluster);
	pg_cluster_sql(&cluster, "update principal set state = 'suspended'");
	await_state(r, "dev-1", PRINCIPAL_SUSPENDED);
	registry_close(r);
}

static void assert_closes_at_once(struct registry *r)
{
	int64_t start = clock_monotonic_us();

	registry_close(r);
	assert_true(clock_monotonic_us() - start < PATIENCE_S * US_PER_S);
}

static void test_close_does_not_wait_for_a_silent_database(void **state)
{
	struct registry *asking = open_with(100, 5, 1000);
	struct registry *connecting;

	(void)state;
	await(registry_ready(asking));
	pg_cluster_pause(&cluster);
	connecting = open_with(100, 1000, 1000);
	usleep(300 * 1000);
	assert_closes_at_once(asking);
	assert_closes_at_once(connecting);
	pg_cluster_resume(&cluster);
	registry_close(NULL);
}

static void test_close_does_not_wait_for_the_backoff(void **state)
{
	struct registry *r;

	(void)state;
	pg_cluster_stop(&cluster);
	r = open_registry(100);
	await(times_logged("event=registry_database_lost") == 1);
	assert_closes_at_once(r);
	pg_cluster_start(&cluster);
}

/* --- The copy --- */

static void test_damaged_copy_is_ignored_and_replaced(void **state)
{
	const struct snapshot *s;
	struct registry *r;
	char err[256];
	FILE *f = fopen(path, "w");

	(void)state;
	assert_non_null(f);
	fputs("FGREGSNP and then something else altogether", f);
	fclose(f);
	add_device("dev-1");
	r = open_registry(NEVER_MS);
	assert_int_equal(times_logged("event=registry_copy_ignored"), 1);
	await_state(r, "dev-1", PRINCIPAL_ACTIVE);
	registry_close(r);
	assert_int_equal(snapshot_load(&s, path, err, sizeof(err)), 0);
	assert_non_null(snapshot_principal(s, "dev-1"));
	assert_int_equal(snapshot_version(s),
			 pg_cluster_number(&cluster, "select version from registry_version"));
	snapshot_release(s);
}

static void test_copy_that_cannot_be_written_is_told_and_not_fatal(void **state)
{
	struct registry *r;

	(void)state;
	strcat(path, "/missing/registry");
	r = open_registry(NEVER_MS);
	*strchr(path + sizeof(dir), '/') = '\0';
	await(times_logged("event=registry_copy_not_saved") == 1);
	add_device("dev-1");
	await_state(r, "dev-1", PRINCIPAL_ACTIVE);
	registry_close(r);
	assert_int_equal(times_logged("event=registry_copy_not_saved"), 1);
}

/* --- Rows that should not be there --- */

static void test_wrong_rows_are_named_and_the_rest_is_loaded(void **state)
{
	struct registry *r = open_registry(NEVER_MS);

	(void)state;
	pg_cluster_sql(
		&cluster,
		"alter table credential drop constraint if exists credential_fingerprint_check;"
		"alter type principal_state add value if not exists 'lost'");
	pg_cluster_sql(&cluster,
		       "insert into policy_rule (policy, action, filter) values"
		       " ('device', 'publish', 'a/#/b'), ('device', 'publish', 'm/${devcie}');"
		       "insert into principal (id) values ('dev-1');"
		       "insert into principal (id, state) values ('dev-2', 'lost');"
		       "insert into credential (kind, fingerprint, principal) values"
		       " ('x509', 'short', 'dev-1'), ('x509', sha256('x'), 'dev-2');"
		       "insert into principal (id) values ('last')");
	await_state(r, "last", PRINCIPAL_ACTIVE);
	assert_true(state_is(r, "dev-2", MISSING));
	assert_true(may_publish(r, "dev-1", "m/d/dev-1/d2c"));
	await(times_logged("event=registry_row_skipped") == 5);
	assert_int_equal(times_logged("fieldgate.policy_rule (device, allow, publish, 'a/#/b'): "
				      "'a/#/b' is not a topic filter"),
			 1);
	assert_int_equal(times_logged("(device, allow, publish, 'm/${devcie}')"), 1);
	assert_int_equal(times_logged("device=dev-2 msg=\"this row is left out, mend or delete it: "
				      "fieldgate.principal 'dev-2': unknown state 'lost'\""),
			 1);
	assert_int_equal(times_logged("device=dev-1 msg=\"this row is left out, mend or delete it: "
				      "fieldgate.credential (x509, 73686f72... of dev-1): the "
				      "fingerprint has 5 bytes, not 32\""),
			 1);
	assert_int_equal(times_logged("of dev-2): there is no principal 'dev-2'"), 1);

	/* The same rows are not told again; when they are mended, that is told. */
	pg_cluster_sql(&cluster, "update principal set state = 'suspended' where id = 'last'");
	await_state(r, "last", PRINCIPAL_SUSPENDED);
	assert_int_equal(times_logged("event=registry_row_skipped"), 5);
	clean(NULL);
	await(times_logged("event=registry_rows_mended") == 1);
	registry_close(r);
}

static bool rules_are(struct registry *r, size_t count)
{
	const struct snapshot *s = registry_acquire(r);
	bool are = snapshot_rule_count(s) == count;

	snapshot_release(s);
	return are;
}

static void test_enabled_rules_are_loaded_as_they_stand(void **state)
{
	struct registry *r = open_registry(NEVER_MS);
	const struct snapshot *s;
	const struct snapshot_rule *rule;

	(void)state;
	pg_cluster_sql(&cluster,
		       "insert into rule (name, sql, actions, error_action, enabled) values"
		       " ('hot', 'SELECT', '[{\"drop\": {}}]', '{\"store\": {}}', true),"
		       " ('off', 'SELECT', '[]', null, false)");
	await(rules_are(r, 1));
	s = registry_acquire(r);
	rule = snapshot_rule_at(s, 0);
	assert_string_equal(rule->name, "hot");
	assert_string_equal(rule->sql, "SELECT");
	assert_string_equal(rule->actions, "[{\"drop\": {}}]");
	assert_string_equal(rule->error_action, "{\"store\": {}}");
	assert_int_equal(
		rule->revision,
		pg_cluster_number(&cluster, "select revision from rule where name = 'hot'"));
	snapshot_release(s);
	pg_cluster_sql(&cluster, "update rule set enabled = true");
	await(rules_are(r, 2));
	pg_cluster_sql(&cluster, "truncate rule cascade");
	await(rules_are(r, 0));
	registry_close(r);
}

static void test_rules_are_in_the_copy_on_disk(void **state)
{
	struct registry *r = open_registry(NEVER_MS);

	(void)state;
	pg_cluster_sql(&cluster, "insert into rule (name, sql) values ('hot', 'SELECT')");
	await(rules_are(r, 1));
	registry_close(r);
	pg_cluster_stop(&cluster);
	r = open_registry(NEVER_MS);
	assert_true(rules_are(r, 1));
	registry_close(r);
	pg_cluster_start(&cluster);
}

static void test_deny_rule_that_cannot_be_read_denies_everything(void **state)
{
	struct registry *r = open_registry(NEVER_MS);

	(void)state;
	pg_cluster_sql(&cluster, "insert into policy (name) values ('other');"
				 "insert into policy_rule (policy, action, filter) values"
				 " ('other', 'publish', '#');"
				 "insert into principal (id, policy) values"
				 " ('dev-1', 'device'), ('dev-2', 'other')");
	await(may_publish(r, "dev-1", "m/d/dev-1/d2c"));
	pg_cluster_sql(&cluster, "insert into policy_rule (policy, effect, action, filter) values"
				 " ('device', 'deny', 'receive', 'a/#/b')");
	await(!may_publish(r, "dev-1", "m/d/dev-1/d2c"));
	assert_true(may_publish(r, "dev-2", "x"));
	await(times_logged("so the policy device denies everything until this row is mended") == 1);
	pg_cluster_sql(&cluster, "delete from policy_rule where effect = 'deny'");
	await(may_publish(r, "dev-1", "m/d/dev-1/d2c"));

	/* An effect of a later release may be a kind of denying. */
	pg_cluster_sql(&cluster, "alter type policy_effect add value if not exists 'audit'");
	pg_cluster_sql(&cluster, "insert into policy_rule (policy, effect, action, filter) values"
				 " ('device', 'audit', 'receive', 'a')");
	await(!may_publish(r, "dev-1", "m/d/dev-1/d2c"));
	assert_true(may_publish(r, "dev-2", "x"));
	registry_close(r);
}

static void test_failed_load_keeps_the_old_snapshot(void **state)
{
	struct registry *r = open_registry(100);
	uint64_t generation;

	(void)state;
	add_device("dev-1");
	await_state(r, "dev-1", PRINCIPAL_ACTIVE);
	generation = registry_generation(r);
	pg_cluster_sql(&cluster, "revoke select on credential from fieldgate_ingest;"
				 "update principal set state = 'suspended'");
	await(times_logged("event=registry_database_lost") == 1);
	assert_int_equal(times_logged("permission denied for table credential"), 1);
	assert_true(state_is(r, "dev-1", PRINCIPAL_ACTIVE));
	assert_int_equal(registry_generation(r), generation);
	pg_cluster_sql(&cluster, "grant select on credential to fieldgate_ingest");
	await_state(r, "dev-1", PRINCIPAL_SUSPENDED);
	await(times_logged("event=registry_database_back") == 1);
	registry_close(r);
}

static void test_missing_version_row_is_explained(void **state)
{
	struct registry *r;

	(void)state;
	pg_cluster_sql(&cluster, "delete from registry_version");
	r = open_registry(100);
	await(times_logged("registry_version does not have its one row; put it back with") == 1);
	pg_cluster_sql(&cluster, "insert into registry_version (version) values (1000)");
	await(registry_ready(r));
	registry_close(r);
}

static void test_bad_url_is_refused_at_open(void **state)
{
	const struct registry_options o = {.database_url = "postgresql://u:hush@[::1/d",
					   .snapshot_path = path};
	struct registry *r;
	char err[512];

	(void)state;
	assert_int_equal(registry_open(&r, &o, err, sizeof(err)), -EINVAL);
	assert_null(r);
	assert_non_null(strstr(err, "database.url"));
	assert_null(strstr(err, "hush"));
}

/* --- Many --- */

static void *acquire_often(void *arg)
{
	struct registry *r = arg;

	while (!state_is(r, "last", PRINCIPAL_ACTIVE))
		;
	return NULL;
}

/* Build with -fsanitize=thread to see it fail without the lock. */
static void test_readers_and_swaps_do_not_disturb_each_other(void **state)
{
	struct registry *r = open_registry(NEVER_MS);
	pthread_t threads[2];

	(void)state;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, acquire_often, r), 0);
	add_device("dev-1");
	await_state(r, "dev-1", PRINCIPAL_ACTIVE);
	add_device("dev-2");
	await_state(r, "dev-2", PRINCIPAL_ACTIVE);
	add_device("last");
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	registry_close(r);
}

/* Prints how long it took: a figure, not a condition. */
static void test_a_hundred_thousand_devices(void **state)
{
	struct registry *r;
	int64_t start;

	(void)state;
	pg_cluster_sql(&cluster,
		       "insert into principal (id) select 'nrf-' || lpad(i::text, 15, '0')"
		       " from generate_series(1, 100000) i;"
		       "insert into credential (kind, fingerprint, principal)"
		       " select 'x509', sha256(id::bytea), id from principal");
	start = clock_monotonic_us();
	r = open_registry(NEVER_MS);
	await(registry_ready(r));
	print_message("100000 principals with credentials: known %d ms after the start\n",
		      (int)((clock_monotonic_us() - start) / US_PER_MS));
	assert_true(state_is(r, "nrf-000000000100000", PRINCIPAL_ACTIVE));
	registry_close(r);
}

#define TEST(name) cmocka_unit_test_setup(name, clean)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_change_is_in_force_after_its_notification),
		TEST(test_change_is_in_force_by_poll_alone),
		TEST(test_version_that_goes_back_is_a_change),
		TEST(test_nothing_is_loaded_when_nothing_changed),
		TEST(test_loads_are_spaced_when_devices_come_one_by_one),
		TEST(test_credentials_are_loaded_as_they_stand),
		TEST(test_dates_are_loaded_as_they_stand),
		TEST(test_copy_on_disk_serves_while_the_database_is_down),
		TEST(test_without_copy_and_database_nobody_is_known),
		TEST(test_killed_database_is_told_once_and_found_again),
		TEST(test_paused_database_is_given_up_and_the_old_snapshot_serves),
		TEST(test_close_does_not_wait_for_a_silent_database),
		TEST(test_close_does_not_wait_for_the_backoff),
		TEST(test_damaged_copy_is_ignored_and_replaced),
		TEST(test_copy_that_cannot_be_written_is_told_and_not_fatal),
		TEST(test_wrong_rows_are_named_and_the_rest_is_loaded),
		TEST(test_enabled_rules_are_loaded_as_they_stand),
		TEST(test_rules_are_in_the_copy_on_disk),
		TEST(test_deny_rule_that_cannot_be_read_denies_everything),
		TEST(test_failed_load_keeps_the_old_snapshot),
		TEST(test_missing_version_row_is_explained),
		TEST(test_bad_url_is_refused_at_open),
		TEST(test_readers_and_swaps_do_not_disturb_each_other),
		TEST(test_a_hundred_thousand_devices),
	};

	return cmocka_run_group_tests(tests, start_all, stop_all);
}
