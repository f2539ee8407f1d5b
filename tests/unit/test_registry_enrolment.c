/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Enrolment over a real PostgreSQL: who is enrolled is known at once, registered soon, and after
 * that what the database says he is, while snapshots are swapped and the database comes and goes.
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
#include <libpq-fe.h>
#include <openssl/evp.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/registry/identify.h"
#include "core/registry/registry.h"
#include "tests/unit/pg_cluster.h"
#include "tests/unit/x509_fixture.h"

#define PATIENCE_S 60
#define NEVER_MS   3600000

static struct pg_cluster cluster;
static char dir[] = "/tmp/fieldgate-enrolment-XXXXXX";
static char path[64];
static struct x509_ca ca;
static uint8_t ca_fingerprint[FINGERPRINT_LEN];

static atomic_int enrolled_lines, failed_lines, delayed_lines;

static void count_line(enum log_level level, const char *line, void *arg)
{
	(void)level;
	(void)arg;
	if (strstr(line, "event=device_enrolled"))
		atomic_fetch_add(&enrolled_lines, 1);
	if (strstr(line, "event=enrolment_failed"))
		atomic_fetch_add(&failed_lines, 1);
	if (strstr(line, "event=enrolment_delayed"))
		atomic_fetch_add(&delayed_lines, 1);
}

static int start_all(void **state)
{
	struct certificate_der der;

	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/registry", dir);
	pg_cluster_init(&cluster);
	log_set_sink(count_line, NULL);
	ca = x509_make_ca(
		&(struct x509_profile){.cn = "device CA", .constraints = "CA:TRUE,pathlen:0"});
	der = x509_der(ca.x);
	assert_true(EVP_Digest(der.der, der.len, ca_fingerprint, NULL, EVP_sha256(), NULL));
	OPENSSL_free((void *)der.der);
	return 0;
}

static int stop_all(void **state)
{
	(void)state;
	pg_cluster_free(&cluster);
	x509_free_ca(&ca);
	unlink(path);
	return rmdir(dir);
}

static void add_authority(const char *mode, const char *policy)
{
	struct certificate_der der = x509_der(ca.x);
	char sql[4096], *at = sql;

	assert_true(der.len < 1500);
	at += sprintf(at,
		      "insert into authority (fingerprint, name, certificate, enrolment, policy,"
		      " not_before, not_after) select sha256(c), 'ca', c, '%s', '%s', now(),"
		      " now() + interval '1 year' from (select '\\x",
		      mode, policy);
	for (size_t i = 0; i < der.len; i++)
		at += sprintf(at, "%02x", ((const uint8_t *)der.der)[i]);
	sprintf(at, "'::bytea) as x(c)");
	pg_cluster_sql(&cluster, sql);
	OPENSSL_free((void *)der.der);
}

/* Each test begins with one authority that makes active devices, and nobody else. */
static int clean(void **state)
{
	(void)state;
	pg_cluster_sql(&cluster, "delete from principal; delete from revoked_certificate;"
				 "delete from authority");
	add_authority("active", "device");
	unlink(path);
	atomic_store(&enrolled_lines, 0);
	atomic_store(&failed_lines, 0);
	atomic_store(&delayed_lines, 0);
	return 0;
}

static struct registry *open_registry(size_t max)
{
	const struct registry_options o = {
		.database_url = cluster.url,
		.connect_timeout_s = 5,
		.statement_timeout_s = 30,
		.poll_ms = NEVER_MS,
		.snapshot_path = path,
		.max_enrolments = max,
	};
	struct registry *r;
	char err[512];

	if (registry_open(&r, &o, err, sizeof(err)) != 0)
		fail_msg("%s", err);
	return r;
}

#define await(condition) await_within(PATIENCE_S, condition)

#define await_within(seconds, condition)                                                           \
	do {                                                                                       \
		int64_t give_up_us = clock_monotonic_us() + (seconds)*US_PER_S;                    \
                                                                                                   \
		while (!(condition)) {                                                             \
			if (clock_monotonic_us() > give_up_us)                                     \
				fail_msg("never: %s", #condition);                                 \
			usleep(2000);                                                              \
		}                                                                                  \
	} while (0)

/* The certificate of device n: no real one, as nobody here looks at it. */
static struct enrolment request(int n)
{
	struct enrolment e = {
		.mode = ENROLMENT_ACTIVE,
		.not_before = 0,
		.not_after = INT64_C(4000000000),
		.authority_name = "ca",
		.from = "192.0.2.1",
	};

	snprintf(e.id, sizeof(e.id), "new-%d", n);
	snprintf(e.serial, sizeof(e.serial), "%08x", (unsigned)n + 1);
	memset(e.fingerprint, 0x5a, sizeof(e.fingerprint));
	memcpy(e.fingerprint, &n, sizeof(n));
	memcpy(e.authority, ca_fingerprint, FINGERPRINT_LEN);
	return e;
}

/* Judged by the current snapshot, as an adapter does. */
static int enrol(struct registry *r, const struct enrolment *e)
{
	const struct snapshot *s = registry_acquire(r);
	int rc = registry_enrol(r, s, e);

	snapshot_release(s);
	return rc;
}

static enum refusal judge(struct registry *r, const struct enrolment *e)
{
	const struct snapshot *s = registry_acquire(r);
	struct identity who;

	identify_again(&who, s, e->id, CREDENTIAL_X509, e->fingerprint, 0);
	snapshot_release(s);
	return who.refusal;
}

/* Does it know the credential of sha256('x') as this principal's, revoked or not? */
static bool has(struct registry *r, const char *id, bool revoked)
{
	const struct snapshot *s = registry_acquire(r);
	uint8_t fingerprint[FINGERPRINT_LEN];
	const struct credential *c;
	bool found;

	assert_true(EVP_Digest("x", 1, fingerprint, NULL, EVP_sha256(), NULL));
	c = snapshot_credential(s, CREDENTIAL_X509, fingerprint);
	found = c && strcmp(c->principal->id, id) == 0 && c->revoked == revoked;
	snapshot_release(s);
	return found;
}

static bool registered(const char *id)
{
	char sql[200];

	snprintf(sql, sizeof(sql),
		 "select count(*) from principal p join credential c on c.principal = p.id"
		 " where p.id = '%s'",
		 id);
	return pg_cluster_number(&cluster, sql) == 1;
}

/* Nobody waits any more: what is known is what the database says. */
static void await_answered(struct registry *r, const struct enrolment *e)
{
	await(enrolment_queue_find(registry_enrolments(r), e->fingerprint) == ENROLMENT_OFF);
}

static void test_known_at_once_and_registered_soon(void **state)
{
	struct enrolment e = request(1);
	struct registry *r;

	(void)state;
	pg_cluster_pause(&cluster);
	r = open_registry(10);
	assert_int_equal(enrol(r, &e), -EAGAIN);
	pg_cluster_resume(&cluster);
	await(registry_confirmed(r));
	assert_int_equal(enrol(r, &e), 0);
	assert_int_equal(judge(r, &e), REFUSAL_NONE);
	await(registered("new-1"));
	await_answered(r, &e);
	assert_int_equal(judge(r, &e), REFUSAL_NONE);
	await(atomic_load(&enrolled_lines) == 1);
	registry_close(r);
}

static void test_who_judges_by_an_older_snapshot_enrols_in_both(void **state)
{
	struct registry *r = open_registry(10);
	struct enrolment e = request(1), taken = request(2);
	const struct snapshot *old;
	uint64_t generation;

	(void)state;
	await(registry_confirmed(r));
	old = registry_acquire(r);
	generation = registry_generation(r);
	pg_cluster_sql(&cluster, "insert into principal (id) values ('new-2')");
	await(registry_generation(r) > generation);
	assert_int_equal(registry_enrol(r, old, &taken), -EAGAIN);
	assert_int_equal(registry_enrol(r, old, &e), 0);
	assert_non_null(snapshot_principal(old, "new-1"));
	assert_int_equal(judge(r, &e), REFUSAL_NONE);
	await(registered("new-1"));
	snapshot_release(old);
	registry_close(r);
}

static void test_what_the_database_says_counts_in_the_end(void **state)
{
	struct registry *r = open_registry(10);
	struct enrolment e = request(1);

	(void)state;
	await(registry_confirmed(r));
	/* The queue is sent, but its rows belong to somebody who was there before. */
	pg_cluster_sql(&cluster, "alter table principal disable trigger registry_changed;"
				 "insert into principal (id, state) values ('new-1', 'suspended');"
				 "alter table principal enable trigger registry_changed");
	assert_int_equal(enrol(r, &e), 0);
	assert_int_equal(judge(r, &e), REFUSAL_NONE);
	await(judge(r, &e) == REFUSAL_UNKNOWN);
	assert_int_equal(pg_cluster_number(&cluster, "select count(*) from credential"), 0);
	assert_int_equal(atomic_load(&enrolled_lines), 0);
	registry_close(r);
}

static void test_a_database_that_dies_keeps_them_waiting(void **state)
{
	struct registry *r = open_registry(3);
	struct enrolment e;

	(void)state;
	await(registry_confirmed(r));
	pg_cluster_kill(&cluster);
	for (int n = 0; n < 3; n++) {
		e = request(n);
		assert_int_equal(enrol(r, &e), 0);
		assert_int_equal(judge(r, &e), REFUSAL_NONE);
	}
	e = request(3);
	assert_int_equal(enrol(r, &e), -ENOSPC);
	assert_int_equal(judge(r, &e), REFUSAL_UNKNOWN);
	pg_cluster_start(&cluster);
	await(registered("new-0") && registered("new-1") && registered("new-2"));
	for (int n = 0; n < 3; n++) {
		e = request(n);
		await_answered(r, &e);
		assert_int_equal(judge(r, &e), REFUSAL_NONE);
	}
	registry_close(r);
}

/* Of these, new-2 has the serial number of new-1, and no row may be without the other. */
static void test_one_that_cannot_be_registered_does_not_harm_the_others(void **state)
{
	struct registry *r = open_registry(10);

	(void)state;
	await(registry_confirmed(r));
	pg_cluster_sql(&cluster,
		       "create function odd() returns trigger language plpgsql as $$ begin"
		       " if new.id = 'new-3' then raise 'no threes'; end if; return new;"
		       " end $$; create trigger odd before insert on principal for each"
		       " row execute function odd()");
	pg_cluster_pause(&cluster);
	for (int n = 0; n < 6; n++) {
		struct enrolment e = request(n);

		if (n == 2)
			snprintf(e.serial, sizeof(e.serial), "%s", request(1).serial);
		assert_int_equal(enrol(r, &e), 0);
	}
	pg_cluster_resume(&cluster);
	await(registered("new-5"));
	await(atomic_load(&failed_lines) == 1);
	assert_true(registered("new-0") && registered("new-1") && registered("new-4"));
	assert_int_equal(pg_cluster_number(&cluster, "select count(*) from principal"), 4);
	for (int n = 2; n < 4; n++) {
		struct enrolment e = request(n);

		await(judge(r, &e) == REFUSAL_UNKNOWN);
	}
	pg_cluster_sql(&cluster, "drop trigger odd on principal; drop function odd");
	registry_close(r);
}

/* They wait, and are in; and what has changed meanwhile is in force all the same. */
static void test_a_lock_delays_enrolments_and_nothing_else(void **state)
{
	struct registry *r = open_registry(10);
	struct enrolment e = request(1);
	PGconn *blocker = PQconnectdb(cluster.owner_url);

	(void)state;
	await(registry_confirmed(r));
	pg_cluster_sql(&cluster, "insert into principal (id) values ('other');"
				 "insert into credential (kind, fingerprint, principal)"
				 " values ('x509', sha256('x'), 'other')");
	await(has(r, "other", false));
	PQclear(PQexec(blocker, "begin; lock table fieldgate.principal in share mode"));
	assert_int_equal(enrol(r, &e), 0);
	await(atomic_load(&delayed_lines) >= 1);
	pg_cluster_sql(&cluster, "update credential set revoked_at = now()");
	await_within(5, has(r, "other", true));
	assert_int_equal(judge(r, &e), REFUSAL_NONE);
	assert_int_equal(atomic_load(&failed_lines), 0);
	PQclear(PQexec(blocker, "rollback"));
	PQfinish(blocker);
	/* Whatever wakes it. */
	pg_cluster_sql(&cluster, "notify fieldgate_registry");
	await(registered("new-1"));
	await_answered(r, &e);
	assert_int_equal(judge(r, &e), REFUSAL_NONE);
	registry_close(r);
}

/* Each takes the database a while, and before it is done there are more. */
static void test_many_enrolments_delay_no_change(void **state)
{
	struct registry *r = open_registry(10000);
	int64_t until_us;
	int n = 0;

	(void)state;
	await(registry_confirmed(r));
	pg_cluster_sql(&cluster,
		       "insert into principal (id) values ('other');"
		       "insert into credential (kind, fingerprint, principal)"
		       " values ('x509', sha256('x'), 'other');"
		       "create function slow() returns trigger language plpgsql as $$ begin"
		       " perform pg_sleep(0.05); return null; end $$;"
		       "create trigger slow after insert on principal for each statement execute"
		       " function slow()");
	await(has(r, "other", false));
	until_us = clock_monotonic_us() + 5 * US_PER_S;
	while (clock_monotonic_us() < until_us && !has(r, "other", true)) {
		struct enrolment e = request(n++);

		enrol(r, &e);
		if (n == 100)
			pg_cluster_sql(&cluster, "update credential set revoked_at = now()"
						 " where principal = 'other'");
		usleep(3000);
	}
	assert_true(has(r, "other", true));
	pg_cluster_sql(&cluster, "drop trigger slow on principal; drop function slow");
	registry_close(r);
}

#define STORM  300
#define OTHERS 20000 /* so that a load takes long enough for some to come meanwhile */

struct storm {
	struct registry *registry;
	int first;
	atomic_int *done;
};

/* An adapter: from its enrolment on, a device is let in whenever it is asked for. */
static void *enrol_often(void *arg)
{
	const struct storm *storm = arg;
	void *failed = NULL;

	for (int n = storm->first; n < storm->first + STORM && !failed; n++) {
		struct enrolment e = request(n);
		int rc;

		while ((rc = enrol(storm->registry, &e)) == -EAGAIN)
			;
		if (rc != 0)
			failed = "not enrolled";
		for (int again = n; again >= storm->first && again > n - 200 && !failed;
		     again -= 10) {
			e = request(again);
			if (judge(storm->registry, &e) != REFUSAL_NONE)
				failed = "forgotten";
		}
		usleep(3000); /* so that snapshots are loaded and swapped meanwhile */
	}
	atomic_fetch_add(storm->done, 1);
	return failed;
}

/* MODE=tsan sees it fail without the registry's lock. */
static void test_swaps_forget_nobody(void **state)
{
	struct registry *r = open_registry(4 * STORM);
	atomic_int done = 0;
	char sql[160];
	pthread_t threads[2];
	struct storm storms[2];
	int others = 0;

	(void)state;
	snprintf(sql, sizeof(sql),
		 "insert into principal (id) select 'there-' || i from generate_series(1, %d) i",
		 OTHERS);
	pg_cluster_sql(&cluster, sql);
	await(registry_confirmed(r));
	for (int i = 0; i < 2; i++) {
		storms[i] = (struct storm){r, i * STORM, &done};
		assert_int_equal(pthread_create(&threads[i], NULL, enrol_often, &storms[i]), 0);
	}
	while (atomic_load(&done) < 2) {
		snprintf(sql, sizeof(sql), "insert into principal (id) values ('o-%d')", others++);
		pg_cluster_sql(&cluster, sql);
	}
	for (int i = 0; i < 2; i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		if (failed)
			fail_msg("%s", (const char *)failed);
	}
	await(pg_cluster_number(&cluster, "select count(*) from credential") == 2 * STORM);
	await(atomic_load(&enrolled_lines) == 2 * STORM);
	for (int n = 0; n < 2 * STORM; n++) {
		struct enrolment e = request(n);

		await_answered(r, &e);
		assert_int_equal(judge(r, &e), REFUSAL_NONE);
	}
	registry_close(r);
}

#define TEST(name) cmocka_unit_test_setup(name, clean)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_known_at_once_and_registered_soon),
		TEST(test_who_judges_by_an_older_snapshot_enrols_in_both),
		TEST(test_what_the_database_says_counts_in_the_end),
		TEST(test_a_database_that_dies_keeps_them_waiting),
		TEST(test_one_that_cannot_be_registered_does_not_harm_the_others),
		TEST(test_a_lock_delays_enrolments_and_nothing_else),
		TEST(test_many_enrolments_delay_no_change),
		TEST(test_swaps_forget_nobody),
	};

	return cmocka_run_group_tests(tests, start_all, stop_all);
}
