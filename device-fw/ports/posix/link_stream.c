/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/ports/posix/link_stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

struct link_stream {
	struct link_stream *next; /* of air->silent */
	struct link_air *air;
	const struct link_stream_events *events;
	void *arg;
	struct loop_fd socket;
	bool connected, still;
	uint8_t *queue;
	size_t queued;
};

static int watch(struct link_stream *s)
{
	uint32_t events = s->connected ? EPOLLIN : EPOLLOUT;

	if (s->still)
		return 0;
	return loop_watch(s->air->loop, &s->socket, events | (s->queued > 0 ? EPOLLOUT : 0));
}

/* The kernel's share of it: bytes, or -errno. */
static ssize_t transmit(struct link_stream *s, const void *bytes, size_t length)
{
	ssize_t n;

	if (s->air->cut || s->still || !s->connected)
		return 0;
	n = send(s->socket.fd, bytes, length, MSG_NOSIGNAL);
	if (n >= 0)
		return n;
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -errno;
}

static int flush(struct link_stream *s)
{
	ssize_t n = s->queued > 0 ? transmit(s, s->queue, s->queued) : 0;

	if (n < 0)
		return (int)n;
	s->queued -= (size_t)n;
	if (s->queued > 0) {
		memmove(s->queue, s->queue + n, s->queued);
	} else {
		free(s->queue);
		s->queue = NULL;
	}
	return watch(s);
}

size_t link_stream_room(const struct link_stream *s)
{
	return LINK_STREAM_QUEUE_MAX - s->queued;
}

int link_stream_send(struct link_stream *s, const void *bytes, size_t length)
{
	ssize_t n;
	uint8_t *queue;

	if (length > link_stream_room(s))
		return -ENOBUFS;
	n = s->queued > 0 ? 0 : transmit(s, bytes, length);
	if (n < 0)
		return (int)n;
	s->air->counters.bytes_sent += length;
	length -= (size_t)n;
	if (length == 0)
		return 0;
	queue = realloc(s->queue, s->queued + length);
	if (!queue)
		return -ENOMEM;
	memcpy(queue + s->queued, (const uint8_t *)bytes + n, length);
	s->queue = queue;
	s->queued += length;
	return watch(s);
}

ssize_t link_stream_receive(struct link_stream *s, void *out, size_t size)
{
	ssize_t n;

	if (s->air->cut || s->still)
		return -EAGAIN;
	n = recv(s->socket.fd, out, size, 0);
	if (n >= 0) {
		s->air->counters.bytes_received += (size_t)n;
		return n;
	}
	return errno == EWOULDBLOCK || errno == EINTR ? -EAGAIN : -errno;
}

static int socket_error(const struct link_stream *s)
{
	int error = 0;
	socklen_t length = sizeof(error);

	if (getsockopt(s->socket.fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0)
		error = errno;
	return -error;
}

static void on_connect(struct link_stream *s)
{
	int r = socket_error(s);

	if (r == 0) {
		s->connected = true;
		r = flush(s);
	}
	if (r == 0)
		s->events->connected(s->arg);
	else
		s->events->failed(s->arg, r);
}

static void on_socket(void *arg, uint32_t events)
{
	struct link_stream *s = arg;
	int r = 0;

	if (!s->connected) {
		on_connect(s);
		return;
	}
	if (events & EPOLLOUT)
		r = flush(s);
	/* What came before an error is still to be read; the error then comes by recv. */
	if (r != 0 && !(events & EPOLLIN))
		s->events->failed(s->arg, r);
	else if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		s->events->readable(s->arg);
}

static void release(struct link_stream *s)
{
	close(s->socket.fd);
	free(s->queue);
	free(s);
}

int link_stream_open(struct link_air *air, const struct sockaddr_storage *to, socklen_t length,
		     const struct link_stream_events *events, void *arg, struct link_stream **out)
{
	struct link_stream *s = calloc(1, sizeof(*s));
	const int yes = 1;
	int r = 0;

	if (!s)
		return -ENOMEM;
	s->air = air;
	s->events = events;
	s->arg = arg;
	s->socket = (struct loop_fd){.call = on_socket, .arg = s};
	s->socket.fd = socket(to->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->socket.fd < 0) {
		r = -errno;
		free(s);
		return r;
	}
	setsockopt(s->socket.fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	if (connect(s->socket.fd, (const struct sockaddr *)to, length) != 0 && errno != EINPROGRESS)
		r = -errno;
	if (r == 0)
		r = watch(s);
	if (r == 0)
		*out = s;
	else
		release(s);
	return r;
}

int link_stream_stand(struct link_stream *s, bool still)
{
	if (s->still == still)
		return 0;
	if (still)
		loop_unwatch(s->air->loop, &s->socket);
	s->still = still;
	return still ? 0 : flush(s);
}

void link_stream_close(struct link_stream *s)
{
	if (!s->still)
		loop_unwatch(s->air->loop, &s->socket);
	if (!s->air->cut) {
		release(s);
		return;
	}
	s->next = s->air->silent;
	s->air->silent = s;
}

void link_stream_forget(struct link_air *air)
{
	for (struct link_stream *s; (s = air->silent);) {
		air->silent = s->next;
		release(s);
	}
}
