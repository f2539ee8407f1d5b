/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread, two loops. The outer one connects, and waits longer after each failure; the inner one
 * lives as long as the connection and turns "something may have changed" (a notification, or the
 * poll interval is over) into "ask for the version" and, when that moved, into a new snapshot.
 * Readers meet the thread only at `lock`, which is held for the exchange of a pointer, and for
 * taking the few devices along that were enrolled and are not in the database yet.
 *
 * A new connection always loads: whether a database was restored in between, its version cannot
 * tell.
 */
#include "core/registry/registry.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/pgconn.h"
#include "core/base/thread.h"
#include "core/registry/registry_load.h"

#define BACKOFF_MIN_US (100 * US_PER_MS)
#define BACKOFF_MAX_US (5 * US_PER_S)

/* Between two loads: four times what the last one took, so that provisioning thousands of devices
 * one by one costs a fifth of a core at most, and no more than leaves a change in force within 5
 * seconds. */
#define SPACING_FACTOR 4
#define SPACING_MIN_US (200 * US_PER_MS)
#define SPACING_MAX_US (2 * US_PER_S)

#define ERR_LEN 512

enum database_state {
	DATABASE_NOT_TRIED,
	DATABASE_ANSWERS,
	DATABASE_LOST,
};

struct registry {
	char *database_url;
	char *snapshot_path;
	int connect_timeout_s, statement_timeout_s, poll_ms;
	int stop_fd; /* eventfd: written once, never read */
	struct enrolment_queue *enrolments;
	pthread_t thread;

	pthread_mutex_t lock;
	const struct snapshot *current; /* under lock; changed by the thread only */
	_Atomic uint64_t generation;
	atomic_bool ready;
	atomic_bool confirmed;

	/* The thread's own. */
	enum database_state database;
	int64_t backoff_us;
	int64_t next_load_us;	  /* of clock_monotonic_us */
	uint64_t bad_rows_digest; /* of what was logged last */
	int save_error;		  /* of the last save */
};

/* --- The current snapshot --- */

const struct snapshot *registry_acquire(struct registry *r)
{
	const struct snapshot *s;

	pthread_mutex_lock(&r->lock);
	s = snapshot_retain(r->current);
	pthread_mutex_unlock(&r->lock);
	return s;
}

uint64_t registry_generation(const struct registry *r)
{
	return atomic_load_explicit(&r->generation, memory_order_relaxed);
}

int registry_ready(const struct registry *r)
{
	return atomic_load(&r->ready);
}

int registry_confirmed(const struct registry *r)
{
	return atomic_load(&r->confirmed);
}

/* What the database says takes the place of what was known. Takes over the caller's reference. */
static void swap(struct registry *r, const struct snapshot *s)
{
	const struct snapshot *old;

	pthread_mutex_lock(&r->lock);
	old = r->current;
	enrolment_queue_carry(r->enrolments, s);
	r->current = s;
	pthread_mutex_unlock(&r->lock);
	atomic_store(&r->confirmed, true);
	atomic_fetch_add(&r->generation, 1);
	atomic_store(&r->ready, true);
	snapshot_release(old);
}

/* --- Enrolment --- */

struct enrolment_queue *registry_enrolments(const struct registry *r)
{
	return r->enrolments;
}

/* Does a snapshot that is newer than the one this was judged by say the same? */
static bool still_enrols(const struct snapshot *s, const struct enrolment *e)
{
	const struct authority *a = snapshot_authority(s, e->authority);

	return a && a->enrolment == e->mode && !snapshot_principal(s, e->id) &&
	       !snapshot_credential(s, CREDENTIAL_X509, e->fingerprint) && !enrolment_revoked(s, e);
}

static int make_known(const struct snapshot *s, const struct enrolment *e)
{
	const struct credential *c = snapshot_credential(s, CREDENTIAL_X509, e->fingerprint);
	const struct authority *a = snapshot_authority(s, e->authority);

	if (c)
		return strcmp(c->principal->id, e->id) == 0 ? 0 : -EEXIST;
	return a ? snapshot_enrol(s, e->id, e->fingerprint, e->not_before, e->not_after, a->policy)
		 : -EAGAIN;
}

/* Under the lock: swap takes along who is in the queue. */
static int enrol(struct registry *r, const struct snapshot *s, const struct enrolment *e)
{
	int rc;

	if (!registry_confirmed(r) || (s != r->current && !still_enrols(r->current, e)))
		return -EAGAIN;
	rc = enrolment_queue_add(r->enrolments, e);
	if (rc != 0 || e->mode != ENROLMENT_ACTIVE)
		return rc;
	rc = make_known(s, e);
	if (rc == 0 && s != r->current)
		rc = make_known(r->current, e);
	return rc;
}

int registry_enrol(struct registry *r, const struct snapshot *s, const struct enrolment *e)
{
	int rc;

	pthread_mutex_lock(&r->lock);
	rc = enrol(r, s, e);
	pthread_mutex_unlock(&r->lock);
	return rc;
}

/* --- What the operator hears --- */

static void say_lost(struct registry *r, const char *why)
{
	bool first = r->database != DATABASE_LOST;

	r->database = DATABASE_LOST;
	if (!first)
		log_debug("registry_database_lost", NULL, "still: %s", why);
	else if (registry_ready(r))
		log_warn(
			"registry_database_lost", NULL,
			"%s; the %zu principals known so far stay in force, changes wait until the "
			"database is back",
			why, snapshot_principal_count(r->current));
	else
		log_error(
			"registry_database_lost", NULL,
			"%s; no principal is known yet and nobody can be let in until the database "
			"answers: check database.url and that its migrations are applied",
			why);
}

static void say_answers(struct registry *r)
{
	if (r->database == DATABASE_LOST)
		log_info("registry_database_back", NULL,
			 "the database answers again: %zu principals, version %" PRId64,
			 snapshot_principal_count(r->current), snapshot_version(r->current));
	r->database = DATABASE_ANSWERS;
}

/* The same rows are not reported again with every load. */
static void say_bad_rows(struct registry *r, const struct bad_rows *bad)
{
	size_t shown = bad->count < BAD_ROWS_KEPT ? bad->count : BAD_ROWS_KEPT;

	if (bad->digest == r->bad_rows_digest)
		return;
	r->bad_rows_digest = bad->digest;
	for (size_t i = 0; i < shown; i++)
		log_error("registry_row_skipped", *bad->rows[i].device ? bad->rows[i].device : NULL,
			  "this row is left out, mend or delete it: %s", bad->rows[i].why);
	if (bad->count > shown)
		log_error("registry_row_skipped", NULL, "and %zu more rows are left out",
			  bad->count - shown);
	if (bad->count == 0)
		log_info("registry_rows_mended", NULL,
			 "no row of the registry is left out any more");
}

static void save(struct registry *r)
{
	int rc = snapshot_save(r->current, r->snapshot_path);

	if (rc != 0 && rc != r->save_error)
		log_error("registry_copy_not_saved", NULL,
			  "%s: %s; after a restart with the database down an older copy, or none, "
			  "would be used",
			  r->snapshot_path, strerror(-rc));
	else if (rc == 0 && r->save_error != 0)
		log_info("registry_copy_saved", NULL, "%s can be written again", r->snapshot_path);
	r->save_error = rc;
}

/* --- The thread --- */

static void loaded(struct registry *r, const struct snapshot *s, const struct bad_rows *bad,
		   int64_t started_us)
{
	int64_t spacing, now;

	swap(r, s);
	if (r->database == DATABASE_NOT_TRIED)
		log_info("registry_loaded", NULL, "%zu principals, version %" PRId64,
			 snapshot_principal_count(s), snapshot_version(s));
	else
		log_debug("registry_loaded", NULL, "%zu principals, version %" PRId64,
			  snapshot_principal_count(s), snapshot_version(s));
	say_bad_rows(r, bad);
	save(r);
	now = clock_monotonic_us();
	spacing = SPACING_FACTOR * (now - started_us);
	if (spacing < SPACING_MIN_US)
		spacing = SPACING_MIN_US;
	if (spacing > SPACING_MAX_US)
		spacing = SPACING_MAX_US;
	r->next_load_us = now + spacing;
}

static int load(struct registry *r, const struct registry_source *src, char *err)
{
	int64_t started_us = clock_monotonic_us();
	struct bad_rows *bad = malloc(sizeof(*bad));
	const struct snapshot *s;
	int rc;

	if (!bad) {
		snprintf(err, ERR_LEN, "out of memory");
		return -ENOMEM;
	}
	enrolment_queue_load_begins(r->enrolments);
	rc = registry_load(src, &s, bad, err, ERR_LEN);
	if (rc == 0)
		loaded(r, s, bad, started_us);
	free(bad);
	return rc;
}

/* Load when the version differs: it also goes back, with a restored database. And when somebody
 * waits to hear what became of his enrolment. */
static int refresh(struct registry *r, const struct registry_source *src, bool always, char *err)
{
	int64_t version;
	int rc = registry_ask_version(src, &version, err, ERR_LEN);

	if (rc == 0 && (always || version != snapshot_version(r->current) ||
			enrolment_queue_sent(r->enrolments)))
		rc = load(r, src, err);
	if (rc == 0) {
		r->backoff_us = BACKOFF_MIN_US;
		say_answers(r);
	}
	return rc;
}

static bool was_notified(PGconn *c)
{
	bool any = false;
	PGnotify *n;

	while ((n = PQnotifies(c))) {
		any = true;
		PQfreemem(n);
	}
	return any;
}

/* 0 when it is time to ask for the version. A notification makes it earlier, spacing makes it
 * later. */
static int await_change(struct registry *r, const struct registry_source *src, char *err)
{
	int64_t until = clock_monotonic_us() + r->poll_ms * US_PER_MS;
	int rc;

	if (until < r->next_load_us)
		until = r->next_load_us;
	do {
		/* Also those of a connection that was lost. */
		rc = enrolment_queue_send(r->enrolments, src, err, ERR_LEN);
		if (rc != 0)
			return rc;
		/* Before the wait too: notifications may have come with the last result. */
		if (was_notified(src->connection) || enrolment_queue_sent(r->enrolments))
			until = r->next_load_us;
		rc = pgconn_wait_woken(src->connection, r->stop_fd,
				       enrolment_queue_fd(r->enrolments), until, err, ERR_LEN);
		/* Who enrols many may wake this without end, and others wait for what has changed.
		 */
	} while (rc > 0 && clock_monotonic_us() < until);
	return rc > 0 ? 0 : rc;
}

/* One connection, until it fails or the registry is closed. */
static int session(struct registry *r, char *err)
{
	const struct pgconn_options o = {
		.url = r->database_url,
		.application_name = "fieldgate registry",
		.connect_timeout_s = r->connect_timeout_s,
		.statement_timeout_s = r->statement_timeout_s,
	};
	struct registry_source src = {.stop_fd = r->stop_fd, .timeout_s = r->statement_timeout_s};
	bool fresh = true;
	int rc = pgconn_open(&src.connection, &o, r->stop_fd, err, ERR_LEN);

	if (rc != 0)
		return rc;
	/* Before the first look at the version, so that no change falls between the two. */
	rc = pgconn_exec(src.connection, "listen fieldgate_registry", NULL, r->stop_fd,
			 r->statement_timeout_s, err, ERR_LEN);
	while (rc == 0) {
		rc = refresh(r, &src, fresh, err);
		fresh = false;
		if (rc == 0)
			rc = await_change(r, &src, err);
	}
	PQfinish(src.connection);
	return rc;
}

/* Wait for half to all of the backoff, which doubles. True when the registry is being closed. */
static bool back_off(struct registry *r)
{
	struct pollfd stop = {.fd = r->stop_fd, .events = POLLIN};
	int64_t wait_us = r->backoff_us / 2;
	uint32_t random;

	random_bytes(&random, sizeof(random));
	wait_us += random % (wait_us + 1);
	r->backoff_us = 2 * r->backoff_us < BACKOFF_MAX_US ? 2 * r->backoff_us : BACKOFF_MAX_US;
	return poll(&stop, 1, (int)(wait_us / US_PER_MS)) > 0;
}

static void *run(void *arg)
{
	struct registry *r = arg;
	char err[ERR_LEN] = "";

	do {
		if (session(r, err) == -ECANCELED)
			break;
		say_lost(r, err);
	} while (!back_off(r));
	return NULL;
}

/* --- Opening and closing --- */

/* The copy on disk, or an empty snapshot; NULL without memory. */
static const struct snapshot *load_copy(const char *path, bool *found)
{
	struct snapshot_builder *empty;
	const struct snapshot *s;
	char err[ERR_LEN];
	int rc = snapshot_load(&s, path, err, sizeof(err));

	*found = rc == 0;
	if (rc == 0) {
		log_info("registry_copy_loaded", NULL,
			 "%zu principals, version %" PRId64 ", from %s",
			 snapshot_principal_count(s), snapshot_version(s), path);
		return s;
	}
	if (rc != -ENOENT)
		log_warn("registry_copy_ignored", NULL,
			 "%s; a new one is written when the database has been read", err);
	empty = snapshot_builder_new();
	return empty ? snapshot_build(empty, 0) : NULL;
}

static void registry_free(struct registry *r)
{
	snapshot_release(r->current);
	if (r->stop_fd >= 0)
		close(r->stop_fd);
	pthread_mutex_destroy(&r->lock);
	enrolment_queue_free(r->enrolments);
	free(r->database_url);
	free(r->snapshot_path);
	free(r);
}

static struct registry *registry_new(const struct registry_options *o)
{
	struct registry *r = calloc(1, sizeof(*r));
	bool found = false;

	if (!r)
		return NULL;
	pthread_mutex_init(&r->lock, NULL);
	r->database_url = strdup(o->database_url);
	r->snapshot_path = strdup(o->snapshot_path);
	r->connect_timeout_s = o->connect_timeout_s;
	r->statement_timeout_s = o->statement_timeout_s;
	r->poll_ms = o->poll_ms;
	r->backoff_us = BACKOFF_MIN_US;
	r->stop_fd = eventfd(0, EFD_CLOEXEC);
	r->enrolments = enrolment_queue_new(o->max_enrolments, o->enrolments_per_minute);
	if (r->snapshot_path)
		r->current = load_copy(r->snapshot_path, &found);
	atomic_store(&r->ready, found);
	atomic_store(&r->generation, found);
	if (r->database_url && r->current && r->stop_fd >= 0 && r->enrolments)
		return r;
	registry_free(r);
	return NULL;
}

int registry_open(struct registry **out, const struct registry_options *o, char *err,
		  size_t err_len)
{
	struct registry *r;
	char why[256];
	int rc;

	*out = NULL;
	rc = pgconn_check_url(o->database_url, why, sizeof(why));
	if (rc != 0) {
		snprintf(err, err_len, "database.url: %s", why);
		return rc;
	}
	r = registry_new(o);
	if (!r) {
		snprintf(err, err_len, "registry: out of memory or file descriptors");
		return -ENOMEM;
	}
	rc = thread_start(&r->thread, "fg-registry", run, r);
	if (rc != 0) {
		snprintf(err, err_len, "registry: cannot start a thread: %s", strerror(-rc));
		registry_free(r);
		return rc;
	}
	*out = r;
	return 0;
}

void registry_close(struct registry *r)
{
	if (!r)
		return;
	eventfd_write(r->stop_fd, 1);
	pthread_join(r->thread, NULL);
	registry_free(r);
}
