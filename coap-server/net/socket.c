/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/net/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/log.h"

#define WORKERS_MAX 256 /* byte 0 of a Connection ID */
#define RECEIVE_BYTES                                                                              \
	(4 * 1024 * 1024) /* a burst of 10,000 small records, while a worker works                 \
			   */
#define SEND_BYTES (1024 * 1024)

#define CONTENT_TYPE_CID 25 /* RFC 9146 section 4 */
#define CID_AT		 11 /* behind type (1), version (2), epoch (2) and sequence number (6) */

struct sockets {
	unsigned count;
	uint16_t port;
	int fd[]; /* -1: closed */
};

struct place { /* to bind to */
	struct sockaddr_storage addr;
	socklen_t len;
	bool wildcard;
	const char *text; /* for messages */
};

static int fail_with(char *err, size_t err_len, const char *text, const char *why)
{
	snprintf(err, err_len, "coap.listen: %s: %s", text, why);
	return -1;
}

/* --- What is listened on --- */

/* Splits "address:port" or "[address]:port" into host and port. */
static int split(const char *listen, char *host, size_t host_len, const char **port)
{
	const char *colon = strrchr(listen, ':'), *begin = listen, *end = colon;

	if (!colon)
		return -EINVAL;
	if (*listen == '[') {
		if (colon == listen || colon[-1] != ']')
			return -EINVAL;
		begin++;
		end--;
	} else if (memchr(listen, ':', (size_t)(colon - listen))) {
		return -EINVAL; /* IPv6 without brackets: which colon is the last? */
	}
	if (end <= begin || (size_t)(end - begin) >= host_len)
		return -EINVAL;
	memcpy(host, begin, (size_t)(end - begin));
	host[end - begin] = '\0';
	*port = colon + 1;
	return 0;
}

static bool is_port(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	return digits > 0 && digits <= 5 && text[digits] == '\0' && strtoul(text, NULL, 10) < 65536;
}

static bool is_wildcard(const struct sockaddr_storage *addr)
{
	if (addr->ss_family == AF_INET)
		return ((const struct sockaddr_in *)addr)->sin_addr.s_addr == htonl(INADDR_ANY);
	return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)addr)->sin6_addr);
}

static int parse(struct place *out, const char *listen, char *err, size_t err_len)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC,
				 .ai_socktype = SOCK_DGRAM,
				 .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
	struct addrinfo *found = NULL;
	const char *port;
	char host[128];

	if (split(listen, host, sizeof(host), &port) || !is_port(port) ||
	    getaddrinfo(host, port, &hints, &found) != 0 || !found)
		return fail_with(err, err_len, listen,
				 "expected an address and a port, such as [::]:5684, 0.0.0.0:5684 "
				 "or [2001:db8::1]:5684; names are not looked up");
	memset(out, 0, sizeof(*out));
	memcpy(&out->addr, found->ai_addr, found->ai_addrlen);
	out->len = found->ai_addrlen;
	out->wildcard = is_wildcard(&out->addr);
	out->text = listen;
	freeaddrinfo(found);
	return 0;
}

static in_port_t *port_of(struct sockaddr_storage *addr)
{
	return addr->ss_family == AF_INET ? &((struct sockaddr_in *)addr)->sin_port
					  : &((struct sockaddr_in6 *)addr)->sin6_port;
}

static void use_ipv4(struct place *p)
{
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = *port_of(&p->addr)};

	memset(&p->addr, 0, sizeof(p->addr));
	memcpy(&p->addr, &four, sizeof(four));
	p->len = sizeof(four);
	log_warn("coap_no_ipv6", NULL,
		 "%s: this machine has no IPv6; listening on IPv4 only, as 0.0.0.0", p->text);
}

/* --- One socket --- */

static int set(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) == 0 ? 0 : -errno;
}

/*
 * How a socket sends and receives. Datagrams may be fragmented: a record is not split, and a
 * handshake message that fits is sent as one. What ICMP says of a path's MTU is believed for IPv6
 * only, where nobody else can fragment; for IPv4 anybody could make us send tiny fragments.
 */
static int set_ipv4(int fd, bool wildcard)
{
	int rc = set(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_OMIT);

	if (!rc) /* not what other programs here have joined */
		rc = set(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
	if (!rc && wildcard)
		rc = set(fd, IPPROTO_IP, IP_PKTINFO, 1);
	return rc;
}

static int set_ipv6(int fd, bool wildcard)
{
	int rc = set(fd, IPPROTO_IPV6, IPV6_V6ONLY, !wildcard);

	if (!rc)
		rc = set(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DONT);
	if (!rc && wildcard)
		rc = set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	if (!rc && wildcard) { /* it takes IPv4 too */
		rc = set(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_OMIT);
		if (!rc)
			rc = set(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
	}
	return rc;
}

static int make_socket(const struct place *p, bool shared)
{
	int fd = socket(p->addr.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc;

	if (fd < 0)
		return -errno;
	rc = p->addr.ss_family == AF_INET ? set_ipv4(fd, p->wildcard) : set_ipv6(fd, p->wildcard);
	if (!rc && shared)
		rc = set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (!rc)
		return fd;
	close(fd);
	return rc;
}

/* Without the right to exceed net.core.rmem_max the kernel gives less, and says nothing. */
static void set_buffers(int fd, const char *text, bool say)
{
	int got = 0;
	socklen_t len = sizeof(got);

	if (set(fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES) != 0)
		set(fd, SOL_SOCKET, SO_RCVBUF, RECEIVE_BYTES);
	set(fd, SOL_SOCKET, SO_SNDBUF, SEND_BYTES);
	if (!say || getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &got, &len) != 0)
		return;
	got /= 2; /* the kernel counts its own memory into it */
	if (got < RECEIVE_BYTES)
		log_warn("coap_small_receive_buffer", NULL,
			 "%s: the kernel gives %d bytes for datagrams that wait, not %d; bursts "
			 "may be lost: sysctl net.core.rmem_max=%d",
			 text, got, RECEIVE_BYTES, RECEIVE_BYTES);
}

/*
 * The number of the socket that gets a datagram: the worker that handed out the Connection ID.
 * Anything else is sent to a number that no socket has, and then the kernel picks one by a hash of
 * addresses and ports, as it does without a program. What is too short for its content type goes to
 * the first worker, which drops it.
 */
static int steer(int fd, unsigned workers)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CONTENT_TYPE_CID, 0, 3),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, CID_AT),
		BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, workers),
		BPF_STMT(BPF_RET | BPF_A, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program)) == 0
		       ? 0
		       : -errno;
}

/* --- All of them --- */

static int refuse_bind(const struct place *p, int error, char *err, size_t err_len)
{
	switch (error) {
	case EADDRINUSE:
		return fail_with(err, err_len, p->text,
				 "another program has this port (ss -ulnp shows which): end it, or "
				 "choose another port");
	case EADDRNOTAVAIL:
		return fail_with(err, err_len, p->text,
				 "no interface of this machine has this address (ip addr shows "
				 "them); [::] listens on all");
	case EACCES:
		return fail_with(err, err_len, p->text,
				 "ports below 1024 need CAP_NET_BIND_SERVICE; choose another port");
	default:
		return fail_with(err, err_len, p->text, strerror(error));
	}
}

/*
 * Sockets that share a port would share it with a second server of the same user too, and that one
 * would take part of our records. A socket that does not share shows whether somebody is there; it
 * also finds the port if any will do, and whether there is IPv6.
 */
static int probe(struct place *p, char *err, size_t err_len)
{
	struct sockaddr_storage bound;
	socklen_t len = sizeof(bound);
	int fd = make_socket(p, false), error = 0;

	if (fd == -EAFNOSUPPORT && p->wildcard && p->addr.ss_family == AF_INET6) {
		use_ipv4(p);
		fd = make_socket(p, false);
	}
	if (fd < 0)
		return refuse_bind(p, -fd, err, err_len);
	memset(&bound, 0, sizeof(bound));
	if (bind(fd, (struct sockaddr *)&p->addr, p->len) != 0 ||
	    getsockname(fd, (struct sockaddr *)&bound, &len) != 0)
		error = errno;
	close(fd);
	if (error)
		return refuse_bind(p, error, err, err_len);
	p->addr = bound;
	return 0;
}

static int bind_all(struct sockets *s, const struct place *p, char *err, size_t err_len)
{
	bool shared = s->count > 1;

	for (unsigned i = 0; i < s->count; i++) {
		int rc;

		s->fd[i] = make_socket(p, shared);
		if (s->fd[i] < 0)
			return refuse_bind(p, -s->fd[i], err, err_len);
		set_buffers(s->fd[i], p->text, i == 0);
		/* Before the first can receive anything, so that nothing goes astray. */
		rc = shared && i == 0 ? steer(s->fd[i], s->count) : 0;
		if (!rc && bind(s->fd[i], (const struct sockaddr *)&p->addr, p->len) != 0)
			rc = -errno;
		if (rc)
			return refuse_bind(p, -rc, err, err_len);
	}
	return 0;
}

int sockets_open(struct sockets **out, const char *listen, unsigned workers, char *err,
		 size_t err_len)
{
	struct sockets *s;
	struct place p;

	if (workers == 0 || workers > WORKERS_MAX)
		return fail_with(err, err_len, listen, "expected 1 to 256 workers");
	if (parse(&p, listen, err, err_len) || probe(&p, err, err_len))
		return -1;
	s = calloc(1, sizeof(*s) + workers * sizeof(s->fd[0]));
	if (!s)
		return fail_with(err, err_len, listen, "out of memory");
	s->count = workers;
	s->port = ntohs(*port_of(&p.addr));
	for (unsigned i = 0; i < workers; i++)
		s->fd[i] = -1;
	if (bind_all(s, &p, err, err_len)) {
		sockets_close(s);
		return -1;
	}
	*out = s;
	return 0;
}

static void close_one(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void sockets_close(struct sockets *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->count; i++)
		close_one(&s->fd[i]);
	free(s);
}

void sockets_keep(struct sockets *s, unsigned worker)
{
	for (unsigned i = 0; i < s->count; i++)
		if (i != worker)
			close_one(&s->fd[i]);
}

int sockets_fd(const struct sockets *s, unsigned worker)
{
	return worker < s->count ? s->fd[worker] : -1;
}

uint16_t sockets_port(const struct sockets *s)
{
	return s->port;
}
