/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/sessions.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"

#define FIRST_BUCKETS 256

static size_t client_slot(const struct sessions *t, const struct mosquitto *client)
{
	/* Fibonacci hashing (Knuth 6.4): pointers differ in their middle bits. */
	uint64_t h = (uint64_t)(uintptr_t)client * UINT64_C(0x9E3779B97F4A7C15);

	return (size_t)(h >> 32) & t->mask;
}

/* Of a client id, or of a principal's. */
static size_t id_slot(const struct sessions *t, const char *id)
{
	return (size_t)hash_siphash(hash_table_key(), id, strlen(id)) & t->mask;
}

int sessions_init(struct sessions *t)
{
	t->by_client = calloc(FIRST_BUCKETS, sizeof(struct session *));
	t->by_id = calloc(FIRST_BUCKETS, sizeof(struct session *));
	t->by_principal = calloc(FIRST_BUCKETS, sizeof(struct session_chain));
	t->mask = FIRST_BUCKETS - 1;
	t->count = 0;
	TAILQ_INIT(&t->open);
	TAILQ_INIT(&t->gone);
	if (t->by_client && t->by_id && t->by_principal)
		return 0;
	free(t->by_client);
	free(t->by_id);
	free(t->by_principal);
	return -ENOMEM;
}

void sessions_free(struct sessions *t)
{
	struct session *s;

	sessions_bury(t);
	while ((s = TAILQ_FIRST(&t->open)))
		sessions_remove(t, s);
	free(t->by_client);
	free(t->by_id);
	free(t->by_principal);
}

struct session *sessions_by_client(const struct sessions *t, const struct mosquitto *client)
{
	struct session *s = t->by_client[client_slot(t, client)];

	while (s && s->client != client)
		s = s->next_by_client;
	return s;
}

struct session *sessions_live_by_id(const struct sessions *t, const char *client_id)
{
	struct session *s = t->by_id[id_slot(t, client_id)];

	while (s && strcmp(s->client_id, client_id) != 0)
		s = s->next_by_id;
	return s;
}

static struct session *of_principal(struct session *s, const char *principal_id)
{
	while (s && strcmp(s->principal_id, principal_id) != 0)
		s = LIST_NEXT(s, by_principal);
	return s;
}

struct session *sessions_live_of(const struct sessions *t, const char *principal_id)
{
	return of_principal(LIST_FIRST(&t->by_principal[id_slot(t, principal_id)]), principal_id);
}

struct session *sessions_next_of(const struct session *s)
{
	return of_principal(LIST_NEXT(s, by_principal), s->principal_id);
}

static void link_client(struct sessions *t, struct session *s)
{
	struct session **slot = &t->by_client[client_slot(t, s->client)];

	s->next_by_client = *slot;
	*slot = s;
}

/* A session that is live. */
static void link_live(struct sessions *t, struct session *s)
{
	struct session **id = &t->by_id[id_slot(t, s->client_id)];

	s->next_by_id = *id;
	*id = s;
	LIST_INSERT_HEAD(&t->by_principal[id_slot(t, s->principal_id)], s, by_principal);
}

static void unlink_client(struct sessions *t, const struct session *s)
{
	struct session **p = &t->by_client[client_slot(t, s->client)];

	while (*p != s)
		p = &(*p)->next_by_client;
	*p = s->next_by_client;
}

static void unlink_live(struct sessions *t, struct session *s)
{
	struct session **id = &t->by_id[id_slot(t, s->client_id)];

	while (*id != s)
		id = &(*id)->next_by_id;
	*id = s->next_by_id;
	LIST_REMOVE(s, by_principal);
}

/* Twice as many buckets. Without memory the chains get longer, that is all. */
static void grow(struct sessions *t)
{
	size_t buckets = (t->mask + 1) * 2;
	struct session **by_client = calloc(buckets, sizeof(struct session *));
	struct session **by_id = calloc(buckets, sizeof(struct session *));
	struct session_chain *by_principal = calloc(buckets, sizeof(struct session_chain));
	struct session *s;

	if (!by_client || !by_id || !by_principal) {
		free(by_client);
		free(by_id);
		free(by_principal);
		return;
	}
	free(t->by_client);
	free(t->by_id);
	free(t->by_principal);
	t->by_client = by_client;
	t->by_id = by_id;
	t->by_principal = by_principal;
	t->mask = buckets - 1;
	for (s = TAILQ_FIRST(&t->open); s; s = TAILQ_NEXT(s, list)) {
		link_client(t, s);
		if (s->state == SESSION_LIVE)
			link_live(t, s);
	}
	for (s = TAILQ_FIRST(&t->gone); s; s = TAILQ_NEXT(s, list))
		link_client(t, s);
}

struct session *sessions_add(struct sessions *t, const struct mosquitto *client,
			     const char *client_id, const char *principal_id,
			     enum credential_kind kind, const uint8_t *fingerprint)
{
	struct session *former = sessions_by_client(t, client);
	size_t id_size = strlen(client_id) + 1;
	struct session *s = calloc(1, sizeof(*s) + id_size);

	if (!s)
		return NULL;
	if (former)
		sessions_remove(t, former);
	s->client = client;
	s->state = SESSION_LIVE;
	s->kind = kind;
	s->ends_us = INT64_MAX;
	memcpy(s->fingerprint, fingerprint, FINGERPRINT_LEN);
	memcpy(s->principal_id, principal_id, strnlen(principal_id, PRINCIPAL_ID_MAX));
	memcpy(s->client_id, client_id, id_size);
	link_client(t, s);
	link_live(t, s);
	TAILQ_INSERT_TAIL(&t->open, s, list);
	if (++t->count > t->mask)
		grow(t);
	return s;
}

void sessions_supersede(struct sessions *t, struct session *s)
{
	unlink_live(t, s);
	s->state = SESSION_SUPERSEDED;
}

void sessions_gone(struct sessions *t, struct session *s)
{
	if (s->state == SESSION_LIVE)
		unlink_live(t, s);
	TAILQ_REMOVE(&t->open, s, list);
	TAILQ_INSERT_TAIL(&t->gone, s, list);
	s->state = SESSION_GONE;
}

void sessions_remove(struct sessions *t, struct session *s)
{
	if (s->state == SESSION_LIVE)
		unlink_live(t, s);
	unlink_client(t, s);
	if (s->state == SESSION_GONE)
		TAILQ_REMOVE(&t->gone, s, list);
	else
		TAILQ_REMOVE(&t->open, s, list);
	t->count--;
	free(s);
}

void sessions_bury(struct sessions *t)
{
	struct session *s;

	while ((s = TAILQ_FIRST(&t->gone)))
		sessions_remove(t, s);
}
