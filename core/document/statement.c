/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An operation is a call of one function of sql/0007_documents.sql or sql/0011_downlink.sql,
 * prepared once a session, and each gives the same five columns, of messages two more. Results are
 * binary, so that a value arrives as it is.
 */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/pgconn.h"
#include "core/document/internal.h"
#include "core/payload/content_format.h"

#define PARAMS_MAX    8
#define EPOCH_2000_US (INT64_C(946684800) * US_PER_S)

/*
 * lock_timeout: somebody who has changed a row in a transaction and left it open keeps one device
 * waiting, and all the others behind it only for so long. synchronous_commit: what is answered is
 * on the server's disk, whatever that server's default.
 */
const char statement_session_sql[] =
	"set lock_timeout = '1s';"
	" select set_config('synchronous_commit', case when current_setting('synchronous_commit') ="
	" 'off' then 'on' else current_setting('synchronous_commit') end, false);"
	" prepare document_state_get as select * from fieldgate.state_get($1, $2);"
	" prepare document_state_change as select * from fieldgate.state_change($1, $2, $3, $4, $5,"
	" $6, $7, $8);"
	" prepare document_value_get as select * from fieldgate.value_get($1, $2);"
	" prepare document_value_put as select * from fieldgate.value_put($1, $2, $3, $4, $5, $6,"
	" $7, $8);"
	" prepare document_value_delete as select * from fieldgate.value_delete($1, $2, $3, $4);"
	" prepare document_downlink_next as select * from fieldgate.downlink_next($1, $2, $3, $4);"
	" prepare document_downlink_done as select * from fieldgate.downlink_done($1, $2, $3);"
	" listen fieldgate_document; listen " DOWNLINK_CHANNEL;

struct params {
	int count;
	const char *values[PARAMS_MAX];
	int lengths[PARAMS_MAX];
	int formats[PARAMS_MAX];
	char numbers[PARAMS_MAX][24];
};

static void add_text(struct params *p, const char *text)
{
	p->values[p->count++] = text;
}

static void add_bool(struct params *p, bool value)
{
	add_text(p, value ? "t" : "f");
}

/* Below 0: null. */
static void add_number(struct params *p, int64_t n)
{
	char *text = p->numbers[p->count];

	snprintf(text, sizeof(p->numbers[0]), "%" PRId64, n);
	add_text(p, n < 0 ? NULL : text);
}

/* As they are: no text of JSON holds a NUL, so the server can refuse one that does. */
static void add_bytes(struct params *p, const void *data, size_t len)
{
	p->formats[p->count] = 1;
	p->lengths[p->count] = (int)len;
	p->values[p->count++] = data;
}

static void add_conditions(struct params *p, const struct document_request *r)
{
	add_text(p, r->if_absent ? "f" : r->if_exists ? "t" : NULL);
	add_number(p, r->if_version);
}

static const char *state_part(const struct document_request *r)
{
	switch (r->operation) {
	case DOCUMENT_STATE_DELTA:
		return "delta";
	case DOCUMENT_STATE_DESIRED:
		return "desired";
	default:
		return "all";
	}
}

static const char *add_state_change(struct params *p, const struct document_request *r,
				    const struct document_options *o)
{
	add_bool(p, r->operation == DOCUMENT_STATE_PATCH_DESIRED ||
			    r->operation == DOCUMENT_STATE_PUT_DESIRED);
	add_bool(p, r->operation == DOCUMENT_STATE_PATCH_DESIRED ||
			    r->operation == DOCUMENT_STATE_PATCH_REPORTED);
	add_bytes(p, r->payload, r->payload_len);
	add_conditions(p, r);
	add_number(p, (int64_t)o->max_bytes);
	add_number(p, DOCUMENT_DEPTH_MAX);
	return "document_state_change";
}

static const char *add_value_put(struct params *p, const struct document_request *r,
				 const struct document_options *o)
{
	add_text(p, r->name);
	add_number(p, r->format);
	add_bytes(p, r->payload, r->payload_len);
	add_conditions(p, r);
	add_number(p, (int64_t)o->max_bytes);
	add_number(p, (int64_t)o->max_values);
	return "document_value_put";
}

/* The name of the prepared statement. */
static const char *fill(struct params *p, const struct document_request *r,
			const struct document_options *o)
{
	add_text(p, r->device);
	switch (r->operation) {
	case DOCUMENT_STATE_GET:
	case DOCUMENT_STATE_DESIRED:
	case DOCUMENT_STATE_DELTA:
		add_text(p, state_part(r));
		return "document_state_get";
	case DOCUMENT_STATE_PATCH_REPORTED:
	case DOCUMENT_STATE_PATCH_DESIRED:
	case DOCUMENT_STATE_PUT_REPORTED:
	case DOCUMENT_STATE_PUT_DESIRED:
		return add_state_change(p, r, o);
	case DOCUMENT_VALUE_GET:
		add_text(p, r->name);
		return "document_value_get";
	case DOCUMENT_VALUE_PUT:
		return add_value_put(p, r, o);
	case DOCUMENT_VALUE_DELETE:
		add_text(p, r->name);
		add_conditions(p, r);
		return "document_value_delete";
	case DOCUMENT_DOWNLINK_NEXT:
		add_text(p, r->name);
		break;
	case DOCUMENT_DOWNLINK_DONE:
		break;
	}
	add_number(p, r->if_version);
	add_text(p, r->over);
	return r->operation == DOCUMENT_DOWNLINK_NEXT ? "document_downlink_next"
						      : "document_downlink_done";
}

int statement_send(PGconn *c, const struct entry *e, const struct document_options *o)
{
	struct params p = {0};
	const char *name = fill(&p, &e->request, o);

	if (!PQsendQueryPrepared(c, name, p.count, p.values, p.lengths, p.formats, 1))
		return -EIO;
	return PQpipelineSync(c) ? 0 : -EIO;
}

/* --- Results --- */

void statement_unavailable(struct entry *e, const char *why)
{
	free(e->content);
	e->content = NULL;
	snprintf(e->why, sizeof(e->why), "%s", why);
	e->answer = (struct document_answer){
		.cookie = e->request.cookie,
		.request = &e->request,
		.outcome = DOCUMENT_UNAVAILABLE,
		.why = e->why,
		.format = -1,
	};
}

/* As in the type document_outcome. */
static bool parse_outcome(const char *word, size_t len, enum document_outcome *out)
{
	static const struct {
		const char *word;
		enum document_outcome outcome;
	} outcomes[] = {
		{"ok", DOCUMENT_OK},
		{"created", DOCUMENT_CREATED},
		{"not_found", DOCUMENT_NOT_FOUND},
		{"bad", DOCUMENT_BAD},
		{"precondition", DOCUMENT_PRECONDITION},
		{"too_large", DOCUMENT_TOO_LARGE},
	};

	for (size_t i = 0; i < sizeof(outcomes) / sizeof(*outcomes); i++) {
		if (strlen(outcomes[i].word) == len && memcmp(outcomes[i].word, word, len) == 0) {
			*out = outcomes[i].outcome;
			return true;
		}
	}
	return false;
}

static int64_t binary_int8(const PGresult *r, int field)
{
	uint64_t be = 0;

	if (PQgetlength(r, 0, field) == sizeof(be))
		memcpy(&be, PQgetvalue(r, 0, field), sizeof(be));
	return (int64_t)be64toh(be);
}

/* Microseconds since 1970, as PostgreSQL's are since 2000. Its infinity is the largest number. */
static int64_t binary_time(const PGresult *r, int field)
{
	int64_t t = binary_int8(r, field);

	return t > INT64_MAX - EPOCH_2000_US ? INT64_MAX : t + EPOCH_2000_US;
}

/* -1: null. */
static int binary_int4(const PGresult *r, int field)
{
	uint32_t be;

	if (PQgetlength(r, 0, field) != sizeof(be))
		return -1;
	memcpy(&be, PQgetvalue(r, 0, field), sizeof(be));
	return (int)be32toh(be);
}

/* PostgreSQL prints JSON with spaces between its tokens, which would be sent over the air. */
static size_t remove_spaces(char *json, size_t len)
{
	bool inside = false;
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (!inside && json[i] == ' ')
			continue;
		if (inside && json[i] == '\\') {
			json[n++] = json[i++];
			if (i == len)
				break;
		} else if (json[i] == '"') {
			inside = !inside;
		}
		json[n++] = json[i];
	}
	return n;
}

static bool of_message(const struct entry *e)
{
	return e->request.operation >= DOCUMENT_DOWNLINK_NEXT;
}

static int take_content(struct entry *e, const PGresult *r, int field)
{
	size_t len = (size_t)PQgetlength(r, 0, field);

	e->content = malloc(len + 1 + (of_message(e) ? (size_t)PQgetlength(r, 0, 5) + 1 : 0));
	if (!e->content)
		return -ENOMEM;
	memcpy(e->content, PQgetvalue(r, 0, field), len);
	e->content[len] = '\0';
	if (e->request.operation < DOCUMENT_VALUE_GET)
		len = remove_spaces(e->content, len);
	e->answer.payload = e->content;
	e->answer.payload_len = len;
	return 0;
}

static int take_message(struct entry *e, const PGresult *r)
{
	struct document_answer *a = &e->answer;

	a->waiting = binary_int8(r, 6);
	a->created_at_us = binary_time(r, 7);
	a->expires_at_us = binary_time(r, 8);
	if (!PQgetisnull(r, 0, 5)) {
		/* Behind the content, which has a NUL at its end. */
		a->name = (const char *)a->payload + a->payload_len + 1;
		memcpy(e->content + a->payload_len + 1, PQgetvalue(r, 0, 5),
		       (size_t)PQgetlength(r, 0, 5) + 1);
	}
	if (a->outcome == DOCUMENT_OK && a->format < 0)
		a->format = payload_content_format(a->payload, a->payload_len);
	return 0;
}

static int take_row(struct entry *e, const PGresult *r)
{
	int why_len, rc;

	if (PQntuples(r) != 1 || PQnfields(r) != (of_message(e) ? 9 : 5))
		return -EBADMSG;
	if (!parse_outcome(PQgetvalue(r, 0, 0), (size_t)PQgetlength(r, 0, 0), &e->answer.outcome))
		return -EBADMSG;
	why_len = PQgetlength(r, 0, 1);
	snprintf(e->why, sizeof(e->why), "%.*s", why_len, PQgetvalue(r, 0, 1));
	e->answer.version = binary_int8(r, 2);
	e->answer.format = binary_int4(r, 3);
	rc = take_content(e, r, 4);
	return rc == 0 && of_message(e) ? take_message(e, r) : rc;
}

static const char *field(const PGresult *r, int code)
{
	const char *text = PQresultErrorField(r, code);

	return text ? text : "";
}

/* Is it the request's own fault? */
static bool blame(const char *sqlstate, enum document_outcome *outcome)
{
	*outcome = DOCUMENT_BAD;
	if (strncmp(sqlstate, "22", 2) == 0 || strncmp(sqlstate, "54", 2) == 0)
		return true; /* a data exception: no JSON; a program limit: nested without end */
	if (strcmp(sqlstate, "23514") == 0)
		return true; /* a check: the name of a value */
	*outcome = DOCUMENT_NOT_FOUND;
	return strcmp(sqlstate, "23503") == 0; /* a foreign key: the device is gone */
}

/* The prepared statements are gone: a pooler gave this session another server. */
static bool has_forgotten(const char *sqlstate)
{
	return strcmp(sqlstate, "26000") == 0;
}

static int take_error(PGconn *c, struct entry *e, const PGresult *r)
{
	const char *sqlstate = field(r, PG_DIAG_SQLSTATE);
	const char *detail = field(r, PG_DIAG_MESSAGE_DETAIL);
	const char *context = field(r, PG_DIAG_CONTEXT);
	enum document_outcome outcome;
	char why[DOCUMENT_WHY_MAX];

	/* The context of an error in JSON ends with where: "JSON data, line 1: {"a":1,..." */
	snprintf(why, sizeof(why), "%s%s%s%s%.*s", field(r, PG_DIAG_MESSAGE_PRIMARY),
		 *detail ? ": " : "", detail, strncmp(context, "JSON", 4) == 0 ? " " : "",
		 strncmp(context, "JSON", 4) == 0 ? (int)strcspn(context, "\n") : 0, context);
	statement_unavailable(e, "");
	if (blame(sqlstate, &outcome))
		e->answer.outcome = outcome;
	pgconn_message(e->why, sizeof(e->why), why);
	if (PQstatus(c) != CONNECTION_OK || !*sqlstate || has_forgotten(sqlstate))
		return -EIO;
	return 0;
}

int statement_result(PGconn *c, struct entry *e, const PGresult *r)
{
	int rc;

	if (PQresultStatus(r) != PGRES_TUPLES_OK)
		return take_error(c, e, r);
	rc = take_row(e, r);
	if (rc == -ENOMEM)
		statement_unavailable(e, "out of memory");
	else if (rc != 0)
		statement_unavailable(e, "the database's functions are not those of this release");
	return 0;
}
