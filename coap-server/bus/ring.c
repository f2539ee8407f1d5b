/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/bus/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct ring_message *slot(const struct ring *r, uint64_t number)
{
	return &r->slots[number % r->capacity];
}

static size_t size_of(const struct bus_message *m)
{
	return strlen(m->topic) + 1 + m->payload_len;
}

int ring_init(struct ring *r, size_t capacity, size_t max_bytes)
{
	*r = (struct ring){.capacity = capacity, .max_bytes = max_bytes};
	r->slots = calloc(capacity, sizeof(*r->slots));
	return r->slots ? 0 : -ENOMEM;
}

void ring_free(struct ring *r)
{
	for (uint64_t i = r->oldest; r->slots && i < r->end; i++)
		free((void *)slot(r, i)->m.topic);
	free(r->slots);
	r->slots = NULL;
}

/* Topic and payload in one piece. */
static int copy(struct bus_message *to, const struct bus_message *m)
{
	size_t topic = strlen(m->topic) + 1;
	char *text = malloc(topic + m->payload_len);

	if (!text)
		return -ENOMEM;
	memcpy(text, m->topic, topic);
	if (m->payload_len > 0)
		memcpy(text + topic, m->payload, m->payload_len);
	*to = *m;
	to->topic = text;
	to->payload = text + topic;
	return 0;
}

int ring_put(struct ring *r, const struct bus_message *m, uint64_t ticket)
{
	size_t size = size_of(m);
	struct ring_message *s;

	if (ring_count(r) == r->capacity)
		return -EAGAIN;
	if (r->bytes > 0 && (r->bytes >= r->max_bytes || size > r->max_bytes - r->bytes))
		return -EAGAIN;
	s = slot(r, r->end);
	*s = (struct ring_message){.ticket = ticket};
	if (copy(&s->m, m) != 0)
		return -ENOMEM;
	r->bytes += size;
	r->end++;
	return 0;
}

struct ring_message *ring_next(struct ring *r)
{
	/* After a rewind, some behind the oldest were answered before. */
	while (r->next < r->end && slot(r, r->next)->done)
		r->next++;
	return r->next < r->end ? slot(r, r->next) : NULL;
}

void ring_sent(struct ring *r, struct ring_message *m, int mid)
{
	m->mid = mid;
	r->on_wire++;
	r->next++;
}

/* Answers come in the order of the messages, or nearly so: the first look finds most of them. */
struct ring_message *ring_on_wire(struct ring *r, int mid)
{
	for (uint64_t i = r->oldest; i < r->next; i++) {
		struct ring_message *m = slot(r, i);

		if (m->mid == mid && !m->done)
			return m;
	}
	return NULL;
}

void ring_done(struct ring *r, struct ring_message *m)
{
	if (m->mid)
		r->on_wire--;
	r->bytes -= size_of(&m->m);
	free((void *)m->m.topic);
	m->m = (struct bus_message){0};
	m->done = true;
	while (r->oldest < r->end && slot(r, r->oldest)->done) {
		r->settled = slot(r, r->oldest)->ticket;
		r->oldest++;
	}
	if (r->next < r->oldest)
		r->next = r->oldest;
}

void ring_rewind(struct ring *r)
{
	for (uint64_t i = r->oldest; i < r->next; i++)
		slot(r, i)->mid = 0;
	r->next = r->oldest;
	r->on_wire = 0;
}
