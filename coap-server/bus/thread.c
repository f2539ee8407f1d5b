/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread of the bus: connect, send, take answers, and begin again when a connection is lost.
 *
 * Two things must not stop it. A broker that is away or does not answer: it is tried again, after a
 * delay that grows to DELAY_MAX_US and is drawn at random, so that the workers of a machine do not
 * come back all at once. And a message that makes the broker end the connection instead of
 * answering: after FRUITLESS_BEFORE_ALONE such ends messages go one at a time, so that it is seen
 * which one it is, and after FRUITLESS_MAX it is given up, counted and logged; but not one to a
 * device.
 */
#include "coap-server/bus/internal.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include <mosquitto.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/pipeline/pipeline.h"

#define DELAY_MIN_US  (100 * US_PER_MS)
#define DELAY_MAX_US  (10 * US_PER_S)
#define STEADY_US     (5 * US_PER_S) /* a connection that lived so long was a good one */
#define LOOK_EVERY_MS 1000	     /* for the library's keepalive */

#define FRUITLESS_BEFORE_ALONE 2
#define FRUITLESS_MAX	       10 /* with the delays, a quarter of a minute or more */

#define TROUBLE_INTERVAL_US (60 * US_PER_S)
#define REFUSAL_INTERVAL_US (10 * US_PER_S)
#define REFUSAL_BURST	    5

/* --- Files --- */

static int name_client(struct bus_client *b, const struct bus_tls *tls)
{
	int len = snprintf(b->client_id, sizeof(b->client_id), "%s%s%s", tls->service,
			   b->o.suffix ? "/" : "", b->o.suffix ? b->o.suffix : "");

	return len > 0 && (size_t)len < sizeof(b->client_id) ? 0 : -EINVAL;
}

static int read_files(struct bus_client *b, struct bus_tls **out, char *err, size_t err_len)
{
	int rc = bus_tls_open(out, &b->o.tls, err, err_len);

	if (rc != 0)
		return rc;
	rc = name_client(b, *out);
	if (rc != 0) {
		snprintf(err, err_len, "the client id would be too long");
		bus_tls_close(*out);
	}
	return rc;
}

/* What cannot be used leaves in force what was. */
static void renew_files(struct bus_client *b)
{
	struct bus_tls *fresh;
	char err[512], note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed;

	if (read_files(b, &fresh, err, sizeof(err)) == 0) {
		bus_tls_close(b->tls);
		b->tls = fresh;
	} else if (rate_limit_pass(&b->trouble, TROUBLE_INTERVAL_US, &suppressed)) {
		log_warn("bus_files", NULL, "%s; %s%s", err,
			 b->tls ? "what was read before is used"
				: "nothing is published before that is put right",
			 rate_limit_note(note, suppressed));
	}
}

/* --- Addresses --- */

static void resolve(struct bus_client *b, char *err, size_t err_len)
{
	const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct addrinfo *found = NULL;
	int rc = getaddrinfo(b->o.tls.host, NULL, &hints, &found);

	b->address = b->address_count = 0;
	b->tried[0] = '\0';
	if (rc != 0) {
		snprintf(err, err_len, "cannot find its address: %s", gai_strerror(rc));
		return;
	}
	for (struct addrinfo *a = found; a && b->address_count < ADDRESSES_MAX; a = a->ai_next)
		if (getnameinfo(a->ai_addr, a->ai_addrlen, b->addresses[b->address_count],
				ADDRESS_MAX, NULL, 0, NI_NUMERICHOST) == 0)
			b->address_count++;
	freeaddrinfo(found);
}

/* --- Telling --- */

static void wake_relay(struct bus_client *b)
{
	bool owed;

	pthread_mutex_lock(&b->lock);
	owed = b->no_memory;
	b->no_memory = false;
	pthread_mutex_unlock(&b->lock);
	if (b->progress || owed)
		eventfd_write(b->wake_fd, 1);
	b->progress = false;
}

static void log_trouble(struct bus_client *b, const char *event, const char *why)
{
	char note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed;

	if (rate_limit_pass(&b->trouble, TROUBLE_INTERVAL_US, &suppressed))
		log_warn(event, NULL,
			 "%s, port %u: %s; devices are served all the same, and what is to be "
			 "published waits in the journal%s",
			 b->o.tls.host, b->o.port, why, rate_limit_note(note, suppressed));
}

/* Of several addresses the last is not always the one that tells most. */
static void note_failure(struct bus_client *b, const char *why)
{
	size_t len = strlen(b->tried);

	snprintf(b->tried + len, sizeof(b->tried) - len, "%s%s: %s", len ? "; " : "",
		 b->addresses[b->address - 1], why);
	if (b->address == b->address_count)
		log_trouble(b, "bus_unreachable", b->tried);
}

static void log_refusal(struct bus_client *b, const char *topic, const char *why)
{
	char note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed;

	if (rate_limit_pass_burst(&b->refusals, REFUSAL_INTERVAL_US, REFUSAL_BURST, &suppressed))
		log_warn("bus_publish_refused", NULL, "topic %.200s: %s; it is not published%s",
			 topic, why, rate_limit_note(note, suppressed));
}

static void log_downlink_waits(struct bus_client *b, const char *topic)
{
	char note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed;

	if (rate_limit_pass_burst(&b->refusals, REFUSAL_INTERVAL_US, REFUSAL_BURST, &suppressed))
		log_warn("bus_downlink_waits", NULL,
			 "topic %.200s: the broker ends the connection instead of taking it; has "
			 "its "
			 "journal no room? It waits, and what follows it%s",
			 topic, rate_limit_note(note, suppressed));
}

/* --- Messages --- */

static void finish(struct bus_client *b, struct ring_message *m, bool refused)
{
	pthread_mutex_lock(&b->lock);
	ring_done(&b->ring, m);
	if (refused)
		b->stats.refused++;
	else
		b->stats.published++;
	pthread_mutex_unlock(&b->lock);
	b->progress = true;
}

static void take_answer(void *arg, int mid, int reason)
{
	struct bus_client *b = arg;
	struct ring_message *m;
	char why[160];

	pthread_mutex_lock(&b->lock);
	m = ring_on_wire(&b->ring, mid);
	pthread_mutex_unlock(&b->lock);
	if (!m)
		return; /* QoS 0: it was done when it was sent */
	b->answered = true;
	b->fruitless = 0;
	if (reason >= 0x80) {
		snprintf(why, sizeof(why), "the broker refuses it: %s (0x%02x)%s",
			 mosquitto_reason_string(reason), (unsigned)reason,
			 reason == 0x87 ? "; has the service the policy `bus`?" : "");
		log_refusal(b, m->m.topic, why);
	}
	finish(b, m, reason >= 0x80);
}

static size_t on_wire_max(const struct bus_client *b)
{
	if (b->draining)
		return 0;
	return b->fruitless >= FRUITLESS_BEFORE_ALONE ? 1 : connection_send_max(b->connection);
}

/* The next message that may go now; no other thread touches it. */
static struct ring_message *next_message(struct bus_client *b)
{
	struct ring_message *m = NULL;

	pthread_mutex_lock(&b->lock);
	if (b->ring.on_wire < on_wire_max(b))
		m = ring_next(&b->ring);
	pthread_mutex_unlock(&b->lock);
	return m;
}

static void note_sent(struct bus_client *b, struct ring_message *m, int mid)
{
	pthread_mutex_lock(&b->lock);
	ring_sent(&b->ring, m, mid);
	pthread_mutex_unlock(&b->lock);
	if (m->m.qos == 0)
		finish(b, m, false);
}

/* False: the connection has ended. */
static bool send_each(struct bus_client *b)
{
	struct ring_message *m;
	char why[160];
	int mid;

	while ((m = next_message(b))) {
		switch (connection_publish(b->connection, &m->m, &mid, why, sizeof(why))) {
		case CONNECTION_SENT:
			note_sent(b, m, mid);
			break;
		case CONNECTION_REFUSES:
			log_refusal(b, m->m.topic, why);
			finish(b, m, true);
			break;
		case CONNECTION_ENDED:
			return false;
		}
	}
	return true;
}

static bool send_messages(struct bus_client *b)
{
	bool alive;

	if (!next_message(b))
		return true;
	connection_cork(b->connection, true);
	alive = send_each(b);
	connection_cork(b->connection, false);
	return alive;
}

/*
 * Alone on its connection, time and again, and each time the broker ends that: it is this one. But
 * for a message to a device the plugin does so while its journal has no room for it, which may be
 * for long, and for no other reason: that one is kept.
 */
static void give_up_poison(struct bus_client *b)
{
	struct ring_message *m = NULL;
	const char *device;
	size_t device_len;

	if (b->fruitless < FRUITLESS_MAX)
		return;
	b->fruitless = 0;
	pthread_mutex_lock(&b->lock);
	if (b->ring.on_wire == 1)
		m = &b->ring.slots[b->ring.oldest % b->ring.capacity];
	pthread_mutex_unlock(&b->lock);
	if (!m)
		return;
	if (pipeline_is_downlink(m->m.topic, &device, &device_len)) {
		b->fruitless = FRUITLESS_BEFORE_ALONE;
		log_downlink_waits(b, m->m.topic);
		return;
	}
	log_refusal(b, m->m.topic, "each time the broker ends the connection instead of answering");
	finish(b, m, true);
}

/* --- Connections --- */

static void delay_next(struct bus_client *b)
{
	uint32_t draw;

	b->delay_us = b->delay_us ? b->delay_us * 2 : DELAY_MIN_US;
	if (b->delay_us > DELAY_MAX_US)
		b->delay_us = DELAY_MAX_US;
	random_bytes(&draw, sizeof(draw));
	b->connect_at_us = clock_monotonic_us() + b->delay_us / 2 +
			   (int64_t)(draw % (uint64_t)(b->delay_us / 2));
}

static void begin(struct bus_client *b)
{
	const struct connection_options o = {
		.tls = b->tls,
		.client_id = b->client_id,
		.port = b->o.port,
		.send_max = (unsigned)b->o.max_in_flight,
		.arg = b,
		.answered = take_answer,
		.address = b->addresses[b->address],
	};
	char err[256];

	b->entered = b->answered = b->draining = false;
	b->address++;
	if (connection_open(&b->connection, &o, err, sizeof(err)) == 0)
		return;
	note_failure(b, err);
	if (b->address == b->address_count)
		delay_next(b);
}

/* The address at hand, or, when all were tried, those that the name has now. */
static void connect_next(struct bus_client *b)
{
	char err[256] = "it has no address";

	if (b->address == b->address_count) {
		renew_files(b);
		if (!b->tls) {
			delay_next(b);
			return;
		}
		resolve(b, err, sizeof(err));
	}
	if (b->address_count > 0) {
		begin(b);
		return;
	}
	log_trouble(b, "bus_unreachable", err);
	delay_next(b);
}

static void entered(struct bus_client *b)
{
	pthread_mutex_lock(&b->lock);
	b->stats.connected = true;
	b->stats.connections++;
	pthread_mutex_unlock(&b->lock);
	b->entered = true;
	b->entered_at_us = clock_monotonic_us();
	b->trouble = (struct rate_limit){0};
	log_info("bus_connected", NULL, "%s (%s), port %u, as %s", b->o.tls.host,
		 b->addresses[b->address - 1], b->o.port, b->client_id);
}

static void drop(struct bus_client *b, bool polite)
{
	connection_close(b->connection, polite);
	b->connection = NULL;
	pthread_mutex_lock(&b->lock);
	ring_rewind(&b->ring);
	b->stats.connected = false;
	pthread_mutex_unlock(&b->lock);
}

static void ended(struct bus_client *b)
{
	bool on_wire, innocent = connection_was_silent(b->connection) ||
				 connection_was_dismissed(b->connection);
	char why[512];

	connection_why(b->connection, why, sizeof(why));
	if (b->entered)
		log_trouble(b, "bus_disconnected", why);
	else
		note_failure(b, why);
	pthread_mutex_lock(&b->lock);
	on_wire = b->ring.on_wire > 0;
	pthread_mutex_unlock(&b->lock);
	if (b->entered && on_wire && !b->answered && !innocent) {
		b->fruitless++;
		give_up_poison(b);
	}
	drop(b, false);
	if (b->entered) {
		b->address = b->address_count;
		if (clock_monotonic_us() - b->entered_at_us >= STEADY_US)
			b->delay_us = 0;
	}
	/* The next address of the same name is tried at once. */
	if (b->address == b->address_count)
		delay_next(b);
}

/* New files: what is under way is answered first, so that it need not be sent twice. */
static void renew_when_idle(struct bus_client *b)
{
	bool idle;

	if (!b->draining)
		return;
	pthread_mutex_lock(&b->lock);
	idle = b->ring.on_wire == 0;
	pthread_mutex_unlock(&b->lock);
	if (!idle)
		return;
	drop(b, true);
	b->address = b->address_count;
	b->connect_at_us = 0;
}

/* --- The loop --- */

/* Returns false when it is time to end. */
static bool look(struct bus_client *b)
{
	bool stop, renew;

	pthread_mutex_lock(&b->lock);
	stop = b->stop;
	renew = b->renew;
	b->renew = b->kicked = false;
	pthread_mutex_unlock(&b->lock);
	if (renew && b->connection)
		b->draining = true;
	if (renew && !b->connection) {
		b->address = b->address_count;
		b->connect_at_us = 0;
	}
	return !stop;
}

static short wait_for_events(struct bus_client *b)
{
	struct pollfd fds[2] = {{.fd = b->kick_fd, .events = POLLIN}, {.fd = -1}};
	int64_t wait_ms = LOOK_EVERY_MS;
	eventfd_t ignored;

	if (b->connection) {
		fds[1].fd = connection_fd(b->connection);
		fds[1].events = connection_events(b->connection);
	} else {
		wait_ms = (b->connect_at_us - clock_monotonic_us()) / US_PER_MS + 1;
		wait_ms = wait_ms < 0 ? 0 : wait_ms > LOOK_EVERY_MS ? LOOK_EVERY_MS : wait_ms;
	}
	if (poll(fds, 2, (int)wait_ms) <= 0)
		return 0;
	if (fds[0].revents)
		eventfd_read(b->kick_fd, &ignored);
	return fds[1].revents;
}

static void work(struct bus_client *b, short revents)
{
	bool alive = connection_work(b->connection, revents);

	if (alive && !b->entered && connection_ready(b->connection))
		entered(b);
	if (alive && b->entered)
		alive = send_messages(b);
	if (alive)
		renew_when_idle(b);
	else
		ended(b);
}

void *bus_client_run(void *client)
{
	struct bus_client *b = client;
	short revents = 0;

	while (look(b)) {
		if (!b->connection && clock_monotonic_us() >= b->connect_at_us)
			connect_next(b);
		else if (b->connection)
			work(b, revents);
		wake_relay(b);
		revents = wait_for_events(b);
	}
	if (b->connection)
		drop(b, true);
	return NULL;
}
