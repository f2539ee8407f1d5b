/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coap-server/dtls: the process is killed while it answers, again and again, and its successor goes
 * on from the slots. The clients are here, and see every record number; the endpoint is in a child,
 * behind a pair of sockets that keep datagrams apart.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/coap/dtls_world.h"

enum { CLIENTS = 8, KILLS = 25, WAIT_MS = 10000 };

struct packet {
	struct address address;
	uint8_t bytes[DTLS_PEER_DATAGRAM_MAX];
};

#define PACKET_HEADER offsetof(struct packet, bytes)

static int sockets[2] = {-1, -1};
static char dir[64], path[96];

/* --- The child --- */

static void to_parent(void *arg, const struct address *to, const uint8_t *data, size_t len)
{
	struct packet p = {.address = *to};

	(void)arg;
	memcpy(p.bytes, data, len);
	send(sockets[1], &p, PACKET_HEADER + len, 0);
}

static void child(struct world *w)
{
	struct packet p;
	ssize_t len;
	char err[512];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(sockets[0]);
	clock_override(NULL, NULL);
	w->callbacks.send = to_parent;
	if (dtls_open(&w->endpoint, &w->options, &w->callbacks, err, sizeof(err)) != 0)
		_exit(1);
	while ((len = recv(sockets[1], &p, sizeof(p), 0)) > (ssize_t)PACKET_HEADER)
		dtls_receive(w->endpoint, &p.address, p.bytes, (size_t)len - PACKET_HEADER);
	_exit(0);
}

static pid_t start(struct world *w)
{
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		child(w);
	close(sockets[1]);
	return pid;
}

static void kill_it(pid_t pid)
{
	int status;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

/* --- The parent: clients --- */

static bool to_child(struct world *w, struct world_client *c, bool to_server, const uint8_t *data,
		     size_t len)
{
	struct packet p = {.address = c->address};

	(void)w;
	if (!to_server)
		return true;
	memcpy(p.bytes, data, len);
	send(sockets[0], &p, PACKET_HEADER + len, MSG_NOSIGNAL);
	return false;
}

/* What has come until now; or within a time, if there is nothing yet. */
static size_t take(struct world *w, int wait_ms)
{
	struct pollfd fd = {.fd = sockets[0], .events = POLLIN};
	struct packet p;
	size_t count = 0;

	while (poll(&fd, 1, count ? 0 : wait_ms) > 0 && fd.revents & POLLIN) {
		ssize_t len = recv(sockets[0], &p, sizeof(p), 0);

		if (len <= (ssize_t)PACKET_HEADER)
			break;
		/* The world's way to its clients, where numbers are checked. */
		w->callbacks.send(w, &p.address, p.bytes, (size_t)len - PACKET_HEADER);
		count++;
	}
	return count;
}

static void shake_hands(struct world *w, struct world_client *c)
{
	int ret;

	while ((ret = dtls_peer_handshake(c->peer)) == MBEDTLS_ERR_SSL_WANT_READ)
		assert_true(take(w, WAIT_MS) > 0);
	assert_int_equal(ret, 0);
}

static void say(struct world *w, struct world_client *c, const char *text)
{
	const char *heard;

	world_say(c, text);
	do {
		assert_true(take(w, WAIT_MS) > 0);
		heard = world_heard(c);
	} while (strcmp(heard, text) != 0);
}

static int setup(void **state)
{
	struct world *w;

	if (world_setup(state) != 0)
		return -1;
	w = *state;
	snprintf(dir, sizeof(dir), "/dev/shm/fg-kill-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/worker-7.slots", dir);
	w->options.slots_path = path;
	w->options.live_contexts = 3;
	return 0;
}

static int teardown(void **state)
{
	DIR *d = opendir(dir);
	const struct dirent *e;

	if (sockets[0] >= 0)
		close(sockets[0]);
	while (d && (e = readdir(d)) != NULL)
		unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	rmdir(dir);
	return world_teardown(state);
}

static void test_sigkill_at_any_moment_costs_no_handshake_and_repeats_no_number(void **state)
{
	struct world *w = *state;
	struct world_client *c[CLIENTS];
	char text[32];
	pid_t pid = start(w);

	w->passes = to_child;
	for (int i = 0; i < CLIENTS; i++) {
		c[i] = world_client(w, i % 2 ? WORLD_PSK_CLIENT : WORLD_CERTIFICATE, i % 4 < 2);
		shake_hands(w, c[i]);
		say(w, c[i], "first");
	}
	for (int kills = 0; kills < KILLS; kills++) {
		/* A burst, and it is killed somewhere in it. */
		for (int i = 0; i < 20 * CLIENTS; i++)
			world_say(c[i % CLIENTS], "burst");
		usleep((unsigned)(kills * 37 % 400));
		kill_it(pid);
		take(w, 0);
		close(sockets[0]);
		pid = start(w);
		for (int i = 0; i < CLIENTS; i++) {
			while (world_heard(c[i])[0])
				;
			snprintf(text, sizeof(text), "after kill %d", kills);
			say(w, c[i], text);
		}
	}
	kill_it(pid);
	for (int i = 0; i < CLIENTS; i++)
		assert_true(c[i]->number_count > KILLS);
	w->passes = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_sigkill_at_any_moment_costs_no_handshake_and_repeats_no_number, setup,
			teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
