/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap-client/load_net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/coap-client/die.h"

#define BATCH	     64
#define DATAGRAM_MAX 2560
#define EVENTS_MAX   256
#define BUFFERED     (8 << 20)
#define ROUNDS_MAX   8 /* of one socket before the others have their turn */

struct batch {
	struct mmsghdr headers[BATCH];
	struct iovec parts[BATCH];
	uint8_t bytes[BATCH][DATAGRAM_MAX];
	unsigned count;
};

static int *sockets;
static int epoll;
static struct batch out, in;
static size_t out_socket;

static void prepare(struct batch *b)
{
	for (unsigned i = 0; i < BATCH; i++) {
		b->parts[i] = (struct iovec){b->bytes[i], DATAGRAM_MAX};
		b->headers[i].msg_hdr = (struct msghdr){.msg_iov = &b->parts[i], .msg_iovlen = 1};
	}
}

static void bind_source(int fd, size_t number, unsigned sources)
{
	struct sockaddr_in own = {.sin_family = AF_INET};

	own.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(number % sources));
	if (bind(fd, (struct sockaddr *)&own, sizeof(own)) != 0)
		die("cannot bind to 127.0.0.1 and above: %s", strerror(errno));
}

static int open_one(const struct target *server, size_t number, unsigned sources)
{
	int fd = socket(server->address.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = number};
	int size = BUFFERED;

	if (fd < 0)
		die("socket: %s", strerror(errno));
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) != 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (sources > 1)
		bind_source(fd, number, sources);
	if (connect(fd, (const struct sockaddr *)&server->address, server->len) != 0)
		die("connect: %s", strerror(errno));
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) != 0)
		die("epoll_ctl: %s", strerror(errno));
	return fd;
}

void net_open(const struct target *server, size_t count, unsigned sources)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	prepare(&out);
	prepare(&in);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	sockets = calloc(count, sizeof(*sockets));
	if (epoll < 0 || !sockets)
		die("cannot begin: %s", strerror(errno));
	for (size_t i = 0; i < count; i++)
		sockets[i] = open_one(server, i, sources);
}

/* An error of a connected socket is news of an earlier datagram (no server at the moment): once
 * more. What the kernel does not take is lost, as on any network. */
void net_flush(void)
{
	unsigned done = 0;

	for (int errors = 0; done < out.count && errors < BATCH;) {
		int n = sendmmsg(sockets[out_socket], out.headers + done, out.count - done, 0);

		if (n > 0)
			done += (unsigned)n;
		else
			errors++;
	}
	out.count = 0;
}

void net_send(size_t socket, const uint8_t *datagram, size_t len)
{
	if (len > DATAGRAM_MAX)
		die("a datagram of %zu bytes", len);
	if (out.count == BATCH || (out.count && socket != out_socket))
		net_flush();
	out_socket = socket;
	memcpy(out.bytes[out.count], datagram, len);
	out.parts[out.count++].iov_len = len;
}

static void drain(size_t socket, void (*received)(size_t, const uint8_t *, size_t))
{
	for (int round = 0; round < ROUNDS_MAX; round++) {
		int n = recvmmsg(sockets[socket], in.headers, BATCH, 0, NULL);

		for (int i = 0; i < n; i++)
			received(socket, in.bytes[i], in.headers[i].msg_len);
		if (n < BATCH)
			return;
	}
}

void net_wait(int timeout_ms, void (*received)(size_t, const uint8_t *, size_t))
{
	struct epoll_event events[EVENTS_MAX];
	int n;

	net_flush();
	n = epoll_wait(epoll, events, EVENTS_MAX, timeout_ms);
	for (int i = 0; i < n; i++)
		drain(events[i].data.u64, received);
}
