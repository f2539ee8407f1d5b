/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop: datagrams, what has reached the disk, what the database has answered, signals, timers.
 * All messages of one batch of datagrams share one commit; answers are queued and sent before the
 * next wait. The registry's snapshot changes at the head of a round and nowhere else.
 */
#include "coap-server/worker/internal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"

#define LONGEST_WAIT_US (60 * US_PER_S)
#define STOP_GRACE_US	(500 * US_PER_MS) /* for answers that wait for the disk */

enum { POLL_SOCKET, POLL_COMMIT, POLL_DOCUMENTS, POLL_SIGNALS, POLL_COUNT };

void loop_send(void *arg, const struct address *to, const uint8_t *data, size_t len)
{
	struct worker *w = arg;

	/* What cannot be sent is as if lost on the way, and counted there. */
	datagrams_send(w->datagrams, to, data, len);
}

static void take_datagram(void *arg, const struct address *from, const uint8_t *data, size_t len)
{
	struct worker *w = arg;

	dtls_receive(w->dtls, from, data, len);
}

/* One batch; what is left wakes the next poll at once. */
static int receive(struct worker *w)
{
	int rc = datagrams_receive(w->datagrams, take_datagram, w);

	pipeline_commit(w->pipeline);
	if (rc < 0)
		log_error("socket_failed", NULL, "cannot receive: %s", strerror(-rc));
	return rc < 0 ? rc : 0;
}

static void settle(struct worker *w)
{
	uint64_t ticket;
	int rc;

	while (pipeline_settled(w->pipeline, &ticket, &rc))
		coap_server_release(w->coap, ticket, rc == 0);
}

static void take_signals(struct worker *w)
{
	struct signalfd_siginfo info;

	while (read(w->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGHUP)
			reload(w);
		else
			w->stop = true;
	}
}

/* When the next round must begin at the latest. */
static int64_t run_timers(struct worker *w)
{
	int64_t now, next, at = clock_monotonic_us() + LONGEST_WAIT_US;
	bool more = access_sweep(w);

	next = coap_server_tick(w->coap);
	at = next < at ? next : at;
	next = dtls_tick(w->dtls);
	at = next < at ? next : at;
	now = clock_monotonic_us();
	if (w->status_at_us <= now) {
		status_log(w);
		w->status_at_us = now + w->config->store_status_interval_s * US_PER_S;
	}
	at = w->status_at_us < at ? w->status_at_us : at;
	return more ? now : at;
}

/* 0, or -errno: the loop cannot go on. */
static int wait_until(const struct worker *w, struct pollfd fds[POLL_COUNT], int64_t at_us,
		      bool unsent)
{
	int64_t wait_us = at_us - clock_monotonic_us();
	int timeout_ms = wait_us <= 0 ? 0 : (int)((wait_us + US_PER_MS - 1) / US_PER_MS);

	fds[POLL_SOCKET] = (struct pollfd){.fd = w->socket,
					   .events = (short)(unsent ? POLLIN | POLLOUT : POLLIN)};
	fds[POLL_COMMIT] = (struct pollfd){.fd = pipeline_commit_fd(w->pipeline), .events = POLLIN};
	fds[POLL_DOCUMENTS] = (struct pollfd){.fd = documents_fd(w->documents), .events = POLLIN};
	fds[POLL_SIGNALS] = (struct pollfd){.fd = w->signal_fd, .events = POLLIN};
	if (poll(fds, POLL_COUNT, timeout_ms) >= 0 || errno == EINTR)
		return 0;
	log_error("poll_failed", NULL, "%s", strerror(errno));
	return -errno;
}

static int one_round(struct worker *w, const struct pollfd fds[POLL_COUNT])
{
	int rc = 0;

	worker_renew(w);
	if (fds[POLL_SOCKET].revents & (POLLIN | POLLERR))
		rc = receive(w);
	if (fds[POLL_COMMIT].revents)
		settle(w);
	if (fds[POLL_DOCUMENTS].revents)
		documents_poll(w->documents, resource_document_answered, resource_document_changed,
			       &w->resources);
	if (fds[POLL_SIGNALS].revents)
		take_signals(w);
	return rc;
}

/* What is in the journal is acknowledged, if the disk is quick; else the device sends again. */
static void finish(struct worker *w)
{
	int64_t deadline = clock_monotonic_us() + STOP_GRACE_US;
	struct pollfd fd = {.fd = pipeline_commit_fd(w->pipeline), .events = POLLIN};
	struct coap_server_stats stats;

	for (;;) {
		int64_t left = deadline - clock_monotonic_us();

		coap_server_stats(w->coap, &stats);
		if (stats.held == 0 || left <= 0)
			break;
		if (poll(&fd, 1, (int)(left / US_PER_MS) + 1) < 0 && errno != EINTR)
			break;
		settle(w);
	}
	datagrams_flush(w->datagrams);
}

int loop_run(struct worker *w, int ready_fd)
{
	struct pollfd fds[POLL_COUNT];
	int64_t at = 0;
	bool unsent = false;
	int rc = 0;

	w->status_at_us = clock_monotonic_us() + w->config->store_status_interval_s * US_PER_S;
	if (write(ready_fd, "", 1) != 1)
		return -errno;
	close(ready_fd);
	while (!w->stop && rc == 0) {
		rc = wait_until(w, fds, at, unsent);
		if (rc == 0)
			rc = one_round(w, fds);
		at = run_timers(w);
		unsent = !datagrams_flush(w->datagrams);
	}
	finish(w);
	return rc;
}
