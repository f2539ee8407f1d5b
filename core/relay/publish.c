/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The side of the bus. Each message that the bus took has a ticket, one more than the one before; a
 * ring remembers, for each record that something came of, its last ticket and where it begins. So
 * the position can follow what is settled, and never passes a record that is not.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/relay/internal.h"

#define IN_FLIGHT_LEAST 64

/* --- What is in flight --- */

static struct relay_in_flight *in_flight_at(const struct relay *r, size_t i)
{
	return &r->in_flight[(r->in_flight_first + i) & (r->in_flight_room - 1)];
}

/* Room for one more record. 0, or -EAGAIN: something must be settled first. */
static int reserve(struct relay *r)
{
	size_t room = r->in_flight_room ? r->in_flight_room * 2 : IN_FLIGHT_LEAST;
	struct relay_in_flight *larger;

	if (r->record_in_flight || r->in_flight_count < r->in_flight_room)
		return 0;
	larger = room <= RELAY_IN_FLIGHT_MAX ? malloc(room * sizeof(*larger)) : NULL;
	if (!larger)
		return -EAGAIN;
	for (size_t i = 0; i < r->in_flight_count; i++)
		larger[i] = *in_flight_at(r, i);
	free(r->in_flight);
	r->in_flight = larger;
	r->in_flight_room = room;
	r->in_flight_first = 0;
	return 0;
}

static void note_ticket(struct relay *r)
{
	if (!r->record_in_flight)
		in_flight_at(r, r->in_flight_count++)->before = r->read_to;
	r->record_in_flight = true;
	in_flight_at(r, r->in_flight_count - 1)->ticket = r->ticket;
}

static void count_published(struct relay *r, uint64_t settled)
{
	pthread_mutex_lock(&r->mutex);
	r->stats.published = settled - r->first_ticket;
	r->stats_read_to = r->read_to;
	pthread_mutex_unlock(&r->mutex);
}

struct journal_position relay_settled(struct relay *r)
{
	const struct bus *bus = r->o.bus;
	uint64_t settled = bus ? bus->settled(bus->arg) : r->ticket;

	if (settled > r->ticket)
		settled = r->ticket;
	/* The record at hand may have more to come. */
	while (r->in_flight_count > (r->record_in_flight ? 1 : 0) &&
	       in_flight_at(r, 0)->ticket <= settled) {
		r->in_flight_first = (r->in_flight_first + 1) & (r->in_flight_room - 1);
		r->in_flight_count--;
	}
	count_published(r, settled);
	return r->in_flight_count > 0 ? in_flight_at(r, 0)->before : r->read_to;
}

/* --- Sending --- */

static void refused(struct relay *r, const struct bus_message *m, int rc)
{
	char note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed;

	pthread_mutex_lock(&r->mutex);
	r->stats.refused++;
	pthread_mutex_unlock(&r->mutex);
	if (rate_limit_pass(&r->refusals, US_PER_S, &suppressed))
		log_warn("relay_refused", NULL,
			 "a message on '%.200s' (%zu bytes) is not one that can be published: "
			 "%s%s",
			 m->topic, m->payload_len, strerror(-rc),
			 rate_limit_note(note, suppressed));
}

static int try_publish(struct relay *r, const struct bus_message *m)
{
	const struct bus *bus = r->o.bus;
	int rc = bus->publish(bus->arg, m, r->ticket + 1);

	if (rc == 0)
		r->ticket++;
	else if (rc != -EAGAIN)
		refused(r, m, rc);
	return rc;
}

int relay_send(struct relay *r, const struct bus_message *m)
{
	int rc;

	if (!r->o.bus)
		return -ENOTCONN;
	while (!atomic_load(&r->stop)) {
		rc = reserve(r);
		if (rc == 0)
			rc = try_publish(r, m);
		if (rc == 0)
			note_ticket(r);
		if (rc != -EAGAIN)
			return rc;
		relay_wait(r, RELAY_FOR_ROOM);
	}
	r->cut_short = true;
	return -ECANCELED;
}

/* --- What others hand in --- */

static struct relay_queued *copy_message(const struct bus_message *m)
{
	size_t topic_len = strlen(m->topic);
	struct relay_queued *q = malloc(sizeof(*q) + topic_len + 1 + m->payload_len);
	char *bytes;

	if (!q)
		return NULL;
	bytes = (char *)(q + 1);
	q->next = NULL;
	q->message = *m;
	q->message.topic = memcpy(bytes, m->topic, topic_len + 1);
	if (m->payload_len > 0)
		q->message.payload = memcpy(bytes + topic_len + 1, m->payload, m->payload_len);
	return q;
}

static size_t size_of(const struct bus_message *m)
{
	return strlen(m->topic) + m->payload_len;
}

int relay_publish(struct relay *r, const struct bus_message *m)
{
	struct relay_queued *q;
	int rc = 0;

	if (!r->o.bus)
		return -ENOTCONN;
	pthread_mutex_lock(&r->mutex);
	if (r->queue_count >= RELAY_QUEUE_MAX ||
	    (r->queue_count > 0 && r->queue_bytes + size_of(m) > RELAY_QUEUE_BYTES_MAX)) {
		rc = -EAGAIN;
	} else {
		q = copy_message(m);
		rc = q ? 0 : -ENOMEM;
		if (q) {
			*r->queue_end = q;
			r->queue_end = &q->next;
			r->queue_count++;
			r->queue_bytes += size_of(m);
		}
	}
	pthread_mutex_unlock(&r->mutex);
	if (rc == 0)
		(void)eventfd_write(r->queue_fd, 1);
	return rc;
}

static void drop_first(struct relay *r)
{
	struct relay_queued *q;

	pthread_mutex_lock(&r->mutex);
	q = r->queue;
	r->queue = q->next;
	if (!r->queue)
		r->queue_end = &r->queue;
	r->queue_count--;
	r->queue_bytes -= size_of(&q->message);
	pthread_mutex_unlock(&r->mutex);
	free(q);
}

/* Only this thread takes from the queue, so its first entry stays where it is without the lock. */
void relay_send_queued(struct relay *r)
{
	struct relay_queued *first;

	for (;;) {
		pthread_mutex_lock(&r->mutex);
		first = r->queue;
		pthread_mutex_unlock(&r->mutex);
		if (!first || try_publish(r, &first->message) == -EAGAIN)
			return;
		drop_first(r);
	}
}

void relay_free_queue(struct relay *r)
{
	while (r->queue)
		drop_first(r);
}
