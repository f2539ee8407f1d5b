/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap/coap_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"

static int64_t now_us;

static int64_t monotonic(void)
{
	return now_us;
}

static int64_t realtime(void)
{
	return INT64_C(1700000000) * US_PER_S + now_us;
}

void fixture_pass(int64_t us)
{
	now_us += us;
}

int64_t fixture_now(void)
{
	return now_us;
}

static bool admit(void *arg, void *session, unsigned method, const char *path,
		  struct coap_reply *reply)
{
	struct fixture *f = arg;

	(void)session;
	(void)method;
	(void)path;
	f->admit_asked++;
	reply->code = FG_COAP_CODE(4, 1);
	return f->admit;
}

static int keep_sent(void *arg, void *session, const uint8_t *data, size_t len)
{
	struct session *s = session;
	struct sent *m = &s->sent[s->sent_count++ % s->sent_max];

	(void)arg;
	assert_true(len <= sizeof(m->data));
	memcpy(m->data, data, len);
	m->len = len;
	return s->unreachable ? -1 : 0;
}

static enum coap_done handler(void *arg, const struct coap_call *call, struct coap_reply *reply,
			      struct coap_exchange *e)
{
	struct fixture *f = arg;

	f->called++;
	if (call->notification)
		f->notified++;
	f->last = *call;
	strcpy(f->path, call->path);
	strcpy(f->rest, call->rest);
	strcpy(f->query, call->query);
	if (call->payload_len > 0 && call->payload_len <= 1 << 20)
		memcpy(f->payload, call->payload, call->payload_len);
	f->payload_len = call->payload_len;
	if (f->in_handler != NULL)
		f->in_handler(f, call);
	*reply = f->reply;
	assert_non_null(e);
	if (f->done == COAP_LATER)
		f->exchange[f->exchanges++ % 64] = e;
	return f->done;
}

static void delivered(void *arg, void *session, int64_t delivery, enum coap_delivery how)
{
	struct fixture *f = arg;

	f->delivered++;
	f->delivery = delivery;
	f->how = how;
	f->delivered_to = session;
	if (f->in_delivered != NULL)
		f->in_delivered(f);
}

static const struct coap_route routes[] = {
	{.path = "msg",
	 .methods = FG_COAP_METHOD(FG_COAP_POST) | FG_COAP_METHOD(FG_COAP_PUT),
	 .handler = handler,
	 .attributes = "rt=\"fg.telemetry\";ct=\"50 60\""},
	{.path = "state",
	 .methods = FG_COAP_METHOD(FG_COAP_GET),
	 .handler = handler,
	 .attributes = "rt=\"fg.state core.x\";title=\"State\"",
	 .observable = true},
	{.path = "store",
	 .subtree = true,
	 .methods = FG_COAP_METHOD(FG_COAP_GET) | FG_COAP_METHOD(FG_COAP_PUT) |
		    FG_COAP_METHOD(FG_COAP_DELETE) | FG_COAP_METHOD(FG_COAP_FETCH),
	 .handler = handler,
	 .observable = true},
};

struct coap_server_options fixture_options;

void fixture_defaults(void)
{
	fixture_options = (struct coap_server_options){
		.routes = routes,
		.route_count = sizeof(routes) / sizeof(*routes),
		.admit = admit,
		.send = keep_sent,
		.delivered = delivered,
		.max_body = 65536,
		.max_transfers = 2,
		.max_transfers_all = 8,
		.max_exchanges = 16,
		.max_observations = 4,
		.max_observers = 12,
		.dedup_per_session = 16,
		.dedup_bytes = 1 << 20,
	};
}

struct fixture *fixture_new(void)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	now_us = 1000 * US_PER_S;
	clock_override(realtime, monotonic);
	f->admit = true;
	f->payload = malloc(1 << 20);
	assert_non_null(f->payload);
	reply_with(f, FG_COAP_CODE(2, 4), NULL);
	if (fixture_options.send == NULL)
		fixture_defaults();
	if (fixture_options.arg == NULL)
		fixture_options.arg = f;
	assert_int_equal(coap_server_open(&f->server, &fixture_options), 0);
	f->a = session_new(f, 1);
	f->b = session_new(f, 2);
	return f;
}

void fixture_free(struct fixture *f)
{
	session_end(f->a);
	session_end(f->b);
	coap_server_close(f->server);
	free(f->payload);
	free(f);
	clock_override(NULL, NULL);
	fixture_defaults();
}

static struct session *session_of(struct fixture *f, uint64_t id, size_t sent_max)
{
	struct session *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->sent = malloc(sent_max * sizeof(*s->sent));
	assert_non_null(s->sent);
	s->sent_max = sent_max;
	s->f = f;
	s->id = id;
	return s;
}

struct session *session_new(struct fixture *f, uint64_t id)
{
	return session_of(f, id, FIXTURE_SENT_MAX);
}

struct session *session_new_small(struct fixture *f, uint64_t id)
{
	return session_of(f, id, 4);
}

void session_end(struct session *s)
{
	if (s == NULL)
		return;
	coap_server_forget(s->f->server, &s->peer);
	assert_null(s->peer);
	free(s->sent);
	free(s);
}

void fixture_run(struct fixture *f, int64_t us)
{
	int64_t end = now_us + us;

	for (int i = 0; i < 100000; i++) {
		int64_t next = coap_server_tick(f->server);

		if (next > end)
			break;
		if (next > now_us)
			now_us = next;
	}
	now_us = end;
	coap_server_tick(f->server);
}

void deliver(struct session *s, const struct coap_bytes *b)
{
	/* A copy of its own size, so that a read beyond it is seen. */
	uint8_t *data = malloc(b->len == 0 ? 1 : b->len);

	assert_non_null(data);
	memcpy(data, b->data, b->len);
	coap_server_receive(s->f->server, &s->peer, s->id, s, data, b->len);
	free(data);
}

const struct sent *take(struct session *s)
{
	if (s->taken == s->sent_count)
		return NULL;
	assert_true(s->sent_count - s->taken <= s->sent_max);
	return &s->sent[s->taken++ % s->sent_max];
}

struct coap_seen expect(struct session *s)
{
	const struct sent *m = take(s);
	struct coap_seen seen;

	if (m == NULL) {
		fail_msg("nothing was sent");
		abort(); /* for the analyzer: fail_msg does not return */
	}
	assert_true(coap_see(&seen, m->data, m->len));
	return seen;
}

void expect_nothing(struct session *s)
{
	const struct sent *m = take(s);

	if (m != NULL)
		fail_msg("code %u.%02u was sent", m->data[1] >> 5, m->data[1] & 31);
}

void send_request(struct session *s, unsigned type, unsigned code, uint16_t mid, const char *token,
		  const char *path, const char *payload)
{
	struct coap_bytes b;

	bytes_begin(&b, type, code, mid, token);
	bytes_path(&b, path);
	if (payload != NULL)
		bytes_payload(&b, payload, strlen(payload));
	deliver(s, &b);
}

void send_empty(struct session *s, unsigned type, uint16_t mid)
{
	struct coap_bytes b;

	bytes_begin(&b, type, 0, mid, "");
	deliver(s, &b);
}

void reply_with(struct fixture *f, uint8_t code, const char *payload)
{
	memset(&f->reply, 0, sizeof(f->reply));
	f->done = COAP_DONE;
	f->reply.code = code;
	f->reply.format = FG_COAP_FORMAT_NONE;
	f->reply.max_age_s = -1;
	f->reply.payload = payload;
	f->reply.payload_len = payload == NULL ? 0 : strlen(payload);
}

struct coap_server_stats stats_of(const struct fixture *f)
{
	struct coap_server_stats st;

	coap_server_stats(f->server, &st);
	return st;
}
