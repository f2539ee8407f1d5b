/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/ports/posix/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "device-fw/ports/posix/link_internal.h"

#define MIN_MS 1000
#define MAX_MS 60000
/* Header, nonce or IV, tag or MAC and padding, of one record in TLS 1.2. */
#define RECORD_OVERHEAD_MAX 80

struct link *link_new(const struct link_config *config)
{
	struct link *l;

	if (!config->trust && !(config->identity && config->identity->is_psk))
		return NULL;
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->config = *config;
	if (!l->config.handshake_min_ms)
		l->config.handshake_min_ms = MIN_MS;
	if (l->config.handshake_max_ms < l->config.handshake_min_ms)
		l->config.handshake_max_ms = MAX_MS;
	l->air.loop = config->loop;
	l->air.impairment = config->impairment;
	link_datagrams_seed(&l->air);
	l->timer = (struct loop_timer){.call = link_run, .arg = l};
	return l;
}

void link_free(struct link *l)
{
	if (!l)
		return;
	l->turn++;
	link_release(l);
	link_forget_saved(l);
	l->state = LINK_CLOSED;
	l->doomed = true;
	if (l->callbacks == 0)
		link_destroy(l);
}

static bool is_same_server(const struct link *l, const struct fg_target *target)
{
	return l->host && strcmp(link_host_name(l->host), target->host) == 0 &&
	       l->port == target->port &&
	       l->datagrams_wanted == (target->transport == FG_TRANSPORT_COAP);
}

int link_open(struct link *l, const struct fg_target *target, bool resume)
{
	bool kept = l->state == LINK_KEPT || l->state == LINK_PARKED;

	if (l->state != LINK_CLOSED && !kept)
		return -EALREADY;
	if (resume && !(kept && is_same_server(l, target)))
		return -ENOTCONN;
	if (!resume) {
		link_close(l, false);
		if (!is_same_server(l, target)) {
			link_tls_ticket_free(l->ticket);
			l->ticket = NULL;
		}
		l->datagrams_wanted = target->transport == FG_TRANSPORT_COAP;
		l->port = target->port;
		l->heard = false;
	}
	l->name = target->host;
	l->carrier_error = 0;
	l->turn++;
	l->state = resume ? LINK_RESUMING : LINK_OPENING;
	loop_at(l->config.loop, &l->timer, loop_now_us(l->config.loop));
	return 0;
}

int link_send(struct link *l, const void *bytes, size_t length)
{
	size_t records;
	int r;

	if (l->state != LINK_OPEN || l->broken)
		return -ENOTCONN;
	if (length == 0)
		return 0;
	if (l->datagrams_wanted && length > link_tls_longest(l->tls))
		return -EMSGSIZE;
	records = length / link_tls_longest(l->tls) + 1;
	if (!l->datagrams_wanted &&
	    length + records * RECORD_OVERHEAD_MAX > link_stream_room(l->stream))
		return -ENOBUFS;
	if (!l->datagrams_wanted)
		l->air.counters.sent++;
	r = link_tls_write(l->tls, bytes, length);
	if (r == 0)
		return 0;
	l->broken = l->carrier_error ? l->carrier_error : -EPROTO;
	r = l->broken;
	link_set_timer(l);
	return r;
}

static bool keep(struct link *l)
{
	if (l->broken)
		return false;
	if (!l->datagrams_wanted) {
		link_stream_stand(l->stream, true);
		l->state = LINK_PARKED;
		return true;
	}
	/* Without Connection ID another port would be nobody to the server. */
	if (l->connection_id)
		l->saved = link_tls_save(l->tls, &l->saved_length);
	if (!l->saved)
		return false;
	link_release(l);
	l->state = LINK_KEPT;
	return true;
}

static void say_farewell(struct link *l)
{
	if (l->broken || !l->tls || l->state < LINK_OPEN)
		return;
	if (l->stream)
		link_stream_stand(l->stream, l->air.cut);
	link_tls_farewell(l->tls);
}

void link_close(struct link *l, bool keep_it)
{
	l->turn++;
	if (keep_it && l->state == LINK_RESUMING) {
		loop_cancel(l->config.loop, &l->timer);
		l->state = l->saved ? LINK_KEPT : LINK_PARKED;
	}
	if (keep_it && (l->state == LINK_KEPT || l->state == LINK_PARKED))
		return;
	if (keep_it && l->state == LINK_OPEN && keep(l))
		return;
	say_farewell(l);
	link_release(l);
	link_forget_saved(l);
	l->state = LINK_CLOSED;
}

int link_rebind(struct link *l)
{
	if (l->stream)
		return -EOPNOTSUPP;
	return l->datagrams ? link_datagrams_rebind(l->datagrams) : 0;
}

void link_set_cut(struct link *l, bool cut)
{
	if (cut == l->air.cut)
		return;
	l->air.cut = cut;
	if (!cut)
		link_stream_forget(&l->air);
	if (l->stream) {
		int r = link_stream_stand(l->stream, cut || l->state == LINK_PARKED);

		if (r != 0) {
			l->broken = r;
			link_set_timer(l);
		}
	} else if (!cut && l->state == LINK_CONNECTING) {
		l->state = LINK_OPENING;
		loop_at(l->config.loop, &l->timer, loop_now_us(l->config.loop));
	}
}

const struct link_counters *link_counters(const struct link *l)
{
	return &l->air.counters;
}
