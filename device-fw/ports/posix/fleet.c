/* SPDX-License-Identifier: Apache-2.0 */
/* Many devices, and what happens to them: their starts, their NATs, their dead spots. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device-fw/ports/posix/run.h"

#define US_PER_S       INT64_C(1000000)
#define PROGRESS_EVERY (5 * US_PER_S)
#define PATIENCE_S     10 /* for one that does not connect */

struct fleet;

struct member {
	struct fleet *fleet;
	struct device *device;
	/* `start` is also when a device that is not connected yet is waited for no longer. */
	struct loop_timer start, rebind, offline;
	bool holds; /* one of the --connecting places */
};

struct fleet {
	struct world *world;
	struct member *members;
	size_t count, begun, connected, settled;
	uint64_t random;
	int64_t begun_us, ready_us, stopped_us; /* 0: not yet */
	uint64_t messages_at_ready, readings_at_ready, messages_at_stop, readings_at_stop;
	uint64_t messages_said;
	struct loop_timer end, progress;
	bool interrupted, ended;
};

static int64_t now_us(const struct fleet *f)
{
	return loop_now_us(f->world->loop);
}

/* xorshift64*, 0 to 1 */
static double chance(struct fleet *f)
{
	f->random ^= f->random >> 12;
	f->random ^= f->random << 25;
	f->random ^= f->random >> 27;
	return (double)(f->random * UINT64_C(2685821657736338717) >> 32) / (double)UINT32_MAX;
}

static double seconds_since(const struct fleet *f, int64_t since_us)
{
	return (double)(now_us(f) - since_us) / (double)US_PER_S;
}

static void in_seconds(struct fleet *f, struct loop_timer *t, double seconds)
{
	loop_at(f->world->loop, t, now_us(f) + (int64_t)(seconds * (double)US_PER_S));
}

/* ---- what happens to one */

static void begin_next(struct fleet *f);

static void release_place(struct member *m)
{
	if (!m->holds)
		return;
	m->holds = false;
	loop_cancel(m->fleet->world->loop, &m->start);
	begin_next(m->fleet);
}

static void on_waited(void *arg)
{
	release_place(arg);
}

static void on_start(void *arg)
{
	struct member *m = arg;

	if (m->holds) {
		m->start.call = on_waited;
		in_seconds(m->fleet, &m->start, PATIENCE_S);
	}
	device_start(m->device);
}

/* By its timer: as many as there are places may connect at once, and none inside of another's
 * event. */
static void begin_next(struct fleet *f)
{
	struct member *m;

	if (f->begun == f->count)
		return;
	m = &f->members[f->begun++];
	m->holds = true;
	in_seconds(f, &m->start, 0);
}

static void on_rebind(void *arg)
{
	struct member *m = arg;

	device_rebind(m->device); /* one that is not connected has no port to lose */
	in_seconds(m->fleet, &m->rebind, m->fleet->world->options->rebind_every_s);
}

static void on_offline(void *arg)
{
	struct member *m = arg;
	const struct options *o = m->fleet->world->options;
	bool goes = !m->device->offline;

	device_set_offline(m->device, goes);
	in_seconds(m->fleet, &m->offline, goes ? o->offline_for_s : o->offline_every_s);
}

/* A device stays away for --offline-for at least once a period, but not all at once. */
static void begin_member(struct fleet *f, struct member *m)
{
	const struct options *o = f->world->options;

	m->start = (struct loop_timer){.call = on_start, .arg = m};
	m->rebind = (struct loop_timer){.call = on_rebind, .arg = m};
	m->offline = (struct loop_timer){.call = on_offline, .arg = m};
	if (o->ramp_s > 0)
		in_seconds(f, &m->start, o->ramp_s * chance(f));
	if (o->rebind_every_s > 0)
		in_seconds(f, &m->rebind, o->ramp_s + o->rebind_every_s * chance(f));
	if (o->offline_every_s > 0)
		in_seconds(f, &m->offline, o->ramp_s + o->offline_every_s * chance(f));
}

static void end_member(struct fleet *f, struct member *m)
{
	if (!m->device)
		return;
	loop_cancel(f->world->loop, &m->start);
	loop_cancel(f->world->loop, &m->rebind);
	loop_cancel(f->world->loop, &m->offline);
	device_stop(m->device);
}

/* ---- what is said */

static long resident_kb(void)
{
	long pages = 0;
	FILE *in = fopen("/proc/self/statm", "re");

	if (in && fscanf(in, "%*d %ld", &pages) != 1) // NOLINT(cert-err34-c)
		pages = 0;
	if (in)
		fclose(in);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static double cpu_seconds(void)
{
	struct rusage used;

	getrusage(RUSAGE_SELF, &used);
	return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
	       (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / (double)US_PER_S;
}

static void say_ready(struct fleet *f)
{
	const struct totals *t = &f->world->totals;
	const double seconds = seconds_since(f, f->begun_us);

	f->ready_us = now_us(f);
	f->messages_at_ready = t->messages;
	f->readings_at_ready = t->acknowledged;
	output_event(&f->world->output, "ready", NULL,
		     json_pack("{s:I, s:f, s:I, s:f}", "devices", (json_int_t)f->count, "seconds",
			       seconds, "rss_kb", (json_int_t)resident_kb(), "cpu_seconds",
			       cpu_seconds()),
		     "ready: all %zu devices have connected, in %.1f s; %ld MB of memory", f->count,
		     seconds, resident_kb() / 1024);
}

static void on_progress(void *arg)
{
	struct fleet *f = arg;
	const struct totals *t = &f->world->totals;

	fprintf(stderr,
		"%6.0f s: %zu of %zu devices connected so far; %.0f messages/s; %llu of %llu "
		"readings acknowledged; %llu faults\n",
		seconds_since(f, f->begun_us), f->connected, f->count,
		(double)(t->messages - f->messages_said) * US_PER_S / PROGRESS_EVERY,
		(unsigned long long)t->acknowledged, (unsigned long long)t->recorded,
		(unsigned long long)t->faults);
	f->messages_said = t->messages;
	loop_at(f->world->loop, &f->progress, now_us(f) + PROGRESS_EVERY);
}

static uint64_t waiting(const struct fleet *f)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < f->count; i++)
		sum += f->members[i].device->agent.backlog.waiting;
	return sum;
}

/* Rates are those of the time in which all were connected and measured. */
static void report(const struct fleet *f)
{
	const struct totals *t = &f->world->totals;
	const uint64_t left = waiting(f);
	const double span =
		f->ready_us ? (double)(f->stopped_us - f->ready_us) / (double)US_PER_S : 0;
	const double rate =
		span > 0 ? (double)(f->messages_at_stop - f->messages_at_ready) / span : 0;
	json_t *fields = output_totals(t);

	json_object_update_new(
		fields,
		json_pack("{s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:I}", "devices",
			  (json_int_t)f->count, "connected", (json_int_t)f->connected, "waiting",
			  (json_int_t)left, "seconds", seconds_since(f, f->begun_us),
			  "steady_seconds", span, "messages_per_s", rate, "readings_per_s",
			  span > 0 ? (double)(f->readings_at_stop - f->readings_at_ready) / span
				   : 0.0,
			  "cpu_seconds", cpu_seconds(), "rss_kb", (json_int_t)resident_kb()));
	output_event(&f->world->output, "done", NULL, fields,
		     "done: %llu of %llu readings acknowledged, %llu wait; %.0f messages/s; "
		     "latency median %u ms, 99 %% %u ms; %llu handshakes, %llu resumed",
		     (unsigned long long)t->acknowledged, (unsigned long long)t->recorded,
		     (unsigned long long)left, rate, totals_percentile(t, 0.5),
		     totals_percentile(t, 0.99), (unsigned long long)t->handshakes,
		     (unsigned long long)t->resumed);
}

/* ---- the whole */

static void mark_stop(struct fleet *f)
{
	if (f->stopped_us)
		return;
	f->stopped_us = now_us(f);
	f->messages_at_stop = f->world->totals.messages;
	f->readings_at_stop = f->world->totals.acknowledged;
}

static void finish(struct fleet *f)
{
	if (f->ended)
		return;
	f->ended = true;
	mark_stop(f);
	loop_stop(f->world->loop);
}

static void on_interrupted(void *owner)
{
	struct fleet *f = owner;

	f->interrupted = true;
	finish(f);
}

static void on_connected(struct world *w, struct device *d)
{
	struct fleet *f = w->owner;

	if (++f->connected == f->count)
		say_ready(f);
	release_place(d->owner);
}

static void on_settled(struct world *w, struct device *d)
{
	struct fleet *f = w->owner;

	(void)d;
	if (++f->settled == f->count)
		finish(f);
}

static void on_drained(void *arg)
{
	finish(arg);
}

static void on_measured(void *arg)
{
	struct fleet *f = arg;

	mark_stop(f);
	f->end.call = on_drained;
	in_seconds(f, &f->end, (double)f->world->options->drain_s);
	for (size_t i = 0; i < f->count; i++)
		device_stop_measuring(f->members[i].device);
}

static int make_members(struct fleet *f, const struct credentials *c)
{
	char error[512];

	for (size_t i = 0; i < f->count; i++) {
		struct member *m = &f->members[i];

		m->fleet = f;
		m->device = device_new(f->world, &c[i], (uint32_t)i, error, sizeof(error));
		if (!m->device) {
			fprintf(stderr, "fieldgate-device: %s\n", error);
			return -1;
		}
		m->device->owner = m;
	}
	return 0;
}

static void run(struct fleet *f)
{
	const struct options *o = f->world->options;

	f->begun_us = now_us(f);
	f->end = (struct loop_timer){.call = on_measured, .arg = f};
	f->progress = (struct loop_timer){.call = on_progress, .arg = f};
	if (o->seconds)
		in_seconds(f, &f->end, (double)o->seconds);
	if (isatty(STDERR_FILENO))
		loop_at(f->world->loop, &f->progress, now_us(f) + PROGRESS_EVERY);
	for (size_t i = 0; i < f->count; i++)
		begin_member(f, &f->members[i]);
	for (long i = 0; o->ramp_s <= 0 && i < o->connecting; i++)
		begin_next(f);
	loop_run(f->world->loop);
	report(f);
	loop_cancel(f->world->loop, &f->end);
	loop_cancel(f->world->loop, &f->progress);
	for (size_t i = 0; i < f->count; i++)
		end_member(f, &f->members[i]);
}

int run_fleet(struct world *w, const struct credentials *c, size_t count)
{
	static struct fleet f; /* the process has one */
	int status = 1;

	if (w->options->state && mkdir(w->options->state, 0700) != 0 && errno != EEXIST) {
		fprintf(stderr, "fieldgate-device: %s: %s\n", w->options->state, strerror(errno));
		return 1;
	}
	f = (struct fleet){.world = w,
			   .count = count,
			   .random = (uint64_t)w->options->seed * UINT64_C(0x9e3779b97f4a7c15) | 1};
	f.members = calloc(count, sizeof(*f.members));
	w->owner = &f;
	w->interrupted = on_interrupted;
	w->settled = on_settled;
	w->connected = on_connected;
	if (f.members && make_members(&f, c) == 0) {
		run(&f);
		status = f.interrupted || waiting(&f) == 0 ? 0 : 1;
	}
	for (size_t i = 0; f.members && i < count; i++)
		device_free(f.members[i].device);
	free(f.members);
	return status;
}
