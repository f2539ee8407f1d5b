/* SPDX-License-Identifier: Apache-2.0 */
/* Does a rule fit the tables that it stores into? The sink says it, as it will when it runs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/pgconn.h"
#include "core/sink/sink.h"
#include "tools/rule/rule.h"

#define ROLE	     "fieldgate_ingest"
#define TIMEOUT_S    30
#define DOCUMENT_MAX (1024 * 1024)
#define GRANTS_MAX   1000 /* schema, table, sequences: for each action */
#define WHY_MAX	     1024

static bool stores(const struct rule *r)
{
	const struct rule_actions *all[] = {&r->actions, &r->error_actions};

	for (size_t k = 0; k < 2; k++)
		for (size_t i = 0; i < all[k]->count; i++)
			if (all[k]->items[i].kind == RULE_STORE)
				return true;
	return false;
}

/* The statement that the sink's reason ends with, if a right is what is missing. */
static const char *missing_grant(const char *why)
{
	static const char begin[] = "run: grant ";
	const char *p = strstr(why, begin);

	/* One that does not end as it should was cut. */
	if (!p || why[strlen(why) - 1] != ';')
		return NULL;
	return p + strlen("run: ");
}

static int exec(PGconn *c, const char *sql)
{
	char err[512];
	int rc = pgconn_exec(c, sql, NULL, -1, TIMEOUT_S, err, sizeof(err));

	return rc == 0 ? 0 : complain(EXIT_FAILED, "%s %s", sql, err);
}

static int check_once(PGconn *c, const struct rule *r, char *why, const char **grant)
{
	int rc = sink_check_rule(c, -1, TIMEOUT_S, ROLE, r, why, WHY_MAX);

	*grant = rc == -EINVAL ? missing_grant(why) : NULL;
	return rc;
}

static int check(PGconn *c, const struct rule *r)
{
	const char *grant;
	char why[WHY_MAX];

	if (check_once(c, r, why, &grant) == 0)
		return 0;
	return complain(EXIT_FAILED, "%s%s", why, grant ? " Or let --grant do it" : "");
}

/* Each reason names one right. Who may not give it is told so by an error, or, if the role has some
 * other right of the kind, by a warning only: then the same reason comes again. */
static int check_and_grant(PGconn *c, const struct rule *r, FILE *granted)
{
	char why[WHY_MAX], before[WHY_MAX] = "";
	const char *sql;

	for (unsigned i = 0; i < GRANTS_MAX; i++) {
		int rc = check_once(c, r, why, &sql);

		if (rc == 0)
			return 0;
		if (!sql)
			break;
		if (strcmp(why, before) == 0)
			return complain(EXIT_FAILED,
					"%s This role has run it, and it had no effect: whoever "
					"owns the object must",
					why);
		rc = exec(c, sql);
		if (rc != 0)
			return rc;
		fprintf(granted, "%s\n", sql);
		memcpy(before, why, sizeof(before));
	}
	return complain(EXIT_FAILED, "%s", why);
}

/* All rights are given, or, if the rule is refused in the end, none. */
static int grant_all(PGconn *c, const struct rule *r)
{
	char *text = NULL;
	size_t len;
	FILE *granted = open_memstream(&text, &len);
	int rc = granted ? exec(c, "begin") : complain(EXIT_FAILED, "out of memory");

	if (rc == 0)
		rc = check_and_grant(c, r, granted);
	if (rc == 0)
		rc = exec(c, "commit");
	if (granted)
		fclose(granted);
	if (rc == 0 && text)
		fputs(text, stdout);
	free(text);
	return rc;
}

static int connect_and_check(const struct rule *r, bool may_grant)
{
	const struct pgconn_options o = {
		.url = getenv("FIELDGATE_DATABASE_URL"),
		.application_name = "fieldgate rule",
		.connect_timeout_s = TIMEOUT_S,
		.statement_timeout_s = TIMEOUT_S,
	};
	char err[512];
	PGconn *c;
	int rc;

	if (!o.url || !*o.url)
		return complain(EXIT_USAGE, "which database? Set FIELDGATE_DATABASE_URL");
	rc = pgconn_open(&c, &o, -1, err, sizeof(err));
	if (rc != 0)
		return complain(EXIT_FAILED, "no connection to the database: %s", err);
	rc = may_grant ? grant_all(c, r) : check(c, r);
	PQfinish(c);
	return rc;
}

int check_main(int argc, char **argv)
{
	bool may_grant = argc == 2 && strcmp(argv[1], "--grant") == 0;
	const struct rule_set *set;
	const struct rule *r;
	size_t len;
	char *json;
	int rc;

	if (argc > 1 && !may_grant)
		return complain(EXIT_USAGE, "check takes no '%s'", argv[1]);
	json = read_all("-", DOCUMENT_MAX, &len);
	if (!json)
		return EXIT_FAILED;
	rc = read_rules(json, &set);
	free(json);
	if (rc != 0)
		return rc;
	if (rule_set_count(set) != 1) {
		rule_set_release(set);
		return complain(EXIT_FAILED, "expected one rule");
	}
	r = rule_set_at(set, 0);
	if (r->problem)
		rc = complain(EXIT_FAILED, "%s", r->problem);
	else if (stores(r))
		rc = connect_and_check(r, may_grant);
	rule_set_release(set);
	return rc;
}
