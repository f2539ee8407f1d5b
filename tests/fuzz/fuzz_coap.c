/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any messages, from several sessions at once, to the CoAP server with all its resources. The disk
 * and the database are played (they accept, refuse and answer as the input says, as late as it
 * says), and a DTLS session is an identity and no more; everything between is the real thing.
 * Seeds, which also say how an input is read: tests/fuzz/fuzz_coap_seeds.py DIRECTORY.
 *
 * LINK: -Wl,--wrap=pipeline_submit,--wrap=documents_ask,--wrap=documents_waiting
 * LINK: -Wl,--wrap=dtls_session_identity,--wrap=dtls_session_address
 * LINK: -Wl,--wrap=dtls_session_has_cid,--wrap=dtls_identify
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "coap-server/resource/resource.h"
#include "core/base/clock.h"
#include "core/base/log.h"

#define SESSIONS     4
#define ASKED_MAX    8
#define NOW_S	     INT64_C(1700000000)
#define ANSWER_MAX   1280 /* bytes of a message of ours */
#define DOCUMENT_MAX 8192
#define TOKEN_MAX    512
#define MEMORY	     (64u << 20)

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

/* --- Time --- */

static int64_t passed_us;

static int64_t monotonic(void)
{
	return 1000 * US_PER_S + passed_us;
}

static int64_t realtime(void)
{
	return NOW_S * US_PER_S + passed_us;
}

/* --- DTLS sessions --- */

struct dtls_session {
	struct coap_peer *peer;
	uint64_t id;
	struct dtls_identity identity;
	struct address address;
	bool tried_login, has_cid;
	uint8_t note[DTLS_NOTE_MAX];
	size_t note_len;
};

static struct dtls_session sessions[SESSIONS];
static uint64_t next_id;

const struct dtls_identity *__wrap_dtls_session_identity(const struct dtls_session *s);
const struct address *__wrap_dtls_session_address(const struct dtls_session *s);
bool __wrap_dtls_session_has_cid(const struct dtls_session *s);
int __wrap_dtls_identify(struct dtls_session *s, const struct dtls_identity *who);

const struct dtls_identity *__wrap_dtls_session_identity(const struct dtls_session *s)
{
	return &s->identity;
}

const struct address *__wrap_dtls_session_address(const struct dtls_session *s)
{
	return &s->address;
}

bool __wrap_dtls_session_has_cid(const struct dtls_session *s)
{
	return s->has_cid;
}

int __wrap_dtls_identify(struct dtls_session *s, const struct dtls_identity *who)
{
	CHECK(s->tried_login);
	CHECK(strcmp(who->id, "dev-1") == 0);
	if (dtls_identity_proven(&s->identity))
		return -EALREADY;
	s->identity = *who;
	return 0;
}

/* The first is a device with all rights, the second one with none but telemetry, the others have
 * proven nothing. */
static void begin_session(struct dtls_session *s)
{
	size_t n = (size_t)(s - sessions);

	memset(s, 0, sizeof(*s));
	s->id = ++next_id;
	s->has_cid = n != 3;
	s->address.port = (uint16_t)n;
	if (n < 2)
		snprintf(s->identity.id, sizeof(s->identity.id), "dev-%zu", n + 1);
}

static bool is_whose(const char *device)
{
	for (size_t i = 0; i < SESSIONS; i++)
		if (strcmp(sessions[i].identity.id, device) == 0)
			return *device != '\0';
	return false;
}

/* --- The journal --- */

static struct {
	uint8_t mode;
	uint64_t last;
} journal;

int __wrap_pipeline_submit(struct pipeline *p, const struct message *m, uint64_t *ticket);

int __wrap_pipeline_submit(struct pipeline *p, const struct message *m, uint64_t *ticket)
{
	const char *device;
	char id[PRINCIPAL_ID_MAX + 1] = "";
	size_t len;

	(void)p;
	CHECK(pipeline_is_telemetry(m->topic, &device, &len));
	CHECK(len <= PRINCIPAL_ID_MAX);
	memcpy(id, device, len);
	CHECK(is_whose(id));
	CHECK(m->payload_len > 0);
	switch (journal.mode % 4) {
	case 0:
		*ticket = 0;
		return 0;
	case 1:
		*ticket = ++journal.last;
		return 0;
	case 2:
		return -ENOBUFS;
	default:
		return -EMSGSIZE;
	}
}

/* --- The database: three documents of everybody's --- */

struct asked {
	struct document_request request;
	char device[PRINCIPAL_ID_MAX + 1], name[FG_COAP_PATH_MAX + 1];
	uint8_t *payload;
};

static struct {
	struct asked asked[ASKED_MAX]; /* oldest first */
	size_t count;
	bool away;
	int64_t version;
	uint8_t payload[DOCUMENT_MAX];
	size_t payload_len;
	int format;
} database;

int __wrap_documents_ask(struct documents *d, const struct document_request *r);

int __wrap_documents_ask(struct documents *d, const struct document_request *r)
{
	struct asked *a = &database.asked[database.count];

	(void)d;
	CHECK(is_whose(r->device));
	CHECK(r->cookie != NULL || r->operation == DOCUMENT_DOWNLINK_DONE);
	if (database.away)
		return -ENOTCONN;
	if (database.count == ASKED_MAX)
		return -EAGAIN;
	memset(a, 0, sizeof(*a));
	a->request = *r;
	snprintf(a->device, sizeof(a->device), "%s", r->device);
	a->request.device = a->device;
	if (r->name) {
		CHECK(strlen(r->name) <= (r->operation < DOCUMENT_DOWNLINK_NEXT
						  ? DOCUMENT_NAME_MAX
						  : FG_COAP_PATH_MAX));
		snprintf(a->name, sizeof(a->name), "%s", r->name);
		a->request.name = a->name;
	}
	if (r->payload_len > 0) {
		a->payload = malloc(r->payload_len);
		CHECK(a->payload != NULL);
		memcpy(a->payload, r->payload, r->payload_len);
	}
	a->request.payload = a->payload;
	database.count++;
	return 0;
}

bool __wrap_documents_waiting(struct documents *d, const char *device);

bool __wrap_documents_waiting(struct documents *d, const char *device)
{
	(void)d;
	CHECK(is_whose(device));
	return database.version & 1;
}

static void forget_oldest(void)
{
	free(database.asked[0].payload);
	database.count--;
	memmove(&database.asked[0], &database.asked[1], database.count * sizeof(struct asked));
}

/* As the real one: a state is an object in JSON, or nothing. */
static void keep_document(const struct document_request *q)
{
	if (q->payload_len > DOCUMENT_MAX)
		return;
	database.version++;
	database.payload_len = q->payload_len;
	if (q->payload_len > 0)
		memcpy(database.payload, q->payload, q->payload_len);
	database.format = q->operation == DOCUMENT_VALUE_PUT ? q->format : FG_COAP_JSON;
}

static void fill_answer(struct document_answer *a, uint8_t outcome)
{
	static const enum document_outcome troubles[] = {
		DOCUMENT_NOT_FOUND, DOCUMENT_BAD,	  DOCUMENT_PRECONDITION,
		DOCUMENT_TOO_LARGE, DOCUMENT_UNAVAILABLE,
	};
	const struct document_request *q = a->request;

	a->why = "";
	if (outcome % 8 < 5) {
		a->outcome = troubles[outcome % 8];
		a->why = a->outcome == DOCUMENT_BAD ? "not as it should be" : "";
		return;
	}
	a->outcome = outcome % 8 == 5 ? DOCUMENT_CREATED : DOCUMENT_OK;
	if (q->operation >= DOCUMENT_STATE_PATCH_REPORTED && q->operation != DOCUMENT_VALUE_GET &&
	    q->operation < DOCUMENT_VALUE_DELETE)
		keep_document(q);
	a->version = database.version;
	if (q->operation >= DOCUMENT_DOWNLINK_NEXT) { /* a number, and some have a subtopic */
		a->version++;
		a->name = q->name ? q->name : outcome & 8 ? "a/b" : NULL;
	}
	a->format = database.format;
	/* A value may hold anything, the state may not. */
	if (q->operation < DOCUMENT_VALUE_GET && database.format != FG_COAP_JSON) {
		a->payload = "{\"a\":{\"b\":[1,2.5e9,null,true,\"\\u00e4\"]}}";
		a->payload_len = strlen(a->payload);
		a->format = FG_COAP_JSON;
	} else {
		a->payload = database.payload;
		a->payload_len = database.payload_len;
	}
}

/* --- The server --- */

static struct config config;
static struct resources resources;
static const struct snapshot *fleet, *nobody;
static char token[TOKEN_MAX];

/* RFC 7252 section 3, and nothing that is larger than a device takes. */
static void check_message(const uint8_t *p, size_t len)
{
	const uint8_t *end = p + len;
	size_t token_len;

	CHECK(len >= 4 && len <= ANSWER_MAX);
	CHECK(p[0] >> 6 == 1);
	token_len = p[0] & 15;
	if (p[1] == 0) {
		CHECK(len == 4 && token_len == 0);
		return;
	}
	CHECK(token_len <= 8 && 4 + token_len <= len);
	CHECK(p[1] >> 5 == 2 || p[1] >> 5 == 4 || p[1] >> 5 == 5);
	for (p += 4 + token_len; p < end && *p != 0xff;) {
		unsigned delta = *p >> 4, length = *p & 15;

		p++;
		CHECK(delta < 15 && length < 15);
		for (unsigned *n = &delta;; n = &length) {
			size_t more = *n < 13 ? 0 : *n - 12;

			CHECK((size_t)(end - p) >= more);
			if (more == 1)
				*n = 13U + p[0];
			else if (more == 2)
				*n = 269U + p[0] * 256U + p[1];
			p += more;
			if (n == &length)
				break;
		}
		CHECK((size_t)(end - p) >= length);
		p += length;
	}
	if (p < end)
		CHECK(end - p > 1);
}

static bool admit(void *arg, void *session, unsigned method, const char *path,
		  struct coap_reply *reply)
{
	const struct dtls_session *s = session;

	(void)arg;
	(void)method;
	CHECK(strlen(path) <= FG_COAP_PATH_MAX);
	if (resource_public(path) || dtls_identity_proven(&s->identity))
		return true;
	resource_reply(reply, FG_COAP_CODE(4, 1), "log in first");
	return false;
}

static int send_message(void *arg, void *session, const uint8_t *data, size_t len)
{
	struct dtls_session *s = session;

	(void)arg;
	CHECK(s >= sessions && s < sessions + SESSIONS);
	check_message(data, len);
	s->note_len = coap_peer_save(resources.server, s->id, s->note, sizeof(s->note));
	CHECK(s->note_len <= sizeof(s->note));
	return 0;
}

static void authenticated(struct resources *r, struct dtls_session *s)
{
	(void)r;
	CHECK(dtls_identity_proven(&s->identity));
}

static const struct coap_server_options options = {
	.routes = resource_routes,
	.arg = &resources,
	.admit = admit,
	.send = send_message,
	.delivered = resource_delivered,
	.max_body = 4096,
	.max_transfers = 2,
	.max_transfers_all = 5,
	.max_exchanges = 6,
	.max_observations = 3,
	.dedup_per_session = 4,
	.dedup_bytes = 16384,
};

static void check_limits(void)
{
	struct coap_server_stats stats;

	coap_server_stats(resources.server, &stats);
	CHECK(stats.peers <= SESSIONS);
	CHECK(stats.exchanges <= options.max_exchanges);
	CHECK(stats.observations <= SESSIONS * options.max_observations);
	CHECK(stats.transfers <= options.max_transfers_all);
	CHECK(stats.dedup_bytes <= options.dedup_bytes);
	CHECK(stats.dedup_entries <= SESSIONS * options.dedup_per_session + next_id * 4);
}

static void open_server(void)
{
	struct coap_server_options o = options;

	o.route_count = resource_route_count;
	CHECK(coap_server_open(&resources.server, &o) == 0);
}

static void receive(struct dtls_session *s, const uint8_t *data, size_t len)
{
	/* A copy of just its size, so that reading beyond it is seen. */
	uint8_t *copy = malloc(len ? len : 1);

	CHECK(copy != NULL);
	if (len > 0)
		memcpy(copy, data, len);
	coap_server_receive(resources.server, &s->peer, s->id, s, copy, len);
	free(copy);
}

/* --- What an input may do --- */

static void message(struct dtls_session *s, struct input *in, size_t len)
{
	const uint8_t *data = take_bytes(in, &len);

	receive(s, data, len);
}

/* A token of dev-1 that is good, but for one byte. */
static void login(struct dtls_session *s, uint8_t at, uint8_t change)
{
	static const uint8_t head[] = {0x41, 0x02, 0x55, 0,   't', 0xb4, 'a', 'u',
				       't',  'h',  0x03, 'j', 'w', 't',	 0xff};
	uint8_t data[sizeof(head) + TOKEN_MAX];
	size_t len = strlen(token);

	memcpy(data, head, sizeof(head));
	memcpy(data + sizeof(head), token, len);
	data[3] = at ^ change;
	data[sizeof(head) + (size_t)at * 2 % len] ^= change;
	s->tried_login = true;
	receive(s, data, sizeof(head) + len);
}

static void answer_oldest(uint8_t outcome)
{
	struct document_answer a = {0};

	database.away = outcome == 255;
	if (database.count == 0)
		return;
	a.request = &database.asked[0].request;
	a.cookie = a.request->cookie;
	fill_answer(&a, outcome);
	resource_document_answered(&resources, &a);
	forget_oldest();
}

static void change(uint8_t what)
{
	static const char *const names[] = {NULL, NULL, "a", "config"};
	static const enum document_changed kinds[] = {
		DOCUMENT_CHANGED_STATE, DOCUMENT_CHANGED_STATE_NOT_DELTA, DOCUMENT_CHANGED_VALUE,
		DOCUMENT_CHANGED_VALUE};
	struct document_change c = {.what = DOCUMENT_CHANGED_ANY};

	switch (what % 8) {
	case 0:
		resource_document_changed(&resources, &c);
		break;
	case 7:
		resources.snapshot = resources.snapshot == fleet ? nobody : fleet;
		break;
	default:
		c.what = what & 32 ? DOCUMENT_CHANGED_DOWNLINK : kinds[what % 4];
		c.device = what & 16 ? "dev-1" : "dev-2";
		c.name = what & 32 ? NULL : names[what % 4];
		resource_document_changed(&resources, &c);
	}
}

/* 0..127: what the journal does from now on; else everything held is released. */
static void settle(uint8_t how)
{
	if (how < 128)
		journal.mode = how;
	else
		coap_server_release(resources.server, journal.last, how & 1);
}

static void restart(void)
{
	for (size_t i = 0; i < SESSIONS; i++)
		coap_server_forget(resources.server, &sessions[i].peer);
	coap_server_close(resources.server);
	while (database.count > 0)
		forget_oldest();
	open_server();
	for (size_t i = 0; i < SESSIONS; i++)
		coap_peer_load(resources.server, sessions[i].id, sessions[i].note,
			       sessions[i].note_len);
}

static void step(struct input *in)
{
	uint8_t op = take_byte(in), b = take_byte(in);
	struct dtls_session *s = &sessions[op & 3];

	switch (op >> 2 & 7) {
	case 0:
		message(s, in, b);
		break;
	case 1:
		message(s, in, b * 256U + take_byte(in));
		break;
	case 2:
		passed_us += (int64_t)b * b * b * US_PER_MS;
		coap_server_tick(resources.server);
		break;
	case 3:
		answer_oldest(b);
		break;
	case 4:
		change(b);
		break;
	case 5:
		settle(b);
		break;
	case 6:
		login(s, b, take_byte(in));
		break;
	default:
		if (b & 1) {
			restart();
			break;
		}
		coap_server_forget(resources.server, &s->peer);
		CHECK(s->peer == NULL);
		begin_session(s);
	}
	check_limits();
}

/* --- Before the first --- */

static void add_encoded(const void *bytes, size_t len)
{
	char *end = token + strlen(token);

	CHECK(strlen(token) + 4 * len / 3 + 8 < sizeof(token));
	EVP_EncodeBlock((unsigned char *)end, bytes, (int)len);
	end[strcspn(end, "=")] = '\0';
	for (; *end; end++)
		*end = *end == '+' ? '-' : *end == '/' ? '_' : *end;
}

static void sign_token(EVP_PKEY *key)
{
	static const char header[] = "{\"alg\":\"ES256\",\"typ\":\"JWT\"}";
	uint8_t der[128], raw[64];
	const uint8_t *p = der;
	size_t len = sizeof(der);
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	ECDSA_SIG *signature;
	char claims[128];

	snprintf(claims, sizeof(claims), "{\"sub\":\"dev-1\",\"iat\":%lld,\"exp\":%lld}",
		 (long long)NOW_S, (long long)NOW_S + 3600);
	add_encoded(header, strlen(header));
	strcat(token, ".");
	add_encoded(claims, strlen(claims));
	CHECK(c && EVP_DigestSignInit(c, NULL, EVP_sha256(), NULL, key) == 1);
	CHECK(EVP_DigestSign(c, der, &len, (const uint8_t *)token, strlen(token)) == 1);
	EVP_MD_CTX_free(c);
	signature = d2i_ECDSA_SIG(NULL, &p, (long)len);
	CHECK(signature != NULL);
	CHECK(BN_bn2binpad(ECDSA_SIG_get0_r(signature), raw, 32) == 32);
	CHECK(BN_bn2binpad(ECDSA_SIG_get0_s(signature), raw + 32, 32) == 32);
	ECDSA_SIG_free(signature);
	strcat(token, ".");
	add_encoded(raw, sizeof(raw));
}

static const struct snapshot *make_fleet(EVP_PKEY *key)
{
	struct snapshot_builder *b = snapshot_builder_new();
	uint8_t *der = NULL, fingerprint[FINGERPRINT_LEN];
	int len = i2d_PUBKEY(key, &der);
	char err[256];

#define ADD(what, ...) CHECK(snapshot_add_##what(b, __VA_ARGS__, err, sizeof(err)) == 0)
	CHECK(b && len > 0);
	CHECK(EVP_Digest(der, (size_t)len, fingerprint, NULL, EVP_sha256(), NULL) == 1);
	ADD(policy, "all");
	ADD(policy_rule, "all", false, POLICY_PUBLISH, "m/d/${device}/#");
	ADD(policy_rule, "all", false, POLICY_RECEIVE, "m/d/${device}/#");
	ADD(policy, "little");
	ADD(policy_rule, "little", false, POLICY_PUBLISH, "m/d/${device}/d2c");
	ADD(principal, "dev-1", PRINCIPAL_DEVICE, PRINCIPAL_ACTIVE, "all");
	ADD(principal, "dev-2", PRINCIPAL_DEVICE, PRINCIPAL_ACTIVE, "little");
	ADD(credential, CREDENTIAL_JWT, fingerprint, "dev-1", false, der, (size_t)len);
#undef ADD
	OPENSSL_free(der);
	return snapshot_build(b, 1);
}

static void ignore_line(enum log_level level, const char *line, void *arg)
{
	(void)arg;
	CHECK(level <= LOG_LEVEL_ERROR && strlen(line) < LOG_LINE_MAX);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");

	(void)argc;
	(void)argv;
	CHECK(key != NULL);
	clock_override(realtime, monotonic);
	log_set_sink(ignore_line, NULL);
	fleet = make_fleet(key);
	nobody = snapshot_build(snapshot_builder_new(), 0);
	CHECK(fleet && nobody);
	sign_token(key);
	EVP_PKEY_free(key);
	config.document_max_bytes = 2048;
	config.coap_idle_days = 30;
	config.coap_idle_without_cid_s = 600;
	config.coap_lifetime_days = 365;
	resources.config = &config;
	resources.jwt_rules = (struct jwt_rules){.leeway_s = 60, .max_lifetime_s = 86400};
	resources.limits =
		(struct decode_limits){.max_bytes = 4096, .max_depth = 8, .max_readings = 64};
	resources.authenticated = authenticated;
	arena_init(&resources.arena, 4096, MEMORY);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};

	passed_us = 0;
	next_id = 0;
	memset(&journal, 0, sizeof(journal));
	database.away = false;
	database.version = 1;
	database.payload_len = 0;
	database.format = FG_COAP_JSON;
	resources.snapshot = fleet;
	memset(&resources.refused, 0, sizeof(resources.refused));
	open_server();
	for (size_t i = 0; i < SESSIONS; i++)
		begin_session(&sessions[i]);
	while (in.left > 0)
		step(&in);
	for (size_t i = 0; i < SESSIONS; i++)
		coap_server_forget(resources.server, &sessions[i].peer);
	coap_server_close(resources.server);
	while (database.count > 0)
		forget_oldest();
	arena_free(&resources.arena);
	return 0;
}
