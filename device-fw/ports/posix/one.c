/* SPDX-License-Identifier: Apache-2.0 */
/* One device, and a person at it. */
#include <stdio.h>
#include <unistd.h>

#include "device-fw/ports/posix/commands.h"
#include "device-fw/ports/posix/run.h"

#define US_PER_S INT64_C(1000000)

struct one {
	struct world *world;
	struct device *device;
	struct commands commands;
	struct loop_timer end; /* of measuring, then of waiting for acknowledgements */
	bool ended, quit;
};

static void finish(struct one *one)
{
	if (one->ended)
		return;
	one->ended = true;
	device_stop(one->device);
	loop_stop(one->world->loop);
}

static void on_quit(void *arg)
{
	struct one *one = arg;

	one->quit = true;
	finish(one);
}

static void on_settled(struct world *w, struct device *d)
{
	(void)d;
	finish(w->owner);
}

static void on_drained(void *arg)
{
	finish(arg);
}

static void on_measured(void *arg)
{
	struct one *one = arg;

	one->end.call = on_drained;
	loop_at(one->world->loop, &one->end,
		loop_now_us(one->world->loop) + one->world->options->drain_s * US_PER_S);
	device_stop_measuring(one->device);
}

static bool wants_commands(const struct options *o)
{
	return o->interactive || isatty(STDIN_FILENO);
}

/* Everything that was to be acknowledged is. */
static bool done(const struct one *one)
{
	const struct options *o = one->world->options;

	if (one->device->agent.backlog.waiting > 0)
		return false;
	return !o->count || one->device->measured >= (uint64_t)o->count;
}

static void report(const struct one *one)
{
	const struct totals *t = &one->world->totals;
	json_t *fields = output_totals(t);

	json_object_set_new(fields, "waiting",
			    json_integer((json_int_t)one->device->agent.backlog.waiting));
	output_event(&one->world->output, "done", one->device->config.device, fields,
		     "done: %llu of %llu readings acknowledged, %u wait; %llu handshakes; "
		     "median %u ms",
		     (unsigned long long)t->acknowledged, (unsigned long long)t->recorded,
		     one->device->agent.backlog.waiting, (unsigned long long)t->handshakes,
		     totals_percentile(t, 0.5));
}

int run_one(struct world *w, const struct credentials *c)
{
	static struct one one; /* the process has one */
	char error[512];
	int rc;

	one.world = w;
	w->owner = &one;
	w->settled = on_settled;
	w->interrupted = on_quit;
	one.device = device_new(w, c, 0, error, sizeof(error));
	if (!one.device) {
		fprintf(stderr, "fieldgate-device: %s\n", error);
		return 1;
	}
	one.commands = (struct commands){.device = one.device, .quit = on_quit, .arg = &one};
	rc = wants_commands(w->options) ? commands_begin(&one.commands) : -1;
	one.end = (struct loop_timer){.call = on_measured, .arg = &one};
	if (w->options->seconds)
		loop_at(w->loop, &one.end, loop_now_us(w->loop) + w->options->seconds * US_PER_S);
	device_start(one.device);
	if (!one.ended)
		loop_run(w->loop);
	if (rc == 0)
		commands_end(&one.commands);
	loop_cancel(w->loop, &one.end);
	report(&one);
	rc = one.quit || done(&one) ? 0 : 1;
	device_free(one.device);
	return rc;
}
