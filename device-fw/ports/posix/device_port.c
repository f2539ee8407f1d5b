/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "device-fw/ports/posix/device_internal.h"

#define US_PER_MS INT64_C(1000)

/* ---- time */

static int64_t uptime_ms(void *ctx)
{
	const struct device *d = ctx;

	return (loop_now_us(d->world->loop) - d->boot_us) / US_PER_MS;
}

int64_t device_wall_ms(const struct device *d)
{
	if (!d->clock_known)
		return 0;
	return (loop_now_us(d->world->loop) + d->wall_offset_us) / US_PER_MS;
}

static int64_t wall_ms(void *ctx)
{
	return device_wall_ms(ctx);
}

static void set_wall_ms(void *ctx, int64_t wall)
{
	struct device *d = ctx;

	d->wall_offset_us = wall * US_PER_MS - loop_now_us(d->world->loop);
	d->clock_known = true;
}

static void random_bytes(void *ctx, void *out, size_t length)
{
	uint8_t *at = out;

	(void)ctx;
	while (length > 0) {
		ssize_t got = getrandom(at, length, 0);

		if (got > 0) {
			at += got;
			length -= (size_t)got;
		}
	}
}

/* ---- network */

void device_attached(void *arg)
{
	struct device *d = arg;

	fg_agent_network(&d->agent, true);
	device_poll(d);
}

static int attach(void *ctx)
{
	struct device *d = ctx;

	d->attach_wanted = true;
	if (!d->offline)
		loop_at(d->world->loop, &d->attach, loop_now_us(d->world->loop));
	return 0;
}

static void detach(void *ctx)
{
	struct device *d = ctx;

	d->attach_wanted = false;
	loop_cancel(d->world->loop, &d->attach);
}

static int open_link(void *ctx, const struct fg_target *target, bool resume)
{
	struct device *d = ctx;

	return link_open(d->link, target, resume);
}

static int send_bytes(void *ctx, const void *bytes, size_t length, bool expects_answer)
{
	struct device *d = ctx;

	(void)expects_answer;
	return link_send(d->link, bytes, length);
}

static void close_link(void *ctx, bool keep)
{
	struct device *d = ctx;

	link_close(d->link, keep);
}

static void on_connected(void *ctx, const struct fg_connection *connection)
{
	struct device *d = ctx;

	if (connection->resumed)
		d->resumed++;
	else
		d->handshakes++;
	fg_agent_connected(&d->agent, connection);
	device_poll(d);
}

static void on_disconnected(void *ctx, int error, const char *reason)
{
	struct device *d = ctx;

	output_disconnected(&d->world->output, d->config.device, error, reason);
	fg_agent_disconnected(&d->agent, error);
	device_poll(d);
}

static void on_received(void *ctx, const void *bytes, size_t length)
{
	struct device *d = ctx;

	fg_agent_receive(&d->agent, bytes, length);
	device_poll(d);
}

static int jwt(void *ctx, char *out, size_t size)
{
	struct device *d = ctx;

	if (!d->credentials->jwt)
		return -ENOTSUP;
	if (!d->clock_known)
		return -EAGAIN;
	return jwt_make(d->credentials->jwt, d->config.device, device_wall_ms(d) / 1000, out, size);
}

/* ---- storage */

static int load(void *ctx, const char *name, void *out, size_t size)
{
	return storage_load(((struct device *)ctx)->storage, name, out, size);
}

static int save(void *ctx, const char *name, const void *value, size_t length)
{
	return storage_save(((struct device *)ctx)->storage, name, value, length);
}

static int flash_read(void *ctx, uint32_t offset, void *out, size_t length)
{
	return storage_flash_read(((struct device *)ctx)->storage, offset, out, length);
}

static int flash_write(void *ctx, uint32_t offset, const void *bytes, size_t length)
{
	return storage_flash_write(((struct device *)ctx)->storage, offset, bytes, length);
}

static int flash_erase(void *ctx, uint32_t offset)
{
	return storage_flash_erase(((struct device *)ctx)->storage, offset);
}

/* ---- the device */

static size_t measure(void *ctx, struct fg_reading *out, size_t max)
{
	struct device *d = ctx;
	const struct options *o = d->world->options;
	const struct sensors_self self = {uptime_ms(d) / 1000, device_retransmissions(d)};

	if (!d->measuring || (o->count && d->measured >= (uint64_t)o->count))
		return 0;
	d->measured++;
	return sensors_read(&d->sensors, &self, out,
			    max < (size_t)o->metrics ? max : (size_t)o->metrics);
}

static void reboot(void *ctx)
{
	device_reboot(ctx);
}

static void count_note(struct totals *t, const struct fg_note *note)
{
	switch (note->kind) {
	case FG_NOTE_CONNECTED:
		if (note->connection.resumed)
			t->resumed++;
		else
			t->handshakes++;
		break;
	case FG_NOTE_RECORDED:
		if (note->record.error)
			t->not_recorded++;
		else
			t->recorded++;
		break;
	case FG_NOTE_ACKNOWLEDGED:
		t->acknowledged += note->delivery.count;
		t->messages++;
		t->transmissions += note->delivery.transmissions;
		totals_latency(t, note->delivery.elapsed_ms);
		break;
	case FG_NOTE_REFUSED:
		t->refused += note->delivery.count;
		break;
	case FG_NOTE_FAULT:
		t->faults++;
		break;
	case FG_NOTE_COMMAND:
		t->commands++;
		break;
	default:
		break;
	}
}

/* For the files, and before anything else is done. */
static void log_note(struct device *d, const struct fg_note *note)
{
	const struct output *o = &d->world->output;
	const uint32_t *numbers;
	size_t count;

	if (note->kind == FG_NOTE_RECORDED && note->record.error == 0) {
		output_log(o->recorded, d->config.device, &note->record.seq, 1);
		if (sequences_add(&d->waiting, note->record.seq) != 0)
			abort();
	}
	if (note->kind == FG_NOTE_ACKNOWLEDGED || note->kind == FG_NOTE_REFUSED) {
		count = sequences_take(&d->waiting, note->delivery.last, note->delivery.count,
				       &numbers);
		if (note->kind == FG_NOTE_ACKNOWLEDGED)
			output_log(o->acked, d->config.device, numbers, count);
	}
}

static void take_note(void *ctx, const struct fg_note *note)
{
	struct device *d = ctx;

	log_note(d, note);
	count_note(&d->world->totals, note);
	if (note->kind == FG_NOTE_RESPONSE || note->kind == FG_NOTE_NO_RESPONSE)
		d->asking = false;
	output_note(&d->world->output, d->config.device, note);
	if (note->kind == FG_NOTE_STATE && note->state == FG_SESSION_RUNNING && !d->was_connected) {
		d->was_connected = true;
		if (d->world->connected)
			d->world->connected(d->world, d);
	}
}

int device_find_waiting(struct device *d)
{
	uint8_t pairs[FG_BACKLOG_PAYLOAD_MAX];
	struct fg_backlog_cursor at;
	struct fg_record record;
	int rc;

	sequences_free(&d->waiting);
	rc = fg_backlog_first(&d->agent.backlog, &at, &record, pairs, sizeof(pairs));
	while (rc == 0) {
		if (sequences_add(&d->waiting, record.seq) != 0)
			return -ENOMEM;
		rc = fg_backlog_next(&d->agent.backlog, &at, &record, pairs, sizeof(pairs));
	}
	return 0;
}

const struct fg_port device_port = {
	.uptime_ms = uptime_ms,
	.wall_ms = wall_ms,
	.set_wall_ms = set_wall_ms,
	.random = random_bytes,
	.attach = attach,
	.detach = detach,
	.open = open_link,
	.send = send_bytes,
	.close = close_link,
	.jwt = jwt,
	.load = load,
	.save = save,
	.flash_read = flash_read,
	.flash_write = flash_write,
	.flash_erase = flash_erase,
	.measure = measure,
	.reboot = reboot,
	.note = take_note,
};

/* ---- the link that it has */

struct link *device_make_link(struct device *d)
{
	const struct options *o = d->world->options;
	const struct link_impairment *impairment = &d->world->impairment;
	bool impaired = impairment->loss > 0 || impairment->duplicate > 0 ||
			impairment->delay_ms > 0 || impairment->jitter_ms > 0;

	return link_new(&(struct link_config){
		.loop = d->world->loop,
		.trust = d->world->trust,
		.identity = d->credentials->identity,
		.impairment = impaired ? impairment : NULL,
		.connection_id = !o->no_cid,
		.only_cbc = o->only_cbc,
		.handshake_min_ms = o->handshake_min_ms ? (uint32_t)o->handshake_min_ms : 1000,
		.handshake_max_ms = 60000,
		.connected = on_connected,
		.disconnected = on_disconnected,
		.received = on_received,
		.ctx = d,
	});
}
