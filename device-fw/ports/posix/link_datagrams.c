/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/ports/posix/link_datagrams.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BURST	  16 /* datagrams that one link takes before others have their turn */
#define LATE_MAX  64 /* in both directions; a network's queues are not endless either */
#define US_PER_MS 1000

struct late {
	struct late *next; /* not sooner than this one */
	int64_t at_us;
	bool out;
	size_t length;
	uint8_t bytes[];
};

struct link_datagrams {
	struct link_datagrams *next; /* of air->leaving, when it is closed */
	struct loop *loop;
	struct link_air *air; /* NULL: its link was freed while this was busy */
	const struct link_datagrams_events *events;
	void *arg;
	bool closed, busy; /* busy: inside a callback of the loop, which is not over */
	struct loop_fd socket;
	struct loop_timer timer; /* of the first that is late */
	struct late *late;
	unsigned late_count;
	struct sockaddr_storage to;
	socklen_t to_length;
};

/* ---- chance */

static uint64_t mixed(uint64_t x) /* splitmix64 */
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

void link_datagrams_seed(struct link_air *air)
{
	static uint64_t links;

	links++;
	air->chance = mixed(mixed(air->impairment ? air->impairment->seed : 0) + links) | 1;
}

static uint64_t next_random(struct link_air *air) /* xorshift64 */
{
	air->chance ^= air->chance << 13;
	air->chance ^= air->chance >> 7;
	air->chance ^= air->chance << 17;
	return air->chance;
}

static bool happens(struct link_air *air, double probability)
{
	return probability > 0 && (double)(next_random(air) >> 11) * 0x1p-53 < probability;
}

static int64_t delay_us(struct link_air *air)
{
	const struct link_impairment *i = air->impairment;
	uint64_t jitter_us;

	if (!i || (i->delay_ms <= 0 && i->jitter_ms <= 0))
		return 0;
	jitter_us = i->jitter_ms > 0 ? (uint64_t)i->jitter_ms * US_PER_MS : 0;
	return (int64_t)(jitter_us ? next_random(air) % jitter_us : 0) +
	       (i->delay_ms > 0 ? (int64_t)i->delay_ms * US_PER_MS : 0);
}

/* ---- the socket */

static int new_socket(struct link_datagrams *d)
{
	int fd = socket(d->to.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int error;

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&d->to, d->to_length) == 0)
		return fd;
	error = errno;
	close(fd);
	return -error;
}

/* A socket that has heard of an unreachable port says so instead of sending, once. */
static void transmit(struct link_datagrams *d, const void *bytes, size_t length)
{
	bool sent = false;

	for (int i = 0; i < 2 && !sent && !d->air->cut; i++)
		sent = send(d->socket.fd, bytes, length, MSG_NOSIGNAL) >= 0;
	if (!sent)
		d->air->counters.dropped++;
}

/* Whoever is called may close this; if he frees the link, there is no air either. */
static void deliver(struct link_datagrams *d, const uint8_t *bytes, size_t length)
{
	if (d->air->cut) {
		d->air->counters.dropped++;
		return;
	}
	d->air->counters.received++;
	d->air->counters.bytes_received += length;
	d->events->received(d->arg, bytes, length);
}

/* ---- late datagrams */

static void set_timer(struct link_datagrams *d)
{
	if (d->late)
		loop_at(d->loop, &d->timer, d->late->at_us);
	else
		loop_cancel(d->loop, &d->timer);
}

static void hold(struct link_datagrams *d, bool out, const void *bytes, size_t length,
		 int64_t after_us)
{
	struct late *late = d->late_count < LATE_MAX ? malloc(sizeof(*late) + length) : NULL;
	struct late **at = &d->late;

	if (!late) {
		d->air->counters.dropped++;
		return;
	}
	late->at_us = loop_now_us(d->loop) + after_us;
	late->out = out;
	late->length = length;
	memcpy(late->bytes, bytes, length);
	while (*at && (*at)->at_us <= late->at_us)
		at = &(*at)->next;
	late->next = *at;
	*at = late;
	d->late_count++;
	set_timer(d);
}

static void release(struct link_datagrams *d)
{
	loop_cancel(d->loop, &d->timer);
	for (struct late *late; (late = d->late);) {
		d->late = late->next;
		free(late);
	}
	close(d->socket.fd);
	free(d);
}

/* At the end of all that may have been the last of it. */
static void depart(struct link_datagrams *d)
{
	struct link_datagrams **at;

	if (!d->closed || d->busy)
		return;
	if (d->air && d->late)
		return;
	if (d->air) {
		for (at = &d->air->leaving; *at != d; at = &(*at)->next)
			;
		*at = d->next;
	}
	release(d);
}

static void on_late(void *arg)
{
	struct link_datagrams *d = arg;
	int64_t now = loop_now_us(d->loop);

	d->busy = true;
	for (struct late *late; d->air && (late = d->late) && late->at_us <= now;) {
		d->late = late->next;
		d->late_count--;
		if (late->out)
			transmit(d, late->bytes, late->length);
		else
			deliver(d, late->bytes, late->length);
		free(late);
	}
	set_timer(d);
	d->busy = false;
	depart(d);
}

/* ---- both directions */

static void pass(struct link_datagrams *d, bool out, const uint8_t *bytes, size_t length)
{
	struct link_air *air = d->air;
	const struct link_impairment *i = air->impairment;
	int copies = 1;

	if (i && happens(air, i->loss)) {
		air->counters.dropped++;
		return;
	}
	if (i && happens(air, i->duplicate))
		copies = 2;
	while (copies-- > 0) {
		int64_t after_us = delay_us(air);

		if (after_us > 0)
			hold(d, out, bytes, length, after_us);
		else if (out)
			transmit(d, bytes, length);
		else
			deliver(d, bytes, length);
		if (d->closed)
			return;
	}
}

static void on_socket(void *arg, uint32_t events)
{
	struct link_datagrams *d = arg;
	uint8_t bytes[LINK_DATAGRAM_MAX];

	(void)events; /* errors come by recv */
	d->busy = true;
	for (int i = 0; i < BURST && !d->closed; i++) {
		ssize_t n = recv(d->socket.fd, bytes, sizeof(bytes), MSG_TRUNC);

		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n >= 0 && (size_t)n <= sizeof(bytes))
			pass(d, false, bytes, (size_t)n);
		else if (n < 0 && !d->air->cut)
			d->events->failed(d->arg, -errno);
		else
			d->air->counters.dropped++;
	}
	d->busy = false;
	depart(d);
}

void link_datagrams_send(struct link_datagrams *d, const void *bytes, size_t length)
{
	d->air->counters.sent++;
	d->air->counters.bytes_sent += length;
	pass(d, true, bytes, length);
}

/* ---- life */

int link_datagrams_open(struct link_air *air, const struct sockaddr_storage *to, socklen_t length,
			const struct link_datagrams_events *events, void *arg,
			struct link_datagrams **out)
{
	struct link_datagrams *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return -ENOMEM;
	d->loop = air->loop;
	d->air = air;
	d->events = events;
	d->arg = arg;
	d->to = *to;
	d->to_length = length;
	d->timer = (struct loop_timer){.call = on_late, .arg = d};
	d->socket = (struct loop_fd){.call = on_socket, .arg = d, .fd = new_socket(d)};
	if (d->socket.fd < 0) {
		r = d->socket.fd;
		free(d);
		return r;
	}
	r = loop_watch(air->loop, &d->socket, EPOLLIN);
	if (r != 0) {
		release(d);
		return r;
	}
	*out = d;
	return 0;
}

int link_datagrams_rebind(struct link_datagrams *d)
{
	/* While the old one is open its port is not chosen again. */
	int old = d->socket.fd, other = new_socket(d), r;

	if (other < 0)
		return other;
	d->socket.fd = other;
	r = loop_watch(d->loop, &d->socket, EPOLLIN);
	if (r != 0)
		d->socket.fd = old;
	close(r == 0 ? old : other);
	return r;
}

void link_datagrams_close(struct link_datagrams *d)
{
	loop_unwatch(d->loop, &d->socket);
	for (struct late **at = &d->late; *at;) {
		struct late *late = *at;

		if (late->out) {
			at = &late->next;
		} else {
			*at = late->next;
			d->late_count--;
			free(late);
		}
	}
	set_timer(d);
	d->closed = true;
	d->next = d->air->leaving;
	d->air->leaving = d;
	depart(d);
}

void link_datagrams_forget(struct link_air *air)
{
	for (struct link_datagrams *d; (d = air->leaving);) {
		air->leaving = d->next;
		d->air = NULL;
		depart(d);
	}
}
