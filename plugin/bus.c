/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/bus.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/rate_limit.h"
#include "plugin/plugin.h"

#define TOPIC_MAX     65535
#define COST_BYTES    4096     /* of a message, that cost as much as another message */
#define COST_DOWNLINK 50       /* a record of the journal, which may have to be synced */
#define RETRY_US      US_PER_S /* one that was appended and not synced is appended once more */

struct item {
	struct item *next;
	uint64_t ticket;
	bool recorded; /* in the journal, for its device */
	struct bus_message message;
	char bytes[]; /* topic, NUL, payload */
};

struct plugin_bus {
	struct bus bus;
	int wake_fd;
	_Atomic uint64_t settled;
	_Atomic size_t count;

	pthread_mutex_t lock; /* what follows */
	struct item *first, **end;
	size_t bytes;

	int64_t record_at_us; /* not before, as the journal takes nothing; the broker's thread */
	struct rate_limit refusals; /* likewise */
};

/* --- The relay's side --- */

static size_t size_of(const struct bus_message *m)
{
	return strlen(m->topic) + m->payload_len;
}

static struct item *copy(const struct bus_message *m, uint64_t ticket)
{
	size_t topic_len = strlen(m->topic);
	struct item *item = malloc(sizeof(*item) + topic_len + 1 + m->payload_len);

	if (!item)
		return NULL;
	*item = (struct item){.ticket = ticket, .message = *m};
	item->message.topic = memcpy(item->bytes, m->topic, topic_len + 1);
	item->message.payload = item->bytes + topic_len + 1;
	if (m->payload_len > 0)
		memcpy(item->bytes + topic_len + 1, m->payload, m->payload_len);
	return item;
}

static bool has_room(const struct plugin_bus *b, const struct bus_message *m)
{
	size_t count = atomic_load(&b->count);

	return count == 0 ||
	       (count < PLUGIN_BUS_MESSAGES_MAX && b->bytes + size_of(m) <= PLUGIN_BUS_BYTES_MAX);
}

static void put(struct plugin_bus *b, struct item *item)
{
	*b->end = item;
	b->end = &item->next;
	b->bytes += size_of(&item->message);
	atomic_fetch_add(&b->count, 1);
}

/* Without memory it is tried again: there will be some when what waits is gone. */
static int bus_publish(void *arg, const struct bus_message *m, uint64_t ticket)
{
	struct plugin_bus *b = arg;
	struct item *item = NULL;
	int rc = -EAGAIN; /* the broker's thread has not taken leave of what is in the way */

	if (strlen(m->topic) > TOPIC_MAX || m->payload_len > INT_MAX)
		return -EMSGSIZE;
	pthread_mutex_lock(&b->lock);
	if (has_room(b, m)) {
		item = copy(m, ticket);
		rc = item ? 0 : b->first ? -EAGAIN : -ENOMEM;
	}
	if (item)
		put(b, item);
	pthread_mutex_unlock(&b->lock);
	return rc;
}

static uint64_t bus_settled(void *arg)
{
	struct plugin_bus *b = arg;

	return atomic_load(&b->settled);
}

static int bus_wake_fd(void *arg)
{
	struct plugin_bus *b = arg;

	return b->wake_fd;
}

/* --- The broker's side --- */

/* A message to a device. 0: it waits in the journal, or need not; else it is tried again later. */
static int record(struct plugin *p, struct item *item)
{
	const struct message m = {
		.topic = item->message.topic,
		.payload = item->message.payload,
		.payload_len = item->message.payload_len,
		.format = PAYLOAD_AUTO,
		.relayed = true,
		.delivered = plugin_delivers(p, item->message.topic),
	};
	int rc;

	if (item->message.retain && item->message.payload_len == 0)
		return 0;
	rc = pipeline_publish(p->pipeline, &m);
	if (rc == -EMSGSIZE) {
		log_error("republish_not_queued", NULL,
			  "a message on %.200s is too long to wait for its device", m.topic);
		rc = 0;
	}
	item->recorded = rc == 0;
	return rc;
}

/* False: not now. */
static bool publish(struct plugin *p, struct item *item, int *cost)
{
	const struct bus_message *m = &item->message;
	struct plugin_bus *b = p->bus;
	char note[RATE_LIMIT_NOTE_MAX];
	const char *device;
	size_t device_len;
	uint64_t suppressed;
	int rc;

	*cost = 1 + (int)(m->payload_len / COST_BYTES);
	if (!item->recorded && pipeline_is_downlink(m->topic, &device, &device_len)) {
		*cost += COST_DOWNLINK;
		if (clock_monotonic_us() < b->record_at_us)
			return false;
		if (record(p, item) != 0) {
			b->record_at_us = clock_monotonic_us() + RETRY_US;
			return false;
		}
	}
	rc = mosquitto_broker_publish_copy(NULL, m->topic, (int)m->payload_len, m->payload, m->qos,
					   m->retain, NULL);
	if (rc == MOSQ_ERR_NOMEM)
		return false;
	if (rc != MOSQ_ERR_SUCCESS && rate_limit_pass(&b->refusals, US_PER_S, &suppressed))
		log_error("republish_refused", NULL,
			  "the broker does not take a message on %.200s: its error %d (enum "
			  "mosq_err_t of mosquitto.h)%s",
			  m->topic, rc, rate_limit_note(note, suppressed));
	return true;
}

static struct item *first_of(struct plugin_bus *b)
{
	struct item *item;

	pthread_mutex_lock(&b->lock);
	item = b->first;
	pthread_mutex_unlock(&b->lock);
	return item;
}

static void drop_first(struct plugin_bus *b)
{
	struct item *item;

	pthread_mutex_lock(&b->lock);
	item = b->first;
	b->first = item->next;
	if (!b->first)
		b->end = &b->first;
	b->bytes -= size_of(&item->message);
	pthread_mutex_unlock(&b->lock);
	atomic_store(&b->settled, item->ticket);
	atomic_fetch_sub(&b->count, 1);
	free(item);
}

void plugin_bus_drain(struct plugin *p, int budget)
{
	struct plugin_bus *b = p->bus;
	struct item *item;
	bool moved = false;
	int cost;

	if (!plugin_bus_waits(b))
		return;
	while (budget > 0 && (item = first_of(b)) && publish(p, item, &cost)) {
		drop_first(b);
		budget -= cost;
		moved = true;
	}
	if (moved)
		(void)eventfd_write(b->wake_fd, 1);
}

bool plugin_bus_waits(const struct plugin_bus *b)
{
	return atomic_load_explicit(&b->count, memory_order_relaxed) > 0;
}

/* --- Open and close --- */

struct plugin_bus *plugin_bus_open(void)
{
	struct plugin_bus *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b->wake_fd < 0) {
		free(b);
		return NULL;
	}
	pthread_mutex_init(&b->lock, NULL);
	b->end = &b->first;
	b->bus = (struct bus){.arg = b,
			      .publish = bus_publish,
			      .settled = bus_settled,
			      .wake_fd = bus_wake_fd,
			      .is_broker = true};
	return b;
}

void plugin_bus_close(struct plugin_bus *b)
{
	if (!b)
		return;
	while (b->first)
		drop_first(b);
	close(b->wake_fd);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

const struct bus *plugin_bus_of(struct plugin_bus *b)
{
	return &b->bus;
}
