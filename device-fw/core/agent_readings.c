/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readings take one way, through the backlog, whether there is a connection or not: into it when
 * they are measured, out of it when the server has answered for them.
 */
#include <errno.h>

#include "device-fw/core/agent_internal.h"

#define READINGS_MAX 24

int fg_agent_record(struct fg_agent *a, const struct fg_reading *readings, size_t count)
{
	struct fg_note note = {.kind = FG_NOTE_RECORDED};
	uint8_t pairs[FG_BACKLOG_PAYLOAD_MAX];
	int rc = 0;

	if (count == 0)
		return 0;
	/* What does not fit into one record goes into several, of the same time. */
	for (size_t taken; count > 0; readings += taken, count -= taken) {
		taken = count;
		while ((rc = fg_readings_encode(readings, taken, pairs, sizeof(pairs))) < 0 &&
		       taken > 1)
			taken /= 2;
		if (rc >= 0)
			rc = fg_backlog_append(&a->backlog, a->port->wall_ms(a->ctx),
					       fg_agent_now(a), (uint8_t)taken, pairs, (size_t)rc,
					       &note.record.seq);
		note.record.error = rc;
		fg_agent_note(a, &note);
	}
	fg_agent_event(a, FG_SESSION_WORK);
	return rc;
}

void fg_agent_measure(struct fg_agent *a)
{
	struct fg_reading readings[READINGS_MAX];

	fg_agent_record(a, readings, a->port->measure(a->ctx, readings, READINGS_MAX));
}

bool fg_agent_bulk(struct fg_agent *a)
{
	a->bulk = a->backlog.waiting > 1 && a->batch_limit > 1;
	return a->bulk;
}

/* One message, or an array of as many as there is room for. */
int fg_agent_write_batch(void *arg, uint8_t *out, size_t room)
{
	struct fg_agent *a = arg;
	uint8_t pairs[FG_BACKLOG_PAYLOAD_MAX];
	int64_t boot_ms = a->port->wall_ms(a->ctx) - fg_agent_now(a);
	struct fg_backlog_cursor at;
	struct fg_record record;
	struct fg_cbor_writer w;
	int rc = 0;

	/* Before a record is sent for the first time: its time must be the same at each attempt. A
	 * clock that is behind the uptime says nothing of what was before. */
	if (boot_ms > 0)
		rc = fg_backlog_anchor(&a->backlog, boot_ms);
	if (rc != 0)
		return rc;
	fg_cbor_begin(&w, out, room);
	a->batch_count = 0;
	if (a->bulk)
		fg_cbor_array(&w, 0); /* the number comes when it is known */
	rc = fg_backlog_first(&a->backlog, &at, &record, pairs, sizeof(pairs));
	if (rc == 0)
		a->batch_first_seq = record.seq;
	while (rc == 0) {
		size_t before = w.length;

		fg_record_write(&w, &record);
		if (w.full) {
			w.length = before;
			break;
		}
		a->batch_last = at;
		if (++a->batch_count == a->batch_limit || !a->bulk)
			break;
		rc = fg_backlog_next(&a->backlog, &at, &record, pairs, sizeof(pairs));
	}
	if (a->batch_count == 0)
		return rc == 0 ? -EMSGSIZE : rc;
	if (a->bulk)
		out[0] = (uint8_t)(out[0] + a->batch_count); /* batch_max is below 24 */
	return (int)w.length;
}

static void batch_done(struct fg_agent *a, struct fg_note *note)
{
	int rc;

	note->delivery.first = a->batch_first_seq;
	note->delivery.last = a->batch_last.seq;
	note->delivery.count = a->batch_count;
	fg_agent_note(a, note); /* first: who counts is not to miss any when the power fails */
	rc = fg_backlog_acknowledge(&a->backlog, &a->batch_last);
	/* It would be sent again and again, as fast as the server answers. */
	if (rc != 0) {
		fg_agent_fault(a, rc, 0);
		fg_agent_hold(a, (uint32_t)a->interval_s);
	}
}

void fg_agent_batch_taken(struct fg_agent *a, uint32_t elapsed_ms, uint8_t transmissions)
{
	struct fg_note note = {
		.kind = FG_NOTE_ACKNOWLEDGED,
		.delivery = {.elapsed_ms = elapsed_ms, .transmissions = transmissions}};

	a->acknowledged += a->batch_count;
	if (a->batch_limit < a->config->batch_max)
		a->batch_limit++;
	batch_done(a, &note);
}

void fg_agent_batch_refused(struct fg_agent *a, uint8_t code)
{
	struct fg_note note = {.kind = FG_NOTE_REFUSED, .delivery = {.code = code}};

	/* One of them may be the cause: the others are not to suffer. */
	if (a->batch_count > 1) {
		a->batch_limit = a->batch_count / 2;
		return;
	}
	a->refused++;
	batch_done(a, &note);
}
