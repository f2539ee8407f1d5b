/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap-client/port.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/coap-client/die.h"

#define DATAGRAM_MAX	65536
#define AT_ONCE		64
#define SOCKET_BUFFERED (4 << 20)

static struct port *ports;

int target_parse(struct target *t, const char *host, uint16_t number)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(number)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(number)};

	memset(t, 0, sizeof(*t));
	if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
		memcpy(&t->address, &v4, t->len = sizeof(v4));
		return 0;
	}
	if (inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
		memcpy(&t->address, &v6, t->len = sizeof(v6));
		return 0;
	}
	return -1;
}

static uint16_t number_of(int fd)
{
	struct sockaddr_storage own;
	socklen_t len = sizeof(own);
	struct sockaddr_in v4;

	if (getsockname(fd, (struct sockaddr *)&own, &len) != 0)
		die("getsockname failed");
	/* The port is at the same place in both kinds of address. */
	memcpy(&v4, &own, sizeof(v4));
	return ntohs(v4.sin_port);
}

struct port *port_open(const struct target *server, const char *host, uint16_t number)
{
	int family = server->address.ss_family, size = SOCKET_BUFFERED;
	struct target own;
	struct port *p;
	int fd;

	if (target_parse(&own, host ? host : family == AF_INET ? "0.0.0.0" : "::", number) != 0) {
		errno = EINVAL;
		return NULL;
	}
	fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return NULL;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (bind(fd, (struct sockaddr *)&own.address, own.len) != 0) {
		close(fd);
		return NULL;
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		die("out of memory");
	*p = (struct port){.next = ports, .fd = fd, .number = number_of(fd), .server = *server};
	ports = p;
	return p;
}

void port_close(struct port *p)
{
	for (struct port **at = &ports; *at; at = &(*at)->next)
		if (*at == p) {
			*at = p->next;
			break;
		}
	close(p->fd);
	free(p);
}

struct port *port_find(uint16_t number)
{
	for (struct port *p = ports; p; p = p->next)
		if (p->number == number)
			return p;
	return NULL;
}

/* What the kernel does not take is lost, as on any network. */
void port_send(struct port *p, const uint8_t *datagram, size_t len)
{
	(void)!sendto(p->fd, datagram, len, 0, (struct sockaddr *)&p->server.address,
		      p->server.len);
}

size_t port_count(void)
{
	size_t n = 0;

	for (struct port *p = ports; p; p = p->next)
		n++;
	return n;
}

void port_fill(struct pollfd *fds)
{
	for (struct port *p = ports; p; p = p->next)
		*fds++ = (struct pollfd){.fd = p->fd, .events = POLLIN};
}

static struct port *by_fd(int fd)
{
	for (struct port *p = ports; p; p = p->next)
		if (p->fd == fd)
			return p;
	return NULL;
}

void port_drain(const struct pollfd *fds, size_t count, port_receive *receive)
{
	static uint8_t datagram[DATAGRAM_MAX];

	for (size_t i = 0; i < count; i++) {
		if (!(fds[i].revents & (POLLIN | POLLERR)))
			continue;
		for (int n = 0; n < AT_ONCE; n++) {
			ssize_t len = recv(fds[i].fd, datagram, sizeof(datagram), 0);
			struct port *p = by_fd(fds[i].fd);

			if (len < 0 || !p)
				break;
			receive(p, datagram, (size_t)len);
		}
	}
}
