/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/bus/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <mosquitto.h>

#include "core/base/clock.h"
#include "core/base/thread.h"
#include "core/journal/journal.h"

/* With the lock held; the thread is to be told once for all that it has not looked at. */
static void kick(struct bus_client *b)
{
	if (b->kicked)
		return;
	b->kicked = true;
	eventfd_write(b->kick_fd, 1);
}

/* --- The relay's calls --- */

static int publish(void *arg, const struct bus_message *m, uint64_t ticket)
{
	struct bus_client *b = arg;
	int rc;

	if (connection_check_topic(m->topic) != 0 || m->qos < 0 || m->qos > 1)
		return -EINVAL;
	if (m->payload_len > JOURNAL_PAYLOAD_MAX)
		return -EMSGSIZE;
	pthread_mutex_lock(&b->lock);
	rc = ring_put(&b->ring, m, ticket);
	if (rc == 0)
		kick(b);
	if (rc == -ENOMEM)
		b->no_memory = true;
	pthread_mutex_unlock(&b->lock);
	return rc == -ENOMEM ? -EAGAIN : rc;
}

static uint64_t settled(void *arg)
{
	struct bus_client *b = arg;
	uint64_t ticket;

	pthread_mutex_lock(&b->lock);
	ticket = b->ring.settled;
	pthread_mutex_unlock(&b->lock);
	return ticket;
}

static int wake_fd(void *arg)
{
	const struct bus_client *b = arg;

	return b->wake_fd;
}

/* --- Others' --- */

const struct bus *bus_client_bus(const struct bus_client *b)
{
	return &b->bus;
}

void bus_client_renew(struct bus_client *b)
{
	pthread_mutex_lock(&b->lock);
	b->renew = true;
	kick(b);
	pthread_mutex_unlock(&b->lock);
}

void bus_client_stats(struct bus_client *b, struct bus_client_stats *out)
{
	pthread_mutex_lock(&b->lock);
	*out = b->stats;
	out->in_flight = ring_count(&b->ring);
	pthread_mutex_unlock(&b->lock);
}

/* --- Open and close --- */

/* Where o's strings point is b's own. */
static int copy_strings(struct bus_client *b)
{
	const char **of[] = {&b->o.tls.host, &b->o.tls.ca_file, &b->o.tls.certificate_file,
			     &b->o.tls.key_file, &b->o.suffix};

	for (size_t i = 0; i < sizeof(of) / sizeof(*of); i++) {
		if (!*of[i])
			continue;
		b->strings[i] = strdup(*of[i]);
		if (!b->strings[i])
			return -ENOMEM;
		*of[i] = b->strings[i];
	}
	return 0;
}

static void release(struct bus_client *b)
{
	bus_tls_close(b->tls);
	ring_free(&b->ring);
	for (size_t i = 0; i < sizeof(b->strings) / sizeof(*b->strings); i++)
		free(b->strings[i]);
	if (b->kick_fd >= 0)
		close(b->kick_fd);
	if (b->wake_fd >= 0)
		close(b->wake_fd);
	pthread_mutex_destroy(&b->lock);
	mosquitto_lib_cleanup();
	free(b);
}

int bus_client_open(struct bus_client **out, const struct bus_client_options *o)
{
	struct bus_client *b = calloc(1, sizeof(*b));
	int rc;

	*out = NULL;
	if (!b)
		return -ENOMEM;
	mosquitto_lib_init();
	pthread_mutex_init(&b->lock, NULL);
	b->o = *o;
	b->bus = (struct bus){.arg = b, .publish = publish, .settled = settled, .wake_fd = wake_fd};
	b->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	b->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = b->kick_fd < 0 || b->wake_fd < 0 ? -errno : copy_strings(b);
	if (rc == 0)
		rc = ring_init(&b->ring, o->max_in_flight, BUS_MAX_BYTES);
	if (rc == 0)
		rc = thread_start(&b->thread, "bus", bus_client_run, b);
	if (rc != 0) {
		release(b);
		return rc;
	}
	*out = b;
	return 0;
}

void bus_client_close(struct bus_client *b)
{
	if (!b)
		return;
	pthread_mutex_lock(&b->lock);
	b->stop = true;
	kick(b);
	pthread_mutex_unlock(&b->lock);
	pthread_join(b->thread, NULL);
	release(b);
}
