/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State, values and messages of devices with a real PostgreSQL, which is stopped, killed, silent,
 * or cut off in the middle of an answer: every request is answered once, in order, and an answer
 * that says "made" is true.
 */
#include <errno.h>
#include <poll.h>
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
#include <libpq-fe.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/document/document.h"
#include "core/document/internal.h"
#include "tests/unit/cut_proxy.h"
#include "tests/unit/pg_cluster.h"

#define PATIENCE_US (60 * US_PER_S) /* far more than anything here takes */
#define ANSWERS_MAX 10000
#define CHANGES_MAX 6000
#define MANY	    10000
#define UNDER_WAY   200 /* more than are sent before the first answer */

struct heard {
	uintptr_t cookie;
	enum document_outcome outcome;
	int64_t version;
	int format;
	size_t len;
	int64_t waiting;
	bool has_name;
	char payload[256], why[256], name[80];
};

struct heard_change {
	enum document_changed what;
	bool all, has_name;
	char device[80], name[80];
};

static struct pg_cluster cluster;
static struct documents *docs;
static struct heard answers[ANSWERS_MAX];
static struct heard_change changes[CHANGES_MAX];
static size_t answer_count, change_count;
static bool change_after_answer; /* the last change was told of when an answer had been */

/* --- Hearing --- */

static void hear_answer(void *arg, const struct document_answer *a)
{
	struct heard *h = &answers[answer_count];

	(void)arg;
	assert_true(answer_count < ANSWERS_MAX);
	answer_count++;
	h->cookie = (uintptr_t)a->cookie;
	h->outcome = a->outcome;
	h->version = a->version;
	h->format = a->format;
	h->len = a->payload_len;
	assert_non_null(a->why);
	snprintf(h->payload, sizeof(h->payload), "%.*s", (int)a->payload_len,
		 a->payload_len ? (const char *)a->payload : "");
	snprintf(h->why, sizeof(h->why), "%s", a->why);
	h->waiting = a->waiting;
	h->has_name = a->name != NULL;
	snprintf(h->name, sizeof(h->name), "%s", a->name ? a->name : "");
}

static void hear_change(void *arg, const struct document_change *c)
{
	struct heard_change *h = &changes[change_count];

	(void)arg;
	assert_true(change_count < CHANGES_MAX);
	change_count++;
	change_after_answer = answer_count > 0;
	h->what = c->what;
	h->all = !c->device;
	assert_int_equal(h->all, c->what == DOCUMENT_CHANGED_ANY);
	h->has_name = c->name != NULL;
	snprintf(h->device, sizeof(h->device), "%s", c->device ? c->device : "");
	snprintf(h->name, sizeof(h->name), "%s", c->name ? c->name : "");
}

static void forget(void)
{
	answer_count = 0;
	change_count = 0;
}

static void poll_for(struct documents *d, int timeout_ms)
{
	struct pollfd fd = {.fd = documents_fd(d), .events = POLLIN};

	if (poll(&fd, 1, timeout_ms) > 0)
		documents_poll(d, hear_answer, hear_change, NULL);
}

static void wait_answers(size_t n)
{
	int64_t deadline_us = clock_monotonic_us() + PATIENCE_US;

	while (answer_count < n) {
		if (clock_monotonic_us() > deadline_us)
			fail_msg("%zu of %zu answers", answer_count, n);
		poll_for(docs, 100);
	}
	assert_int_equal(answer_count, n);
}

static const struct heard_change *wait_change(void)
{
	int64_t deadline_us = clock_monotonic_us() + PATIENCE_US;

	while (change_count == 0) {
		if (clock_monotonic_us() > deadline_us)
			fail_msg("no change is heard of");
		poll_for(docs, 100);
	}
	return &changes[0];
}

static bool heard_all(void)
{
	for (size_t i = 0; i < change_count; i++)
		if (changes[i].all)
			return true;
	return false;
}

static void wait_all_changed(void)
{
	int64_t deadline_us = clock_monotonic_us() + PATIENCE_US;

	while (!heard_all()) {
		if (clock_monotonic_us() > deadline_us)
			fail_msg("nobody says that changes may have been missed");
		poll_for(docs, 100);
	}
}

/* --- Asking --- */

static struct document_request request(enum document_operation op, const char *payload)
{
	return (struct document_request){
		.operation = op,
		.device = "x",
		.name = "v",
		.format = -1,
		.payload = payload,
		.payload_len = payload ? strlen(payload) : 0,
		.if_version = -1,
	};
}

static int try_request(struct document_request r, uintptr_t cookie)
{
	r.cookie = (void *)cookie;
	return documents_ask(docs, &r);
}

static int try_ask(enum document_operation op, const char *payload, uintptr_t cookie)
{
	return try_request(request(op, payload), cookie);
}

/* Until the database takes requests. */
static void wait_connected(void)
{
	int64_t deadline_us = clock_monotonic_us() + PATIENCE_US;
	size_t before = answer_count;
	int rc;

	while ((rc = try_ask(DOCUMENT_VALUE_GET, NULL, 0)) == -ENOTCONN) {
		if (clock_monotonic_us() > deadline_us)
			fail_msg("no connection to the database");
		usleep(2000);
	}
	assert_int_equal(rc, 0);
	wait_answers(before + 1);
}

/* One request, and its answer. */
static const struct heard *ask_request(struct document_request r)
{
	answer_count = 0;
	assert_int_equal(try_request(r, 1), 0);
	wait_answers(1);
	return &answers[0];
}

static const struct heard *ask(enum document_operation op, const char *payload)
{
	return ask_request(request(op, payload));
}

static void assert_payload(enum document_operation op, const char *expected)
{
	const struct heard *h = ask(op, NULL);

	assert_int_equal(h->outcome, DOCUMENT_OK);
	assert_string_equal(h->payload, expected);
	assert_int_equal(h->format, 50);
}

/* --- Setting up --- */

static struct document_options options(const char *url)
{
	return (struct document_options){
		.database_url = url,
		.connect_timeout_s = 10,
		.statement_timeout_s = 60,
		.max_queue = 16,
		.max_bytes = 200,
		.max_values = 3,
	};
}

static struct documents *open_with(const struct document_options *o)
{
	struct documents *d;
	char err[256];

	if (documents_open(&d, o, err, sizeof(err)) != 0)
		fail_msg("%s", err);
	return d;
}

/* What the thread says in the course of its troubles is worth reading only when a test fails. */
static void quiet(enum log_level level, const char *line, void *arg)
{
	(void)level;
	(void)arg;
	if (getenv("FIELDGATE_TEST_LOG"))
		fprintf(stderr, "%s\n", line);
}

static int start_cluster(void **state)
{
	(void)state;
	log_set_sink(quiet, NULL);
	pg_cluster_init(&cluster);
	return 0;
}

static int drop_cluster(void **state)
{
	(void)state;
	pg_cluster_free(&cluster);
	return 0;
}

static void clean(void)
{
	pg_cluster_sql(&cluster, "delete from device; insert into device (id) values ('x'), ('y')");
	forget();
}

static int begin_with(struct document_options o)
{
	clean();
	docs = open_with(&o);
	wait_connected();
	forget();
	return 0;
}

static int begin(void **state)
{
	(void)state;
	return begin_with(options(cluster.url));
}

static int end(void **state)
{
	(void)state;
	documents_close(docs);
	docs = NULL;
	return 0;
}

static int begin_with_long_queue(void **state)
{
	struct document_options o = options(cluster.url);

	(void)state;
	o.max_queue = MANY;
	return begin_with(o);
}

static int begin_impatient(void **state)
{
	struct document_options o = options(cluster.url);

	(void)state;
	o.statement_timeout_s = 1;
	return begin_with(o);
}

static int begin_with_a_share_of_two(void **state)
{
	struct document_options o = options(cluster.url);

	(void)state;
	o.max_of_device = 2;
	return begin_with(o);
}

/* --- Operations --- */

static void test_state_is_patched_replaced_and_read(void **state)
{
	(void)state;
	assert_payload(DOCUMENT_STATE_GET, "{\"desired\":{},\"reported\":{}}");
	assert_payload(DOCUMENT_STATE_DELTA, "");
	assert_payload(DOCUMENT_STATE_DESIRED, "");
	assert_int_equal(ask(DOCUMENT_STATE_PATCH_REPORTED, "{\"a\": 1, \"b\": 2}")->outcome,
			 DOCUMENT_OK);
	assert_int_equal(ask(DOCUMENT_STATE_PATCH_REPORTED, "{\"b\": null}")->outcome, DOCUMENT_OK);
	assert_int_equal(ask(DOCUMENT_STATE_PUT_DESIRED, "{\"a\":1,\"c\":3}")->outcome,
			 DOCUMENT_OK);
	assert_payload(DOCUMENT_STATE_GET,
		       "{\"desired\":{\"a\":1,\"c\":3},\"reported\":{\"a\":1}}");
	assert_payload(DOCUMENT_STATE_DELTA, "{\"c\":3}");
	assert_int_equal(ask(DOCUMENT_STATE_PATCH_DESIRED, "{\"c\":null}")->outcome, DOCUMENT_OK);
	assert_int_equal(ask(DOCUMENT_STATE_PUT_REPORTED, "{\"only\":true}")->outcome, DOCUMENT_OK);
	assert_payload(DOCUMENT_STATE_GET, "{\"desired\":{\"a\":1},\"reported\":{\"only\":true}}");
	assert_payload(DOCUMENT_STATE_DESIRED, "{\"a\":1}");
}

static void test_state_has_one_version_that_only_grows(void **state)
{
	int64_t first = ask(DOCUMENT_STATE_PATCH_REPORTED, "{\"a\":1}")->version;
	int64_t second = ask(DOCUMENT_STATE_PATCH_DESIRED, "{\"a\":2}")->version;

	(void)state;
	assert_true(0 < first && first < second && second < INT64_C(1) << 56);
	assert_int_equal(ask(DOCUMENT_STATE_PATCH_DESIRED, "{\"a\":2}")->version, second);
	assert_int_equal(ask(DOCUMENT_STATE_DELTA, NULL)->version, second);
	assert_int_equal(ask(DOCUMENT_STATE_GET, NULL)->version, second);
}

static void test_spaces_between_tokens_are_not_sent_over_the_air(void **state)
{
	(void)state;
	ask(DOCUMENT_STATE_PATCH_REPORTED,
	    "{ \"a b\" : [ 1 , 2 ], \"q\": \"\\\" \\\\\", \"z\": \" \" }");
	assert_payload(DOCUMENT_STATE_GET, "{\"desired\":{},\"reported\":{\"q\":\"\\\" \\\\\","
					   "\"z\":\" \",\"a b\":[1,2]}}");
}

static void test_bad_state_is_refused_and_says_where(void **state)
{
	const struct heard *h = ask(DOCUMENT_STATE_PATCH_REPORTED, "{\"a\": 1,\n \"b\": x}");

	(void)state;
	assert_int_equal(h->outcome, DOCUMENT_BAD);
	assert_non_null(strstr(h->why, "line 2"));
	h = ask(DOCUMENT_STATE_PUT_DESIRED, "[1]");
	assert_int_equal(h->outcome, DOCUMENT_BAD);
	assert_non_null(strstr(h->why, "object"));
	h = ask(DOCUMENT_STATE_PATCH_REPORTED, "{\"a\":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}");
	assert_int_equal(h->outcome, DOCUMENT_BAD);
	assert_non_null(strstr(h->why, "deeper than 16"));
	assert_int_equal(ask(DOCUMENT_STATE_PATCH_REPORTED, "{\"a\":\"\xff\"}")->outcome,
			 DOCUMENT_BAD);
	assert_int_equal(ask(DOCUMENT_STATE_PATCH_REPORTED, "")->outcome, DOCUMENT_BAD);
}

static void test_state_with_a_nul_is_refused(void **state)
{
	struct document_request r = request(DOCUMENT_STATE_PATCH_REPORTED, NULL);

	(void)state;
	r.payload = "{\"a\":1}\0{}";
	r.payload_len = 10;
	assert_int_equal(ask_request(r)->outcome, DOCUMENT_BAD);
}

static void test_sizes_are_limited(void **state)
{
	char json[400];

	(void)state;
	snprintf(json, sizeof(json), "{\"a\":\"%0250d\"}", 1);
	assert_int_equal(ask(DOCUMENT_STATE_PATCH_REPORTED, json)->outcome, DOCUMENT_TOO_LARGE);
	assert_int_equal(ask(DOCUMENT_VALUE_PUT, json)->outcome, DOCUMENT_TOO_LARGE);
	for (int i = 0; i < 4; i++) {
		struct document_request r = request(DOCUMENT_VALUE_PUT, "1");
		char name[16];

		snprintf(name, sizeof(name), "v%d", i);
		r.name = name;
		assert_int_equal(ask_request(r)->outcome,
				 i < 3 ? DOCUMENT_CREATED : DOCUMENT_TOO_LARGE);
	}
}

static void test_value_is_kept_as_it_is(void **state)
{
	struct document_request r = request(DOCUMENT_VALUE_PUT, NULL);
	const struct heard *h;

	(void)state;
	r.payload = "a b\0\xff";
	r.payload_len = 5;
	r.format = 42;
	assert_int_equal(ask(DOCUMENT_VALUE_GET, NULL)->outcome, DOCUMENT_NOT_FOUND);
	assert_int_equal(ask_request(r)->outcome, DOCUMENT_CREATED);
	assert_int_equal(ask_request(r)->outcome, DOCUMENT_OK);
	h = ask(DOCUMENT_VALUE_GET, NULL);
	assert_int_equal(h->outcome, DOCUMENT_OK);
	assert_int_equal(h->format, 42);
	assert_int_equal(h->len, 5);
	assert_true(h->version > 0);
	assert_int_equal(ask(DOCUMENT_VALUE_PUT, NULL)->outcome, DOCUMENT_OK);
	h = ask(DOCUMENT_VALUE_GET, NULL);
	assert_int_equal(h->format, -1);
	assert_int_equal(h->len, 0);
	assert_int_equal(ask(DOCUMENT_VALUE_DELETE, NULL)->outcome, DOCUMENT_OK);
	assert_int_equal(ask(DOCUMENT_VALUE_DELETE, NULL)->outcome, DOCUMENT_NOT_FOUND);
}

static void test_bad_name_is_refused(void **state)
{
	struct document_request r = request(DOCUMENT_VALUE_PUT, "1");

	(void)state;
	r.name = "a b";
	assert_int_equal(ask_request(r)->outcome, DOCUMENT_BAD);
}

static void test_device_that_is_not_registered_is_not_found(void **state)
{
	struct document_request r = request(DOCUMENT_VALUE_PUT, "1");

	(void)state;
	r.device = "nobody";
	assert_int_equal(ask_request(r)->outcome, DOCUMENT_NOT_FOUND);
}

static void test_conditions_hold(void **state)
{
	struct document_request put = request(DOCUMENT_VALUE_PUT, "1");
	struct document_request patch = request(DOCUMENT_STATE_PATCH_REPORTED, "{\"a\":1}");

	(void)state;
	put.if_exists = true;
	assert_int_equal(ask_request(put)->outcome, DOCUMENT_PRECONDITION);
	put.if_exists = false;
	put.if_absent = true;
	assert_int_equal(ask_request(put)->outcome, DOCUMENT_CREATED);
	assert_int_equal(ask_request(put)->outcome, DOCUMENT_PRECONDITION);
	put.if_absent = false;
	put.if_version = answers[0].version;
	assert_true(put.if_version > 0);
	assert_int_equal(ask_request(put)->outcome, DOCUMENT_OK);
	put.if_version--;
	assert_int_equal(ask_request(put)->outcome, DOCUMENT_PRECONDITION);
	put.operation = DOCUMENT_VALUE_DELETE;
	assert_int_equal(ask_request(put)->outcome, DOCUMENT_PRECONDITION);
	put.if_version++;
	assert_int_equal(ask_request(put)->outcome, DOCUMENT_OK);

	patch.if_version = 0;
	assert_int_equal(ask_request(patch)->outcome, DOCUMENT_OK);
	assert_int_equal(ask_request(patch)->outcome, DOCUMENT_PRECONDITION);
}

/* --- Changes --- */

static void assert_change(enum document_changed what, const char *device, const char *name)
{
	const struct heard_change *h = wait_change();

	assert_int_equal(h->what, what);
	assert_string_equal(h->device, device);
	assert_int_equal(h->has_name, name != NULL);
	assert_string_equal(h->name, name ? name : "");
	assert_int_equal(change_count, 1);
	change_count = 0;
}

static void test_own_changes_are_told(void **state)
{
	(void)state;
	ask(DOCUMENT_VALUE_PUT, "1");
	assert_change(DOCUMENT_CHANGED_VALUE, "x", "v");
	ask(DOCUMENT_STATE_PATCH_DESIRED, "{\"a\":1}");
	assert_change(DOCUMENT_CHANGED_STATE, "x", NULL);
	ask(DOCUMENT_STATE_PATCH_REPORTED, "{\"temperature\":1}");
	assert_change(DOCUMENT_CHANGED_STATE_NOT_DELTA, "x", NULL);
	ask(DOCUMENT_STATE_PATCH_REPORTED, "{\"a\":1}");
	assert_change(DOCUMENT_CHANGED_STATE, "x", NULL);
}

static void test_changes_of_another_process_are_told(void **state)
{
	struct document_options o = options(cluster.url);
	struct document_request r = request(DOCUMENT_VALUE_PUT, "from there");
	struct documents *other = open_with(&o);
	int64_t deadline_us = clock_monotonic_us() + PATIENCE_US;
	int rc;

	(void)state;
	while ((rc = documents_ask(other, &r)) == -ENOTCONN && clock_monotonic_us() < deadline_us)
		usleep(2000);
	assert_int_equal(rc, 0);
	assert_change(DOCUMENT_CHANGED_VALUE, "x", "v");
	assert_string_equal(ask(DOCUMENT_VALUE_GET, NULL)->payload, "from there");
	documents_close(other);
}

static void test_changes_by_plain_sql_are_told(void **state)
{
	(void)state;
	pg_cluster_sql(&cluster,
		       "insert into device_state (device, desired) values ('y', '{\"a\": 1}')");
	assert_change(DOCUMENT_CHANGED_STATE, "y", NULL);
	pg_cluster_sql(&cluster, "truncate device_state");
	wait_all_changed();
}

/* Nobody polls while it comes in; how long that takes is not for this test to say. */
static void test_a_flood_of_changes_becomes_one(void **state)
{
	(void)state;
	pg_cluster_sql(&cluster,
		       "insert into device (id) select 'f' || n from generate_series(1, 5000) n");
	for (int i = 1; i <= 30 && !heard_all(); i++) {
		char sql[96];

		forget();
		snprintf(sql, sizeof(sql),
			 "select desire(id, '{\"a\": %d}') from device where id ~ '^f'", i);
		pg_cluster_sql(&cluster, sql);
		usleep((useconds_t)i * 100 * 1000);
		poll_for(docs, 0);
	}
	assert_true(heard_all());
}

/* --- Messages --- */

static void send_sql(const char *device, const char *text)
{
	char sql[200];

	snprintf(sql, sizeof(sql), "insert into downlink (device, payload) values ('%s', '%s')",
		 device, text);
	pg_cluster_sql(&cluster, sql);
}

static const struct heard *next_message(const char *name, int64_t done)
{
	struct document_request r = request(DOCUMENT_DOWNLINK_NEXT, NULL);

	r.name = name;
	r.over = "coap";
	r.if_version = done;
	return ask_request(r);
}

static enum document_outcome mark(int64_t id)
{
	struct document_request r = request(DOCUMENT_DOWNLINK_DONE, NULL);

	r.if_version = id;
	r.over = "mqtt";
	return ask_request(r)->outcome;
}

static void wait_waiting(const char *device, bool expected)
{
	int64_t deadline_us = clock_monotonic_us() + PATIENCE_US;

	while (documents_waiting(docs, device) != expected) {
		if (clock_monotonic_us() > deadline_us)
			fail_msg("%s: still not %s", device, expected ? "waiting" : "done");
		poll_for(docs, 10);
	}
}

static void test_messages_are_given_one_after_the_other(void **state)
{
	const struct heard *h;
	int64_t first;

	(void)state;
	send_sql("x", "one");
	send_sql("x", "two");
	h = next_message(NULL, -1);
	assert_int_equal(h->outcome, DOCUMENT_OK);
	assert_string_equal(h->payload, "one");
	assert_int_equal(h->waiting, 1);
	assert_false(h->has_name);
	first = h->version;
	assert_int_equal(next_message(NULL, -1)->version, first);
	h = next_message(NULL, first);
	assert_true(h->version > first);
	assert_string_equal(h->payload, "two");
	assert_int_equal(h->waiting, 0);
	assert_int_equal(next_message(NULL, h->version)->outcome, DOCUMENT_NOT_FOUND);
}

static void test_messages_have_subtopics(void **state)
{
	const struct heard *h;

	(void)state;
	pg_cluster_sql(&cluster, "insert into downlink (device, subtopic, payload, format) values"
				 " ('x', 'cfg/a', '\\x00ff', 4711), ('x', null, '', null)");
	h = next_message(NULL, -1);
	assert_string_equal(h->name, "cfg/a");
	assert_int_equal(h->format, 4711);
	assert_int_equal(h->len, 2);
	h = next_message("", -1);
	assert_int_equal(h->outcome, DOCUMENT_OK);
	assert_false(h->has_name);
	assert_int_equal(h->len, 0);
	assert_int_equal(h->format, -1);
	assert_int_equal(h->waiting, 0);
	assert_int_equal(next_message("cfg/a", -1)->len, 2);
	h = next_message("cfg", -1);
	assert_int_equal(h->outcome, DOCUMENT_NOT_FOUND);
	assert_int_equal(h->waiting, 2);
}

static void test_a_message_without_a_format_is_looked_at(void **state)
{
	static const struct {
		const char *sql;
		int format;
	} messages[] = {
		{"'{\"led\": 1}'", 50},	   {"'[1, 2]'", 50},   {"'7'", 50},
		{"'led on'", 0},	   {"'{\"led\":'", 0}, {"'\\xc3a4'", 0},
		{"'\\xa1636c656401'", 60}, {"'\\xa163'", 42},  {"'\\x0102'", 42},
	};
	int64_t id = -1;

	(void)state;
	for (size_t i = 0; i < sizeof(messages) / sizeof(*messages); i++) {
		char sql[120];
		const struct heard *h;

		snprintf(sql, sizeof(sql),
			 "insert into downlink (device, payload) values ('x', %s)",
			 messages[i].sql);
		pg_cluster_sql(&cluster, sql);
		h = next_message(NULL, id);
		assert_int_equal(h->outcome, DOCUMENT_OK);
		if (h->format != messages[i].format)
			fail_msg("%s: %d", messages[i].sql, h->format);
		id = h->version;
	}
}

static void test_a_message_is_marked_by_itself(void **state)
{
	int64_t id;

	(void)state;
	send_sql("x", "one");
	id = next_message(NULL, -1)->version;
	assert_int_equal(mark(id + 1), DOCUMENT_NOT_FOUND);
	assert_int_equal(mark(id), DOCUMENT_OK);
	assert_int_equal(mark(id), DOCUMENT_OK);
	assert_int_equal(next_message(NULL, -1)->outcome, DOCUMENT_NOT_FOUND);
	pg_cluster_sql(&cluster, "do $$ begin if not exists (select from downlink where"
				 " delivered_over = 'mqtt') then raise 'no'; end if; end $$");
}

static void test_a_message_is_told_and_waits_until_none_is_found(void **state)
{
	struct document_request of_y = request(DOCUMENT_DOWNLINK_NEXT, NULL);
	int64_t id;

	(void)state;
	of_y.device = "y";
	of_y.name = NULL;
	assert_false(documents_waiting(docs, "x"));
	send_sql("x", "one");
	assert_change(DOCUMENT_CHANGED_DOWNLINK, "x", NULL);
	assert_true(documents_waiting(docs, "x"));
	assert_false(documents_waiting(docs, "y"));
	assert_int_equal(ask_request(of_y)->outcome, DOCUMENT_NOT_FOUND);
	id = next_message(NULL, -1)->version;
	assert_int_equal(next_message("other", -1)->outcome, DOCUMENT_NOT_FOUND);
	assert_true(documents_waiting(docs, "x"));
	assert_int_equal(next_message("other", id)->outcome, DOCUMENT_NOT_FOUND);
	assert_false(documents_waiting(docs, "x"));
	forget();
	send_sql("x", "two");
	assert_change(DOCUMENT_CHANGED_DOWNLINK, "x", NULL);
	assert_true(documents_waiting(docs, "x"));
}

static void test_messages_from_before_the_connection_wait(void **state)
{
	struct document_options o = options(cluster.url);

	(void)state;
	clean();
	send_sql("y", "early");
	pg_cluster_sql(&cluster, "insert into downlink (device, payload, expires_at)"
				 " values ('x', 'late', now() - interval '1 s')");
	docs = open_with(&o);
	wait_connected();
	assert_true(documents_waiting(docs, "y"));
	assert_false(documents_waiting(docs, "x"));

	/* While it is away, what was known; afterwards, what is. */
	pg_cluster_stop(&cluster);
	for (int i = 0; i < 1000 && try_ask(DOCUMENT_VALUE_GET, NULL, 0) != -ENOTCONN; i++)
		poll_for(docs, 10);
	assert_int_equal(try_ask(DOCUMENT_VALUE_GET, NULL, 0), -ENOTCONN);
	assert_true(documents_waiting(docs, "y"));
	documents_close(docs);
	pg_cluster_start(&cluster);
	docs = open_with(&o);
	wait_waiting("y", true);
	pg_cluster_sql(&cluster, "delete from downlink");
	assert_true(documents_waiting(docs, "y"));
	send_sql("x", "1");
	forget();
	pg_cluster_kill(&cluster);
	pg_cluster_start(&cluster);
	wait_all_changed();
	wait_waiting("y", false);
	assert_true(documents_waiting(docs, "x"));
	documents_close(docs);
}

#define FLEET 5000

static size_t visited;

static void visit(void *arg, const char *device)
{
	(void)arg;
	assert_true(documents_waiting(docs, device));
	visited++;
}

static void test_every_device_that_waits_is_visited(void **state)
{
	(void)state;
	documents_each_waiting(docs, visit, NULL);
	assert_int_equal(visited, 0);
	pg_cluster_sql(&cluster, "insert into device (id) select 'f' || n from"
				 " generate_series(1, 5000) n; insert into downlink (device,"
				 " payload) select id, '1' from device where id ~ '^f'");
	for (int i = 1; i <= FLEET; i++) {
		char device[16];

		snprintf(device, sizeof(device), "f%d", i);
		wait_waiting(device, true);
	}
	documents_each_waiting(docs, visit, NULL);
	assert_int_equal(visited, FLEET);
}

static void test_a_set_that_is_full_says_yes(void **state)
{
	struct waiting w = {0};
	char device[16];
	size_t len;

	(void)state;
	for (int i = 0; i < WAITING_MAX; i++) {
		snprintf(device, sizeof(device), "d%d", i);
		waiting_add(&w, device);
	}
	assert_true(waiting_has(&w, "d0") && waiting_has(&w, device));
	assert_false(waiting_has(&w, "other"));
	waiting_remove(&w, "d7");
	assert_false(waiting_has(&w, "d7"));
	waiting_add(&w, "d7");
	waiting_add(&w, "one too many");
	assert_true(waiting_has(&w, "one too many") && waiting_has(&w, "other"));
	free(waiting_copy(&w, &len));
	assert_true(len > WAITING_MAX * sizeof("d0"));
	waiting_free(&w);
	assert_false(waiting_has(&w, "d0"));
}

/* --- The queue --- */

static void test_ten_thousand_requests_are_answered_in_order(void **state)
{
	(void)state;
	for (uintptr_t i = 0; i < MANY; i++) {
		char value[16];

		snprintf(value, sizeof(value), "%zu", (size_t)(i / 2));
		assert_int_equal(try_ask(i % 2 ? DOCUMENT_VALUE_GET : DOCUMENT_VALUE_PUT,
					 i % 2 ? NULL : value, i),
				 0);
	}
	assert_int_equal(try_ask(DOCUMENT_VALUE_GET, NULL, 0), -EAGAIN);
	wait_answers(MANY);
	for (uintptr_t i = 0; i < MANY; i++) {
		assert_int_equal(answers[i].cookie, i);
		assert_int_equal(answers[i].outcome, i == 0 ? DOCUMENT_CREATED : DOCUMENT_OK);
		if (i % 2)
			assert_int_equal(atol(answers[i].payload), (long)(i / 2));
	}
}

/* A state of a thousand objects is a second's work for the database: one device that asks for that
 * without end is not to fill the queue of all. */
static void test_one_device_has_its_share_of_the_queue(void **state)
{
	struct document_request r = request(DOCUMENT_VALUE_GET, NULL);
	size_t others = 0;

	(void)state;
	forget();
	assert_int_equal(try_request(r, 1), 0);
	assert_int_equal(try_request(r, 2), 0);
	assert_int_equal(try_request(r, 3), -EAGAIN);
	for (const char *device = "stuvw"; *device; device++) { /* one may share with x */
		r.device = device;
		others += try_request(r, 4) == 0;
	}
	assert_true(others > 0);
	r.device = "x";
	r.uncounted = true;
	assert_int_equal(try_request(r, 5), 0);
	wait_answers(3 + others);
	r.uncounted = false;
	forget();
	assert_int_equal(try_request(r, 6), 0);
	assert_int_equal(try_request(r, 7), 0);
	assert_int_equal(try_request(r, 8), -EAGAIN);
	wait_answers(2);
}

static void test_full_queue_takes_no_more_until_answers_are_fetched(void **state)
{
	(void)state;
	for (uintptr_t i = 0; i < 16; i++)
		assert_int_equal(try_ask(DOCUMENT_VALUE_GET, NULL, i), 0);
	assert_int_equal(try_ask(DOCUMENT_VALUE_GET, NULL, 16), -EAGAIN);
	usleep(100 * 1000); /* they are answered, but nobody looked */
	assert_int_equal(try_ask(DOCUMENT_VALUE_GET, NULL, 16), -EAGAIN);
	wait_answers(16);
	assert_int_equal(try_ask(DOCUMENT_VALUE_GET, NULL, 16), 0);
	wait_answers(17);
}

static int asked_again;

static void ask_again(void *arg, const struct document_answer *a)
{
	hear_answer(arg, a);
	if (a->cookie)
		asked_again += try_ask(DOCUMENT_VALUE_GET, NULL, 0) == 0;
}

static void test_a_callback_may_ask(void **state)
{
	int64_t deadline_us = clock_monotonic_us() + PATIENCE_US;

	(void)state;
	for (uintptr_t i = 0; i < 16; i++)
		assert_int_equal(try_ask(DOCUMENT_VALUE_GET, NULL, 1), 0);
	while (answer_count < 32 && clock_monotonic_us() < deadline_us) {
		struct pollfd fd = {.fd = documents_fd(docs), .events = POLLIN};

		if (poll(&fd, 1, 100) > 0)
			documents_poll(docs, ask_again, hear_change, NULL);
	}
	assert_int_equal(asked_again, 16);
	assert_int_equal(answer_count, 32);
}

/* --- Trouble --- */

static void test_bad_url_is_refused(void **state)
{
	struct document_options o = options("postgresql://[::1/d");
	struct documents *d;
	char err[256] = "";

	(void)state;
	assert_int_equal(documents_open(&d, &o, err, sizeof(err)), -EINVAL);
	assert_null(d);
	assert_string_not_equal(err, "");
}

static void test_database_that_is_not_there_yet(void **state)
{
	struct document_options o = options(cluster.url);

	(void)state;
	clean();
	pg_cluster_stop(&cluster);
	docs = open_with(&o);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(try_ask(DOCUMENT_VALUE_GET, NULL, 0), -ENOTCONN);
		usleep(1000);
	}
	pg_cluster_start(&cluster);
	wait_connected();
	assert_int_equal(ask(DOCUMENT_VALUE_PUT, "1")->outcome, DOCUMENT_CREATED);
	assert_false(heard_all());
	documents_close(docs);
}

static void test_requests_under_way_are_unavailable_when_the_database_dies(void **state)
{
	(void)state;
	pg_cluster_pause(&cluster);
	for (uintptr_t i = 0; i < UNDER_WAY; i++)
		assert_int_equal(try_ask(DOCUMENT_VALUE_GET, NULL, i), 0);
	usleep(20 * 1000);
	assert_int_equal(answer_count, 0);
	pg_cluster_kill(&cluster);
	wait_answers(UNDER_WAY);
	for (uintptr_t i = 0; i < UNDER_WAY; i++) {
		assert_int_equal(answers[i].cookie, i);
		assert_int_equal(answers[i].outcome, DOCUMENT_UNAVAILABLE);
	}
	assert_int_equal(try_ask(DOCUMENT_VALUE_GET, NULL, 0), -ENOTCONN);
	pg_cluster_start(&cluster);
	wait_connected();
	wait_all_changed();
	assert_int_equal(ask(DOCUMENT_VALUE_PUT, "1")->outcome, DOCUMENT_CREATED);
}

static void test_stopped_database_is_found_again(void **state)
{
	(void)state;
	ask(DOCUMENT_VALUE_PUT, "kept");
	forget();
	pg_cluster_stop(&cluster);
	pg_cluster_start(&cluster);
	wait_all_changed();
	assert_string_equal(ask(DOCUMENT_VALUE_GET, NULL)->payload, "kept");
	change_count = 0;
	pg_cluster_sql(&cluster, "select desire('x', '{\"a\": 1}')");
	assert_change(DOCUMENT_CHANGED_STATE, "x", NULL);
}

static void test_silent_database_is_given_up(void **state)
{
	int64_t begun_us = clock_monotonic_us();

	(void)state;
	pg_cluster_pause(&cluster);
	assert_int_equal(try_ask(DOCUMENT_VALUE_GET, NULL, 0), 0);
	assert_int_equal(try_ask(DOCUMENT_VALUE_GET, NULL, 1), 0);
	wait_answers(2);
	assert_true(clock_monotonic_us() - begun_us >= US_PER_S);
	assert_int_equal(answers[0].outcome, DOCUMENT_UNAVAILABLE);
	assert_int_equal(answers[1].outcome, DOCUMENT_UNAVAILABLE);
	assert_int_equal(try_ask(DOCUMENT_VALUE_GET, NULL, 0), -ENOTCONN);
	pg_cluster_resume(&cluster);
	wait_connected();
}

/* What is retried has been made already, and nobody knew. */
static void test_answer_that_is_lost_leaves_the_change_made(void **state)
{
	char url[256], dir[] = "/tmp/fieldgate-documents-XXXXXX", command[64];
	struct document_request if_absent = request(DOCUMENT_VALUE_PUT, "1");
	struct document_options o;
	struct cut_proxy *proxy;

	(void)state;
	assert_non_null(mkdtemp(dir));
	proxy = cut_proxy_start(&cluster, dir, url, sizeof(url));
	o = options(url);
	begin_with(o);
	if_absent.if_absent = true;

	cut_proxy_cut_tags(proxy, "SELECT 1", 1);
	assert_int_equal(ask_request(if_absent)->outcome, DOCUMENT_UNAVAILABLE);
	assert_int_equal(cut_proxy_left(proxy), 0);
	wait_connected();
	assert_int_equal(ask_request(if_absent)->outcome, DOCUMENT_PRECONDITION);
	assert_int_equal(ask(DOCUMENT_VALUE_PUT, "1")->outcome, DOCUMENT_OK);

	cut_proxy_cut_tags(proxy, "SELECT 1", 1);
	assert_int_equal(ask(DOCUMENT_STATE_PATCH_REPORTED, "{\"a\":1}")->outcome,
			 DOCUMENT_UNAVAILABLE);
	wait_connected();
	assert_int_equal(ask(DOCUMENT_STATE_PATCH_REPORTED, "{\"a\":1}")->outcome, DOCUMENT_OK);
	assert_payload(DOCUMENT_STATE_GET, "{\"desired\":{},\"reported\":{\"a\":1}}");
	documents_close(docs);
	cut_proxy_stop(proxy);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	assert_int_equal(system(command), 0);
}

static PGconn *open_transaction(const char *sql)
{
	PGconn *c = PQconnectdb(cluster.owner_url);
	PGresult *r = PQexec(c, sql);

	if (PQresultStatus(r) != PGRES_COMMAND_OK)
		fail_msg("%s", PQerrorMessage(c));
	PQclear(r);
	return c;
}

static const char slow_next_sql[] =
	"alter function downlink_next(text, text, bigint, text) rename to downlink_next_at_once;"
	" create function downlink_next(a text, b text, c bigint, d text) returns downlink_answer"
	" language plpgsql security definer set search_path = fieldgate, pg_temp"
	" set lock_timeout = 0 as $$"
	" declare v downlink_answer; begin v := downlink_next_at_once(a, b, c, d);"
	" perform pg_advisory_xact_lock_shared(4711); return v; end $$;"
	" grant execute on function downlink_next(text, text, bigint, text) to fieldgate_ingest";
static const char quick_next_sql[] =
	"drop function downlink_next(text, text, bigint, text);"
	" alter function downlink_next_at_once(text, text, bigint, text) rename to downlink_next";

/*
 * The question has found nothing, and is not committed, when a message is inserted. PostgreSQL
 * tells of that between the answer and the end of its transaction, and a network may bring the
 * three at different times.
 */
static void test_a_message_that_is_told_of_between_an_answer_and_its_end_is_not_lost(void **state)
{
	char url[256], dir[] = "/tmp/fieldgate-documents-XXXXXX", command[64];
	struct document_request r = request(DOCUMENT_DOWNLINK_NEXT, NULL);
	struct cut_proxy *proxy;
	PGconn *holder;

	(void)state;
	assert_non_null(mkdtemp(dir));
	proxy = cut_proxy_start(&cluster, dir, url, sizeof(url));
	pg_cluster_sql(&cluster, slow_next_sql);
	begin_with(options(url));
	holder = open_transaction("do $$ begin perform pg_advisory_lock(4711); end $$");
	cut_proxy_delay_ready(proxy, 500);
	r.name = NULL;
	r.over = "coap";
	assert_int_equal(documents_ask(docs, &r), 0);
	pg_cluster_sql(&cluster, "do $$ begin for i in 1 .. 6000 loop exit when exists (select from"
				 " pg_locks where locktype = 'advisory' and not granted);"
				 " perform pg_sleep(0.01); end loop; end $$");
	send_sql("x", "late");
	PQfinish(holder);
	wait_answers(1);
	assert_int_equal(answers[0].outcome, DOCUMENT_NOT_FOUND);
	assert_int_equal(wait_change()->what, DOCUMENT_CHANGED_DOWNLINK);
	assert_true(change_after_answer);
	assert_true(documents_waiting(docs, "x"));

	documents_close(docs);
	cut_proxy_stop(proxy);
	pg_cluster_sql(&cluster, quick_next_sql);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	assert_int_equal(system(command), 0);
}

static void test_an_open_transaction_keeps_up_only_its_own_device(void **state)
{
	struct document_request other = request(DOCUMENT_STATE_PATCH_REPORTED, "{\"a\":1}");
	PGconn *person;

	(void)state;
	ask(DOCUMENT_STATE_PATCH_REPORTED, "{\"a\":1}");
	forget();
	person = open_transaction("begin; update fieldgate.device_state set desired = '{\"b\":1}'");
	other.device = "y";
	assert_int_equal(try_ask(DOCUMENT_STATE_PATCH_REPORTED, "{\"a\":2}", 0), 0);
	assert_int_equal(try_request(other, 1), 0);
	assert_int_equal(try_ask(DOCUMENT_STATE_DESIRED, NULL, 2), 0);
	wait_answers(3);
	assert_int_equal(answers[0].outcome, DOCUMENT_UNAVAILABLE);
	assert_int_equal(answers[1].outcome, DOCUMENT_OK);
	assert_int_equal(answers[2].outcome, DOCUMENT_OK);
	assert_false(heard_all());
	PQfinish(person);
}

/* The function has returned, and then the transaction fails. */
static void test_a_change_that_fails_at_commit_is_not_said_to_be_made(void **state)
{
	(void)state;
	pg_cluster_sql(&cluster,
		       "create function test_refuse() returns trigger language plpgsql as $$"
		       " begin raise exception 'not today'; end $$;"
		       "create constraint trigger test_refuse after insert on device_value"
		       " deferrable initially deferred for each row"
		       " execute function test_refuse()");
	assert_int_equal(try_ask(DOCUMENT_VALUE_PUT, "1", 0), 0);
	assert_int_equal(try_ask(DOCUMENT_VALUE_GET, NULL, 1), 0);
	wait_answers(2);
	pg_cluster_sql(&cluster, "drop function test_refuse cascade");
	assert_int_equal(answers[0].outcome, DOCUMENT_UNAVAILABLE);
	assert_non_null(strstr(answers[0].why, "not today"));
	assert_int_equal(answers[1].outcome, DOCUMENT_NOT_FOUND);
	assert_int_equal(ask(DOCUMENT_VALUE_PUT, "1")->outcome, DOCUMENT_CREATED);
}

static void test_session_without_its_statements_is_made_again(void **state)
{
	(void)state;
	/* As a pooler does that gives the session another server. */
	pg_cluster_sql(&cluster,
		       "create function test_forget() returns trigger language plpgsql as $$"
		       " begin deallocate all; return null; end $$;"
		       "create trigger test_forget after insert on device_value"
		       " execute function test_forget()");
	assert_int_equal(ask(DOCUMENT_VALUE_PUT, "1")->outcome, DOCUMENT_CREATED);
	pg_cluster_sql(&cluster, "drop function test_forget cascade");
	assert_int_equal(ask(DOCUMENT_VALUE_GET, NULL)->outcome, DOCUMENT_UNAVAILABLE);
	wait_connected();
	assert_string_equal(ask(DOCUMENT_VALUE_GET, NULL)->payload, "1");
}

static void test_closing_waits_for_nothing(void **state)
{
	struct document_options o = options(cluster.url);
	int64_t begun_us;

	(void)state;
	begin_with(o);
	pg_cluster_pause(&cluster);
	for (uintptr_t i = 0; i < 16; i++)
		assert_int_equal(try_ask(DOCUMENT_VALUE_PUT, "1", i), 0);
	begun_us = clock_monotonic_us();
	documents_close(docs);
	assert_true(clock_monotonic_us() - begun_us < 10 * US_PER_S);
	pg_cluster_resume(&cluster);
	documents_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_state_is_patched_replaced_and_read, begin,
						end),
		cmocka_unit_test_setup_teardown(test_state_has_one_version_that_only_grows, begin,
						end),
		cmocka_unit_test_setup_teardown(
			test_spaces_between_tokens_are_not_sent_over_the_air, begin, end),
		cmocka_unit_test_setup_teardown(test_bad_state_is_refused_and_says_where, begin,
						end),
		cmocka_unit_test_setup_teardown(test_state_with_a_nul_is_refused, begin, end),
		cmocka_unit_test_setup_teardown(test_sizes_are_limited, begin, end),
		cmocka_unit_test_setup_teardown(test_value_is_kept_as_it_is, begin, end),
		cmocka_unit_test_setup_teardown(test_bad_name_is_refused, begin, end),
		cmocka_unit_test_setup_teardown(test_device_that_is_not_registered_is_not_found,
						begin, end),
		cmocka_unit_test_setup_teardown(test_conditions_hold, begin, end),
		cmocka_unit_test_setup_teardown(test_own_changes_are_told, begin, end),
		cmocka_unit_test_setup_teardown(test_changes_of_another_process_are_told, begin,
						end),
		cmocka_unit_test_setup_teardown(test_changes_by_plain_sql_are_told, begin, end),
		cmocka_unit_test_setup_teardown(test_a_flood_of_changes_becomes_one, begin, end),
		cmocka_unit_test_setup_teardown(test_messages_are_given_one_after_the_other, begin,
						end),
		cmocka_unit_test_setup_teardown(test_messages_have_subtopics, begin, end),
		cmocka_unit_test_setup_teardown(test_a_message_without_a_format_is_looked_at, begin,
						end),
		cmocka_unit_test_setup_teardown(test_a_message_is_marked_by_itself, begin, end),
		cmocka_unit_test_setup_teardown(
			test_a_message_is_told_and_waits_until_none_is_found, begin, end),
		cmocka_unit_test(test_messages_from_before_the_connection_wait),
		cmocka_unit_test_setup_teardown(test_every_device_that_waits_is_visited, begin,
						end),
		cmocka_unit_test(test_a_set_that_is_full_says_yes),
		cmocka_unit_test_setup_teardown(test_ten_thousand_requests_are_answered_in_order,
						begin_with_long_queue, end),
		cmocka_unit_test_setup_teardown(test_one_device_has_its_share_of_the_queue,
						begin_with_a_share_of_two, end),
		cmocka_unit_test_setup_teardown(
			test_full_queue_takes_no_more_until_answers_are_fetched, begin, end),
		cmocka_unit_test_setup_teardown(test_a_callback_may_ask, begin, end),
		cmocka_unit_test(test_bad_url_is_refused),
		cmocka_unit_test(test_database_that_is_not_there_yet),
		cmocka_unit_test_setup_teardown(
			test_requests_under_way_are_unavailable_when_the_database_dies,
			begin_with_long_queue, end),
		cmocka_unit_test_setup_teardown(test_stopped_database_is_found_again, begin, end),
		cmocka_unit_test_setup_teardown(test_silent_database_is_given_up, begin_impatient,
						end),
		cmocka_unit_test(test_answer_that_is_lost_leaves_the_change_made),
		cmocka_unit_test(
			test_a_message_that_is_told_of_between_an_answer_and_its_end_is_not_lost),
		cmocka_unit_test_setup_teardown(
			test_an_open_transaction_keeps_up_only_its_own_device, begin, end),
		cmocka_unit_test_setup_teardown(
			test_a_change_that_fails_at_commit_is_not_said_to_be_made, begin, end),
		cmocka_unit_test_setup_teardown(test_session_without_its_statements_is_made_again,
						begin, end),
		cmocka_unit_test(test_closing_waits_for_nothing),
	};

	return cmocka_run_group_tests(tests, start_cluster, drop_cluster);
}
