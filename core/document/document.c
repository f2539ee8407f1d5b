/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The side of those who ask. What the two threads share is three short lists behind one lock, which
 * nobody holds while anything waits or a callback runs.
 */
#include "core/document/document.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/hash.h"
#include "core/base/pgconn.h"
#include "core/base/thread.h"
#include "core/document/internal.h"

#define CHANGES_MAX 4096 /* kept one by one; beyond, anything may have changed */

/* --- Lists --- */

void entries_push(struct entries *l, struct entry *e)
{
	e->next = NULL;
	if (l->last)
		l->last->next = e;
	else
		l->first = e;
	l->last = e;
	l->count++;
}

struct entry *entries_pop(struct entries *l)
{
	struct entry *e = l->first;

	if (!e)
		return NULL;
	l->first = e->next;
	if (!l->first)
		l->last = NULL;
	l->count--;
	return e;
}

static void free_entry(struct entry *e)
{
	free(e->content);
	free(e);
}

static void free_entries(struct entries *l)
{
	struct entry *e;

	while ((e = entries_pop(l)))
		free_entry(e);
}

static void free_changes(struct change *c)
{
	while (c) {
		struct change *next = c->next;

		free(c);
		c = next;
	}
}

static void signal_fd(int fd)
{
	(void)eventfd_write(fd, 1); /* it can only fail because it is readable anyway */
}

static void drain_fd(int fd)
{
	eventfd_t n;

	(void)eventfd_read(fd, &n);
}

/* --- Asking --- */

static char *put_text(char **at, const char *text)
{
	char *start = *at;

	if (!text)
		return NULL;
	*at = stpcpy(start, text) + 1;
	return start;
}

static struct entry *copy_request(const struct document_request *r)
{
	size_t text = strlen(r->device) + 1 + (r->name ? strlen(r->name) + 1 : 0) +
		      (r->over ? strlen(r->over) + 1 : 0);
	struct entry *e = calloc(1, sizeof(*e) + text + r->payload_len + 1);
	char *at;

	if (!e)
		return NULL;
	at = e->data;
	e->request = *r;
	e->request.device = put_text(&at, r->device);
	e->request.name = put_text(&at, r->name);
	e->request.over = put_text(&at, r->over);
	if (r->payload_len > 0)
		memcpy(at, r->payload, r->payload_len);
	e->request.payload = at;
	return e;
}

static uint8_t *share_of(struct documents *d, const struct document_request *r)
{
	if (d->o.max_of_device == 0 || r->uncounted)
		return NULL;
	return &d->shares[hash_siphash(hash_table_key(), r->device, strlen(r->device)) % SHARES];
}

int documents_ask(struct documents *d, const struct document_request *r)
{
	uint8_t *share = share_of(d, r);
	struct entry *e;
	int rc = 0;

	if (r->payload_len > INT32_MAX)
		return -ENOMEM; /* libpq counts in int */
	if (share && *share >= d->o.max_of_device)
		return -EAGAIN;
	e = copy_request(r);
	if (!e)
		return -ENOMEM;
	e->share = share;
	e->deadline_us = clock_monotonic_us() + d->o.statement_timeout_s * US_PER_S;
	pthread_mutex_lock(&d->lock);
	if (!d->connected)
		rc = -ENOTCONN;
	else if (d->held >= d->o.max_queue)
		rc = -EAGAIN;
	if (rc == 0) {
		entries_push(&d->waiting, e);
		d->held++;
	}
	pthread_mutex_unlock(&d->lock);
	if (rc != 0) {
		free_entry(e);
		return rc;
	}
	if (share)
		++*share;
	signal_fd(d->wake_fd);
	return 0;
}

/* --- Delivering --- */

int documents_fd(const struct documents *d)
{
	return d->ready_fd;
}

static void deliver_answers(struct documents *d, struct entries *answered,
			    void (*tell)(void *arg, const struct document_answer *a), void *arg)
{
	struct entry *e;

	while ((e = entries_pop(answered))) {
		/* Its place in the queue is free for what the callback asks. */
		if (e->share)
			--*e->share;
		pthread_mutex_lock(&d->lock);
		d->held--;
		pthread_mutex_unlock(&d->lock);
		tell(arg, &e->answer);
		free_entry(e);
	}
}

void documents_poll(struct documents *d,
		    void (*answered)(void *arg, const struct document_answer *a),
		    void (*changed)(void *arg, const struct document_change *c), void *arg)
{
	static const struct document_change any = {.what = DOCUMENT_CHANGED_ANY};
	struct entries answers;
	struct change *changes;
	bool all;

	drain_fd(d->ready_fd);
	pthread_mutex_lock(&d->lock);
	answers = d->answered;
	changes = d->first_change;
	all = d->all_changed;
	d->answered = (struct entries){0};
	d->first_change = d->last_change = NULL;
	d->change_count = 0;
	d->all_changed = false;
	pthread_mutex_unlock(&d->lock);

	deliver_answers(d, &answers, answered, arg);
	if (all)
		changed(arg, &any);
	for (const struct change *c = changes; c; c = c->next) {
		const struct document_change told = {c->what, c->device, c->name};

		changed(arg, &told);
	}
	free_changes(changes);
}

bool documents_waiting(struct documents *d, const char *device)
{
	bool may;

	pthread_mutex_lock(&d->lock);
	may = waiting_has(&d->downlink, device);
	pthread_mutex_unlock(&d->lock);
	return may;
}

void documents_each_waiting(struct documents *d, void (*visit)(void *arg, const char *device),
			    void *arg)
{
	size_t len;
	char *devices;

	pthread_mutex_lock(&d->lock);
	devices = waiting_copy(&d->downlink, &len);
	pthread_mutex_unlock(&d->lock);
	for (char *at = devices; at && at < devices + len; at += strlen(at) + 1)
		visit(arg, at);
	free(devices);
}

/* --- For the thread --- */

struct entry *documents_next(struct documents *d)
{
	struct entry *e;

	pthread_mutex_lock(&d->lock);
	e = entries_pop(&d->waiting);
	pthread_mutex_unlock(&d->lock);
	return e;
}

static bool nothing_waits(const struct document_answer *a)
{
	return a->request->operation == DOCUMENT_DOWNLINK_NEXT &&
	       a->outcome == DOCUMENT_NOT_FOUND && a->waiting == 0;
}

/* Notifications of what was inserted after the question are taken after its answer, so no message
 * is forgotten here. */
void documents_answer(struct documents *d, struct entry *e)
{
	pthread_mutex_lock(&d->lock);
	if (nothing_waits(&e->answer))
		waiting_remove(&d->downlink, e->request.device);
	entries_push(&d->answered, e);
	pthread_mutex_unlock(&d->lock);
	signal_fd(d->ready_fd);
}

/* The caller holds the lock. */
static void forget_changes(struct documents *d)
{
	free_changes(d->first_change);
	d->first_change = d->last_change = NULL;
	d->change_count = 0;
	d->all_changed = true;
}

void documents_connected(struct documents *d, bool missed, struct waiting *downlink)
{
	const struct waiting before = d->downlink; /* only this thread changes it */

	pthread_mutex_lock(&d->lock);
	d->connected = true;
	d->downlink = *downlink;
	if (missed)
		forget_changes(d);
	pthread_mutex_unlock(&d->lock);
	*downlink = before; /* which frees it */
	if (missed)
		signal_fd(d->ready_fd);
}

void documents_lost(struct documents *d)
{
	struct entry *e;

	pthread_mutex_lock(&d->lock);
	d->connected = false;
	while ((e = entries_pop(&d->sent)) || (e = entries_pop(&d->waiting))) {
		statement_unavailable(e, "the connection to the database was lost");
		entries_push(&d->answered, e);
	}
	pthread_mutex_unlock(&d->lock);
	signal_fd(d->ready_fd);
}

static struct change *new_change(bool downlink, const char *payload)
{
	size_t len = strlen(payload);
	struct change *c = malloc(sizeof(*c) + len + 1);
	char *slash;

	if (!c)
		return NULL;
	memcpy(c->device, payload, len + 1);
	slash = strchr(c->device, '/');
	if (slash)
		*slash = '\0';
	c->name = slash && slash[1] ? slash + 1 : NULL;
	c->next = NULL;
	if (downlink)
		c->what = DOCUMENT_CHANGED_DOWNLINK;
	else if (c->name)
		c->what = DOCUMENT_CHANGED_VALUE;
	else
		c->what = slash ? DOCUMENT_CHANGED_STATE_NOT_DELTA : DOCUMENT_CHANGED_STATE;
	return c;
}

void documents_changed(struct documents *d, const char *channel, const char *payload)
{
	bool downlink = strcmp(channel, DOWNLINK_CHANNEL) == 0;
	struct change *c = *payload ? new_change(downlink, payload) : NULL;

	pthread_mutex_lock(&d->lock);
	if (downlink && *payload)
		waiting_add(&d->downlink, payload);
	if (!c || d->all_changed || d->change_count == CHANGES_MAX) {
		forget_changes(d);
		free(c);
	} else {
		if (d->last_change)
			d->last_change->next = c;
		else
			d->first_change = c;
		d->last_change = c;
		d->change_count++;
	}
	pthread_mutex_unlock(&d->lock);
	signal_fd(d->ready_fd);
}

/* --- Beginning and end --- */

static void release(struct documents *d)
{
	const int fds[] = {d->stop_fd, d->wake_fd, d->ready_fd};

	free_entries(&d->waiting);
	free_entries(&d->sent);
	free_entries(&d->answered);
	free_changes(d->first_change);
	waiting_free(&d->downlink);
	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free((char *)(uintptr_t)d->o.database_url);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

static int prepare(struct documents *d, const struct document_options *o)
{
	d->o = *o;
	d->o.database_url = strdup(o->database_url);
	d->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	d->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	d->ready_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!d->o.database_url)
		return -ENOMEM;
	if (d->stop_fd < 0 || d->wake_fd < 0 || d->ready_fd < 0)
		return -errno;
	return thread_start(&d->thread, "fg-document", document_thread, d);
}

int documents_open(struct documents **out, const struct document_options *o, char *err,
		   size_t err_len)
{
	struct documents *d;
	int rc;

	*out = NULL;
	rc = pgconn_check_url(o->database_url, err, err_len);
	if (rc != 0)
		return rc;
	d = calloc(1, sizeof(*d));
	if (!d) {
		pgconn_message(err, err_len, "out of memory");
		return -ENOMEM;
	}
	pthread_mutex_init(&d->lock, NULL);
	rc = prepare(d, o);
	if (rc != 0) {
		pgconn_message(err, err_len, strerror(-rc));
		release(d);
		return rc;
	}
	*out = d;
	return 0;
}

void documents_close(struct documents *d)
{
	if (!d)
		return;
	signal_fd(d->stop_fd);
	pthread_join(d->thread, NULL);
	release(d);
}
