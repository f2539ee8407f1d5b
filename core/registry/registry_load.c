/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Some queries in one repeatable-read transaction, row by row, so that a large fleet is in memory
 * once and not twice. A row that cannot be taken exactly as it stands is left out and reported.
 * With one exception that is safe, for what is missing is not allowed: a deny rule. A policy with a
 * deny rule that cannot be taken therefore loses its allow rules, which come behind the deny rules
 * for that reason.
 */
#include "core/registry/registry_load.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/hash.h"
#include "core/base/hex.h"
#include "core/base/pgconn.h"

#define BINARY 1

#define POSTGRES_EPOCH_S INT64_C(946684800) /* 2000-01-01T00:00:00Z */

struct loading {
	const struct registry_source *src;
	struct snapshot_builder *builder;
	struct bad_rows *bad;
	char *closed_policy; /* the policy at hand, when it has lost its allow rules */
	char *err;
	size_t err_len;
};

static void report(struct loading *l, const char *device, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void report(struct loading *l, const char *device, const char *fmt, ...)
{
	struct bad_row row = {.device = ""};
	va_list ap;

	if (principal_id_valid(device, strlen(device)))
		memcpy(row.device, device, strlen(device) + 1);
	va_start(ap, fmt);
	vsnprintf(row.why, sizeof(row.why), fmt, ap);
	va_end(ap);
	l->bad->digest += hash_siphash(hash_table_key(), row.why, strlen(row.why));
	if (l->bad->count < BAD_ROWS_KEPT)
		l->bad->rows[l->bad->count] = row;
	l->bad->count++;
}

/* A column of text; "" when it is null, which no check accepts. Ends with NUL in binary format too.
 */
static const char *text(const PGresult *r, int column)
{
	return PQgetvalue(r, 0, column);
}

/* A column of bigint; 0 when it is null. */
static int64_t number(const PGresult *r, int column)
{
	uint64_t big_endian = 0;

	if (PQgetlength(r, 0, column) == sizeof(big_endian))
		memcpy(&big_endian, PQgetvalue(r, 0, column), sizeof(big_endian));
	return (int64_t)be64toh(big_endian);
}

/*
 * A column of timestamptz as seconds since 1970; `none` when it is null. PostgreSQL counts
 * microseconds since 2000, and its infinities are the ends of the range.
 */
static int64_t date(const PGresult *r, int column, int64_t none)
{
	const int64_t us = number(r, column);

	if (PQgetisnull(r, 0, column))
		return none;
	if (us == INT64_MAX || us == INT64_MIN)
		return us;
	return us / US_PER_S - (us % US_PER_S < 0) + POSTGRES_EPOCH_S;
}

/* The same identity with another key must not be taken for the one that was proven. */
static uint32_t edition(int kind, const PGresult *r, int created_at)
{
	const uint64_t us = (uint64_t)number(r, created_at);
	const uint32_t both = (uint32_t)(us ^ us >> 32);

	if (kind != CREDENTIAL_PSK)
		return 0;
	return both ? both : 1;
}

/* Each of these takes one row: 0, or -ENOMEM; everything else is the row's own fault. */

static int take_policy(struct loading *l, const PGresult *r)
{
	char why[256];
	int rc = snapshot_add_policy(l->builder, text(r, 0), why, sizeof(why));

	if (rc == 0 || rc == -ENOMEM)
		return rc;
	report(l, "", "fieldgate.policy '%.80s': %s", text(r, 0), why);
	return 0;
}

static int close_policy(struct loading *l, const PGresult *r, const char *why)
{
	free(l->closed_policy);
	l->closed_policy = strdup(text(r, 0));
	if (!l->closed_policy)
		return -ENOMEM;
	report(l, "",
	       "fieldgate.policy_rule (%.80s, %.20s, %.20s, '%.100s'): %s; a rule that may deny "
	       "must "
	       "not get lost, so the policy %.80s denies everything until this row is mended",
	       text(r, 0), text(r, 1), text(r, 2), text(r, 3), why, text(r, 0));
	return 0;
}

static int take_right(struct loading *l, const PGresult *r)
{
	const char *policy = text(r, 0), *effect = text(r, 1), *filter = text(r, 3);
	int action = policy_action_parse(text(r, 2));
	bool allow = strcmp(effect, "allow") == 0, deny = strcmp(effect, "deny") == 0;
	char why[256];
	int rc = -EINVAL;

	if (l->closed_policy && strcmp(l->closed_policy, policy) == 0)
		return 0;
	if (!allow && !deny)
		snprintf(why, sizeof(why), "unknown effect");
	else if (action < 0)
		snprintf(why, sizeof(why), "unknown action");
	else
		rc = snapshot_add_policy_rule(l->builder, policy, deny, (enum policy_action)action,
					      filter, why, sizeof(why));
	if (rc == 0 || rc == -ENOMEM)
		return rc;
	if (!allow && rc != -EEXIST)
		return close_policy(l, r, why);
	report(l, "", "fieldgate.policy_rule (%.80s, %.20s, %.20s, '%.100s'): %s", policy, effect,
	       text(r, 2), filter, why);
	return 0;
}

static int take_principal(struct loading *l, const PGresult *r)
{
	const char *id = text(r, 0);
	int kind = principal_kind_parse(text(r, 1)), state = principal_state_parse(text(r, 2));
	char why[256];
	int rc = -EINVAL;

	if (kind < 0)
		snprintf(why, sizeof(why), "unknown kind '%.20s'", text(r, 1));
	else if (state < 0)
		snprintf(why, sizeof(why), "unknown state '%.20s'", text(r, 2));
	else
		rc = snapshot_add_principal(l->builder, id, (enum principal_kind)kind,
					    (enum principal_state)state, text(r, 3), why,
					    sizeof(why));
	if (rc == 0 || rc == -ENOMEM)
		return rc;
	report(l, id, "fieldgate.principal '%.80s': %s", id, why);
	return 0;
}

static int take_credential(struct loading *l, const PGresult *r)
{
	int kind = credential_kind_parse(text(r, 0));
	const uint8_t *fingerprint = (const uint8_t *)PQgetvalue(r, 0, 1);
	int fingerprint_len = PQgetlength(r, 0, 1);
	const char *principal = text(r, 2);
	const char *material = PQgetisnull(r, 0, 4) ? NULL : PQgetvalue(r, 0, 4);
	bool revoked = PQgetlength(r, 0, 3) != 1 || *PQgetvalue(r, 0, 3) != 0;
	char hex[9] = "", why[256];
	int rc = -EINVAL;

	hex_print(hex, fingerprint, fingerprint_len < 4 ? (size_t)fingerprint_len : 4);
	if (kind < 0)
		snprintf(why, sizeof(why), "unknown kind");
	else if (fingerprint_len != FINGERPRINT_LEN)
		snprintf(why, sizeof(why), "the fingerprint has %d bytes, not %d", fingerprint_len,
			 FINGERPRINT_LEN);
	else
		rc = snapshot_add_credential(l->builder, (enum credential_kind)kind, fingerprint,
					     principal, revoked, material,
					     (size_t)PQgetlength(r, 0, 4), why, sizeof(why));
	if (rc == 0)
		rc = snapshot_limit_credential(l->builder, (enum credential_kind)kind, fingerprint,
					       date(r, 5, INT64_MIN), date(r, 6, INT64_MAX), why,
					       sizeof(why));
	if (rc == 0)
		rc = snapshot_mark_credential(l->builder, (enum credential_kind)kind, fingerprint,
					      edition(kind, r, 7), why, sizeof(why));
	if (rc == 0 || rc == -ENOMEM)
		return rc;
	report(l, principal, "fieldgate.credential (%.20s, %s... of %.80s): %s", text(r, 0), hex,
	       principal, why);
	return 0;
}

static int take_authority(struct loading *l, const PGresult *r)
{
	int enrolment = enrolment_mode_parse(text(r, 3));
	char why[256];
	int rc = -EINVAL;

	if (enrolment < 0)
		snprintf(why, sizeof(why), "unknown enrolment '%.20s'", text(r, 3));
	else if (PQgetlength(r, 0, 1) != FINGERPRINT_LEN)
		snprintf(why, sizeof(why), "the fingerprint has %d bytes, not %d",
			 PQgetlength(r, 0, 1), FINGERPRINT_LEN);
	else
		rc = snapshot_add_authority(
			l->builder, text(r, 0), (const uint8_t *)PQgetvalue(r, 0, 1),
			PQgetvalue(r, 0, 2), (size_t)PQgetlength(r, 0, 2),
			(enum enrolment_mode)enrolment, text(r, 4), why, sizeof(why));
	if (rc == 0 || rc == -ENOMEM)
		return rc;
	report(l, "", "fieldgate.authority '%.80s': %s", text(r, 0), why);
	return 0;
}

static int take_revoked(struct loading *l, const PGresult *r)
{
	int kind = credential_kind_parse(text(r, 0));
	const bool has_issuer = PQgetlength(r, 0, 2) == FINGERPRINT_LEN;
	char why[256] = "the fingerprint is too short";
	int rc = -EINVAL;

	if (kind >= 0 && PQgetlength(r, 0, 1) == FINGERPRINT_LEN)
		rc = snapshot_add_revoked(l->builder, (enum credential_kind)kind,
					  (const uint8_t *)PQgetvalue(r, 0, 1),
					  has_issuer ? (const uint8_t *)PQgetvalue(r, 0, 2) : NULL,
					  PQgetisnull(r, 0, 3) ? NULL : text(r, 3), why,
					  sizeof(why));
	if (rc == 0 || rc == -ENOMEM)
		return rc;
	report(l, "", "fieldgate.revoked_certificate (%.20s): %s", text(r, 0), why);
	return 0;
}

static int take_rule(struct loading *l, const PGresult *r)
{
	const struct snapshot_rule rule = {
		.name = text(r, 0),
		.revision = number(r, 1),
		.sql = text(r, 2),
		.actions = text(r, 3),
		.error_action = PQgetisnull(r, 0, 4) ? NULL : text(r, 4),
	};
	char why[256];
	int rc = snapshot_add_rule(l->builder, &rule, why, sizeof(why));

	if (rc == 0 || rc == -ENOMEM)
		return rc;
	report(l, "", "fieldgate.rule '%.80s': %s", rule.name, why);
	return 0;
}

static const struct {
	const char *sql;
	int (*take)(struct loading *l, const PGresult *r);
} queries[] = {
	{"select name from fieldgate.policy", take_policy},
	{"select policy, effect::text, action::text, filter from fieldgate.policy_rule"
	 " order by policy, effect::text = 'allow'",
	 take_right},
	{"select id, kind::text, state::text, policy from fieldgate.principal", take_principal},
	{"select kind::text, fingerprint, principal, revoked_at is not null, material,"
	 " not_before, not_after, created_at"
	 " from fieldgate.credential",
	 take_credential},
	{"select name, revision, sql, actions::text, error_action::text from fieldgate.rule"
	 " where enabled",
	 take_rule},
	{"select name, fingerprint, certificate, enrolment::text, policy from fieldgate.authority"
	 " where retired_at is null",
	 take_authority},
	{"select kind::text, fingerprint, issuer, serial from fieldgate.revoked_certificate",
	 take_revoked},
};

static int64_t deadline_us(const struct registry_source *src)
{
	return clock_monotonic_us() + src->timeout_s * US_PER_S;
}

static int take_result(struct loading *l, const PGresult *r,
		       int (*take)(struct loading *l, const PGresult *r))
{
	int rc;

	switch (PQresultStatus(r)) {
	case PGRES_SINGLE_TUPLE:
		rc = take(l, r);
		if (rc != 0)
			snprintf(l->err, l->err_len, "out of memory");
		return rc;
	case PGRES_TUPLES_OK:
		return 0;
	default:
		pgconn_message(l->err, l->err_len, PQresultErrorMessage(r));
		return -EIO;
	}
}

/* The deadline begins anew with each row: a large fleet may take longer, a silent server may not.
 */
static int run_query(struct loading *l, const char *sql,
		     int (*take)(struct loading *l, const PGresult *r))
{
	PGconn *c = l->src->connection;
	PGresult *r;
	int rc;

	if (!PQsendQueryParams(c, sql, 0, NULL, NULL, NULL, NULL, BINARY) ||
	    !PQsetSingleRowMode(c)) {
		pgconn_message(l->err, l->err_len, PQerrorMessage(c));
		return -EIO;
	}
	for (;;) {
		rc = pgconn_result(c, &r, l->src->stop_fd, deadline_us(l->src), l->err, l->err_len);
		if (rc != 0 || !r)
			return rc;
		rc = take_result(l, r, take);
		PQclear(r);
		if (rc != 0)
			return rc;
	}
}

int registry_ask_version(const struct registry_source *src, int64_t *version, char *err,
			 size_t err_len)
{
	PGresult *r;
	int rc = pgconn_exec(src->connection, "select version from fieldgate.registry_version", &r,
			     src->stop_fd, src->timeout_s, err, err_len);

	if (rc != 0)
		return rc;
	if (PQresultStatus(r) != PGRES_TUPLES_OK || PQntuples(r) != 1) {
		snprintf(err, err_len,
			 "fieldgate.registry_version does not have its one row; put it back with: "
			 "insert into fieldgate.registry_version (version) values (1)");
		rc = -EBADMSG;
	} else {
		*version = strtoll(PQgetvalue(r, 0, 0), NULL, 10);
	}
	PQclear(r);
	return rc;
}

static int exec(struct loading *l, const char *sql)
{
	return pgconn_exec(l->src->connection, sql, NULL, l->src->stop_fd, l->src->timeout_s,
			   l->err, l->err_len);
}

static int run_all(struct loading *l, int64_t *version)
{
	int rc = exec(l, "begin isolation level repeatable read, read only");

	if (rc == 0)
		rc = registry_ask_version(l->src, version, l->err, l->err_len);
	for (size_t i = 0; i < sizeof(queries) / sizeof(*queries) && rc == 0; i++)
		rc = run_query(l, queries[i].sql, queries[i].take);
	if (rc == 0)
		rc = exec(l, "commit");
	return rc;
}

int registry_load(const struct registry_source *src, const struct snapshot **out,
		  struct bad_rows *bad, char *err, size_t err_len)
{
	struct loading l = {.src = src, .bad = bad, .err = err, .err_len = err_len};
	int64_t version;
	int rc;

	*out = NULL;
	bad->count = 0;
	bad->digest = 0;
	l.builder = snapshot_builder_new();
	if (!l.builder) {
		snprintf(err, err_len, "out of memory");
		return -ENOMEM;
	}
	rc = run_all(&l, &version);
	free(l.closed_policy);
	if (rc != 0) {
		snapshot_builder_free(l.builder);
		return rc;
	}
	*out = snapshot_build(l.builder, version);
	return *out ? 0 : -ENOMEM;
}
