/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/net/datagrams.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define CONTROL_LEN 64 /* one in6_pktinfo or in_pktinfo */

/* An error of an earlier datagram is told at a later one, which then was not sent; and once it is
 * told it is gone. */
#define TRIES	      2
#define RECEIVE_TRIES 16

struct packet {
	struct sockaddr_storage peer;
	struct iovec iov;
	alignas(struct cmsghdr) uint8_t control[CONTROL_LEN];
};

struct datagrams {
	int fd, family;
	unsigned queued;
	struct datagrams_stats stats;
	struct mmsghdr in_header[DATAGRAMS_AT_ONCE], out_header[DATAGRAMS_AT_ONCE];
	struct packet in[DATAGRAMS_AT_ONCE], out[DATAGRAMS_AT_ONCE];
	uint8_t in_data[DATAGRAMS_AT_ONCE][DATAGRAM_RECEIVE_MAX];
	uint8_t out_data[DATAGRAMS_AT_ONCE][DATAGRAM_SEND_MAX];
};

static const uint8_t unset[16];

/* The kernel writes lengths and flags into the headers: each is made anew after it was used. */
static void prepare_in(struct datagrams *d, int count)
{
	for (int i = 0; i < count; i++) {
		struct packet *p = &d->in[i];

		p->iov = (struct iovec){d->in_data[i], DATAGRAM_RECEIVE_MAX};
		d->in_header[i].msg_hdr = (struct msghdr){
			.msg_name = &p->peer,
			.msg_namelen = sizeof(p->peer),
			.msg_iov = &p->iov,
			.msg_iovlen = 1,
			.msg_control = p->control,
			.msg_controllen = sizeof(p->control),
		};
	}
}

int datagrams_open(struct datagrams **out, int fd)
{
	socklen_t len = sizeof(int);
	struct datagrams *d;
	int family;

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len) != 0)
		return -errno;
	if (family != AF_INET && family != AF_INET6)
		return -EAFNOSUPPORT;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->fd = fd;
	d->family = family;
	prepare_in(d, DATAGRAMS_AT_ONCE);
	*out = d;
	return 0;
}

void datagrams_close(struct datagrams *d)
{
	free(d);
}

/* --- Receiving --- */

/* Where it reached us, if the socket tells. A group is no address to answer from. */
static void local_of(struct address *a, struct msghdr *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			if (!IN6_IS_ADDR_MULTICAST(&info.ipi6_addr))
				memcpy(a->local, &info.ipi6_addr, sizeof(a->local));
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			a->local[10] = a->local[11] = 0xff;
			memcpy(a->local + 12, &info.ipi_spec_dst, sizeof(info.ipi_spec_dst));
		}
	}
}

static bool is_broken(int error)
{
	return error == EBADF || error == ENOTSOCK || error == EFAULT || error == EINVAL ||
	       error == EOPNOTSUPP;
}

/* The number that came, 0 also when there are only errors of peers to be told. */
static int receive_some(struct datagrams *d)
{
	for (int tries = 0; tries < RECEIVE_TRIES; tries++) {
		int n = recvmmsg(d->fd, d->in_header, DATAGRAMS_AT_ONCE, MSG_DONTWAIT, NULL);

		if (n >= 0)
			return n;
		if (errno == EAGAIN)
			return 0;
		if (is_broken(errno))
			return -errno;
	}
	return 0;
}

int datagrams_receive(struct datagrams *d,
		      void (*received)(void *arg, const struct address *from, const uint8_t *data,
				       size_t len),
		      void *arg)
{
	int n = receive_some(d);

	for (int i = 0; i < n; i++) {
		struct msghdr *m = &d->in_header[i].msg_hdr;
		struct address from;

		if (m->msg_flags & MSG_TRUNC) {
			d->stats.truncated++;
			continue;
		}
		if (address_from_sockaddr(&from, (struct sockaddr *)&d->in[i].peer) != 0)
			continue;
		local_of(&from, m);
		d->stats.received++;
		received(arg, &from, d->in_data[i], d->in_header[i].msg_len);
	}
	prepare_in(d, n);
	return n;
}

/* --- Sending --- */

static void put_control(struct msghdr *m, uint8_t *buffer, int level, int type, const void *info,
			size_t len)
{
	struct cmsghdr *c = (struct cmsghdr *)buffer;

	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), info, len);
	m->msg_control = buffer;
	m->msg_controllen = CMSG_SPACE(len);
}

/* On a socket of IPv6 an IPv4 address of ours is given in its mapped form too. */
static void set_source(struct datagrams *d, struct msghdr *m, struct packet *p,
		       const struct address *to)
{
	if (memcmp(to->local, unset, sizeof(unset)) == 0)
		return;
	memset(p->control, 0, sizeof(p->control));
	if (d->family == AF_INET6) {
		struct in6_pktinfo info = {.ipi6_ifindex = to->scope};

		memcpy(&info.ipi6_addr, to->local, sizeof(to->local));
		put_control(m, p->control, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
	} else {
		struct in_pktinfo info = {.ipi_ifindex = 0};

		memcpy(&info.ipi_spec_dst, to->local + 12, sizeof(info.ipi_spec_dst));
		put_control(m, p->control, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
	}
}

int datagrams_send(struct datagrams *d, const struct address *to, const void *data, size_t len)
{
	struct packet *p;
	struct msghdr *m;
	int name_len;

	if (len > DATAGRAM_SEND_MAX)
		return -EMSGSIZE;
	if (d->queued == DATAGRAMS_AT_ONCE && !datagrams_flush(d) &&
	    d->queued == DATAGRAMS_AT_ONCE) {
		d->stats.lost++;
		return -ENOBUFS;
	}
	p = &d->out[d->queued];
	name_len = address_to_sockaddr(to, d->family, &p->peer);
	if (name_len < 0)
		return name_len;
	memcpy(d->out_data[d->queued], data, len);
	p->iov = (struct iovec){d->out_data[d->queued], len};
	m = &d->out_header[d->queued].msg_hdr;
	*m = (struct msghdr){.msg_name = &p->peer,
			     .msg_namelen = (socklen_t)name_len,
			     .msg_iov = &p->iov,
			     .msg_iovlen = 1};
	set_source(d, m, p, to);
	d->queued++;
	if (d->queued == DATAGRAMS_AT_ONCE)
		datagrams_flush(d);
	return 0;
}

/* What is left comes to the front, so that new ones find room behind it. */
static void keep_from(struct datagrams *d, unsigned first)
{
	unsigned left = d->queued - first;

	for (unsigned i = 0; first > 0 && i < left; i++) {
		struct packet *to = &d->out[i], *from = &d->out[first + i];
		struct msghdr *m = &d->out_header[i].msg_hdr;

		*to = *from;
		to->iov.iov_base = d->out_data[i];
		memcpy(d->out_data[i], d->out_data[first + i], to->iov.iov_len);
		*m = d->out_header[first + i].msg_hdr;
		m->msg_name = &to->peer;
		m->msg_iov = &to->iov;
		if (m->msg_control)
			m->msg_control = to->control;
	}
	d->queued = left;
}

bool datagrams_flush(struct datagrams *d)
{
	unsigned done = 0, tries = 0;

	while (done < d->queued) {
		int n = sendmmsg(d->fd, d->out_header + done, d->queued - done, MSG_DONTWAIT);

		if (n > 0) {
			d->stats.sent += (unsigned)n;
			done += (unsigned)n;
			tries = 0;
		} else if (n < 0 && errno == EAGAIN) {
			break;
		} else if (++tries == TRIES) {
			d->stats.refused++;
			done++;
			tries = 0;
		}
	}
	keep_from(d, done);
	return d->queued == 0;
}

void datagrams_stats(const struct datagrams *d, struct datagrams_stats *out)
{
	*out = d->stats;
}
