/* SPDX-License-Identifier: Apache-2.0 */
/*
 * begin; what the batch holds; journal_advance; commit; and a sync, at which the server answers.
 * After an error it skips everything up to the sync, so nothing can be committed without the
 * position.
 */
#include "core/store/flight.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OPS_FIRST 64

static int add_op(struct flight *f, struct flight_op op)
{
	if (f->op_count == f->ops_size) {
		size_t size = f->ops_size ? f->ops_size * 2 : OPS_FIRST;
		struct flight_op *ops = realloc(f->ops, size * sizeof(*ops));

		if (!ops)
			return -ENOMEM;
		f->ops = ops;
		f->ops_size = size;
	}
	f->ops[f->op_count++] = op;
	return 0;
}

static int deallocate(struct flight *f, struct flight_sender *s, unsigned number)
{
	char name[STATEMENT_NAME_MAX], sql[STATEMENT_NAME_MAX + 16];

	statement_name(number, name);
	snprintf(sql, sizeof(sql), "deallocate %s", name);
	if (!PQsendQueryParams(s->conn, sql, 0, NULL, NULL, NULL, NULL, 1))
		return -EIO;
	return add_op(f, (struct flight_op){.kind = STATEMENT_DEALLOCATE});
}

static int prepare(struct flight *f, struct flight_sender *s, struct statement *st)
{
	char name[STATEMENT_NAME_MAX];

	bytes_clear(&s->text);
	statement_text(st, s->statements.catalogue, &s->text);
	if (s->text.failed)
		return -ENOMEM;
	statement_name(st->number, name);
	if (!PQsendPrepare(s->conn, name, (const char *)s->text.data, 0, NULL))
		return -EIO;
	st->asked = true;
	return add_op(
		f, (struct flight_op){.kind = st->kind, .preparing = true, .number = st->number});
}

/* The statement for these columns, prepared. */
static int get(struct flight *f, struct flight_sender *s, enum statement_kind kind,
	       const uint64_t *columns, struct statement **out)
{
	unsigned dropped;
	struct statement *st = statements_get(&s->statements, kind, columns, &dropped);
	int rc = 0;

	if (!st)
		return -ENOMEM;
	if (dropped)
		rc = deallocate(f, s, dropped);
	if (rc == 0 && !st->asked)
		rc = prepare(f, s, st);
	*out = st;
	return rc;
}

static int execute(struct flight *f, struct flight_sender *s, const struct statement *st,
		   bool params)
{
	const struct params *p = &s->params;
	char name[STATEMENT_NAME_MAX];

	statement_name(st->number, name);
	if (!PQsendQueryPrepared(s->conn, name, params ? (int)p->count : 0, p->values, p->lengths,
				 p->formats, 1))
		return -EIO;
	return add_op(f, (struct flight_op){.kind = st->kind});
}

static int simple(struct flight *f, struct flight_sender *s, enum statement_kind kind)
{
	struct statement *st;
	int rc = get(f, s, kind, NULL, &st);

	return rc == 0 ? execute(f, s, st, false) : rc;
}

static int send_telemetry(struct flight *f, struct flight_sender *s, const struct batch *b)
{
	struct statement *st;
	int rc;

	telemetry_columns(b, s->columns, s->statements.words);
	rc = get(f, s, b->has_once ? STATEMENT_TELEMETRY_ONCE : STATEMENT_TELEMETRY, s->columns,
		 &st);
	if (rc == 0)
		rc = telemetry_params(&s->params, st, s->statements.catalogue, b);
	return rc == 0 ? execute(f, s, st, true) : rc;
}

/* Devices in the order of their names: two processes lock rows in the same order, and never each
 * other. */
static int compare_devices(const void *x, const void *y, void *arg)
{
	const struct batch *b = arg;
	struct span m = b->latest.devices[*(const uint32_t *)x].name;
	struct span n = b->latest.devices[*(const uint32_t *)y].name;
	int order = memcmp(b->heap.data + m.at, b->heap.data + n.at, m.len < n.len ? m.len : n.len);

	if (order != 0)
		return order;
	return m.len < n.len ? -1 : m.len > n.len;
}

/* Of each device that has one, the candidate of this round, oldest first. Returns whether one is
 * uncertain. */
static bool pick_round(const struct batch *b, struct flight_sender *s, uint32_t round, size_t *n)
{
	bool uncertain = false;

	*n = 0;
	for (size_t i = 0; i < b->latest.device_count; i++) {
		const struct latest_device *d = &b->latest.devices[s->order[i]];
		uint32_t c = d->newest;

		if (round >= d->count)
			continue;
		for (uint32_t newer = d->count - 1 - round; newer > 0; newer--)
			c = b->latest.candidates[c].older;
		uncertain |= b->latest.candidates[c].r.uncertain;
		s->picks[(*n)++] = c;
	}
	return uncertain;
}

static int send_round(struct flight *f, struct flight_sender *s, const struct batch *b,
		      uint32_t round)
{
	struct statement *st;
	size_t n;
	bool once = pick_round(b, s, round, &n);
	int rc;

	if (n == 0)
		return 0;
	latest_columns(b, s->picks, n, s->columns, s->statements.words);
	rc = get(f, s, once ? STATEMENT_LATEST_ONCE : STATEMENT_LATEST, s->columns, &st);
	if (rc == 0)
		rc = latest_params(&s->params, st, s->statements.catalogue, b, s->picks, n);
	return rc == 0 ? execute(f, s, st, true) : rc;
}

static int reserve_picks(struct flight_sender *s, size_t n)
{
	uint32_t *picks, *order;

	if (n <= s->picks_size)
		return 0;
	picks = realloc(s->picks, n * sizeof(*picks));
	if (!picks)
		return -ENOMEM;
	s->picks = picks;
	order = realloc(s->order, n * sizeof(*order));
	if (!order)
		return -ENOMEM;
	s->order = order;
	s->picks_size = n;
	return 0;
}

static int send_latest(struct flight *f, struct flight_sender *s, const struct batch *b)
{
	size_t n = b->latest.device_count;
	int rc = reserve_picks(s, n);

	if (rc != 0)
		return rc;
	for (size_t i = 0; i < n; i++)
		s->order[i] = (uint32_t)i;
	qsort_r(s->order, n, sizeof(*s->order), compare_devices, (void *)(uintptr_t)b);
	for (uint32_t round = 0; round < b->latest.most && rc == 0; round++)
		rc = send_round(f, s, b, round);
	return rc;
}

static int send_with(struct flight *f, struct flight_sender *s, enum statement_kind kind,
		     int (*fill)(struct params *, const struct batch *), const struct batch *b)
{
	struct statement *st;
	int rc = get(f, s, kind, NULL, &st);

	if (rc == 0)
		rc = fill(&s->params, b);
	return rc == 0 ? execute(f, s, st, true) : rc;
}

static int send_downlinks(struct flight *f, struct flight_sender *s, const struct batch *b,
			  const struct advance *a)
{
	struct statement *st;
	int rc = get(f, s, STATEMENT_DOWNLINK, NULL, &st);

	if (rc == 0)
		rc = downlink_params(&s->params, b, a);
	return rc == 0 ? execute(f, s, st, true) : rc;
}

static int send_rows(struct flight *f, struct flight_sender *s, const struct batch *b,
		     const struct advance *a)
{
	int rc = 0;

	if (b->row_count > 0) {
		rc = send_telemetry(f, s, b);
		if (rc == 0)
			rc = send_latest(f, s, b);
	}
	if (rc == 0 && b->dead_letter_count > 0)
		rc = send_with(f, s, STATEMENT_DEAD_LETTER, dead_letter_params, b);
	/* Before presence: for a device that connects over MQTT only after it, it has to wait. */
	if (rc == 0 && b->downlink_count > 0)
		rc = send_downlinks(f, s, b, a);
	if (rc == 0 && b->presence_count > 0) {
		rc = send_with(f, s, STATEMENT_PRESENCE_EVENT, presence_event_params, b);
		if (rc == 0)
			rc = send_with(f, s, STATEMENT_PRESENCE, presence_event_params, b);
	}
	if (rc == 0 && b->started.happened)
		rc = send_with(f, s, STATEMENT_STARTED, started_params, b);
	return rc;
}

static int send_advance(struct flight *f, struct flight_sender *s, const struct advance *a)
{
	struct statement *st;
	int rc = get(f, s, STATEMENT_ADVANCE, NULL, &st);

	if (rc == 0)
		rc = advance_params(&s->params, a);
	return rc == 0 ? execute(f, s, st, true) : rc;
}

static int reserve_columns(struct flight_sender *s)
{
	uint64_t *columns;

	if (s->statements.words <= s->columns_size)
		return 0;
	columns = realloc(s->columns, s->statements.words * sizeof(*columns));
	if (!columns)
		return -ENOMEM;
	s->columns = columns;
	s->columns_size = s->statements.words;
	return 0;
}

int flight_send(struct flight *f, struct flight_sender *s, const struct batch *b,
		const struct advance *a)
{
	int rc = reserve_columns(s);

	f->op_count = f->answered = 0;
	f->committed = f->failed = false;
	if (rc == 0)
		rc = simple(f, s, STATEMENT_BEGIN);
	if (rc == 0)
		rc = send_rows(f, s, b, a);
	if (rc == 0)
		rc = send_advance(f, s, a);
	if (rc == 0)
		rc = simple(f, s, STATEMENT_COMMIT);
	if (rc == 0 && !PQpipelineSync(s->conn))
		rc = -EIO;
	return rc;
}

static void note_failure(struct flight *f, struct flight_sender *s, const struct flight_op *op,
			 const PGresult *r)
{
	if (f->failed)
		return;
	f->failed = true;
	f->failed_kind = op ? op->kind : STATEMENT_COMMIT;
	f->failed_preparing = op && op->preparing;
	dberror_from_result(&f->error, s->conn, r);
}

static void take_answer(struct flight *f, struct flight_sender *s, const struct flight_op *op,
			const PGresult *r)
{
	uint64_t be;

	if (op->preparing) {
		statements_ready(&s->statements, op->number);
	} else if (op->kind == STATEMENT_COMMIT) {
		/* A transaction that failed answers COMMIT with ROLLBACK. */
		f->committed =
			!f->failed && strcmp(PQcmdStatus((PGresult *)(uintptr_t)r), "COMMIT") == 0;
	} else if (op->kind == STATEMENT_DOWNLINK && PQntuples(r) == 1 &&
		   PQgetlength(r, 0, 0) == sizeof(be)) {
		memcpy(&be, PQgetvalue(r, 0, 0), sizeof(be));
		f->load.refused_down = be64toh(be);
	}
}

bool flight_answer(struct flight *f, struct flight_sender *s, const PGresult *r)
{
	const struct flight_op *op = f->answered < f->op_count ? &f->ops[f->answered] : NULL;

	switch (PQresultStatus(r)) {
	case PGRES_PIPELINE_SYNC:
		return true;
	case PGRES_PIPELINE_ABORTED:
		break;
	case PGRES_COMMAND_OK:
	case PGRES_TUPLES_OK:
		if (op)
			take_answer(f, s, op, r);
		break;
	default:
		note_failure(f, s, op, r);
	}
	f->answered++;
	return false;
}

void flight_free(struct flight *f)
{
	free(f->ops);
	*f = (struct flight){0};
}

void flight_sender_free(struct flight_sender *s)
{
	statements_reset(&s->statements, NULL);
	params_free(&s->params);
	bytes_free(&s->text);
	free(s->picks);
	free(s->order);
	free(s->columns);
	*s = (struct flight_sender){0};
}
