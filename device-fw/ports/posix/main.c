/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fieldgate-device: the firmware's core on Linux, as one device or as a fleet. See README.md.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "device-fw/ports/posix/run.h"

static struct world world;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "fieldgate-device: %s\n", what);
	exit(1);
}

/* The first one asks devices to say farewell, the second one ends the process. */
static void on_signal(void *arg, uint32_t events)
{
	struct loop_fd *signals = arg;
	struct signalfd_siginfo info;
	sigset_t none;

	(void)events;
	if (read(signals->fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	loop_unwatch(world.loop, signals);
	close(signals->fd);
	signals->fd = -1;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	world.interrupted(world.owner);
}

static void watch_signals(struct loop_fd *signals)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	*signals = (struct loop_fd){.call = on_signal, .arg = signals};
	signals->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals->fd < 0 || loop_watch(world.loop, signals, EPOLLIN) != 0)
		die("no descriptor for signals");
}

/* A socket for each device, and a file if it keeps its state. */
static void raise_limits(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

static void read_trust(const struct options *o)
{
	char file[4096], error[512];

	if (!o->ca && !o->pki)
		return;
	snprintf(file, sizeof(file), o->ca ? "%s" : "%s/ca.pem", o->ca ? o->ca : o->pki);
	world.trust = link_trust_read(file, error, sizeof(error));
	if (!world.trust)
		die(error);
}

int main(int argc, char **argv)
{
	struct options options;
	struct credentials *credentials;
	struct loop_fd signals;
	char error[512];
	size_t count;
	int status;

	options_parse(&options, argc, argv);
	raise_limits();
	world.options = &options;
	world.output = (struct output){.json = options.json,
				       .silent = options.fleet && !options.events,
				       .transport = options.transport};
	device_prepare_world(&world);
	read_trust(&options);
	count = credentials_read(&options, &credentials, error, sizeof(error));
	if (count == 0 ||
	    output_open(&world.output, options.acked, options.recorded, error, sizeof(error)) != 0)
		die(error);
	world.loop = loop_new();
	if (!world.loop)
		die(strerror(errno));
	watch_signals(&signals);
	status = options.fleet ? run_fleet(&world, credentials, count)
			       : run_one(&world, credentials);
	if (signals.fd >= 0) {
		loop_unwatch(world.loop, &signals);
		close(signals.fd);
	}
	loop_free(world.loop);
	output_close(&world.output);
	credentials_free(credentials, count);
	link_trust_free(world.trust);
	return status;
}
