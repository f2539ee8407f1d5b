/* SPDX-License-Identifier: Apache-2.0 */
/* One thread, poll() over all connections; a message that is split between two reads may be missed.
 */
#include "tests/unit/cut_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define CONNECTIONS_MAX 64

struct cut_proxy {
	int listener, server_port;
	int client[CONNECTIONS_MAX], server[CONNECTIONS_MAX];
	size_t count;
	char completed[32]; /* the message at which is cut; set before cuts */
	size_t completed_len;
	_Atomic int cuts;
	_Atomic unsigned delay_ready_ms;
	_Atomic bool stop, cut_now;
	pthread_t thread;
};

static struct sockaddr_in loopback(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return a;
}

static void close_pair(struct cut_proxy *p, size_t i)
{
	close(p->client[i]);
	close(p->server[i]);
	p->count--;
	p->client[i] = p->client[p->count];
	p->server[i] = p->server[p->count];
}

static void take_connection(struct cut_proxy *p)
{
	struct sockaddr_in a = loopback(p->server_port);
	int client = accept(p->listener, NULL, NULL);
	int server = socket(AF_INET, SOCK_STREAM, 0);

	if (p->count == CONNECTIONS_MAX || connect(server, (struct sockaddr *)&a, sizeof(a)) != 0) {
		close(client);
		close(server);
		return;
	}
	p->client[p->count] = client;
	p->server[p->count++] = server;
}

static bool write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

/* In two pieces, if it ends with ReadyForQuery of a session that is idle. */
static bool write_with_delay(int fd, const char *data, size_t len, unsigned ms)
{
	static const char ready[] = {'Z', 0, 0, 0, 5, 'I'};
	size_t first = len > sizeof(ready) ? len - sizeof(ready) : 0;

	if (first == 0 || memcmp(data + first, ready, sizeof(ready)) != 0)
		return write_all(fd, data, len);
	if (!write_all(fd, data, first))
		return false;
	usleep(ms * 1000);
	return write_all(fd, data + first, sizeof(ready));
}

/* false: the pair is to be closed. */
static bool forward(struct cut_proxy *p, int from, int to, bool from_server)
{
	char data[65536];
	ssize_t n = read(from, data, sizeof(data));

	if (n <= 0)
		return false;
	if (from_server && atomic_load(&p->cuts) > 0 &&
	    memmem(data, (size_t)n, p->completed, p->completed_len)) {
		atomic_fetch_sub(&p->cuts, 1);
		return false;
	}
	if (from_server && atomic_load(&p->delay_ready_ms) > 0)
		return write_with_delay(to, data, (size_t)n, atomic_load(&p->delay_ready_ms));
	return write_all(to, data, (size_t)n);
}

static void *run(void *arg)
{
	struct cut_proxy *p = arg;

	while (!atomic_load(&p->stop)) {
		struct pollfd fds[1 + 2 * CONNECTIONS_MAX] = {
			{.fd = p->listener, .events = POLLIN}};
		size_t n;

		while (atomic_load(&p->cut_now) && p->count > 0)
			close_pair(p, 0);
		atomic_store(&p->cut_now, false);
		n = p->count;
		for (size_t i = 0; i < n; i++) {
			fds[1 + 2 * i] = (struct pollfd){.fd = p->client[i], .events = POLLIN};
			fds[2 + 2 * i] = (struct pollfd){.fd = p->server[i], .events = POLLIN};
		}
		if (poll(fds, 1 + 2 * n, 20) <= 0)
			continue;
		for (size_t i = n; i-- > 0;) {
			bool alive = true;

			if (fds[1 + 2 * i].revents)
				alive = forward(p, p->client[i], p->server[i], false);
			if (alive && fds[2 + 2 * i].revents)
				alive = forward(p, p->server[i], p->client[i], true);
			if (!alive)
				close_pair(p, i);
		}
		if (fds[0].revents)
			take_connection(p);
	}
	return NULL;
}

static void make_passfile(const struct pg_cluster *c, const char *path, int port)
{
	char line[256], from[128];
	FILE *in, *out;

	snprintf(from, sizeof(from), "%s/passfile", c->dir);
	in = fopen(from, "r");
	out = fopen(path, "w");
	assert_non_null(in);
	assert_non_null(out);
	while (fgets(line, sizeof(line), in)) {
		const char *rest = strchr(line, ':');

		assert_non_null(rest);
		fprintf(out, "127.0.0.1:%d%s", port, strchr(rest + 1, ':'));
	}
	fclose(in);
	fclose(out);
	assert_int_equal(chmod(path, 0600), 0);
}

struct cut_proxy *cut_proxy_start(const struct pg_cluster *c, const char *dir, char *url,
				  size_t url_len)
{
	struct cut_proxy *p = calloc(1, sizeof(*p));
	struct sockaddr_in a = loopback(0);
	socklen_t len = sizeof(a);
	char path[128];

	assert_non_null(p);
	p->server_port = c->port;
	p->listener = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(p->listener, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(p->listener, 16), 0);
	assert_int_equal(getsockname(p->listener, (struct sockaddr *)&a, &len), 0);
	snprintf(path, sizeof(path), "%s/proxy-passfile", dir);
	make_passfile(c, path, ntohs(a.sin_port));
	snprintf(url, url_len, "postgresql://fieldgate_ingest@127.0.0.1:%d/fieldgate?passfile=%s",
		 ntohs(a.sin_port), path);
	assert_int_equal(pthread_create(&p->thread, NULL, run, p), 0);
	return p;
}

void cut_proxy_cut_commits(struct cut_proxy *p, int n)
{
	cut_proxy_cut_tags(p, "COMMIT", n);
}

void cut_proxy_cut_tags(struct cut_proxy *p, const char *tag, int n)
{
	size_t len = strlen(tag);

	atomic_store(&p->cuts, 0);
	assert_true(len + 6 < sizeof(p->completed));
	memcpy(p->completed, "C\0\0\0", 4); /* CommandComplete */
	p->completed[4] = (char)(len + 5);
	memcpy(p->completed + 5, tag, len + 1);
	p->completed_len = len + 6;
	atomic_store(&p->cuts, n);
}

void cut_proxy_delay_ready(struct cut_proxy *p, unsigned ms)
{
	atomic_store(&p->delay_ready_ms, ms);
}

void cut_proxy_cut_now(struct cut_proxy *p)
{
	atomic_store(&p->cut_now, true);
}

int cut_proxy_left(struct cut_proxy *p)
{
	return atomic_load(&p->cuts);
}

void cut_proxy_stop(struct cut_proxy *p)
{
	atomic_store(&p->stop, true);
	pthread_join(p->thread, NULL);
	while (p->count > 0)
		close_pair(p, 0);
	close(p->listener);
	free(p);
}
