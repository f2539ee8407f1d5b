/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datagrams to a DTLS endpoint: any bytes, and those of real clients, delayed, repeated, from other
 * addresses, with a bit changed or the end missing, around handshakes, restarts and timeouts. What
 * must hold whatever comes: what a client said is delivered once, to a session that is this
 * client's and has the identity it proved; no number is used twice (tests/coap/dtls_world); and who
 * has no key moves no session and is sent nothing but cookies. Seeds, which also say how an input
 * is read: tests/fuzz/fuzz_dtls_records_seeds.py DIRECTORY.
 *
 * LINK: -Wl,--wrap=random_bytes,--wrap=mbedtls_pk_check_pair
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <arpa/inet.h>

#include "tests/coap/dtls_world.h"

#define CLIENTS	     6
#define SAID_MAX     256
#define MAX_SESSIONS 8
#define PORT_STRANGE 1	/* to 4: never sends what is authentic */
#define PORT_RELAY   10 /* to 13: sends what clients sent */
#define PORT_CLIENTS 40000

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* --- The input --- */

struct input {
	const uint8_t *at;
	size_t left;
};

static uint8_t take_byte(struct input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->at++;
}

static const uint8_t *take_bytes(struct input *in, size_t *len)
{
	const uint8_t *p = in->at;

	if (*len > in->left)
		*len = in->left;
	in->at += *len;
	in->left -= *len;
	return p;
}

/* --- Randomness that is the same for the same input --- */

static uint64_t random_state;

void __wrap_random_bytes(void *buf, size_t len);

void __wrap_random_bytes(void *buf, size_t len)
{
	uint8_t *p = buf;

	while (len-- > 0) {
		random_state ^= random_state << 13;
		random_state ^= random_state >> 7;
		random_state ^= random_state << 17;
		*p++ = (uint8_t)(random_state >> 32);
	}
}

/* Nine tenths of the time of a short input, and our key fits. */
int __wrap_mbedtls_pk_check_pair(const mbedtls_pk_context *pub, const mbedtls_pk_context *prv,
				 int (*f_rng)(void *, unsigned char *, size_t), void *p_rng);

int __wrap_mbedtls_pk_check_pair(const mbedtls_pk_context *pub, const mbedtls_pk_context *prv,
				 int (*f_rng)(void *, unsigned char *, size_t), void *p_rng)
{
	(void)pub;
	(void)prv;
	(void)f_rng;
	(void)p_rng;
	return 0;
}

/* --- The clients --- */

static const struct kind {
	enum world_kind kind;
	bool connection_id;
	const char *identity;
} kinds[CLIENTS] = {
	{WORLD_PSK_CLIENT, true, WORLD_PSK_IDENTITY},
	{WORLD_PSK_CLIENT, false, WORLD_PSK_IDENTITY},
	{WORLD_CERTIFICATE, true, ""},
	{WORLD_CLIENT_CERTIFICATE, true, "device-crt"},
	{WORLD_PSK_CLIENT, true, WORLD_PSK_IDENTITY},
	{WORLD_CERTIFICATE, false, ""},
};

static struct world *world;
static struct client {
	struct world_client *c;
	unsigned said;
	bool heard[SAID_MAX]; /* by the endpoint */
} client[CLIENTS];

static struct client *client_at(uint8_t which)
{
	struct client *c = &client[which % CLIENTS];
	const struct kind *k = &kinds[which % CLIENTS];

	struct dtls_peer_options o;

	if (c->c)
		return c;
	world_client_options(world, k->kind, k->connection_id, &o);
	o.tickets = true;
	c->c = world_client_with(world, &o);
	return c;
}

/* --- The endpoint's side --- */

static char slots_dir[64], slots_path[96];
static void (*send_to_client)(void *arg, const struct address *to, const uint8_t *data, size_t len);
static size_t injected_len; /* of the datagram that is being received */
static uint8_t habit;	    /* what it does with what it is told */

/* HelloVerifyRequest (RFC 6347 section 4.2.1), no longer than what it answers. */
static void send_datagram(void *arg, const struct address *to, const uint8_t *data, size_t len)
{
	if (ntohs(to->port) < PORT_RELAY) {
		CHECK(len > 13 && data[0] == 22 && data[3] == 0 && data[4] == 0);
		CHECK(data[13] == 3);
		CHECK(len <= injected_len);
	}
	send_to_client(arg, to, data, len);
}

static void inject(const struct address *from, const uint8_t *data, size_t len)
{
	if (len == 0)
		return;
	injected_len = len;
	world_inject(world, from, data, len);
	injected_len = 0;
}

/* What `which` has proven, or an identity that it was given later. */
static void check_identity(const struct dtls_session *s, unsigned which)
{
	const struct dtls_identity *who = dtls_session_identity(s);

	if (kinds[which].identity[0] != '\0' || !dtls_identity_proven(who))
		CHECK(strcmp(who->id, kinds[which].identity) == 0);
	else
		CHECK(strcmp(who->id, "later") == 0);
	CHECK(dtls_session_has_cid(s) ==
	      (kinds[which].connection_id && world->options.connection_id));
}

static void identify(struct dtls_session *s)
{
	struct dtls_identity who = {.id = "later"};
	bool proven = dtls_identity_proven(dtls_session_identity(s));

	CHECK((dtls_identify(s, &who) == 0) == !proven);
}

static void on_data(struct world *w, struct dtls_session *s)
{
	unsigned *owner = dtls_user(s);
	uint8_t note[DTLS_NOTE_MAX];
	unsigned which, n;
	char end;

	CHECK(sscanf(w->text, "%u says %u.%c", &which, &n, &end) == 2);
	CHECK(which < CLIENTS && n < client[which].said);
	CHECK(!client[which].heard[n]);
	client[which].heard[n] = true;
	CHECK(*owner == 0 || *owner == which + 1);
	*owner = which + 1;
	check_identity(s, which);
	CHECK(dtls_session_note(s, note) <= sizeof(note));

	if (habit & 1)
		dtls_send(s, (const uint8_t *)w->text, strlen(w->text));
	if (habit & 2)
		identify(s);
	if (habit & 4)
		dtls_session_set_note(s, w->text, strlen(w->text));
	if (habit & 8)
		dtls_end(s, habit & 16, "the test ends it");
}

static void check_session(void *arg, struct dtls_session *s)
{
	uint16_t port = ntohs(dtls_session_address(s)->port);

	++*(size_t *)arg;
	CHECK(port >= PORT_RELAY);
}

static void check_world(void)
{
	struct dtls_stats stats;
	uint64_t cursor = 0;
	size_t sessions = 0, steps = 0;

	world_stats(world, &stats);
	CHECK(stats.sessions <= MAX_SESSIONS);
	CHECK(stats.handshaking <= world->options.max_handshakes);
	CHECK(stats.slots_damaged == 0);
	do {
		dtls_walk(world->endpoint, &cursor, 64, check_session, &sessions);
		CHECK(++steps < 1000);
	} while (cursor != 0);
	CHECK(sessions <= stats.sessions);
}

/* --- What an input may do --- */

/* Strangers' ports by 0..3, relays' by 4..7, then clients'. */
static struct address from_whom(uint8_t which)
{
	if (which % 16 < 4)
		return world_address((uint16_t)(PORT_STRANGE + which % 16));
	if (which % 16 < 8)
		return world_address((uint16_t)(PORT_RELAY + which % 16 - 4));
	return client_at(which % 16 - 8)->c->address;
}

static void anything(struct input *in, uint8_t from)
{
	size_t len = take_byte(in) * 256U;
	const uint8_t *data;
	struct address a = from_whom(from);

	len += take_byte(in);
	data = take_bytes(in, &len);
	inject(&a, data, len);
}

static void shake_hands(struct client *c)
{
	world_handshake(c->c);
}

static void say(struct client *c)
{
	char text[64];

	if (!mbedtls_ssl_is_handshake_over(dtls_peer_ssl(c->c->peer)) || c->said == SAID_MAX)
		return;
	snprintf(text, sizeof(text), "%u says %u.", (unsigned)(c - client), c->said++);
	dtls_peer_write(c->c->peer, text, strlen(text));
}

static void listen_all(struct client *c)
{
	char text[DTLS_PEER_DATAGRAM_MAX];

	if (!mbedtls_ssl_is_handshake_over(dtls_peer_ssl(c->c->peer)))
		return;
	for (int i = 0; i < 64; i++)
		if (dtls_peer_read(c->c->peer, text, sizeof(text)) <= 0)
			return;
}

/* One that it sent: whole from a relay or a client, spoilt from anybody. */
static void send_again(struct input *in, struct client *c)
{
	uint8_t ago = take_byte(in), from = take_byte(in), where = take_byte(in),
		how = take_byte(in);
	struct address a = from_whom(from);
	struct world_datagram d;

	if (ago % WORLD_KEPT >= c->c->sent)
		return;
	d = *world_sent(c->c, ago % WORLD_KEPT);
	if (from % 16 < 4 && how == 0 && where % d.len == 0)
		how = 1; /* a stranger has nothing whole */
	if (how != 0)
		d.bytes[where % d.len] ^= how;
	else
		d.len -= where % d.len;
	if (from % 16 >= 8 && client_at(from % 16 - 8) != c) /* two sessions may be there now */
		client_at(from % 16 - 8)->c->shares_address = true;
	inject(&a, d.bytes, d.len);
}

/* A datagram of two: what one client sent, and another. */
static void send_both(struct input *in, struct client *c)
{
	struct client *other = client_at(take_byte(in));
	uint8_t both[2 * DTLS_PEER_DATAGRAM_MAX];
	const struct world_datagram *a, *b;

	if (c->c->sent == 0 || other->c->sent == 0)
		return;
	a = world_sent(c->c, 0);
	b = world_sent(other->c, 0);
	memcpy(both, a->bytes, a->len);
	memcpy(both + a->len, b->bytes, b->len);
	c->c->shares_address = true;
	inject(&c->c->address, both, a->len + b->len);
}

/* By a ticket (RFC 5077), if it has one. */
static void another_attempt(struct client *c, uint8_t how)
{
	mbedtls_ssl_session session;

	if (how & 1) {
		world_client_move(c->c);
		return;
	}
	c->c->shares_address = true; /* with the session that it had */
	mbedtls_ssl_session_init(&session);
	if (how & 2 && mbedtls_ssl_is_handshake_over(dtls_peer_ssl(c->c->peer)) &&
	    dtls_peer_get_session(c->c->peer, &session) == 0) {
		world_client_again(c->c);
		dtls_peer_set_session(c->c->peer, &session);
	} else {
		world_client_again(c->c);
	}
	mbedtls_ssl_session_free(&session);
}

static void restart(uint8_t how)
{
	char err[512];

	if (how & 1) {
		CHECK(dtls_reload(world->endpoint, &world->options, err, sizeof(err)) == 0);
		return;
	}
	dtls_close(world->endpoint);
	world->endpoint = NULL;
	world->opened = world->spoke = NULL;
	world_open(world);
}

static void step(struct input *in)
{
	uint8_t op = take_byte(in), b = take_byte(in);
	struct client *c = client_at(op >> 4);

	switch (op & 15) {
	case 0:
		anything(in, b);
		break;
	case 1:
		c->c->mute = b & 1;
		shake_hands(c);
		break;
	case 2:
		c->c->mute = b & 1;
		say(c);
		break;
	case 3:
		listen_all(c);
		break;
	case 4:
	case 5:
		send_again(in, c);
		break;
	case 6:
		send_both(in, c);
		break;
	case 7:
		another_attempt(c, b);
		break;
	case 8:
		world_wait(world, (int64_t)b * b * b * US_PER_MS);
		break;
	case 9:
		habit = b;
		break;
	case 10:
		restart(b);
		break;
	case 11:
		dtls_peer_close_notify(c->c->peer);
		break;
	default:
		if (world->spoke && b & 1)
			dtls_send(world->spoke, (const uint8_t *)"hello", 5);
		else if (world->spoke)
			dtls_end(world->spoke, b & 2, "the test ends it");
	}
	check_world();
}

/* --- An input --- */

static void remove_slots(void)
{
	unlink(slots_path);
	rmdir(slots_dir);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	snprintf(slots_dir, sizeof(slots_dir), "/dev/shm/fg-fuzz-XXXXXX");
	CHECK(mkdtemp(slots_dir) != NULL);
	snprintf(slots_path, sizeof(slots_path), "%s/worker-7.slots", slots_dir);
	atexit(remove_slots);
	return 0;
}

static void set_options(uint8_t how)
{
	struct dtls_options *o = &world->options;

	o->max_sessions = MAX_SESSIONS;
	o->max_handshakes = 4;
	o->live_contexts = how & 1 ? 1 : 4;
	o->slots_path = how & 2 ? slots_path : NULL;
	o->forgeries_per_source = how & 4 ? 10 : 0;
	o->handshakes_per_source = how & 8 ? 10 : 0;
	o->connection_id = !(how & 16) || how & 2;
	world->on_data = on_data;
	send_to_client = world->callbacks.send;
	world->callbacks.send = send_datagram;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	void *state = NULL;

	random_state = UINT64_C(0x9e3779b97f4a7c15);
	memset(client, 0, sizeof(client));
	habit = 1;
	CHECK(world_setup(&state) == 0);
	world = state;
	set_options(take_byte(&in));
	world_open(world);
	while (in.left > 0)
		step(&in);
	world_teardown(&state);
	unlink(slots_path);
	return 0;
}
