/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/supervisor/supervisor.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "coap-server/dtls/slots.h"
#include "coap-server/net/socket.h"
#include "coap-server/supervisor/check.h"
#include "coap-server/supervisor/children.h"
#include "coap-server/worker/settings.h"
#include "coap-server/worker/worker.h"
#include "core/base/clock.h"
#include "core/base/log.h"

#define WORKERS_MAX   64 /* as coap.workers allows */
#define CHILDREN_MAX  (2 * WORKERS_MAX)
#define STOP_LIMIT_US (900 * US_PER_MS)

struct supervisor {
	struct config *config;
	const char *config_path;
	struct sockets *sockets;
	bool moved; /* sessions, between workers */
	int signal_fd;
	pid_t pid;
	struct child children[CHILDREN_MAX]; /* the workers first */
	size_t count;
	bool said_ready;
	bool stopping;
	int64_t kill_at_us; /* while stopping */
	int status;	    /* what to exit with */
};

/* --- A child's side --- */

static int be_child(struct supervisor *s, const struct child *c, int ready_fd)
{
	struct worker_start start = {
		.config = s->config,
		.config_path = s->config_path,
		.number = c->number,
		.ready_fd = ready_fd,
		.moved = s->moved,
	};

	/* The supervisor may be gone already; then the signal will not come. */
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0 || getppid() != s->pid)
		return 1;
	close(s->signal_fd);
	for (size_t i = 0; i < s->count; i++)
		if (s->children[i].ready_fd >= 0)
			close(s->children[i].ready_fd);
	if (c->drains) {
		sockets_close(s->sockets);
		s->sockets = NULL;
		return worker_drain(s->config, c->number);
	}
	sockets_keep(s->sockets, c->number);
	start.socket = sockets_fd(s->sockets, c->number);
	return worker_run(&start);
}

/* --- Starting --- */

/* Returns true in the child, with its exit status in s->status. */
static bool start_child(struct supervisor *s, struct child *c)
{
	int fds[2] = {-1, -1};

	c->started_us = clock_monotonic_us();
	if (!c->drains && pipe(fds) != 0)
		goto failed;
	c->pid = fork();
	if (c->pid < 0)
		goto failed;
	if (c->pid == 0) {
		if (fds[0] >= 0)
			close(fds[0]);
		s->status = be_child(s, c, fds[1]);
		return true;
	}
	if (fds[1] >= 0)
		close(fds[1]);
	c->ready_fd = fds[0];
	return false;
failed:
	log_error("worker_start", NULL, "number=%u: %s; it is tried again", c->number,
		  strerror(errno));
	if (fds[0] >= 0) {
		close(fds[0]);
		close(fds[1]);
	}
	c->pid = 0;
	c->start_at_us = c->started_us + US_PER_S;
	return false;
}

/* True in a child that has ended. */
static bool start_due(struct supervisor *s)
{
	int64_t now = clock_monotonic_us();

	for (size_t i = 0; i < s->count && !s->stopping; i++) {
		struct child *c = &s->children[i];

		if (c->pid == 0 && !c->done && c->start_at_us <= now && start_child(s, c))
			return true;
	}
	return false;
}

static void add_child(struct supervisor *s, bool drains, unsigned number)
{
	if (s->count < CHILDREN_MAX)
		s->children[s->count++] =
			(struct child){.drains = drains, .number = number, .ready_fd = -1};
}

/* "coap-7": 7; -1 for what is no such name. */
static long source_number(const char *name)
{
	static const char prefix[] = "coap-";
	char text[WORKER_SOURCE_MAX];
	long number;

	if (strncmp(name, prefix, strlen(prefix)) != 0)
		return -1;
	number = strtol(name + strlen(prefix), NULL, 10);
	if (number < 1 || number >= WORKERS_MAX)
		return -1;
	return strcmp(worker_source(text, (unsigned)number), name) == 0 ? number : -1;
}

/* Journals of workers beyond those that there are now. */
static void find_former(struct supervisor *s)
{
	DIR *dir = opendir(s->config->state_dir);
	struct dirent *entry;

	if (!dir)
		return; /* it will be made */
	while ((entry = readdir(dir))) {
		long number = source_number(entry->d_name);

		if (number >= s->config->coap_workers)
			add_child(s, true, (unsigned)number);
	}
	closedir(dir);
}

static int redistribute(struct supervisor *s, char *err, size_t err_len)
{
	const struct config *c = s->config;
	long moved;

	if (!c->coap_sessions_dir)
		return 0;
	moved = slots_redistribute(c->coap_sessions_dir, (unsigned)c->coap_workers,
				   (size_t)c->coap_max_sessions, err, err_len);
	if (moved < 0)
		return -1;
	s->moved = moved > 0;
	if (moved > 0)
		log_info("sessions_moved", NULL,
			 "%ld sessions go to other workers, because coap.workers was changed",
			 moved);
	return 0;
}

/* --- Events --- */

static void signal_children(const struct supervisor *s, int signal)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->children[i].pid > 0)
			kill(s->children[i].pid, signal);
}

static void stop(struct supervisor *s, int status)
{
	if (s->stopping)
		return;
	s->stopping = true;
	s->status = status;
	s->kill_at_us = clock_monotonic_us() + STOP_LIMIT_US;
	signal_children(s, SIGTERM);
}

static void reload(struct supervisor *s)
{
	struct config fresh;
	char err[768], pending[512];

	if (config_load(&fresh, s->config_path, err, sizeof(err)) != 0) {
		log_error("reload_failed", NULL, "%s; the former settings stay in force", err);
		return;
	}
	if (check_settings(&fresh, err, sizeof(err)) != 0) {
		log_error("reload_failed", NULL, "%s: %s; the former settings stay in force",
			  s->config_path, err);
		config_free(&fresh);
		return;
	}
	settings_adopt(s->config, &fresh, pending, sizeof(pending));
	config_free(&fresh);
	log_set_level((enum log_level)s->config->log_level);
	if (pending[0])
		log_warn("reload_incomplete", NULL,
			 "these settings were changed and take effect by a restart: %s", pending);
	for (size_t i = 0; i < s->count; i++)
		if (s->children[i].pid > 0 && !s->children[i].drains)
			kill(s->children[i].pid, SIGHUP);
}

static struct child *child_of(struct supervisor *s, pid_t pid)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->children[i].pid == pid)
			return &s->children[i];
	return NULL;
}

/* A worker that cannot even begin has said why: before all have served once, that ends it all. */
static void reap(struct supervisor *s)
{
	struct child *c;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		c = child_of(s, pid);
		if (!c)
			continue;
		child_ended(c, status, clock_monotonic_us(),
			    s->stopping || (!s->said_ready && !c->drains));
		if (!s->said_ready && !c->drains)
			stop(s, 1);
	}
}

static void take_signals(struct supervisor *s)
{
	struct signalfd_siginfo info;

	while (read(s->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		switch (info.ssi_signo) {
		case SIGHUP:
			reload(s);
			break;
		case SIGCHLD:
			break;
		default:
			stop(s, 0);
		}
	}
	reap(s);
}

/* This line is waited for by scripts, so it is written whatever the level. */
static void say_ready(struct supervisor *s)
{
	for (int64_t i = 0; i < s->config->coap_workers; i++)
		if (!s->children[i].ready)
			return;
	s->said_ready = true;
	log_set_level(LOG_LEVEL_INFO);
	log_info("coap_ready", NULL, "listening on %s, port %u; workers=%lld",
		 s->config->coap_listen, (unsigned)sockets_port(s->sockets),
		 (long long)s->config->coap_workers);
	log_set_level((enum log_level)s->config->log_level);
}

/* A byte: it serves. The end: waitpid will tell. */
static void take_ready(struct supervisor *s, struct child *c)
{
	char byte;

	if (read(c->ready_fd, &byte, 1) == 1)
		c->ready = true;
	close(c->ready_fd);
	c->ready_fd = -1;
	if (c->ready && !s->said_ready)
		say_ready(s);
}

/* --- The loop --- */

static bool any_running(const struct supervisor *s)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->children[i].pid > 0)
			return true;
	return false;
}

/* Milliseconds until something is due; -1: nothing is. */
static int next_due_ms(const struct supervisor *s)
{
	int64_t now = clock_monotonic_us(), at = s->stopping ? s->kill_at_us : INT64_MAX;

	for (size_t i = 0; i < s->count && !s->stopping; i++) {
		const struct child *c = &s->children[i];

		if (c->pid == 0 && !c->done && c->start_at_us < at)
			at = c->start_at_us;
	}
	if (at == INT64_MAX)
		return -1;
	return at <= now ? 0 : (int)((at - now) / US_PER_MS) + 1;
}

static void wait_for_events(struct supervisor *s)
{
	struct pollfd fds[CHILDREN_MAX + 1] = {{.fd = s->signal_fd, .events = POLLIN}};
	struct child *who[CHILDREN_MAX + 1];
	nfds_t n = 1;

	for (size_t i = 0; i < s->count; i++) {
		if (s->children[i].ready_fd < 0)
			continue;
		fds[n] = (struct pollfd){.fd = s->children[i].ready_fd, .events = POLLIN};
		who[n++] = &s->children[i];
	}
	if (poll(fds, n, next_due_ms(s)) <= 0)
		return;
	for (nfds_t i = 1; i < n; i++)
		if (fds[i].revents)
			take_ready(s, who[i]);
	if (fds[0].revents)
		take_signals(s);
}

static void kill_the_slow(struct supervisor *s)
{
	if (!s->stopping || clock_monotonic_us() < s->kill_at_us)
		return;
	log_warn("worker_killed", NULL,
		 "a worker did not stop in time; what it acknowledged is in its journal");
	signal_children(s, SIGKILL);
	s->kill_at_us += US_PER_S;
}

/* Returns true in a child. */
static bool supervise(struct supervisor *s)
{
	do {
		if (start_due(s))
			return true;
		wait_for_events(s);
		kill_the_slow(s);
	} while (!s->stopping || any_running(s));
	return false;
}

static int open_signals(struct supervisor *s)
{
	static const int taken[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD};
	sigset_t signals;

	sigemptyset(&signals);
	for (size_t i = 0; i < sizeof(taken) / sizeof(*taken); i++)
		sigaddset(&signals, taken[i]);
	s->signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
	if (s->signal_fd < 0)
		return -1;
	signal(SIGPIPE, SIG_IGN);
	return sigprocmask(SIG_BLOCK, &signals, NULL);
}

int supervisor_run(struct config *c, const char *config_path)
{
	struct supervisor *s = calloc(1, sizeof(*s));
	char err[768] = "out of memory";
	int status = 1;

	if (!s)
		goto out;
	s->config = c;
	s->config_path = config_path;
	s->pid = getpid();
	if (open_signals(s) != 0) {
		snprintf(err, sizeof(err), "signalfd: %s", strerror(errno));
		goto out;
	}
	if (sockets_open(&s->sockets, c->coap_listen, (unsigned)c->coap_workers, err,
			 sizeof(err)) != 0 ||
	    redistribute(s, err, sizeof(err)) != 0)
		goto out;
	for (unsigned i = 0; i < (unsigned)c->coap_workers; i++)
		add_child(s, false, i);
	find_former(s);
	if (!c->bus_host)
		log_info("bus_absent", NULL,
			 "bus.host is not set: nothing is published to a broker, neither what "
			 "devices post nor what rules republish");
	err[0] = '\0';
	if (!supervise(s) && s->status == 0)
		log_info("coap_stopped", NULL, "all workers have ended");
	status = s->status;
out:
	if (err[0])
		log_error("start_failed", NULL, "%s", err);
	if (s) {
		sockets_close(s->sockets);
		free(s);
	}
	return status;
}
