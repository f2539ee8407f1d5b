/* SPDX-License-Identifier: Apache-2.0 */
#include "core/registry/enrolment_queue.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/hex.h"
#include "core/base/log.h"
#include "core/base/pgconn.h"
#include "core/base/rate_limit.h"

#define MINUTE_US	    (60 * US_PER_S)
#define FAILURE_INTERVAL_US (10 * US_PER_S)

/* Authorities whose turns are counted at the same time; beyond that the one that was quiet longest
 * begins anew. */
#define WINDOWS 64

enum entry_state {
	ENTRY_WAITS,
	ENTRY_SENT,
	ENTRY_BEING_ANSWERED, /* a load has begun since */
};

struct entry {
	TAILQ_ENTRY(entry) list;
	struct enrolment enrolment; /* never changes */
	enum entry_state state;
};

TAILQ_HEAD(entry_list, entry);

/* What one authority has used of its turns, by minutes. */
struct window {
	uint8_t authority[FINGERPRINT_LEN];
	int64_t start_us;
	unsigned used;
};

struct enrolment_queue {
	size_t max;
	unsigned per_minute;
	int fd;
	pthread_mutex_t lock;
	struct entry_list entries; /* under lock, as all below; only the registry's thread frees */
	size_t count;
	struct window windows[WINDOWS];

	/* The thread's own. */
	struct rate_limit failures, delays;
};

struct enrolment_queue *enrolment_queue_new(size_t max, unsigned per_minute)
{
	struct enrolment_queue *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	q->max = max;
	q->per_minute = per_minute;
	q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->fd < 0) {
		free(q);
		return NULL;
	}
	pthread_mutex_init(&q->lock, NULL);
	TAILQ_INIT(&q->entries);
	return q;
}

static void drop(struct enrolment_queue *q, struct entry *e)
{
	TAILQ_REMOVE(&q->entries, e, list);
	q->count--;
	free(e);
}

void enrolment_queue_free(struct enrolment_queue *q)
{
	struct entry *e, *next;

	if (!q)
		return;
	for (e = TAILQ_FIRST(&q->entries); e; e = next) {
		next = TAILQ_NEXT(e, list);
		free(e);
	}
	pthread_mutex_destroy(&q->lock);
	close(q->fd);
	free(q);
}

/* --- Any thread --- */

static struct entry *find(const struct enrolment_queue *q, const uint8_t *fingerprint)
{
	struct entry *e;

	TAILQ_FOREACH(e, &q->entries, list)
	if (memcmp(e->enrolment.fingerprint, fingerprint, FINGERPRINT_LEN) == 0)
		return e;
	return NULL;
}

static bool name_taken(const struct enrolment_queue *q, const char *id)
{
	struct entry *e;

	TAILQ_FOREACH(e, &q->entries, list)
	if (strcmp(e->enrolment.id, id) == 0)
		return true;
	return false;
}

enum enrolment_mode enrolment_queue_find(struct enrolment_queue *q,
					 const uint8_t fingerprint[FINGERPRINT_LEN])
{
	enum enrolment_mode mode;
	const struct entry *e;

	pthread_mutex_lock(&q->lock);
	e = find(q, fingerprint);
	mode = e ? e->enrolment.mode : ENROLMENT_OFF;
	pthread_mutex_unlock(&q->lock);
	return mode;
}

/* The authority's window, or the one that is given up for it. */
static struct window *window_of(struct enrolment_queue *q, const uint8_t *authority)
{
	struct window *oldest = &q->windows[0];

	for (size_t i = 0; i < WINDOWS; i++) {
		struct window *w = &q->windows[i];

		if (memcmp(w->authority, authority, FINGERPRINT_LEN) == 0)
			return w;
		if (w->start_us < oldest->start_us)
			oldest = w;
	}
	memcpy(oldest->authority, authority, FINGERPRINT_LEN);
	oldest->used = 0;
	return oldest;
}

bool enrolment_queue_turn(struct enrolment_queue *q, const uint8_t authority[FINGERPRINT_LEN])
{
	const int64_t now = clock_monotonic_us();
	struct window *w;
	bool free_turn;

	if (q->per_minute == 0)
		return true;
	pthread_mutex_lock(&q->lock);
	w = window_of(q, authority);
	if (w->used == 0 || now - w->start_us >= MINUTE_US) {
		w->start_us = now;
		w->used = 0;
	}
	free_turn = w->used < q->per_minute;
	w->used += free_turn;
	pthread_mutex_unlock(&q->lock);
	return free_turn;
}

static int add(struct enrolment_queue *q, const struct enrolment *enrolment)
{
	struct entry *e;

	if (find(q, enrolment->fingerprint))
		return 0;
	if (name_taken(q, enrolment->id))
		return -EEXIST;
	if (q->count >= q->max)
		return -ENOSPC;
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->enrolment = *enrolment;
	TAILQ_INSERT_TAIL(&q->entries, e, list);
	q->count++;
	eventfd_write(q->fd, 1);
	return 0;
}

int enrolment_queue_add(struct enrolment_queue *q, const struct enrolment *e)
{
	int rc;

	pthread_mutex_lock(&q->lock);
	rc = add(q, e);
	pthread_mutex_unlock(&q->lock);
	return rc;
}

/* --- Sending --- */

int enrolment_queue_fd(const struct enrolment_queue *q)
{
	return q->fd;
}

#define COLUMNS 7

static const char enrol_sql[] =
	"select id, state::text from fieldgate.enrol($1::bytea[], $2::text[], $3::bytea[],"
	" $4::text[], $5::timestamptz[], $6::timestamptz[], $7::text[])";

/* One element of an array as PostgreSQL reads it from text. */
static void put_element(FILE *f, bool first, const char *text)
{
	fputs(first ? "\"" : ",\"", f);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', f);
		fputc(*text, f);
	}
	fputc('"', f);
}

static const char *bytea(char out[2 + 2 * FINGERPRINT_LEN + 1], const uint8_t *bytes)
{
	memcpy(out, "\\x", 2);
	hex_print(out + 2, bytes, FINGERPRINT_LEN);
	return out;
}

static void put_column(FILE *f, bool first, int column, const struct enrolment *e)
{
	char text[ENROLMENT_FROM_MAX + PRINCIPAL_ID_MAX + 32];

	switch (column) {
	case 0:
		put_element(f, first, bytea(text, e->authority));
		return;
	case 1:
		put_element(f, first, e->id);
		return;
	case 2:
		put_element(f, first, bytea(text, e->fingerprint));
		return;
	case 3:
		put_element(f, first, e->serial);
		return;
	case 4:
		put_element(f, first, clock_date_text(text, e->not_before));
		return;
	case 5:
		put_element(f, first, clock_date_text(text, e->not_after));
		return;
	default:
		snprintf(text, sizeof(text), "enrolled by %s, from %s", e->authority_name, e->from);
		put_element(f, first, text);
	}
}

/* The parameter for one column; NULL without memory. */
static char *array_of(int column, struct entry *const *entries, size_t count)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	fputc('{', f);
	for (size_t i = 0; i < count; i++)
		put_column(f, i == 0, column, &entries[i]->enrolment);
	fputc('}', f);
	if (fclose(f) == 0)
		return text;
	free(text);
	return NULL;
}

static int send_query(PGconn *c, struct entry *const *entries, size_t count, char *err,
		      size_t err_len)
{
	char *parameters[COLUMNS] = {NULL};
	int rc = 0;

	for (int i = 0; i < COLUMNS && rc == 0; i++) {
		parameters[i] = array_of(i, entries, count);
		if (!parameters[i]) {
			snprintf(err, err_len, "out of memory");
			rc = -ENOMEM;
		}
	}
	if (rc == 0 && !PQsendQueryParams(c, enrol_sql, COLUMNS, NULL,
					  (const char *const *)parameters, NULL, NULL, 0)) {
		pgconn_message(err, err_len, PQerrorMessage(c));
		rc = -EIO;
	}
	for (int i = 0; i < COLUMNS; i++)
		free(parameters[i]);
	return rc;
}

static void say_enrolled(struct entry *const *entries, size_t count, const char *id,
			 const char *state)
{
	for (size_t i = 0; i < count; i++) {
		const struct enrolment *e = &entries[i]->enrolment;
		const bool pending = strcmp(state, "pending") == 0;

		if (strcmp(e->id, id) != 0)
			continue;
		log_info("device_enrolled", e->id, "state=%s authority=%s serial=%s address=%s%s%s",
			 state, e->authority_name, e->serial, e->from,
			 pending ? "; to let it in: pki/fleet approve " : "", pending ? e->id : "");
	}
}

/* Locks, resources, a database that is read only: nothing that is wrong with a device (PostgreSQL,
 * appendix A). */
static bool is_of_the_moment(const char *sqlstate)
{
	static const char *const classes[] = {"25", "40", "53", "55", "57", "58"};

	for (size_t i = 0; sqlstate && i < sizeof(classes) / sizeof(*classes); i++)
		if (strncmp(sqlstate, classes[i], 2) == 0)
			return true;
	return false;
}

/* 0; -EBADMSG: the database refuses them; -EAGAIN: not now; or as pgconn_result. */
static int send_entries(const struct registry_source *src, struct entry *const *entries,
			size_t count, char *err, size_t err_len)
{
	PGresult *r;
	int rc = send_query(src->connection, entries, count, err, err_len);
	int refused = 0;

	if (rc != 0)
		return rc;
	for (;;) {
		const int64_t deadline = clock_monotonic_us() + src->timeout_s * US_PER_S;

		rc = pgconn_result(src->connection, &r, src->stop_fd, deadline, err, err_len);
		if (rc != 0 || !r)
			return rc != 0 ? rc : refused;
		if (PQresultStatus(r) != PGRES_TUPLES_OK) {
			pgconn_message(err, err_len, PQresultErrorMessage(r));
			refused = is_of_the_moment(PQresultErrorField(r, PG_DIAG_SQLSTATE))
					  ? -EAGAIN
					  : -EBADMSG;
		}
		for (int i = 0; i < PQntuples(r); i++)
			say_enrolled(entries, count, PQgetvalue(r, i, 0), PQgetvalue(r, i, 1));
		PQclear(r);
	}
}

/* Copies of the pointers: the entries stay, as only this thread frees them. NULL without memory. */
static struct entry **waiting(struct enrolment_queue *q, size_t *count)
{
	struct entry **entries, *e;
	size_t n = 0;

	pthread_mutex_lock(&q->lock);
	entries = calloc(q->count + 1, sizeof(struct entry *));
	TAILQ_FOREACH(e, &q->entries, list)
	if (entries && e->state == ENTRY_WAITS)
		entries[n++] = e;
	pthread_mutex_unlock(&q->lock);
	*count = n;
	return entries;
}

static void mark_sent(struct enrolment_queue *q, struct entry *const *entries, size_t count)
{
	pthread_mutex_lock(&q->lock);
	for (size_t i = 0; i < count; i++)
		entries[i]->state = ENTRY_SENT;
	pthread_mutex_unlock(&q->lock);
}

/* One that cannot be registered must not keep the others waiting. */
static int send_each(struct enrolment_queue *q, const struct registry_source *src,
		     struct entry *const *entries, size_t count, char *err, size_t err_len)
{
	char note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed;

	for (size_t i = 0; i < count; i++) {
		int rc = send_entries(src, entries + i, 1, err, err_len);

		if (rc != 0 && rc != -EBADMSG)
			return rc;
		if (rc == -EBADMSG &&
		    rate_limit_pass(&q->failures, FAILURE_INTERVAL_US, &suppressed))
			log_error("enrolment_failed", entries[i]->enrolment.id,
				  "the database does not take it: %s%s", err,
				  rate_limit_note(note, suppressed));
		mark_sent(q, entries + i, 1);
	}
	return 0;
}

static void say_delayed(struct enrolment_queue *q, size_t count, const char *err)
{
	char note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed;

	if (rate_limit_pass(&q->delays, FAILURE_INTERVAL_US, &suppressed))
		log_warn("enrolment_delayed", NULL,
			 "%zu devices wait to be registered, as the database says: %s; does a "
			 "transaction hold locks on the registry?%s",
			 count, err, rate_limit_note(note, suppressed));
}

int enrolment_queue_send(struct enrolment_queue *q, const struct registry_source *src, char *err,
			 size_t err_len)
{
	struct entry **entries;
	eventfd_t told;
	size_t count;
	int rc = 0;

	/* First, so that who comes meanwhile makes it readable again. */
	eventfd_read(q->fd, &told);
	entries = waiting(q, &count);
	if (!entries) {
		snprintf(err, err_len, "out of memory");
		return -ENOMEM;
	}
	if (count > 0)
		rc = send_entries(src, entries, count, err, err_len);
	if (rc == 0)
		mark_sent(q, entries, count);
	else if (rc == -EBADMSG)
		rc = send_each(q, src, entries, count, err, err_len);
	free(entries);
	if (rc != -EAGAIN)
		return rc;
	say_delayed(q, count, err);
	return 0;
}

/* --- What the database answers --- */

bool enrolment_queue_sent(struct enrolment_queue *q)
{
	const struct entry *e;

	pthread_mutex_lock(&q->lock);
	TAILQ_FOREACH(e, &q->entries, list)
	if (e->state != ENTRY_WAITS)
		break;
	pthread_mutex_unlock(&q->lock);
	return e != NULL;
}

void enrolment_queue_load_begins(struct enrolment_queue *q)
{
	struct entry *e;

	pthread_mutex_lock(&q->lock);
	TAILQ_FOREACH(e, &q->entries, list)
	if (e->state == ENTRY_SENT)
		e->state = ENTRY_BEING_ANSWERED;
	pthread_mutex_unlock(&q->lock);
}

bool enrolment_revoked(const struct snapshot *s, const struct enrolment *e)
{
	return snapshot_was_revoked(s, CREDENTIAL_X509, e->fingerprint) ||
	       snapshot_was_revoked(s, CREDENTIAL_X509_KEY, e->key_fingerprint) ||
	       snapshot_serial_was_revoked(s, e->authority, e->serial);
}

/* Without memory the device is unknown for a moment, and enrolled again. */
static void carry(const struct enrolment *e, const struct snapshot *s)
{
	const struct authority *a = snapshot_authority(s, e->authority);

	if (e->mode == ENROLMENT_ACTIVE && a && a->enrolment == ENROLMENT_ACTIVE &&
	    !enrolment_revoked(s, e))
		snapshot_enrol(s, e->id, e->fingerprint, e->not_before, e->not_after, a->policy);
}

void enrolment_queue_carry(struct enrolment_queue *q, const struct snapshot *s)
{
	struct entry *e, *next;

	pthread_mutex_lock(&q->lock);
	for (e = TAILQ_FIRST(&q->entries); e; e = next) {
		next = TAILQ_NEXT(e, list);
		if (e->state == ENTRY_BEING_ANSWERED)
			drop(q, e);
		else
			carry(&e->enrolment, s);
	}
	pthread_mutex_unlock(&q->lock);
}
