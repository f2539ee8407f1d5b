/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "device-fw/core/command.h"
#include "device-fw/ports/posix/device_internal.h"

#define US_PER_MS   INT64_C(1000)
#define US_PER_S    INT64_C(1000000)
#define WRITE_SIZE  4 /* as of nRF9160's flash */
#define SECTOR_SIZE 4096

/* ---- the agent is polled after everything that it is told */

static void look_if_settled(struct device *d)
{
	const struct options *o = d->world->options;

	if (d->settled || d->agent.backlog.waiting > 0 ||
	    (d->measuring && (!o->count || d->measured < (uint64_t)o->count)))
		return;
	d->settled = true;
	d->world->settled(d->world, d);
}

void device_poll(struct device *d)
{
	int64_t due_ms = fg_agent_poll(&d->agent);

	if (due_ms == INT64_MAX)
		loop_cancel(d->world->loop, &d->poll);
	else
		loop_at(d->world->loop, &d->poll, d->boot_us + due_ms * US_PER_MS);
	look_if_settled(d);
}

static void on_poll(void *arg)
{
	device_poll(arg);
}

/* ---- life */

void device_set_clock(struct device *d, bool known, double ahead_s)
{
	struct timespec real, monotonic;

	clock_gettime(CLOCK_REALTIME, &real);
	clock_gettime(CLOCK_MONOTONIC, &monotonic);
	d->clock_known = known;
	d->wall_offset_us = (real.tv_sec - monotonic.tv_sec) * US_PER_S +
			    (real.tv_nsec - monotonic.tv_nsec) / 1000 +
			    (int64_t)(ahead_s * (double)US_PER_S);
}

/* As --clock has it; options.c does not know what a clock is. */
static void begin_clock(struct device *d)
{
	const char *clock = d->world->options->clock;
	bool unknown = clock && strcmp(clock, "unknown") == 0;

	device_set_clock(d, !unknown, clock && !unknown ? strtod(clock, NULL) : 0);
}

static void take_patience(struct fg_config *c, const struct options *o)
{
	const struct {
		uint32_t *to;
		long from;
	} times[] = {
		{&c->coap.ack_timeout_ms, o->ack_timeout_ms},
		{&c->session.run_ms, o->run_ms},
		{&c->session.backoff_min_ms, o->backoff_min_ms},
		{&c->session.backoff_max_ms, o->backoff_max_ms},
		{&c->session.refused_min_ms, o->refused_min_ms},
		{&c->state_poll_s, o->state_poll_s},
	};

	for (size_t i = 0; i < sizeof(times) / sizeof(*times); i++)
		if (times[i].from)
			*times[i].to = (uint32_t)times[i].from;
	if (o->max_retransmit)
		c->coap.max_retransmit = (uint8_t)o->max_retransmit;
	if (o->keepalive_s)
		c->keepalive_s = (uint16_t)o->keepalive_s;
}

/* Each device of a fleet has its own interval within the jitter. */
static int32_t interval_of(const struct options *o, uint32_t index)
{
	uint64_t mixed = ((uint64_t)index + 1 + (uint64_t)o->seed) * UINT64_C(0x9e3779b97f4a7c15);
	double share = (double)(mixed >> 32) / (double)UINT32_MAX * 2 - 1;
	double interval = (double)o->interval_s * (1 + share * (double)o->jitter_percent / 100);

	return interval < FG_INTERVAL_MIN_S   ? FG_INTERVAL_MIN_S
	       : interval > FG_INTERVAL_MAX_S ? FG_INTERVAL_MAX_S
					      : (int32_t)(interval + 0.5);
}

static void configure(struct device *d, uint32_t index)
{
	const struct options *o = d->world->options;
	struct fg_config *c = &d->config;

	fg_config_defaults(c, o->transport, d->credentials->kind);
	c->device = d->credentials->id;
	c->target.host = o->host;
	c->target.port = (uint16_t)o->port;
	c->interval_s = interval_of(o, index);
	c->session.sleeps = o->sleep;
	c->observe = o->observe;
	c->clean_session = !o->persistent;
	if (o->batch)
		c->batch_max = (uint8_t)o->batch;
	take_patience(c, o);
}

static struct storage *make_storage(const struct device *d, char *error, size_t size)
{
	const struct options *o = d->world->options;
	struct storage_config config = {
		.directory = o->state, .flash = &d->world->flash, .sync = !o->fleet};
	char directory[4096];

	if (o->state && o->fleet) {
		snprintf(directory, sizeof(directory), "%s/%s", o->state, d->credentials->id);
		config.directory = directory;
	}
	return storage_new(&config, error, size);
}

/* As after power-on. */
static int boot(struct device *d, char *error, size_t size)
{
	const char *what;
	int rc;

	d->boot_us = loop_now_us(d->world->loop);
	d->asking = false;
	begin_clock(d);
	d->link = device_make_link(d);
	if (!d->link) {
		snprintf(error, size, "%s: out of memory", d->credentials->id);
		return -1;
	}
	link_set_cut(d->link, d->offline);
	if (fg_config_check(&d->config, &what) != 0) {
		snprintf(error, size, "%s: %s cannot be so", d->credentials->id, what);
		return -1;
	}
	rc = fg_agent_init(&d->agent, &d->world->port, d, &d->config);
	if (rc != 0 || device_find_waiting(d) != 0) {
		snprintf(error, size, "%s: the agent cannot begin", d->credentials->id);
		return -1;
	}
	return 0;
}

static void on_restart(void *arg)
{
	struct device *d = arg;
	char error[256];

	loop_cancel(d->world->loop, &d->poll);
	loop_cancel(d->world->loop, &d->attach);
	link_set_cut(d->link, true); /* nobody says farewell when the power goes */
	link_free(d->link);
	d->attach_wanted = false;
	d->world->totals.reboots++;
	if (boot(d, error, sizeof(error)) != 0) {
		fprintf(stderr, "fieldgate-device: %s\n", error);
		exit(1);
	}
	device_start(d);
}

void device_reboot(struct device *d)
{
	loop_at(d->world->loop, &d->restart, loop_now_us(d->world->loop));
}

void device_prepare_world(struct world *w)
{
	const struct options *o = w->options;

	w->flash = (struct fg_flash_geometry){.sector_size = SECTOR_SIZE,
					      .sectors = (uint32_t)o->sectors,
					      .write_size = WRITE_SIZE,
					      .erased = 0xff};
	w->port = device_port;
	w->port.flash = &w->flash;
	w->impairment = (struct link_impairment){.loss = o->loss,
						 .duplicate = o->duplicate,
						 .delay_ms = (int32_t)o->delay_ms,
						 .jitter_ms = (int32_t)o->delay_jitter_ms,
						 .seed = (uint64_t)o->seed};
}

struct device *device_new(struct world *w, const struct credentials *c, uint32_t index, char *error,
			  size_t size)
{
	struct device *d = calloc(1, sizeof(*d));

	if (!d) {
		snprintf(error, size, "%s: out of memory", c->id);
		return NULL;
	}
	d->world = w;
	d->credentials = c;
	d->measuring = true;
	d->poll = (struct loop_timer){.call = on_poll, .arg = d};
	d->attach = (struct loop_timer){.call = device_attached, .arg = d};
	d->restart = (struct loop_timer){.call = on_restart, .arg = d};
	configure(d, index);
	sensors_begin(&d->sensors, (uint64_t)w->options->seed << 32 | index);
	d->storage = make_storage(d, error, size);
	if (!d->storage || boot(d, error, size) != 0) {
		device_free(d);
		return NULL;
	}
	return d;
}

void device_free(struct device *d)
{
	if (!d)
		return;
	loop_cancel(d->world->loop, &d->poll);
	loop_cancel(d->world->loop, &d->attach);
	loop_cancel(d->world->loop, &d->restart);
	if (d->link)
		link_free(d->link);
	storage_free(d->storage);
	sequences_free(&d->waiting);
	free(d->payload);
	free(d);
}

void device_start(struct device *d)
{
	fg_agent_start(&d->agent);
	device_poll(d);
}

void device_stop(struct device *d)
{
	loop_cancel(d->world->loop, &d->restart);
	fg_agent_stop(&d->agent);
	loop_cancel(d->world->loop, &d->poll);
}

uint32_t device_retransmissions(const struct device *d)
{
	return d->config.target.transport == FG_TRANSPORT_COAP ? d->agent.coap.retransmissions : 0;
}

void device_set_offline(struct device *d, bool offline)
{
	if (offline == d->offline)
		return;
	d->offline = offline;
	link_set_cut(d->link, offline);
	if (!d->attach_wanted)
		return;
	if (offline)
		loop_cancel(d->world->loop, &d->attach);
	fg_agent_network(&d->agent, !offline);
	device_poll(d);
}

void device_stop_measuring(struct device *d)
{
	d->measuring = false;
	look_if_settled(d);
}

/* ---- what is asked for */

/* The agent reads path and payload until the answer is there. */
static int ask(struct device *d, const char *path, const void *payload, size_t length)
{
	if (d->asking)
		return -EBUSY;
	if (strlen(path) >= sizeof(d->path))
		return -EMSGSIZE;
	memcpy(d->path, path, strlen(path) + 1);
	free(d->payload);
	d->payload = malloc(length + 1);
	if (!d->payload)
		return -ENOMEM;
	if (length > 0)
		memcpy(d->payload, payload, length);
	return 0;
}

int device_get(struct device *d, const char *path)
{
	int rc = ask(d, path, NULL, 0);

	if (rc != 0)
		return rc;
	d->asking = true;
	rc = fg_agent_get(&d->agent, d->path);
	if (rc != 0)
		d->asking = false;
	device_poll(d);
	return rc;
}

int device_put(struct device *d, const char *path, int format, const void *payload, size_t length)
{
	int rc = ask(d, path, payload, length);

	if (rc != 0)
		return rc;
	d->asking = true;
	rc = fg_agent_put(&d->agent, d->path, format, d->payload, length);
	if (rc != 0)
		d->asking = false;
	device_poll(d);
	return rc;
}

void device_read(struct device *d)
{
	fg_agent_measure(&d->agent);
	device_poll(d);
}

int device_set_interval(struct device *d, long interval_s)
{
	if (interval_s < FG_INTERVAL_MIN_S || interval_s > FG_INTERVAL_MAX_S)
		return -ERANGE;
	fg_agent_set_interval(&d->agent, (int32_t)interval_s);
	device_poll(d);
	return 0;
}

int device_rebind(struct device *d)
{
	/* A handshake does not survive it (RFC 9146 begins after it), and would begin anew each
	 * time. */
	if (d->agent.session.state == FG_SESSION_CONNECTING)
		return -ENOTCONN;
	return link_rebind(d->link);
}
