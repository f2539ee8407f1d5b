/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that runs out at each allocation in turn, while a set is made and while it is run. A set
 * is made whole or not at all: a rule must not be refused for good because memory was short for a
 * moment. MODE=asan sees what is lost. Jansson's own allocations are left out: it takes some of
 * their failures for errors of syntax.
 *
 * LINK: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=reallocarray
 * LINK: -Wl,--wrap=strdup,--wrap=strndup
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/log.h"
#include "core/rule/set.h"

#define ENOUGH 100000

static long refuse_after = -1; /* allocations from now; -1: never */
static unsigned refusals;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_reallocarray(void *p, size_t count, size_t size);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t len);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t count, size_t size);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t len);

static bool refused(void)
{
	if (refuse_after < 0 || refuse_after-- > 0)
		return false;
	refusals++;
	return true;
}

void *__wrap_malloc(size_t size)
{
	return refused() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return refused() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return refused() ? NULL : __real_realloc(p, size);
}

void *__wrap_reallocarray(void *p, size_t count, size_t size)
{
	return refused() ? NULL : __real_reallocarray(p, count, size);
}

char *__wrap_strdup(const char *s)
{
	return refused() ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t len)
{
	return refused() ? NULL : __real_strndup(s, len);
}

static void no_log(enum log_level level, const char *line, void *arg)
{
	(void)level;
	(void)line;
	(void)arg;
}

static const struct snapshot *rows(void)
{
	static const struct snapshot_rule all[] = {
		{"a", 1,
		 "SELECT t + 1 AS t, concat(t, 'x') AS s FROM 'm/d/+/d2c' WHERE t IN (1, 2)",
		 "[{\"republish\": {\"topic\": \"x/${t}\"}}, {\"store\": {\"table\": \"p.t\","
		 " \"columns\": {\"c\": \"t\", \"d\": \"s\"}}}, {\"drop\": {}}]",
		 "{\"republish\": {\"topic\": \"errors\"}}"},
		{"b", 1, "SELECT * FROM 'x/#'", "[{\"store\": {\"table\": \"t\"}}]", NULL},
		{"bad", 1, "SELECT * FRM 'x/#'", "[]", NULL},
		{"worse", 1, "SELECT * FROM 'x/#'", "[{\"lambda\": {}}]", NULL},
	};
	struct snapshot_builder *b = snapshot_builder_new();
	char err[256];

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		assert_int_equal(snapshot_add_rule(b, &all[i], err, sizeof(err)), 0);
	return snapshot_build(b, 1);
}

static void check_problems(const struct rule_set *s)
{
	assert_int_equal(rule_set_count(s), 4);
	for (size_t i = 0; i < 2; i++)
		if (rule_set_at(s, i)->problem)
			fail_msg("%s", rule_set_at(s, i)->problem);
	assert_memory_equal(rule_set_at(s, 2)->problem, "rule 'bad': line 1, column 10: ", 31);
	assert_memory_equal(rule_set_at(s, 3)->problem, "rule 'worse', actions[0]: there is no",
			    37);
}

static void test_a_set_is_made_whole_or_not_at_all(void **state)
{
	const struct snapshot *snapshot = rows();
	const struct rule_set *s;
	int rc = -ENOMEM;

	(void)state;
	for (long n = 0; rc != 0; n++) {
		assert_true(n < ENOUGH);
		refusals = 0;
		refuse_after = n;
		rc = rule_set_make(&s, snapshot, NULL);
		refuse_after = -1;
		if (rc == 0) {
			check_problems(s);
			rule_set_release(s);
			/* What was refused then could be done without. */
			rc = refusals ? -ENOMEM : 0;
		} else {
			assert_int_equal(rc, -ENOMEM);
			assert_null(s);
		}
	}
	snapshot_release(snapshot);
}

static int take(void *arg, const struct rule_firing *f, char *why, size_t why_len)
{
	(void)f;
	(void)why;
	(void)why_len;
	++*(unsigned *)arg;
	return 0;
}

static void test_a_message_without_memory_is_an_error_of_its_rules(void **state)
{
	const struct snapshot *snapshot = rows();
	struct member m = {.key = "t", .key_len = 1, .value = {VALUE_INTEGER, .u.integer = 1}};
	const struct value v = {VALUE_MAP, .u.map = {&m, 1}};
	const struct rule_input in = {.topic = "m/d/dev-1/d2c",
				      .device = "dev-1",
				      .payload = &v,
				      .raw = "{\"t\":1}",
				      .raw_len = 7};
	const struct rule_set *s;
	unsigned taken = 0;

	(void)state;
	assert_int_equal(rule_set_make(&s, snapshot, NULL), 0);
	for (size_t limit = 0; taken < 4; limit += 16) {
		const struct rule_visitor visitor = {.arg = &taken, .fired = take, .counts = true};
		uint64_t before = rule_set_at(s, 0)->counters->errors;
		struct arena a;

		assert_true(limit < ENOUGH);
		taken = 0;
		arena_init(&a, 64, limit);
		rule_set_run(s, &in, &a, &visitor);
		rule_set_drops(s, &in, &a);
		assert_int_equal(a.used, 0);
		arena_free(&a);
		/* The rule's three actions, and what the first triggers; or an error. */
		assert_true(taken == 4 || rule_set_at(s, 0)->counters->errors > before ||
			    rule_set_at(s, 1)->counters->errors > 0);
	}
	rule_set_release(s);
	snapshot_release(snapshot);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_set_is_made_whole_or_not_at_all),
		cmocka_unit_test(test_a_message_without_memory_is_an_error_of_its_rules),
	};

	log_set_sink(no_log, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
