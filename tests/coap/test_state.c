/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state and store as a device meets them: CoAP messages in, and out what a real PostgreSQL has made
 * of them. Only DTLS is not here.
 *
 * LINK: -Wl,--wrap=dtls_session_identity
 */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "coap-server/resource/resource.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "tests/coap/coap_bytes.h"
#include "tests/unit/pg_cluster.h"

#define PATIENCE_US (60 * US_PER_S) /* far more than anything here takes */
#define INBOX_MAX   64
#define MAX_BYTES   2000

struct letter {
	uint8_t data[2048];
	size_t len;
	struct coap_seen seen; /* points into data */
};

struct device { /* what a DTLS session is otherwise */
	struct dtls_identity identity;
	struct coap_peer *peer;
	uint64_t session_id;
	uint16_t mid;
	unsigned tokens;
	struct letter inbox[INBOX_MAX];
	size_t received, taken;
};

static struct pg_cluster cluster;
static struct config config = {.document_max_bytes = MAX_BYTES};
static struct resources resources;
static struct device x, y, little, locked;

const struct dtls_identity *__wrap_dtls_session_identity(const struct dtls_session *s);
const struct dtls_identity *__wrap_dtls_session_identity(const struct dtls_session *s)
{
	return &((const struct device *)(const void *)s)->identity;
}

/* --- A device: what it gets, and what it says --- */

static int receive(void *arg, void *session, const uint8_t *data, size_t len)
{
	struct device *d = session;
	struct letter *l = &d->inbox[d->received % INBOX_MAX];

	(void)arg;
	assert_true(d->received - d->taken < INBOX_MAX);
	assert_true(len <= sizeof(l->data));
	memcpy(l->data, data, len);
	l->len = len;
	assert_true(coap_see(&l->seen, l->data, len));
	d->received++;
	return 0;
}

static bool admit(void *arg, void *session, unsigned method, const char *path,
		  struct coap_reply *reply)
{
	(void)arg;
	(void)session;
	(void)method;
	(void)path;
	(void)reply;
	return true;
}

static void deliver(struct device *d, const struct coap_bytes *b)
{
	coap_server_receive(resources.server, &d->peer, d->session_id, d, b->data, b->len);
}

/* What the loop of a worker does, for a moment. */
static void turn(void)
{
	struct pollfd fd = {.fd = documents_fd(resources.documents), .events = POLLIN};

	coap_server_tick(resources.server);
	if (poll(&fd, 1, 10) > 0)
		documents_poll(resources.documents, resource_document_answered,
			       resource_document_changed, &resources);
	coap_server_tick(resources.server);
}

/* The next message with a code; it is acknowledged if it wants to be. NULL: none yet. */
static const struct coap_seen *take(struct device *d)
{
	while (d->taken < d->received) {
		struct letter *l = &d->inbox[d->taken++ % INBOX_MAX];
		struct coap_bytes ack;

		if (l->seen.code == 0)
			continue;
		if (l->seen.type == B_CON) {
			bytes_begin(&ack, B_ACK, 0, l->seen.mid, "");
			deliver(d, &ack);
		}
		return &l->seen;
	}
	return NULL;
}

static const struct coap_seen *await(struct device *d)
{
	int64_t deadline_us = clock_monotonic_us() + PATIENCE_US;
	const struct coap_seen *seen;

	while (!(seen = take(d))) {
		if (clock_monotonic_us() > deadline_us)
			fail_msg("%s waits for a message", d->identity.id);
		turn();
	}
	return seen;
}

struct request {
	unsigned method;
	const char *path, *query;
	const void *payload;
	size_t len;	    /* 0: of the string */
	int format, accept; /* from 1: the number + 1 */
	const uint8_t *etag;
	size_t etag_len;
	bool if_match, if_none_match, observe;
};

#define FORMAT(f) ((f) + 1)

/* Options in rising order. */
static void say(struct device *d, const struct request *q)
{
	struct coap_bytes b;
	char token[9];

	snprintf(token, sizeof(token), "%u", ++d->tokens);
	bytes_begin(&b, B_CON, q->method, ++d->mid, token);
	if (q->if_match)
		bytes_option(&b, OPT_IF_MATCH, q->etag, q->etag_len);
	else if (q->etag_len > 0)
		bytes_option(&b, OPT_ETAG, q->etag, q->etag_len);
	if (q->if_none_match)
		bytes_option(&b, OPT_IF_NONE_MATCH, NULL, 0);
	if (q->observe)
		bytes_number(&b, OPT_OBSERVE, 0);
	bytes_path(&b, q->path);
	if (q->format)
		bytes_number(&b, OPT_CONTENT_FORMAT, (uint32_t)q->format - 1);
	if (q->query)
		bytes_option(&b, OPT_URI_QUERY, q->query, strlen(q->query));
	if (q->accept)
		bytes_number(&b, OPT_ACCEPT, (uint32_t)q->accept - 1);
	if (q->payload)
		bytes_payload(&b, q->payload, q->len ? q->len : strlen(q->payload));
	deliver(d, &b);
}

static const struct coap_seen *ask_with(struct device *d, struct request q)
{
	say(d, &q);
	return await(d);
}

#define ASK(d, ...) ask_with(d, (struct request){__VA_ARGS__})

static const struct coap_seen *get(struct device *d, const char *path)
{
	return ASK(d, .method = FG_COAP_GET, .path = path);
}

static const struct coap_seen *put(struct device *d, const char *path, const char *payload)
{
	return ASK(d, .method = FG_COAP_PUT, .path = path, .payload = payload,
		   .format = FORMAT(FG_COAP_JSON));
}

static const struct coap_seen *patch(struct device *d, const char *path, const char *payload)
{
	return ASK(d, .method = FG_COAP_PATCH, .path = path, .payload = payload,
		   .format = FORMAT(FG_COAP_JSON));
}

static void assert_code(const struct coap_seen *seen, unsigned code)
{
	if (seen->code != code)
		fail_msg("%u.%02u, not %u.%02u: %.*s", seen->code >> 5, seen->code & 31, code >> 5,
			 code & 31, (int)seen->payload_len,
			 seen->payload_len ? (const char *)seen->payload : "");
}

static void assert_content(const struct coap_seen *seen, const char *payload)
{
	assert_code(seen, CODE(2, 5));
	if (!seen_text(seen, payload))
		fail_msg("%.*s, not %s", (int)seen->payload_len,
			 seen->payload_len ? (const char *)seen->payload : "", payload);
}

static void assert_says(const struct coap_seen *seen, unsigned code, const char *words)
{
	char text[256];

	assert_code(seen, code);
	snprintf(text, sizeof(text), "%.*s", (int)seen->payload_len,
		 seen->payload_len ? (const char *)seen->payload : "");
	if (!strstr(text, words))
		fail_msg("'%s' does not say '%s'", text, words);
	assert_int_equal(seen_number(seen, OPT_CONTENT_FORMAT), -1);
}

struct etag {
	uint8_t bytes[8];
	size_t len;
};

static struct etag etag_of(const struct coap_seen *seen)
{
	struct etag e = {0};

	for (size_t i = 0; i < seen->option_count; i++) {
		if (seen->option[i].number != OPT_ETAG)
			continue;
		e.len = seen->option[i].len;
		memcpy(e.bytes, seen->option[i].value, e.len);
	}
	assert_true(e.len > 0);
	return e;
}

/* --- Setting up --- */

static void allow(struct snapshot_builder *b, const char *policy, enum policy_action action,
		  const char *filter)
{
	char err[128];

	if (snapshot_add_policy_rule(b, policy, false, action, filter, err, sizeof(err)) != 0)
		fail_msg("%s", err);
}

static void add_device(struct snapshot_builder *b, const char *id, const char *policy)
{
	char err[128];

	if (snapshot_add_principal(b, id, PRINCIPAL_DEVICE, PRINCIPAL_ACTIVE, policy, err,
				   sizeof(err)) != 0)
		fail_msg("%s", err);
}

/* The rights of sql/0007_documents.sql for every device; and such that reading and changing, and
 * one document and the other, are told apart. */
static const struct snapshot *make_snapshot(void)
{
	static const char *const filters[] = {"m/d/${device}/state", "m/d/${device}/state/#",
					      "m/d/${device}/store/#"};
	struct snapshot_builder *b = snapshot_builder_new();
	const struct snapshot *s;
	char err[128];

	assert_int_equal(snapshot_add_policy(b, "device", err, sizeof(err)), 0);
	assert_int_equal(snapshot_add_policy(b, "little", err, sizeof(err)), 0);
	assert_int_equal(snapshot_add_policy(b, "none", err, sizeof(err)), 0);
	for (size_t i = 0; i < 3; i++) {
		allow(b, "device", POLICY_PUBLISH, filters[i]);
		allow(b, "device", POLICY_RECEIVE, filters[i]);
	}
	allow(b, "little", POLICY_RECEIVE, "m/d/${device}/state");
	allow(b, "little", POLICY_RECEIVE, "m/d/${device}/state/desired");
	allow(b, "little", POLICY_PUBLISH, "m/d/${device}/state/reported");
	allow(b, "little", POLICY_RECEIVE, "m/d/${device}/store/readable");
	allow(b, "little", POLICY_PUBLISH, "m/d/${device}/store/writable");
	add_device(b, "x", "device");
	add_device(b, "y", "device");
	add_device(b, "little", "little");
	add_device(b, "locked", "none");
	s = snapshot_build(b, 1);
	assert_non_null(s);
	return s;
}

static void make_device(struct device *d, const char *id)
{
	static uint64_t sessions;

	memset(d, 0, sizeof(*d));
	strcpy(d->identity.id, id);
	d->session_id = ++sessions;
}

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

static void wait_connected(void)
{
	int64_t deadline_us = clock_monotonic_us() + PATIENCE_US;

	while (get(&x, "store/nothing")->code == CODE(5, 3)) {
		if (clock_monotonic_us() > deadline_us)
			fail_msg("no connection to the database");
		usleep(2000);
	}
}

static void open_server(void)
{
	const struct coap_server_options o = {
		.routes = resource_routes,
		.route_count = resource_route_count,
		.arg = &resources,
		.admit = admit,
		.send = receive,
		.max_body = 65536,
		.max_transfers = 4,
		.max_transfers_all = 16,
		.max_exchanges = 32,
		.max_observations = 4,
		.dedup_per_session = 16,
		.dedup_bytes = 1 << 20,
	};

	assert_int_equal(coap_server_open(&resources.server, &o), 0);
}

static int begin(void **state)
{
	const struct document_options o = {
		.database_url = cluster.url,
		.connect_timeout_s = 10,
		.statement_timeout_s = 30,
		.max_queue = 4,
		.max_bytes = MAX_BYTES,
		.max_values = 3,
	};
	char err[256];

	(void)state;
	pg_cluster_sql(&cluster, "delete from device;"
				 "insert into device (id) values"
				 " ('x'), ('y'), ('little'), ('locked')");
	memset(&resources, 0, sizeof(resources));
	resources.config = &config;
	resources.snapshot = make_snapshot();
	arena_init(&resources.arena, 65536, 16u << 20);
	open_server();
	if (documents_open(&resources.documents, &o, err, sizeof(err)) != 0)
		fail_msg("%s", err);
	make_device(&x, "x");
	make_device(&y, "y");
	make_device(&little, "little");
	make_device(&locked, "locked");
	wait_connected();
	return 0;
}

static int end(void **state)
{
	struct device *const devices[] = {&x, &y, &little, &locked, NULL};

	(void)state;
	for (size_t i = 0; devices[i]; i++)
		coap_server_forget(resources.server, &devices[i]->peer);
	documents_close(resources.documents);
	coap_server_close(resources.server);
	snapshot_release(resources.snapshot);
	arena_free(&resources.arena);
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

static void sql(const char *text)
{
	pg_cluster_sql(&cluster, text);
}

/* --- state --- */

static void test_a_device_does_what_is_desired_and_reports_it(void **state)
{
	const struct coap_seen *seen;

	(void)state;
	sql("select desire('x', '{\"interval\": 60, \"led\": {\"red\": true}}')");
	seen = get(&x, "state");
	assert_content(seen, "{\"led\":{\"red\":true},\"interval\":60}");
	assert_int_equal(seen_number(seen, OPT_CONTENT_FORMAT), FG_COAP_JSON);
	assert_code(patch(&x, "state/reported", "{\"interval\":60}"), CODE(2, 4));
	assert_content(get(&x, "state"), "{\"led\":{\"red\":true}}");
	assert_code(patch(&x, "state/reported", "{\"led\":{\"red\":true,\"green\":false}}"),
		    CODE(2, 4));
	assert_int_equal(pg_cluster_number(&cluster, "select count(*) from device_shadow"
						     " where device = 'x' and delta = '{}'"),
			 1);
}

/* Nordic's client takes a payload of no bytes for "no delta". */
static void test_nothing_to_do_is_no_payload(void **state)
{
	static const char *const queries[] = {NULL, "delta=true", "delta=false"};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		const struct coap_seen *seen =
			ASK(&x, .method = FG_COAP_GET, .path = "state", .query = queries[i],
			    .accept = FORMAT(FG_COAP_JSON));

		assert_code(seen, CODE(2, 5));
		assert_int_equal(seen->payload_len, 0);
	}
}

static void test_delta_false_is_all_that_is_desired(void **state)
{
	(void)state;
	sql("select desire('x', '{\"a\": 1, \"b\": 2}')");
	patch(&x, "state/reported", "{\"a\":1}");
	assert_content(get(&x, "state"), "{\"b\":2}");
	assert_content(ASK(&x, .method = FG_COAP_GET, .path = "state", .query = "delta=true"),
		       "{\"b\":2}");
	assert_content(ASK(&x, .method = FG_COAP_GET, .path = "state", .query = "delta=false"),
		       "{\"a\":1,\"b\":2}");
	assert_content(ASK(&x, .method = FG_COAP_GET, .path = "state", .query = "all"),
		       "{\"desired\":{\"a\":1,\"b\":2},\"reported\":{\"a\":1}}");
	assert_content(ASK(&x, .method = FG_COAP_GET, .path = "state", .query = "overall"),
		       "{\"b\":2}");
}

/* As the firmware of hello.nrfcloud.com and Nordic's template do it. */
static void test_cbor_that_is_reported_back_as_it_came_has_done_it_all(void **state)
{
	const struct coap_seen *seen;
	uint8_t cbor[256];
	size_t len;

	(void)state;
	sql("select desire('x', '{\"config\": {\"interval\": 600, \"gnss\": true, \"f\": 0.5,"
	    " \"n\": -1, \"t\": \"\\u00e4\", \"list\": [1, 70000, 1e300, 5000000000]}}')");
	seen = ASK(&x, .method = FG_COAP_GET, .path = "state", .accept = FORMAT(FG_COAP_CBOR));
	assert_code(seen, CODE(2, 5));
	assert_int_equal(seen_number(seen, OPT_CONTENT_FORMAT), FG_COAP_CBOR);
	len = seen->payload_len;
	assert_in_range(len, 1, sizeof(cbor));
	memcpy(cbor, seen->payload, len);
	assert_memory_equal(cbor,
			    "\xa1\x66"
			    "config",
			    8);
	assert_code(ASK(&x, .method = FG_COAP_PATCH, .path = "state/reported", .payload = cbor,
			.len = len, .format = FORMAT(FG_COAP_CBOR)),
		    CODE(2, 4));
	seen = ASK(&x, .method = FG_COAP_GET, .path = "state", .accept = FORMAT(FG_COAP_CBOR));
	assert_code(seen, CODE(2, 5));
	assert_int_equal(seen->payload_len, 0);

	/* {"config": null}: Nordic's way to clear what it has reported */
	assert_code(ASK(&x, .method = FG_COAP_PATCH, .path = "state/reported",
			.payload = "\xa1\x66"
				   "config\xf6",
			.len = 9, .format = FORMAT(FG_COAP_CBOR)),
		    CODE(2, 4));
	assert_int_equal(pg_cluster_number(&cluster, "select count(*) from device_shadow"
						     " where device = 'x' and reported = '{}'"),
			 1);
}

static void test_a_device_changes_and_replaces_both_documents(void **state)
{
	(void)state;
	assert_code(put(&x, "state/reported", "{\"a\":1,\"b\":2}"), CODE(2, 4));
	assert_code(patch(&x, "state/reported", "{\"a\":null,\"c\":3}"), CODE(2, 4));
	assert_code(ASK(&x, .method = FG_COAP_IPATCH, .path = "state/desired",
			.payload = "{\"d\":4}", .format = FORMAT(FG_COAP_MERGE_PATCH_JSON)),
		    CODE(2, 4));
	assert_content(ASK(&x, .method = FG_COAP_GET, .path = "state", .query = "all"),
		       "{\"desired\":{\"d\":4},\"reported\":{\"b\":2,\"c\":3}}");
	assert_code(put(&x, "state/desired", "{\"e\":5}"), CODE(2, 4));
	assert_code(put(&x, "state/reported", "{}"), CODE(2, 4));
	assert_content(ASK(&x, .method = FG_COAP_GET, .path = "state", .query = "all"),
		       "{\"desired\":{\"e\":5},\"reported\":{}}");
	assert_content(ASK(&y, .method = FG_COAP_GET, .path = "state", .query = "all"),
		       "{\"desired\":{},\"reported\":{}}");
}

static void test_a_number_that_no_double_holds_is_kept(void **state)
{
	(void)state;
	patch(&x, "state/desired", "{\"n\":12345678901234567890123}");
	assert_content(get(&x, "state"), "{\"n\":12345678901234567890123}");
}

static void test_what_is_wrong_is_said(void **state)
{
	static char deep[200] = "{\"a\":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}";
	char large[MAX_BYTES + 10];

	(void)state;
	assert_says(patch(&x, "state/reported", "{\"a\":1,\n\"b\":}"), CODE(4, 0), "line 2");
	assert_says(patch(&x, "state/reported", NULL), CODE(4, 0), "JSON");
	assert_says(patch(&x, "state/reported", "[1]"), CODE(4, 0), "object");
	assert_says(patch(&x, "state/reported", deep), CODE(4, 0), "16");
	assert_says(ASK(&x, .method = FG_COAP_PATCH, .path = "state/reported",
			.payload = "\xa1\x61", .len = 2, .format = FORMAT(FG_COAP_CBOR)),
		    CODE(4, 0), "CBOR");
	assert_says(ASK(&x, .method = FG_COAP_PATCH, .path = "state/reported", .payload = "{}",
			.format = FORMAT(FG_COAP_TEXT)),
		    CODE(4, 15), "JSON");
	assert_says(ASK(&x, .method = FG_COAP_PUT, .path = "state/reported", .payload = "{}",
			.format = FORMAT(FG_COAP_MERGE_PATCH_JSON)),
		    CODE(4, 15), "52");
	assert_says(ASK(&x, .method = FG_COAP_GET, .path = "state",
			.accept = FORMAT(FG_COAP_OCTET_STREAM)),
		    CODE(4, 6), "CBOR");
	assert_code(get(&x, "state/reported"), CODE(4, 5));

	snprintf(large, sizeof(large), "{\"a\":\"%0990d\"}", 1);
	assert_code(patch(&x, "state/reported", large), CODE(2, 4));
	large[2] = 'b';
	assert_code(patch(&x, "state/reported", large), CODE(2, 4));
	large[2] = 'c';
	assert_says(patch(&x, "state/reported", large), CODE(4, 13), "2000");
	assert_int_equal(pg_cluster_number(&cluster, "select count(*) from device_shadow"
						     " where device = 'x' and reported ? 'c'"),
			 0);
}

static void test_state_that_the_device_has_is_not_sent_again(void **state)
{
	const struct coap_seen *seen;
	struct etag json, cbor;

	(void)state;
	sql("select desire('x', '{\"a\": 1}')");
	json = etag_of(get(&x, "state"));
	seen = ASK(&x, .method = FG_COAP_GET, .path = "state", .etag = json.bytes,
		   .etag_len = json.len);
	assert_code(seen, CODE(2, 3));
	assert_int_equal(seen->payload_len, 0);
	assert_memory_equal(etag_of(seen).bytes, json.bytes, json.len);

	/* The same state in another form is not what it has. */
	seen = ASK(&x, .method = FG_COAP_GET, .path = "state", .etag = json.bytes,
		   .etag_len = json.len, .accept = FORMAT(FG_COAP_CBOR));
	assert_code(seen, CODE(2, 5));
	cbor = etag_of(seen);
	assert_memory_not_equal(cbor.bytes, json.bytes, json.len);

	sql("select desire('x', '{\"a\": 2}')");
	assert_content(ASK(&x, .method = FG_COAP_GET, .path = "state", .etag = json.bytes,
			   .etag_len = json.len),
		       "{\"a\":2}");
}

static void test_state_changes_only_if_it_is_what_the_device_knows(void **state)
{
	struct etag first, second;

	(void)state;
	first = etag_of(get(&x, "state"));
	second = etag_of(ASK(&x, .method = FG_COAP_PATCH, .path = "state/reported",
			     .payload = "{\"a\":1}", .if_match = true, .etag = first.bytes,
			     .etag_len = first.len));
	assert_says(ASK(&x, .method = FG_COAP_PATCH, .path = "state/reported",
			.payload = "{\"a\":2}", .if_match = true, .etag = first.bytes,
			.etag_len = first.len),
		    CODE(4, 12), "version");
	assert_says(ASK(&x, .method = FG_COAP_PATCH, .path = "state/reported",
			.payload = "{\"a\":2}", .if_match = true, .etag = (const uint8_t *)"abc",
			.etag_len = 3),
		    CODE(4, 12), "ETag");
	assert_memory_equal(etag_of(get(&x, "state")).bytes, second.bytes, second.len);
	assert_code(ASK(&x, .method = FG_COAP_PATCH, .path = "state/reported",
			.payload = "{\"a\":2}", .if_match = true, .etag = second.bytes,
			.etag_len = second.len),
		    CODE(2, 4));
	assert_says(ASK(&x, .method = FG_COAP_PUT, .path = "state/reported", .payload = "{}",
			.if_none_match = true),
		    CODE(4, 12), "already");
	assert_code(ASK(&x, .method = FG_COAP_PUT, .path = "state/desired", .payload = "{\"b\":1}",
			.if_none_match = true),
		    CODE(2, 4));
	assert_code(ASK(&x, .method = FG_COAP_PUT, .path = "state/desired", .payload = "{}",
			.if_match = true),
		    CODE(2, 4));
}

static void test_who_may_not_is_told_so(void **state)
{
	(void)state;
	assert_code(get(&locked, "state"), CODE(4, 3));
	assert_code(patch(&locked, "state/reported", "{}"), CODE(4, 3));
	assert_code(put(&locked, "state/desired", "{}"), CODE(4, 3));
	assert_code(get(&locked, "store/v"), CODE(4, 3));
	assert_code(put(&locked, "store/v", "1"), CODE(4, 3));
	assert_code(ASK(&locked, .method = FG_COAP_DELETE, .path = "store/v"), CODE(4, 3));
}

static void test_each_right_is_for_one_thing(void **state)
{
	(void)state;
	assert_code(get(&little, "state"), CODE(2, 5));
	assert_code(patch(&little, "state/reported", "{\"a\":1}"), CODE(2, 4));
	assert_code(patch(&little, "state/desired", "{\"a\":1}"), CODE(4, 3));
	assert_code(get(&little, "store/readable"), CODE(4, 4));
	assert_code(put(&little, "store/readable", "1"), CODE(4, 3));
	assert_code(ASK(&little, .method = FG_COAP_DELETE, .path = "store/readable"), CODE(4, 3));
	assert_code(put(&little, "store/writable", "1"), CODE(2, 1));
	assert_code(get(&little, "store/writable"), CODE(4, 3));
	assert_code(ASK(&little, .method = FG_COAP_DELETE, .path = "store/writable"), CODE(2, 2));
}

static void test_a_large_state_comes_in_blocks(void **state)
{
	const struct coap_seen *seen;

	(void)state;
	sql("update device_state set desired = '{}';"
	    "select desire('x', jsonb_build_object('a', repeat('x', 1500)))");
	seen = get(&x, "state");
	assert_code(seen, CODE(2, 5));
	assert_int_equal(seen->payload_len, 1024);
	assert_int_equal(seen_number(seen, OPT_BLOCK2), block_value(0, true, 6));
	etag_of(seen);
}

/* --- store --- */

static void test_a_value_is_made_replaced_read_and_deleted(void **state)
{
	const struct coap_seen *seen;

	(void)state;
	assert_code(get(&x, "store/v"), CODE(4, 4));
	seen = ASK(&x, .method = FG_COAP_PUT, .path = "store/v", .payload = "\x00\xff\x01",
		   .len = 3, .format = FORMAT(12345));
	assert_code(seen, CODE(2, 1));
	assert_int_equal(seen->payload_len, 0);
	seen = get(&x, "store/v");
	assert_code(seen, CODE(2, 5));
	assert_int_equal(seen_number(seen, OPT_CONTENT_FORMAT), 12345);
	assert_int_equal(seen->payload_len, 3);
	assert_memory_equal(seen->payload, "\x00\xff\x01", 3);
	assert_code(get(&y, "store/v"), CODE(4, 4));

	assert_code(ASK(&x, .method = FG_COAP_PUT, .path = "store/v", .payload = "text"),
		    CODE(2, 4));
	seen = get(&x, "store/v");
	assert_content(seen, "text");
	assert_int_equal(seen_number(seen, OPT_CONTENT_FORMAT), -1);
	assert_code(ASK(&x, .method = FG_COAP_DELETE, .path = "store/v"), CODE(2, 2));
	assert_code(get(&x, "store/v"), CODE(4, 4));
	assert_code(ASK(&x, .method = FG_COAP_DELETE, .path = "store/v"), CODE(2, 2));
}

static void test_a_value_is_not_turned_into_another_format(void **state)
{
	(void)state;
	put(&x, "store/v", "{}");
	assert_content(
		ASK(&x, .method = FG_COAP_GET, .path = "store/v", .accept = FORMAT(FG_COAP_JSON)),
		"{}");
	assert_code(
		ASK(&x, .method = FG_COAP_GET, .path = "store/v", .accept = FORMAT(FG_COAP_CBOR)),
		CODE(4, 6));
	ASK(&x, .method = FG_COAP_PUT, .path = "store/w", .payload = "1");
	assert_content(ASK(&x, .method = FG_COAP_GET, .path = "store/w",
			   .accept = FORMAT(FG_COAP_OCTET_STREAM)),
		       "1");
}

static void test_names_are_limited(void **state)
{
	char path[80] = "store/";

	(void)state;
	memset(path + 6, 'n', 64);
	assert_code(put(&x, path, "1"), CODE(2, 1));
	path[70] = 'n';
	assert_says(put(&x, path, "1"), CODE(4, 4), "64");
	assert_code(put(&x, "store/a b", "1"), CODE(4, 4));
	assert_code(put(&x, "store/a/b", "1"), CODE(4, 4));
	assert_code(put(&x, "store/\xc3\xa4", "1"), CODE(4, 4));
	assert_code(put(&x, "store/", "1"), CODE(4, 4));
	assert_code(put(&x, "store/..", "1"), CODE(4, 4));
	assert_code(put(&x, "store/A-z_0.9", "1"), CODE(2, 1));
	assert_int_equal(pg_cluster_number(&cluster, "select count(*) from device_value"), 2);
}

static void test_number_of_values_is_limited(void **state)
{
	(void)state;
	put(&x, "store/a", "1");
	put(&x, "store/b", "1");
	put(&x, "store/c", "1");
	assert_says(put(&x, "store/d", "1"), CODE(4, 13), "delete one");
	assert_code(put(&x, "store/c", "2"), CODE(2, 4));
}

static void test_a_value_that_the_device_has_is_not_sent_again(void **state)
{
	struct etag made, read;

	(void)state;
	made = etag_of(put(&x, "store/v", "1"));
	read = etag_of(get(&x, "store/v"));
	assert_int_equal(made.len, read.len);
	assert_memory_equal(made.bytes, read.bytes, made.len);
	assert_code(ASK(&x, .method = FG_COAP_GET, .path = "store/v", .etag = made.bytes,
			.etag_len = made.len),
		    CODE(2, 3));
	put(&x, "store/v", "2");
	assert_content(ASK(&x, .method = FG_COAP_GET, .path = "store/v", .etag = made.bytes,
			   .etag_len = made.len),
		       "2");
}

static void test_a_value_changes_only_if_it_is_what_the_device_knows(void **state)
{
	struct etag made;

	(void)state;
	assert_code(
		ASK(&x, .method = FG_COAP_PUT, .path = "store/v", .payload = "1", .if_match = true),
		CODE(4, 12));
	made = etag_of(ASK(&x, .method = FG_COAP_PUT, .path = "store/v", .payload = "1",
			   .if_none_match = true));
	assert_code(ASK(&x, .method = FG_COAP_PUT, .path = "store/v", .payload = "2",
			.if_none_match = true),
		    CODE(4, 12));
	sql("update device_value set value = 'changed'");
	assert_code(ASK(&x, .method = FG_COAP_PUT, .path = "store/v", .payload = "2",
			.if_match = true, .etag = made.bytes, .etag_len = made.len),
		    CODE(4, 12));
	assert_code(ASK(&x, .method = FG_COAP_DELETE, .path = "store/v", .if_match = true,
			.etag = made.bytes, .etag_len = made.len),
		    CODE(4, 12));
	made = etag_of(get(&x, "store/v"));
	assert_code(ASK(&x, .method = FG_COAP_DELETE, .path = "store/v", .if_match = true,
			.etag = made.bytes, .etag_len = made.len),
		    CODE(2, 2));
}

/* --- Observe --- */

static int64_t observe(struct device *d, const char *path, const char *query)
{
	const struct coap_seen *seen =
		ASK(d, .method = FG_COAP_GET, .path = path, .query = query, .observe = true);

	assert_code(seen, CODE(2, 5));
	assert_true(seen_has(seen, OPT_OBSERVE));
	return seen_number(seen, OPT_OBSERVE);
}

static void test_a_device_that_observes_is_told_what_is_desired(void **state)
{
	const struct coap_seen *seen;

	(void)state;
	observe(&x, "state", NULL);
	sql("select desire('y', '{\"not\": \"for x\"}'), desire('x', '{\"a\": 1}')");
	seen = await(&x);
	assert_content(seen, "{\"a\":1}");
	assert_true(seen_has(seen, OPT_OBSERVE));
	assert_int_equal(seen->type, B_CON);
	sql("update device_state set desired = '{\"a\": 2}' where device = 'x'");
	assert_content(await(&x), "{\"a\":2}");
}

static void test_a_device_is_not_woken_for_what_it_has_reported(void **state)
{
	(void)state;
	observe(&x, "state", NULL);
	assert_code(patch(&x, "state/reported", "{\"temperature\":20}"), CODE(2, 4));
	for (int i = 0; i < 20; i++)
		turn();
	sql("select desire('x', '{\"a\": 1}')");
	assert_content(await(&x), "{\"a\":1}"); /* the first that it hears */
}

static void test_who_observes_all_of_the_state_is_told_of_reports_too(void **state)
{
	(void)state;
	observe(&x, "state", "all");
	sql("update device_state set reported = '{}';"
	    "insert into device_state (device, reported) values ('x', '{\"temperature\": 20}')");
	assert_content(await(&x), "{\"desired\":{},\"reported\":{\"temperature\":20}}");
	sql("update device_state set reported = '{\"temperature\": 21}'");
	assert_content(await(&x), "{\"desired\":{},\"reported\":{\"temperature\":21}}");
}

static void test_an_observed_value_is_told_until_it_is_deleted(void **state)
{
	const struct coap_seen *seen;

	(void)state;
	put(&x, "store/v", "1");
	observe(&x, "store/v", NULL);
	sql("update device_value set value = '2'");
	assert_content(await(&x), "2");
	sql("delete from device_value");
	seen = await(&x);
	assert_code(seen, CODE(4, 4));
	assert_false(seen_has(seen, OPT_OBSERVE));
}

static void test_what_is_not_there_cannot_be_observed(void **state)
{
	const struct coap_seen *seen =
		ASK(&x, .method = FG_COAP_GET, .path = "store/v", .observe = true);

	(void)state;
	assert_code(seen, CODE(4, 4));
	assert_false(seen_has(seen, OPT_OBSERVE));
}

static void test_a_change_while_the_connection_was_lost_is_told(void **state)
{
	(void)state;
	observe(&x, "state", NULL);
	/* Such a one that nobody listens to. */
	sql("alter table device_state disable trigger device_state_notify;"
	    "select desire('x', '{\"a\": 1}');"
	    "alter table device_state enable trigger device_state_notify");
	pg_cluster_stop(&cluster);
	pg_cluster_start(&cluster);
	assert_content(await(&x), "{\"a\":1}");
}

/* --- Trouble --- */

static void test_a_database_that_is_away_is_said_at_once(void **state)
{
	const struct coap_seen *seen;

	(void)state;
	pg_cluster_stop(&cluster);
	do {
		turn();
		seen = get(&x, "state");
	} while (seen->code == CODE(2, 5));
	assert_says(seen, CODE(5, 3), "database");
	assert_true(seen_number(seen, OPT_MAX_AGE) > 0);
	assert_code(put(&x, "store/v", "1"), CODE(5, 3));
	pg_cluster_start(&cluster);
	wait_connected();
	assert_code(put(&x, "store/v", "1"), CODE(2, 1));
}

static void test_requests_under_way_when_the_database_dies_are_answered(void **state)
{
	const struct coap_seen *seen;

	(void)state;
	pg_cluster_pause(&cluster);
	say(&x, &(struct request){.method = FG_COAP_GET, .path = "state"});
	for (int i = 0; i < 5; i++)
		turn();
	assert_null(take(&x));
	pg_cluster_kill(&cluster);
	seen = await(&x);
	assert_says(seen, CODE(5, 3), "database");
	assert_true(seen_number(seen, OPT_MAX_AGE) > 0);
	pg_cluster_start(&cluster);
	wait_connected();
}

static void test_more_than_the_queue_holds_comes_back_later(void **state)
{
	const struct coap_seen *seen;

	(void)state;
	pg_cluster_pause(&cluster);
	for (int i = 0; i < 5; i++)
		say(&x, &(struct request){.method = FG_COAP_GET, .path = "state"});
	seen = take(&x);
	assert_non_null(seen);
	assert_says(seen, CODE(5, 3), "many");
	assert_int_equal(seen_number(seen, OPT_MAX_AGE), 5);
	assert_null(take(&x));
	pg_cluster_resume(&cluster);
	for (int i = 0; i < 4; i++)
		assert_code(await(&x), CODE(2, 5));
}

static void test_a_session_may_end_before_its_answer_comes(void **state)
{
	(void)state;
	say(&y, &(struct request){.method = FG_COAP_GET, .path = "state", .observe = true});
	coap_server_forget(resources.server, &y.peer);
	assert_content(ASK(&x, .method = FG_COAP_GET, .path = "state", .query = "all"),
		       "{\"desired\":{},\"reported\":{}}");
	turn();
	assert_null(take(&y));
}

static void test_a_device_that_is_not_registered_any_more_is_told(void **state)
{
	(void)state;
	sql("delete from device where id = 'x'");
	assert_says(patch(&x, "state/reported", "{\"a\":1}"), CODE(4, 4), "device");
	assert_says(put(&x, "store/v", "1"), CODE(4, 4), "device");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_device_does_what_is_desired_and_reports_it),
		TEST(test_nothing_to_do_is_no_payload),
		TEST(test_delta_false_is_all_that_is_desired),
		TEST(test_cbor_that_is_reported_back_as_it_came_has_done_it_all),
		TEST(test_a_device_changes_and_replaces_both_documents),
		TEST(test_a_number_that_no_double_holds_is_kept),
		TEST(test_what_is_wrong_is_said),
		TEST(test_state_that_the_device_has_is_not_sent_again),
		TEST(test_state_changes_only_if_it_is_what_the_device_knows),
		TEST(test_who_may_not_is_told_so),
		TEST(test_each_right_is_for_one_thing),
		TEST(test_a_large_state_comes_in_blocks),
		TEST(test_a_value_is_made_replaced_read_and_deleted),
		TEST(test_a_value_is_not_turned_into_another_format),
		TEST(test_names_are_limited),
		TEST(test_number_of_values_is_limited),
		TEST(test_a_value_that_the_device_has_is_not_sent_again),
		TEST(test_a_value_changes_only_if_it_is_what_the_device_knows),
		TEST(test_a_device_that_observes_is_told_what_is_desired),
		TEST(test_a_device_is_not_woken_for_what_it_has_reported),
		TEST(test_who_observes_all_of_the_state_is_told_of_reports_too),
		TEST(test_an_observed_value_is_told_until_it_is_deleted),
		TEST(test_what_is_not_there_cannot_be_observed),
		TEST(test_a_change_while_the_connection_was_lost_is_told),
		TEST(test_a_database_that_is_away_is_said_at_once),
		TEST(test_requests_under_way_when_the_database_dies_are_answered),
		TEST(test_more_than_the_queue_holds_comes_back_later),
		TEST(test_a_session_may_end_before_its_answer_comes),
		TEST(test_a_device_that_is_not_registered_any_more_is_told),
	};

	return cmocka_run_group_tests(tests, start_cluster, drop_cluster);
}
