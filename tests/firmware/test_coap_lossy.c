/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two clients against a model of a server over a network that loses, doubles, delays and reorders,
 * by a virtual clock. The model answers in every way that RFC 7252 allows, or not at all; it knows
 * each client's messages and checks what may never happen.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device-fw/core/coap_client.h"

#define CLIENTS	     2
#define PACKETS	     256
#define PACKET_BYTES 256
#define SEEN	     128
#define OUTBOX	     16
#define BLOCK_SZX    2
#define BLOCK_BYTES  64
#define LIFETIME_MS  247000
#define NEVER	     INT64_MAX

static struct {
	unsigned loss, repeats, late; /* of 1000 datagrams */
	unsigned bad_server;	      /* of 1000 requests: it is silent, or refuses */
	bool sleeps;
} weather;

static int64_t now_ms;
static uint64_t dice_state;
static size_t outcomes[FG_COAP_NOTIFICATION_LOST + 1];

static uint32_t dice(uint32_t sides)
{
	dice_state = dice_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(dice_state >> 33) % sides;
}

/* What a resource is when its number is n: some are longer than a block. */
static size_t representation(uint32_t n, uint8_t *out)
{
	size_t length = (size_t)snprintf((char *)out, 16, "%u:", n);
	size_t whole = n % 5 == 0 ? BLOCK_BYTES + 1 + n % 300 : length;

	for (; length < whole; length++)
		out[length] = (uint8_t)('a' + (n + length) % 26);
	return length;
}

static uint32_t expect_representation(const uint8_t *body, size_t length)
{
	uint8_t expected[512];
	char number[16] = "";
	uint32_t n;

	assert_true(length > 1);
	memcpy(number, body, length < 15 ? length : 15);
	n = (uint32_t)strtoul(number, NULL, 10);
	assert_int_equal(representation(n, expected), length);
	assert_memory_equal(body, expected, length);
	return n;
}

/* ---- the network */

struct packet {
	int64_t at_ms; /* NEVER: unused */
	size_t who, length;
	bool to_server;
	uint8_t bytes[PACKET_BYTES];
};

static struct packet packets[PACKETS];

static void put_packet(size_t who, bool to_server, const void *bytes, size_t length)
{
	struct packet *p = packets;

	while (p->at_ms != NEVER)
		assert_true(++p < packets + PACKETS);
	assert_true(length <= PACKET_BYTES);
	p->at_ms = now_ms + 20 + dice(100);
	if (dice(1000) < weather.late)
		p->at_ms += dice(20000);
	p->who = who;
	p->to_server = to_server;
	p->length = length;
	memcpy(p->bytes, bytes, length);
}

static void transmit(size_t who, bool to_server, const void *bytes, size_t length)
{
	if (dice(1000) >= weather.loss)
		put_packet(who, to_server, bytes, length);
	while (dice(1000) < weather.repeats)
		put_packet(who, to_server, bytes, length);
}

/* ---- the model of a server: what it knows of each client */

struct confirmable {
	bool used, notification;
	unsigned tries;
	int64_t next_ms, timeout_ms;
	size_t length;
	uint8_t bytes[PACKET_BYTES];
};

static struct server {
	struct {
		uint16_t id;
		int64_t at_ms;
		size_t length;
		uint8_t answer[PACKET_BYTES];
	} seen[SEEN];
	size_t seen_next;
	struct confirmable outbox[OUTBOX];
	uint16_t next_id;
	bool observed;
	uint8_t token[FG_COAP_TOKEN_LENGTH];
	uint32_t value, notified, seq_base;
	int64_t change_ms;
} servers[CLIENTS];

struct reply {
	enum fg_coap_type type;
	uint16_t id;
	const uint8_t *token;
	bool observe;
	uint32_t seq, block, number; /* block: UINT32_MAX if it was not asked for */
};

static size_t write_reply(const struct reply *r, uint8_t *out)
{
	uint8_t body[512];
	size_t length = representation(r->number, body);
	uint32_t block = r->block == UINT32_MAX ? BLOCK_SZX : r->block;
	size_t size = (size_t)16 << (block & 7), from = (block >> 4) * size;
	struct fg_coap_writer w;

	assert_true(from < length);
	fg_coap_begin(&w, out, PACKET_BYTES, r->type, FG_COAP_CODE(2, 5), r->id, r->token,
		      FG_COAP_TOKEN_LENGTH);
	fg_coap_option_uint(&w, FG_COAP_OPTION_ETAG, r->number);
	if (r->observe)
		fg_coap_option_uint(&w, FG_COAP_OPTION_OBSERVE, r->seq);
	if (length > size) {
		bool more = from + size < length;

		fg_coap_option_uint(&w, FG_COAP_OPTION_BLOCK2, (block & ~8u) | (more ? 8 : 0));
		length = more ? size : length - from;
	}
	fg_coap_payload(&w, body + from, length);
	assert_false(w.full);
	return w.length;
}

static void send_confirmable(size_t who, const uint8_t *bytes, size_t length, bool notification)
{
	struct confirmable *c = servers[who].outbox;

	while (c->used)
		assert_true(++c < servers[who].outbox + OUTBOX);
	c->used = true;
	c->notification = notification;
	c->tries = 1;
	c->timeout_ms = 2000 + dice(1000);
	c->next_ms = now_ms + c->timeout_ms;
	c->length = length;
	memcpy(c->bytes, bytes, length);
	transmit(who, false, bytes, length);
}

static void send_again(size_t who, struct confirmable *c)
{
	struct server *s = &servers[who];

	if (c->tries++ > 4) {
		c->used = false;
		s->observed = s->observed && !c->notification;
		return;
	}
	c->timeout_ms *= 2;
	c->next_ms = now_ms + c->timeout_ms;
	transmit(who, false, c->bytes, c->length);
}

static bool notification_is_out(const struct server *s)
{
	for (size_t i = 0; i < OUTBOX; i++)
		if (s->outbox[i].used && s->outbox[i].notification)
			return true;
	return false;
}

static void notify(size_t who, bool confirmable)
{
	struct server *s = &servers[who];
	struct reply r = {.type = confirmable ? FG_COAP_CON : FG_COAP_NON,
			  .id = s->next_id,
			  .token = s->token,
			  .observe = true,
			  .seq = (s->seq_base + s->value) & 0xffffff,
			  .block = UINT32_MAX,
			  .number = s->value};
	uint8_t bytes[PACKET_BYTES];
	size_t length;

	/* One confirmable at a time; what is not acknowledged yet is newer than nothing. */
	if (!s->observed || notification_is_out(s))
		return;
	s->next_id++;
	s->notified = s->value;
	length = write_reply(&r, bytes);
	if (confirmable)
		send_confirmable(who, bytes, length, true);
	else
		transmit(who, false, bytes, length);
}

static void change(size_t who)
{
	servers[who].value++;
	servers[who].change_ms = now_ms + 500 + dice(20000);
	notify(who, dice(3) > 0);
}

static void answer_empty(size_t who, uint8_t *answer, size_t *length, enum fg_coap_type type,
			 uint16_t id)
{
	struct fg_coap_writer w;

	fg_coap_begin(&w, answer, PACKET_BYTES, type, FG_COAP_EMPTY, id, NULL, 0);
	*length = w.length;
	transmit(who, false, answer, *length);
}

/* What the request is for becomes *r. */
static void read_request(size_t who, const struct fg_coap_message *m, struct reply *r)
{
	struct server *s = &servers[who];
	struct fg_coap_option o;
	char query[16] = "";

	r->token = m->token;
	r->block = fg_coap_find_uint(m, FG_COAP_OPTION_BLOCK2, UINT32_MAX);
	if (fg_coap_find_option(m, FG_COAP_OPTION_URI_QUERY, &o)) {
		assert_true(o.length < sizeof(query));
		memcpy(query, o.value, o.length);
		r->number = (uint32_t)strtoul(query + 2, NULL, 10);
		return;
	}
	r->number = s->value;
	r->observe = fg_coap_find_option(m, FG_COAP_OPTION_OBSERVE, &o);
	r->seq = (s->seq_base + s->value) & 0xffffff;
	if (r->observe) {
		s->observed = true;
		memcpy(s->token, m->token, sizeof(s->token));
	}
}

/* What was answered at once is kept for the request's repeats. */
static void respond(size_t who, const struct fg_coap_message *m, uint8_t *answer, size_t *length)
{
	struct server *s = &servers[who];
	struct reply r = {.type = FG_COAP_ACK, .id = m->id};
	uint8_t bytes[PACKET_BYTES], body[512];

	if (dice(1000) < weather.bad_server) {
		unsigned how = dice(3);

		if (how > 0)
			answer_empty(who, answer, length, how == 1 ? FG_COAP_RST : FG_COAP_ACK,
				     m->id);
		return;
	}
	read_request(who, m, &r);
	/* A later block of what has become shorter. */
	if (r.block != UINT32_MAX &&
	    (r.block >> 4) * ((size_t)16 << (r.block & 7)) >= representation(r.number, body))
		r.block &= 15;
	if (dice(2) > 0) {
		*length = write_reply(&r, answer);
		transmit(who, false, answer, *length);
		return;
	}
	if (dice(4) > 0)
		answer_empty(who, answer, length, FG_COAP_ACK, m->id);
	r.id = s->next_id++;
	r.type = dice(4) > 0 ? FG_COAP_CON : FG_COAP_NON;
	if (r.type == FG_COAP_CON)
		send_confirmable(who, bytes, write_reply(&r, bytes), false);
	else
		transmit(who, false, bytes, write_reply(&r, bytes));
}

static void server_acknowledged(size_t who, const struct fg_coap_message *m)
{
	struct server *s = &servers[who];

	for (size_t i = 0; i < OUTBOX; i++) {
		struct confirmable *c = &s->outbox[i];

		if (!c->used || (c->bytes[2] << 8 | c->bytes[3]) != m->id)
			continue;
		c->used = false;
		if (!c->notification)
			continue;
		if (m->type == FG_COAP_RST)
			s->observed = false;
		else if (s->notified != s->value)
			notify(who, false);
	}
}

static void server_receive(size_t who, const uint8_t *bytes, size_t length)
{
	struct server *s = &servers[who];
	struct fg_coap_message m;
	size_t i;

	assert_int_equal(fg_coap_parse(&m, bytes, length), 0);
	if (m.type != FG_COAP_CON) {
		assert_int_equal(m.code, FG_COAP_EMPTY);
		server_acknowledged(who, &m);
		return;
	}
	assert_int_equal(m.code, FG_COAP_GET);
	for (i = 0; i < SEEN; i++)
		if (s->seen[i].id == m.id && s->seen[i].at_ms + LIFETIME_MS > now_ms) {
			if (s->seen[i].length > 0)
				transmit(who, false, s->seen[i].answer, s->seen[i].length);
			return;
		}
	i = s->seen_next++ % SEEN;
	s->seen[i].id = m.id;
	s->seen[i].at_ms = now_ms;
	s->seen[i].length = 0;
	respond(who, &m, s->seen[i].answer, &s->seen[i].length);
}

/* ---- the applications */

static struct application {
	struct fg_coap_client client;
	bool under_way, observes, wants_observation;
	bool quiet;		     /* it begins nothing any more */
	bool slept;		     /* since the request began */
	uint32_t number, last_value; /* of what was observed */
	int64_t began_ms, act_ms, poll_ms;
	/* the message that it sent last */
	uint16_t id;
	unsigned tries;
	int64_t first_ms, acknowledged_ms; /* -1: not acknowledged */
	/* in the present call */
	uint16_t answered[4];
	size_t answers;
} applications[CLIENTS];

static size_t index_of(const struct application *a)
{
	return (size_t)(a - applications);
}

static int send_datagram(void *ctx, const void *datagram, size_t length, bool expects_answer)
{
	struct application *a = ctx;
	struct fg_coap_message m;

	(void)expects_answer;
	assert_int_equal(fg_coap_parse(&m, datagram, length), 0);
	if (m.code == FG_COAP_EMPTY) {
		assert_true(a->answers < 4);
		a->answered[a->answers++] = m.id;
	} else if (a->tries > 0 && m.id == a->id) {
		assert_true(++a->tries <= 5);
	} else {
		a->id = m.id;
		a->tries = 1;
		a->first_ms = now_ms;
		a->acknowledged_ms = -1;
	}
	transmit(index_of(a), true, datagram, length);
	return 0;
}

static void random_bytes(void *ctx, void *out, size_t length)
{
	(void)ctx;
	for (uint8_t *p = out; length > 0; length--)
		*p++ = (uint8_t)dice(256);
}

static void begin(struct application *a)
{
	char query[16];
	struct fg_coap_request r = {.method = FG_COAP_GET,
				    .path = "x",
				    .query = query,
				    .format = FG_COAP_FORMAT_NONE,
				    .accept = FG_COAP_FORMAT_NONE};

	if (fg_coap_client_busy(&a->client) || a->quiet)
		return;
	snprintf(query, sizeof(query), "n=%u", ++a->number);
	a->observes = dice(8) == 0;
	if (a->observes) {
		r.path = "observed";
		r.query = NULL;
		r.observe = true;
		a->wants_observation = true;
	}
	assert_int_equal(fg_coap_client_request(&a->client, &r, now_ms), 0);
	a->under_way = true;
	a->began_ms = now_ms;
	a->slept = false;
}

static void expect_right_time(const struct application *a)
{
	int64_t since = now_ms - a->first_ms;

	if (a->slept)
		return;
	if (a->acknowledged_ms >= 0) {
		assert_int_equal(now_ms - a->acknowledged_ms, 30000);
		return;
	}
	assert_int_equal(a->tries, 5);
	assert_true(since >= 31 * 2000 && since <= 31 * 3000);
}

/* The value that the client's last sequence number was given for. */
static uint32_t sequenced(const struct application *a)
{
	return (a->client.observe_seq - servers[index_of(a)].seq_base) & 0xffffff;
}

static void notified(struct application *a, const struct fg_coap_response *r)
{
	uint32_t value = expect_representation(r->payload, r->length);

	assert_true(a->wants_observation);
	assert_true(sequenced(a) > a->last_value);
	/* What was fetched may be newer than the notification that it was fetched for. */
	if (r->elapsed_ms > 0)
		assert_in_range(value, sequenced(a), servers[index_of(a)].value);
	else
		assert_int_equal(value, sequenced(a));
	a->last_value = sequenced(a);
}

static void responded(struct application *a, const struct fg_coap_response *r)
{
	uint32_t value = expect_representation(r->payload, r->length);

	assert_int_equal(r->elapsed_ms, now_ms - a->began_ms);
	if (!a->observes)
		assert_int_equal(value, a->number);
	else if (!a->client.waits) /* else that is of a notification that is still to be fetched */
		a->last_value = sequenced(a);
}

static void handle(void *ctx, enum fg_coap_outcome outcome, const struct fg_coap_response *r)
{
	struct application *a = ctx;

	outcomes[outcome]++;
	if (outcome == FG_COAP_NOTIFICATION) {
		notified(a, r);
		return;
	}
	if (outcome == FG_COAP_NOTIFICATION_LOST)
		return;
	assert_true(a->under_way);
	a->under_way = false;
	if (outcome == FG_COAP_RESPONSE)
		responded(a, r);
	else if (outcome == FG_COAP_NO_ANSWER)
		expect_right_time(a);
	else if (outcome == FG_COAP_UNREADABLE)
		assert_true(a->observes); /* it has changed twice */
	else
		assert_int_equal(outcome, FG_COAP_REFUSED);
	if (dice(2) > 0)
		begin(a);
}

static void client_receive(struct application *a, const uint8_t *bytes, size_t length)
{
	struct fg_coap_message m;

	assert_int_equal(fg_coap_parse(&m, bytes, length), 0);
	if (m.type == FG_COAP_ACK && m.code == FG_COAP_EMPTY && m.id == a->id &&
	    a->acknowledged_ms < 0)
		a->acknowledged_ms = now_ms;
	a->answers = 0;
	fg_coap_client_receive(&a->client, bytes, length, now_ms);
	if (m.type == FG_COAP_CON) {
		assert_int_equal(a->answers, 1);
		assert_int_equal(a->answered[0], m.id);
	} else {
		/* A Reset of a notification that nobody wants, at most. */
		assert_true(a->answers <= (m.type == FG_COAP_NON));
	}
}

static void application_act(struct application *a)
{
	a->act_ms = now_ms + dice(3000);
	if (dice(50) == 0 && !a->under_way) {
		fg_coap_client_stop_observing(&a->client);
		a->wants_observation = false;
	}
	begin(a);
}

/* ---- the world */

static int64_t earliest(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t next_event(void)
{
	int64_t next = NEVER;

	for (size_t i = 0; i < PACKETS; i++)
		next = earliest(next, packets[i].at_ms);
	for (size_t i = 0; i < CLIENTS; i++) {
		const struct application *a = &applications[i];

		next = earliest(next, a->poll_ms);
		if (!a->quiet)
			next = earliest(next, earliest(a->act_ms, servers[i].change_ms));
		for (size_t j = 0; j < OUTBOX; j++)
			if (servers[i].outbox[j].used)
				next = earliest(next, servers[i].outbox[j].next_ms);
	}
	return next;
}

static void deliver_packets(void)
{
	for (size_t i = 0; i < PACKETS; i++) {
		struct packet p = packets[i];

		if (p.at_ms > now_ms)
			continue;
		packets[i].at_ms = NEVER;
		if (p.to_server)
			server_receive(p.who, p.bytes, p.length);
		else
			client_receive(&applications[p.who], p.bytes, p.length);
	}
}

static void step(void)
{
	for (size_t i = 0; i < CLIENTS; i++) {
		for (size_t j = 0; j < OUTBOX; j++)
			if (servers[i].outbox[j].used && servers[i].outbox[j].next_ms <= now_ms)
				send_again(i, &servers[i].outbox[j]);
		if (!applications[i].quiet && servers[i].change_ms <= now_ms)
			change(i);
	}
	deliver_packets();
	for (size_t i = 0; i < CLIENTS; i++) {
		struct application *a = &applications[i];

		if (!a->quiet && a->act_ms <= now_ms)
			application_act(a);
		a->poll_ms = fg_coap_client_poll(&a->client, now_ms);
		/* At most once more for the outcome, and once for a notification to be fetched. */
		for (size_t polls = 0; a->poll_ms <= now_ms; polls++) {
			assert_true(polls < 3);
			a->poll_ms = fg_coap_client_poll(&a->client, now_ms);
		}
		assert_true(a->under_way || !fg_coap_client_busy(&a->client) ||
			    a->wants_observation);
		assert_true(!a->under_way || fg_coap_client_busy(&a->client));
	}
}

static void run_until_quiet(void)
{
	for (size_t events = 0; next_event() != NEVER; events++) {
		assert_true(events < 5000);
		now_ms = next_event();
		step();
	}
}

static void open_world(uint64_t seed)
{
	memset(servers, 0, sizeof(servers));
	memset(applications, 0, sizeof(applications));
	memset(outcomes, 0, sizeof(outcomes));
	for (size_t i = 0; i < PACKETS; i++)
		packets[i].at_ms = NEVER;
	dice_state = seed;
	now_ms = 0;
	for (size_t i = 0; i < CLIENTS; i++) {
		struct application *a = &applications[i];

		servers[i].next_id = (uint16_t)dice(65536);
		servers[i].seq_base = 0xffffff - 100; /* it wraps */
		for (size_t j = 0; j < SEEN; j++)
			servers[i].seen[j].at_ms = -LIFETIME_MS;
		a->client.settings = &fg_coap_defaults;
		a->client.send = send_datagram;
		a->client.random = random_bytes;
		a->client.handle = handle;
		a->client.ctx = a;
		a->poll_ms = NEVER;
		fg_coap_client_init(&a->client);
	}
}

static uint32_t requests(void)
{
	return applications[0].client.requests + applications[1].client.requests;
}

/* The last change arrives, and nothing is left over. */
static void close_world(void)
{
	weather.loss = weather.bad_server = 0;
	for (size_t i = 0; i < CLIENTS; i++)
		applications[i].quiet = true;
	run_until_quiet();
	for (size_t i = 0; i < CLIENTS; i++) {
		servers[i].value += servers[i].value % 5 == 4 ? 2 : 1;
		notify(i, true);
	}
	run_until_quiet();
	for (size_t i = 0; i < CLIENTS; i++) {
		const struct application *a = &applications[i];

		assert_false(a->under_way || fg_coap_client_busy(&a->client));
		if (a->client.observing && servers[i].observed &&
		    memcmp(servers[i].token, a->client.observed + FG_COAP_HEADER,
			   FG_COAP_TOKEN_LENGTH) == 0)
			assert_int_equal(a->last_value, servers[i].value);
	}
	assert_int_equal(outcomes[FG_COAP_RESPONSE] + outcomes[FG_COAP_NO_ANSWER] +
				 outcomes[FG_COAP_REFUSED] + outcomes[FG_COAP_UNREADABLE],
			 requests());
}

/* What was on its way is lost, and the server has given up what it sent. */
static void sleep_for_an_hour(void)
{
	now_ms += 3600 * INT64_C(1000);
	for (size_t i = 0; i < PACKETS; i++)
		packets[i].at_ms = NEVER;
	for (size_t i = 0; i < CLIENTS; i++) {
		applications[i].slept = true;
		servers[i].observed = servers[i].observed && !notification_is_out(&servers[i]);
		memset(servers[i].outbox, 0, sizeof(servers[i].outbox));
	}
}

static void run(uint64_t seed, uint32_t exchanges)
{
	open_world(seed);
	for (uint64_t events = 0; requests() < exchanges; events++) {
		assert_true(events < exchanges * UINT64_C(100));
		now_ms = next_event();
		if (weather.sleeps && dice(2000) == 0)
			sleep_for_an_hour();
		step();
	}
	close_world();
	print_message("%u requests: %zu responses, %zu not answered, %zu refused, %zu unreadable; "
		      "%zu notifications, %zu lost; %u retransmissions, %u repeats\n",
		      requests(), outcomes[FG_COAP_RESPONSE], outcomes[FG_COAP_NO_ANSWER],
		      outcomes[FG_COAP_REFUSED], outcomes[FG_COAP_UNREADABLE],
		      outcomes[FG_COAP_NOTIFICATION], outcomes[FG_COAP_NOTIFICATION_LOST],
		      applications[0].client.retransmissions +
			      applications[1].client.retransmissions,
		      applications[0].client.repeats + applications[1].client.repeats);
}

static void test_each_request_is_answered_over_a_good_network(void **state)
{
	(void)state;
	memset(&weather, 0, sizeof(weather));
	run(1, 5000);
	assert_int_equal(outcomes[FG_COAP_NO_ANSWER] + outcomes[FG_COAP_REFUSED], 0);
	assert_int_equal(outcomes[FG_COAP_NOTIFICATION_LOST], 0);
	assert_true(outcomes[FG_COAP_NOTIFICATION] > 100);
}

static void test_each_request_has_one_outcome_over_bad_networks(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 8; seed++) {
		weather.loss = (unsigned)seed * 50;
		weather.repeats = 100;
		weather.late = 50;
		weather.bad_server = 0;
		run(seed, 5000);
		assert_true(outcomes[FG_COAP_RESPONSE] > 3000);
		assert_true(outcomes[FG_COAP_NOTIFICATION] > 100);
	}
}

static void test_each_request_has_one_outcome_with_a_bad_server(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++) {
		weather.loss = 100;
		weather.repeats = 300;
		weather.late = 200;
		weather.bad_server = 100;
		weather.sleeps = true;
		run(100 + seed, 5000);
		assert_true(outcomes[FG_COAP_REFUSED] > 10 && outcomes[FG_COAP_NO_ANSWER] > 10);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_request_is_answered_over_a_good_network),
		cmocka_unit_test(test_each_request_has_one_outcome_over_bad_networks),
		cmocka_unit_test(test_each_request_has_one_outcome_with_a_bad_server),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
