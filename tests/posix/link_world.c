/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/posix/link_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "tests/posix/link_pki.h"

#define PATIENCE_US (20 * INT64_C(1000000))
#define TICK_US	    2000

static void on_connected(void *ctx, const struct fg_connection *connection)
{
	struct link_world *w = ctx;

	w->connections++;
	w->connection = *connection;
	if (w->when_connected)
		w->when_connected(w);
}

static void on_disconnected(void *ctx, int error, const char *reason)
{
	struct link_world *w = ctx;

	w->disconnections++;
	w->error = error;
	snprintf(w->reason, sizeof(w->reason), "%s", reason);
	if (w->when_disconnected)
		w->when_disconnected(w);
}

static void on_received(void *ctx, const void *bytes, size_t length)
{
	struct link_world *w = ctx;
	size_t at = w->target.transport == FG_TRANSPORT_COAP ? 0 : w->length;

	w->messages++;
	if (at + length > sizeof(w->message))
		at = 0;
	memcpy(w->message + at, bytes, length);
	w->length = at + length;
	if (w->when_received)
		w->when_received(w);
}

void link_world_init(struct link_world *w, const struct link_server_options *o)
{
	char error[200] = "";

	*w = (struct link_world){.loop = loop_new()};
	assert_non_null(w->loop);
	w->server = link_server_new(w->loop, o);
	w->trust = link_trust_read(link_pki("ca.pem"), error, sizeof(error));
	assert_string_equal(error, "");
	w->config = (struct link_config){
		.loop = w->loop,
		.trust = w->trust,
		.connection_id = o->connection_id,
		.handshake_min_ms = 200,
		.handshake_max_ms = 3000,
		.connected = on_connected,
		.disconnected = on_disconnected,
		.received = on_received,
		.ctx = w,
	};
	w->target = (struct fg_target){
		.transport = o->stream ? FG_TRANSPORT_MQTT : FG_TRANSPORT_COAP,
		.host = "127.0.0.1",
		.port = link_server_port(w->server),
	};
}

void link_world_identify(struct link_world *w, const char *name)
{
	char certificate[32], key[32], error[200] = "";

	snprintf(certificate, sizeof(certificate), "%s.pem", name);
	snprintf(key, sizeof(key), "%s.key", name);
	w->identity = link_identity_certificate(link_pki(certificate), link_pki(key), error,
						sizeof(error));
	assert_string_equal(error, "");
	w->config.identity = w->identity;
}

void link_world_identify_psk(struct link_world *w, const char *identity, const char *key)
{
	char error[200] = "";

	w->identity = link_identity_psk(identity, strlen(identity), key, strlen(key), error,
					sizeof(error));
	assert_string_equal(error, "");
	w->config.identity = w->identity;
}

void link_world_free(struct link_world *w)
{
	link_free(w->link);
	link_server_free(w->server);
	link_identity_free(w->identity);
	link_trust_free(w->trust);
	loop_free(w->loop);
}

struct tick {
	struct link_world *w;
	struct loop_timer timer;
	bool (*holds)(const struct link_world *w);
	int64_t end_us;
	bool held;
};

static void on_tick(void *arg)
{
	struct tick *t = arg;
	int64_t now = loop_now_us(t->w->loop);

	t->held = t->holds && t->holds(t->w);
	if (t->held || now >= t->end_us)
		loop_stop(t->w->loop);
	else
		loop_at(t->w->loop, &t->timer, now + TICK_US);
}

static bool run(struct link_world *w, bool (*holds)(const struct link_world *w), int64_t us)
{
	struct tick t = {.w = w, .holds = holds, .end_us = loop_now_us(w->loop) + us};

	t.timer = (struct loop_timer){.call = on_tick, .arg = &t};
	loop_at(w->loop, &t.timer, 0);
	loop_run(w->loop);
	return t.held;
}

void link_world_until(struct link_world *w, bool (*holds)(const struct link_world *w))
{
	if (!run(w, holds, PATIENCE_US))
		fail_msg("it did not happen; connections %u, disconnections %u: %s", w->connections,
			 w->disconnections, w->reason);
}

void link_world_pass(struct link_world *w, int ms)
{
	run(w, NULL, ms * INT64_C(1000));
}

static bool has_outcome(const struct link_world *w)
{
	return w->connections + w->disconnections > 0;
}

void link_world_open(struct link_world *w, bool resume)
{
	if (!w->link)
		w->link = link_new(&w->config);
	assert_non_null(w->link);
	w->connections = w->disconnections = 0;
	w->reason[0] = '\0';
	assert_int_equal(link_open(w->link, &w->target, resume), 0);
	assert_int_equal(w->connections + w->disconnections, 0);
	link_world_until(w, has_outcome);
}

void link_world_connect(struct link_world *w)
{
	link_world_open(w, false);
	if (w->disconnections > 0)
		fail_msg("not connected: %s", w->reason);
}

static bool has_message(const struct link_world *w)
{
	return w->messages > 0;
}

void link_world_echo(struct link_world *w, const char *text)
{
	w->messages = 0;
	w->length = 0;
	assert_int_equal(link_send(w->link, text, strlen(text)), 0);
	link_world_until(w, has_message);
	assert_int_equal(w->length, strlen(text));
	assert_memory_equal(w->message, text, w->length);
}
