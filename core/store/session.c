/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection outside of batches. The position is read each time that the fate of a batch is
 * unknown: the database alone knows where this journal stands. What it says is believed when this
 * writer can have brought it there, or when it lies behind (a standby that took over, a backup: the
 * rows are stored again under the same keys). One that is ahead among the records of earlier runs
 * is of the process before this one, which was killed while the server still had its last batch:
 * those records are stored. Any other position that is ahead for no reason of ours means that
 * somebody else writes under this journal's name, and messages would be skipped: then nothing is
 * written at all.
 */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/pgconn.h"
#include "core/store/writer.h"

#define CATALOGUE_DUE_US     (2 * US_PER_S) /* with OVERDUE: a new column is in use within 5 s */
#define CATALOGUE_OVERDUE_US (4 * US_PER_S)
#define MAINTAIN_INTERVAL_US (60 * US_PER_S)
#define REPORT_INTERVAL_US   (5 * US_PER_S)

/*
 * Custom plans would be made anew for each batch: the arrays tell the planner nothing. And what is
 * committed leaves the journal: so it must be on the server's disk, whatever that server's default.
 */
static const char session_sql[] =
	"select set_config('plan_cache_mode', 'force_generic_plan', false),"
	" set_config('jit', 'off', false),"
	" set_config('synchronous_commit', case when current_setting('synchronous_commit') = 'off'"
	" then 'on' else current_setting('synchronous_commit') end, false)";

static int64_t timeout_us(const struct writer *w)
{
	return (w->o.statement_timeout_s + 2) * US_PER_S; /* the server's own comes first */
}

static int query(struct writer *w, const struct database_query *q, PGresult **out,
		 struct dberror *e)
{
	return database_query(w->sender.conn, q, w->stop_fd, timeout_us(w), out, e);
}

static int out_of_memory(struct dberror *e)
{
	dberror_system(e, "out of memory");
	return -EIO;
}

int session_enter_pipeline(struct writer *w, struct dberror *e)
{
	if (!w->in_pipeline && !PQenterPipelineMode(w->sender.conn)) {
		dberror_lost(e, w->sender.conn, NULL);
		return -EIO;
	}
	w->in_pipeline = true;
	return 0;
}

int session_leave_pipeline(struct writer *w, struct dberror *e)
{
	PGresult *r;

	if (!w->in_pipeline)
		return 0;
	/* The end of the last sync has to be taken before libpq lets go. */
	while (!PQisBusy(w->sender.conn) && (r = PQgetResult(w->sender.conn)))
		PQclear(r);
	if (!PQexitPipelineMode(w->sender.conn)) {
		dberror_lost(e, w->sender.conn, NULL);
		return -EIO;
	}
	w->in_pipeline = false;
	return 0;
}

/* ---- the position ---- */

static int64_t binary_int8(const PGresult *r, int field)
{
	uint64_t be = 0;

	if (PQgetlength(r, 0, field) == sizeof(be))
		memcpy(&be, PQgetvalue(r, 0, field), sizeof(be));
	return (int64_t)be64toh(be);
}

static bool sent_by_us(const struct writer *w, struct journal_position p)
{
	for (size_t i = 0; i < SENT_MAX; i++)
		if (w->sent[i].records > 0 && journal_position_compare(w->sent[i].to, p) == 0)
			return true;
	return false;
}

static int accept_position(struct writer *w, struct journal_position p, struct dberror *e)
{
	char message[DBERROR_MESSAGE_MAX];
	int order = w->position_known ? journal_position_compare(p, w->committed) : 0;

	if (order > 0 && !sent_by_us(w, p) && !journal_of_former_run(w->journal, p)) {
		snprintf(message, sizeof(message),
			 "somebody else moved this journal to %" PRIu64 "/%" PRIu64
			 ": two processes run on copies of one state.dir? Stop one, give it an "
			 "empty "
			 "state.dir, and restart; until then messages stay in the journal",
			 p.segment, p.offset);
		dberror_system(e, message);
		return -EIO;
	}
	if (order < 0)
		log_warn("store_position", NULL,
			 "the database went back from %" PRIu64 "/%" PRIu64 " to %" PRIu64
			 "/%" PRIu64
			 " (restored, or a standby took over?); messages since then that the "
			 "journal still holds are stored again",
			 w->committed.segment, w->committed.offset, p.segment, p.offset);
	if (order < 0)
		failure_forget(w);
	writer_arrived(w, p);
	for (size_t i = 0; i < SENT_MAX; i++)
		w->sent[i].given_up = true;
	w->position_known = true;
	return 0;
}

/*
 * The database's position cannot be this journal's (see journal_reached). Were it believed,
 * messages that nobody has stored would be released. The database is told, not only this writer: it
 * may be another run that stores them.
 */
static int put_position_back(struct writer *w, struct journal_position *p, struct dberror *e)
{
	uint64_t segment = htobe64(p->segment), offset = htobe64(p->offset);
	struct database_query q = {
		.sql = "select fieldgate.journal_advance($1::uuid, $2::int8, $3::int8, 0, 0, 0, 0,"
		       " 0, 0, '0')",
		.count = 3,
		.values = {(const char *)journal_id(w->journal), (const char *)&segment,
			   (const char *)&offset},
		.lengths = {16, sizeof(segment), sizeof(offset)},
	};

	log_error("store_position", NULL,
		  "the database has taken this journal up to %" PRIu64 "/%" PRIu64
		  ", where it has not come since it was opened: was state.dir brought back from an "
		  "old copy? All that it holds is stored again, under the same keys",
		  p->segment, p->offset);
	*p = (struct journal_position){0, 0};
	return query(w, &q, NULL, e);
}

int session_read_position(struct writer *w, struct dberror *e)
{
	struct database_query q = {
		.sql = "select segment, \"offset\", clock_timestamp() from fieldgate.ingest"
		       " where journal = $1::uuid",
		.count = 1,
		.values = {(const char *)journal_id(w->journal)},
		.lengths = {16},
		.binary_result = true,
	};
	struct journal_position p;
	PGresult *r;
	int rc = query(w, &q, &r, e);

	if (rc != 0)
		return rc;
	if (PQntuples(r) != 1) {
		dberror_system(e, "the journal's row in fieldgate.ingest is gone");
		e->lost = true; /* connecting makes it again */
		PQclear(r);
		return -EIO;
	}
	p = (struct journal_position){(uint64_t)binary_int8(r, 0), (uint64_t)binary_int8(r, 1)};
	w->rows.server_ahead_us = pg_timestamp_to_unix(binary_int8(r, 2)) - clock_realtime_us();
	PQclear(r);
	if (!w->position_known && !journal_reached(w->reader, p))
		rc = put_position_back(w, &p, e);
	if (rc == 0)
		rc = accept_position(w, p, e);
	writer_rewind(w);
	return rc;
}

static int make_ingest_row(struct writer *w, struct dberror *e)
{
	struct database_query q = {
		.sql = "insert into fieldgate.ingest (journal, source, segment, \"offset\")"
		       " values ($1::uuid, $2::text, 0, 0) on conflict do nothing",
		.count = 2,
		.values = {(const char *)journal_id(w->journal), w->o.source},
		.lengths = {16, (int)strlen(w->o.source)},
	};

	return query(w, &q, NULL, e);
}

/* ---- the catalogue ---- */

static int use_catalogue(struct writer *w, struct catalogue *fresh, struct dberror *e)
{
	const char *before = w->catalogue.unsupported ? w->catalogue.unsupported : "";

	if (fresh->unsupported && strcmp(fresh->unsupported, before) != 0)
		log_warn("store_columns", NULL,
			 "nothing can be written to these columns of fieldgate.telemetry, their "
			 "readings go to extra: %s",
			 fresh->unsupported);
	if (batch_init(&w->batch, fresh->count) != 0) {
		catalogue_free(fresh);
		return out_of_memory(e);
	}
	catalogue_free(&w->catalogue);
	w->catalogue = *fresh;
	row_forget_guesses(&w->rows);
	statements_reset(&w->sender.statements, &w->catalogue);
	return 0;
}

/* Statements of an old catalogue would pile up on the server. */
static int deallocate_all(struct writer *w, struct dberror *e)
{
	const struct database_query q = {.sql = "deallocate all"};

	return query(w, &q, NULL, e);
}

int session_forget_statements(struct writer *w, struct dberror *e)
{
	int rc = deallocate_all(w, e);

	if (rc == 0)
		statements_reset(&w->sender.statements, &w->catalogue);
	return rc;
}

int session_reload_catalogue(struct writer *w, struct dberror *e)
{
	const struct database_query q = {.sql = catalogue_sql};
	struct catalogue fresh;
	PGresult *r;
	int rc = query(w, &q, &r, e);

	if (rc != 0)
		return rc;
	rc = catalogue_parse(&fresh, r);
	PQclear(r);
	if (rc == -ENOENT) {
		dberror_system(e, "there is no table fieldgate.telemetry; apply the migrations");
		return -EIO;
	}
	if (rc != 0)
		return out_of_memory(e);
	w->catalogue_at_us = clock_monotonic_us();
	if (w->catalogue.columns && catalogue_same(&fresh, &w->catalogue)) {
		catalogue_free(&fresh);
		return 0;
	}
	rc = deallocate_all(w, e);
	if (rc != 0) {
		catalogue_free(&fresh);
		return rc;
	}
	return use_catalogue(w, &fresh, e);
}

int session_reload_partitions(struct writer *w, bool *changed, struct dberror *e)
{
	const struct database_query q = {.sql = partitions_sql, .binary_result = true};
	struct partitions fresh;
	PGresult *r;
	int rc = query(w, &q, &r, e);

	if (rc != 0)
		return rc;
	rc = partitions_parse(&fresh, r);
	PQclear(r);
	if (rc != 0)
		return out_of_memory(e);
	if (changed)
		*changed = !partitions_same(&fresh, &w->partitions);
	partitions_free(&w->partitions);
	w->partitions = fresh;
	return 0;
}

static int too_old(struct writer *w, int64_t us, const char *reason)
{
	char *copy = strdup(reason);

	if (!copy)
		return -ENOMEM;
	free(w->too_old_reason);
	w->too_old_reason = copy;
	w->rows.too_old_reason = copy;
	w->rows.too_old_us = us + 1;
	return 0;
}

static void forget_too_old(struct writer *w)
{
	free(w->too_old_reason);
	w->too_old_reason = NULL;
	w->rows.too_old_reason = NULL;
}

static int partition_refused(struct writer *w, struct dberror *e)
{
	bool is_dead_letter = w->rows.needed_table == PARTITIONED_DEAD_LETTER;
	const struct row_refusal *before = failure_find(w, w->held.next);
	int rc;

	if (e->class != SQLSTATE_ROW || (is_dead_letter && before && before->now)) {
		e->class = SQLSTATE_SYSTEM;
		return -EIO;
	}
	rc = failure_refuse(w, w->held.next, is_dead_letter ? NULL : e->message, is_dead_letter);
	if (rc == 0 && w->rows.needed_table == PARTITIONED_TELEMETRY &&
	    w->rows.needed_us < clock_realtime_us() + w->rows.server_ahead_us)
		rc = too_old(w, w->rows.needed_us, e->message);
	return rc == 0 ? 0 : out_of_memory(e);
}

int session_make_partition(struct writer *w, struct dberror *e)
{
	const char *table = partitioned_table_names[w->rows.needed_table];
	uint64_t us = htobe64((uint64_t)pg_timestamp_from_unix(w->rows.needed_us));
	struct database_query q = {
		.sql = "select fieldgate.ensure_partitions_for($1::text, $2::timestamptz,"
		       " $2::timestamptz)",
		.count = 2,
		.values = {table, (const char *)&us},
		.lengths = {(int)strlen(table), sizeof(us)},
	};
	int rc = session_leave_pipeline(w, e);

	if (rc == 0)
		rc = query(w, &q, NULL, e);
	if (rc == -EIO && !e->lost)
		rc = partition_refused(w, e);
	else if (rc == 0)
		rc = session_reload_partitions(w, NULL, e);
	if (rc == 0 && !failure_find(w, w->held.next) &&
	    !partitions_cover(&w->partitions, w->rows.needed_table, w->rows.needed_us)) {
		dberror_system(e, "a partition was made, and is not there");
		rc = -EIO;
	}
	if (rc == 0)
		rc = session_enter_pipeline(w, e);
	if (rc == 0)
		w->held.needs_partition = false;
	return rc;
}

/* ---- reporting ---- */

/*
 * What journal_advance tells with each batch, when there is none to tell it with: nothing has come
 * for long, or nothing can be stored. No flight is under way, and what was read last is held.
 */
static int report(struct writer *w, struct dberror *e)
{
	struct journal_stats js;
	unsigned char interval[16] = {0};
	uint64_t bytes, lag = 0;
	struct database_query q = {
		.sql = "update fieldgate.ingest set backlog_bytes = $2::int8, lag = $3::interval,"
		       " updated_at = clock_timestamp() where journal = $1::uuid",
		.count = 3,
		.values = {(const char *)journal_id(w->journal), (const char *)&bytes,
			   (const char *)interval},
		.lengths = {16, sizeof(bytes), sizeof(interval)},
	};

	journal_stats(w->journal, &js);
	if (w->held.there && clock_realtime_us() > w->held.r.received_at_us)
		lag = (uint64_t)(clock_realtime_us() - w->held.r.received_at_us);
	bytes = htobe64(w->held.there ? js.backlog_bytes : 0);
	lag = htobe64(lag);
	memcpy(interval, &lag, sizeof(lag));
	w->reported_at_us = clock_monotonic_us();
	return query(w, &q, NULL, e);
}

int session_report_trouble(struct writer *w, struct dberror *e)
{
	if (clock_monotonic_us() - w->reported_at_us < REPORT_INTERVAL_US)
		return 0;
	return report(w, e);
}

/* ---- chores ---- */

static void log_maintenance(const PGresult *r)
{
	for (int i = 0; i < PQntuples(r); i++)
		log_info("store_maintain", NULL, "%s", PQgetvalue(r, i, 0));
}

/* Its failure is no reason to stop storing: the partitions ahead last for a while. */
static int maintain(struct writer *w, struct dberror *e)
{
	const struct database_query q = {.sql = "select fieldgate.maintain()"};
	PGresult *r;
	int rc;

	w->maintain_at_us = clock_monotonic_us();
	w->maintained = true;
	rc = query(w, &q, &r, e);
	if (rc == 0) {
		log_maintenance(r);
		PQclear(r);
	} else if (rc == -EIO && !e->lost) {
		log_warn("store_maintain", NULL, "select fieldgate.maintain() failed: %s",
			 e->message);
		rc = 0;
	}
	forget_too_old(w);
	return rc == 0 ? session_reload_partitions(w, NULL, e) : rc;
}

static bool maintenance_due(const struct writer *w, int64_t now_us)
{
	return !w->maintained || now_us - w->maintain_at_us >= MAINTAIN_INTERVAL_US;
}

bool session_chores_due(const struct writer *w, int64_t now_us)
{
	return now_us - w->catalogue_at_us >= CATALOGUE_DUE_US || maintenance_due(w, now_us);
}

bool session_chores_overdue(const struct writer *w, int64_t now_us)
{
	return now_us - w->catalogue_at_us >= CATALOGUE_OVERDUE_US || maintenance_due(w, now_us);
}

int session_chores(struct writer *w, struct dberror *e)
{
	int rc = session_leave_pipeline(w, e);

	if (rc == 0 && maintenance_due(w, clock_monotonic_us())) {
		rc = report(w, e);
		if (rc == 0)
			rc = maintain(w, e);
	}
	if (rc == 0)
		rc = session_reload_catalogue(w, e);
	return rc == 0 ? session_enter_pipeline(w, e) : rc;
}

/* ---- beginning and end ---- */

static int begin_session(struct writer *w, struct dberror *e)
{
	const struct database_query settings = {.sql = session_sql};
	int rc = query(w, &settings, NULL, e);

	if (rc == 0)
		rc = make_ingest_row(w, e);
	if (rc == 0)
		rc = session_read_position(w, e);
	if (rc == 0)
		rc = report(w, e);
	if (rc == 0 && maintenance_due(w, clock_monotonic_us()))
		rc = maintain(w, e);
	else if (rc == 0)
		rc = session_reload_partitions(w, NULL, e);
	if (rc == 0)
		rc = session_reload_catalogue(w, e);
	return rc == 0 ? session_enter_pipeline(w, e) : rc;
}

static void ignore_notices(void *arg, const PGresult *r)
{
	(void)arg;
	(void)r;
}

int session_open(struct writer *w, struct dberror *e)
{
	char name[64], err[DBERROR_MESSAGE_MAX];
	const struct pgconn_options o = {
		.url = w->o.database_url,
		.application_name = name,
		.connect_timeout_s = w->o.connect_timeout_s,
		.statement_timeout_s = w->o.statement_timeout_s,
	};
	int rc;

	snprintf(name, sizeof(name), "fieldgate-%.32s-store", w->o.source);
	rc = pgconn_open(&w->sender.conn, &o, w->stop_fd, err, sizeof(err));
	if (rc == -ECANCELED)
		return rc;
	if (rc != 0) {
		dberror_lost(e, NULL, err);
		return -EIO;
	}
	PQsetNoticeReceiver(w->sender.conn, ignore_notices, NULL);
	w->in_pipeline = false;
	statements_reset(&w->sender.statements, w->catalogue.columns ? &w->catalogue : NULL);
	rc = begin_session(w, e);
	if (rc != 0)
		session_close(w);
	return rc;
}

void session_close(struct writer *w)
{
	PQfinish(w->sender.conn);
	w->sender.conn = NULL;
	w->in_pipeline = false;
	w->flight_count = 0;
}
