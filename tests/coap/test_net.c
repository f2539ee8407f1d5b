/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coap-server/net: the sockets of all workers, and the datagrams of one, over real sockets on the
 * loopback interface. Only what a machine cannot be made to do (have no IPv6, take no more
 * datagrams) is put on.
 *
 * LINK: -Wl,--wrap=socket,--wrap=sendmmsg,--wrap=recvmmsg,--wrap=calloc,--wrap=setsockopt
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "coap-server/net/datagrams.h"
#include "coap-server/net/socket.h"
#include "core/base/log.h"

#define WAIT_MS 10000 /* for what will come */

static char err[512];
static char last_line[LOG_LINE_MAX + 1];

static void keep_line(enum log_level level, const char *line, void *arg)
{
	(void)level;
	(void)arg;
	snprintf(last_line, sizeof(last_line), "%s", line);
}

/* --- What a machine cannot be made to do --- */

int __real_socket(int domain, int type, int protocol);
int __real_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
int __real_sendmmsg(int fd, struct mmsghdr *m, unsigned n, int flags);
int __real_recvmmsg(int fd, struct mmsghdr *m, unsigned n, int flags, struct timespec *timeout);
void *__real_calloc(size_t n, size_t size);
int __wrap_socket(int domain, int type, int protocol);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
int __wrap_sendmmsg(int fd, struct mmsghdr *m, unsigned n, int flags);
int __wrap_recvmmsg(int fd, struct mmsghdr *m, unsigned n, int flags, struct timespec *timeout);
void *__wrap_calloc(size_t n, size_t size);

static struct {
	bool no_ipv6, no_memory, ordinary_user;
	int send_error;	      /* of sendmmsg, after send_takes datagrams */
	unsigned send_takes;  /* of this call */
	unsigned send_errors; /* how many calls fail */
	int receive_error;
	unsigned receive_errors, receive_calls;
} fault;

int __wrap_socket(int domain, int type, int protocol)
{
	if (fault.no_ipv6 && domain == AF_INET6) {
		errno = EAFNOSUPPORT;
		return -1;
	}
	return __real_socket(domain, type, protocol);
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	static const int small = 4096;

	if (fault.ordinary_user && level == SOL_SOCKET) {
		if (name == SO_RCVBUFFORCE) {
			errno = EPERM;
			return -1;
		}
		if (name == SO_RCVBUF)
			return __real_setsockopt(fd, level, name, &small, sizeof(small));
	}
	return __real_setsockopt(fd, level, name, value, len);
}

int __wrap_sendmmsg(int fd, struct mmsghdr *m, unsigned n, int flags)
{
	if (fault.send_takes > 0) {
		unsigned takes = fault.send_takes < n ? fault.send_takes : n;

		fault.send_takes -= takes;
		return __real_sendmmsg(fd, m, takes, flags);
	}
	if (fault.send_errors > 0) {
		fault.send_errors--;
		errno = fault.send_error;
		return -1;
	}
	return __real_sendmmsg(fd, m, n, flags);
}

int __wrap_recvmmsg(int fd, struct mmsghdr *m, unsigned n, int flags, struct timespec *timeout)
{
	fault.receive_calls++;
	if (fault.receive_errors > 0) {
		fault.receive_errors--;
		errno = fault.receive_error;
		return -1;
	}
	return __real_recvmmsg(fd, m, n, flags, timeout);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fault.no_memory ? NULL : __real_calloc(n, size);
}

static int begin(void **state)
{
	(void)state;
	memset(&fault, 0, sizeof(fault));
	err[0] = last_line[0] = '\0';
	log_set_sink(keep_line, NULL);
	return 0;
}

/* --- Both ends --- */

static struct sockets *listen_on(const char *where, unsigned workers)
{
	struct sockets *s = NULL;

	if (sockets_open(&s, where, workers, err, sizeof(err)) != 0)
		fail_msg("%s", err);
	assert_int_not_equal(sockets_port(s), 0);
	return s;
}

static struct datagrams *datagrams_of(const struct sockets *s, unsigned worker)
{
	struct datagrams *d = NULL;

	assert_int_equal(datagrams_open(&d, sockets_fd(s, worker)), 0);
	return d;
}

static struct sockaddr_storage address_at(const char *ip, uint16_t port, socklen_t *len)
{
	struct sockaddr_storage out = {0};
	struct sockaddr_in *four = (struct sockaddr_in *)&out;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)&out;

	if (inet_pton(AF_INET, ip, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		four->sin_port = htons(port);
		*len = sizeof(*four);
	} else {
		assert_int_equal(inet_pton(AF_INET6, ip, &six->sin6_addr), 1);
		six->sin6_family = AF_INET6;
		six->sin6_port = htons(port);
		*len = sizeof(*six);
	}
	return out;
}

/* A connected socket takes answers only from where it sends to. */
static int client(const char *ip, uint16_t port)
{
	socklen_t len;
	struct sockaddr_storage to = address_at(ip, port, &len);
	int fd = socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, len), 0);
	return fd;
}

static void say(int fd, const void *data, size_t len)
{
	assert_int_equal(send(fd, data, len, 0), len);
}

static bool readable(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, ms) == 1 && p.revents & POLLIN;
}

struct heard {
	unsigned count;
	struct address from;
	size_t len;
	uint8_t data[DATAGRAM_RECEIVE_MAX];
	uint8_t first[1024]; /* bytes, of each one */
};

static struct heard heard;

static void hear(void *arg, const struct address *from, const uint8_t *data, size_t len)
{
	struct heard *h = arg;

	h->from = *from;
	h->len = len;
	memcpy(h->data, data, len);
	if (h->count < sizeof(h->first))
		h->first[h->count] = len > 0 ? data[0] : 0;
	h->count++;
}

/* Until so many have come. */
static void receive(struct datagrams *d, int fd, unsigned count)
{
	memset(&heard, 0, sizeof(heard));
	for (unsigned tries = 0; heard.count < count && tries < 10000; tries++) {
		assert_true(readable(fd, WAIT_MS));
		assert_true(datagrams_receive(d, hear, &heard) >= 0);
	}
	assert_int_equal(heard.count, count);
}

/* A question and its answer, between a client and what listens; local: the address asked. */
static void exchange(struct sockets *s, const char *ip, const char *local)
{
	struct datagrams *d = datagrams_of(s, 0);
	int fd = client(ip, sockets_port(s));
	struct sockaddr_storage me;
	socklen_t len = sizeof(me);
	struct address expected;
	uint8_t answer[16];

	say(fd, "question", 8);
	receive(d, sockets_fd(s, 0), 1);
	assert_int_equal(heard.len, 8);
	assert_memory_equal(heard.data, "question", 8);

	assert_int_equal(getsockname(fd, (struct sockaddr *)&me, &len), 0);
	assert_int_equal(address_from_sockaddr(&expected, (struct sockaddr *)&me), 0);
	if (local) {
		struct sockaddr_storage asked = address_at(local, 0, &len);
		struct address a;

		assert_int_equal(address_from_sockaddr(&a, (struct sockaddr *)&asked), 0);
		memcpy(expected.local, a.ip, sizeof(expected.local));
	}
	assert_memory_equal(&heard.from, &expected, sizeof(expected));

	assert_int_equal(datagrams_send(d, &heard.from, "answer", 6), 0);
	assert_true(datagrams_flush(d));
	assert_true(readable(fd, WAIT_MS));
	assert_int_equal(recv(fd, answer, sizeof(answer), 0), 6);
	assert_memory_equal(answer, "answer", 6);
	close(fd);
	datagrams_close(d);
}

static bool has_ipv6(void)
{
	int fd = socket(AF_INET6, SOCK_DGRAM, 0);
	socklen_t len;
	struct sockaddr_storage one = address_at("::1", 0, &len);
	bool yes = fd >= 0 && bind(fd, (struct sockaddr *)&one, len) == 0;

	if (fd >= 0)
		close(fd);
	return yes;
}

#define NEED_IPV6()                                                                                \
	do {                                                                                       \
		if (!has_ipv6())                                                                   \
			skip();                                                                    \
	} while (0)

static void assert_exchange(const char *where, const char *ip, const char *local)
{
	struct sockets *s = listen_on(where, 1);

	exchange(s, ip, local);
	sockets_close(s);
}

/* --- Addresses --- */

static void test_ipv4(void **state)
{
	(void)state;
	assert_exchange("0.0.0.0:0", "127.0.0.1", "127.0.0.1");
	assert_exchange("127.0.0.1:0", "127.0.0.1", NULL);
}

static void test_ipv6(void **state)
{
	(void)state;
	NEED_IPV6();
	assert_exchange("[::]:0", "::1", "::1");
	assert_exchange("[::1]:0", "::1", NULL);
}

static void test_the_ipv6_wildcard_takes_ipv4_too(void **state)
{
	(void)state;
	NEED_IPV6();
	assert_exchange("[::]:0", "127.0.0.1", "127.0.0.1");
}

/* The client is connected: an answer from another address would not reach it. */
static void test_an_answer_leaves_from_the_address_that_was_asked(void **state)
{
	(void)state;
	assert_exchange("0.0.0.0:0", "127.0.0.2", "127.0.0.2");
	NEED_IPV6();
	assert_exchange("[::]:0", "127.0.0.2", "127.0.0.2");
}

static void test_one_address_does_not_take_what_is_for_another(void **state)
{
	struct sockets *s = listen_on("127.0.0.2:0", 1);
	int fd = client("127.0.0.1", sockets_port(s));

	(void)state;
	say(fd, "x", 1);
	assert_false(readable(sockets_fd(s, 0), 50));
	close(fd);
	exchange(s, "127.0.0.2", NULL);
	sockets_close(s);
}

static void test_without_ipv6_the_wildcard_is_ipv4(void **state)
{
	struct sockets *s;

	(void)state;
	fault.no_ipv6 = true;
	s = listen_on("[::]:0", 2);
	assert_non_null(strstr(last_line, "event=coap_no_ipv6"));
	sockets_close(s);
	assert_exchange("[::]:0", "127.0.0.1", "127.0.0.1");
	assert_int_equal(sockets_open(&s, "[::1]:0", 1, err, sizeof(err)), -1);
	assert_non_null(strstr(err, "[::1]:0"));
}

static void test_a_small_receive_buffer_is_said(void **state)
{
	struct sockets *s;

	(void)state;
	fault.ordinary_user = true;
	s = listen_on("127.0.0.1:0", 1);
	assert_non_null(strstr(last_line, "event=coap_small_receive_buffer"));
	assert_non_null(strstr(last_line, "net.core.rmem_max"));
	sockets_close(s);
}

/* --- What cannot be listened on --- */

static void assert_refused(const char *where, unsigned workers, const char *why)
{
	struct sockets *s = NULL;

	assert_int_equal(sockets_open(&s, where, workers, err, sizeof(err)), -1);
	assert_null(s);
	if (!strstr(err, why) || !strstr(err, where))
		fail_msg("expected \"%s\" and \"%s\" in: %s", where, why, err);
}

static void test_what_is_no_address_and_port_is_refused(void **state)
{
	static const char *const bad[] = {
		"",
		":",
		":5684",
		"5684",
		"0.0.0.0",
		"0.0.0.0:",
		"0.0.0.0:x",
		"0.0.0.0:65536",
		"0.0.0.0:-1",
		"0.0.0.0: 1",
		"0.0.0.0:00000000000000000001",
		"[::]",
		"[::]5684",
		"[]:5684",
		"[::",
		"::",
		":::5684",
		"2001:db8::1:5684",
		"[2001:db8::1:5684",
		"localhost:5684",
		"[fe80::1%nosuchif]:5684",
		"300.0.0.1:5684",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_refused(bad[i], 1, "expected an address and a port");
	assert_refused("127.0.0.1:0", 0, "expected 1 to 256 workers");
	assert_refused("127.0.0.1:0", 257, "expected 1 to 256 workers");
}

/* Even though the sockets of one server share their port. */
static void test_a_port_of_another_program_is_refused(void **state)
{
	(void)state;
	for (unsigned workers = 1; workers <= 4; workers += 3) {
		struct sockets *s = listen_on("127.0.0.1:0", workers);
		char where[32];

		snprintf(where, sizeof(where), "127.0.0.1:%u", sockets_port(s));
		assert_refused(where, 1, "another program has this port");
		assert_refused(where, 4, "another program has this port");
		sockets_close(s);
		s = listen_on(where, 1); /* it is free again */
		sockets_close(s);
	}
}

static void test_an_address_of_another_machine_is_refused(void **state)
{
	(void)state;
	assert_refused("203.0.113.7:0", 2, "no interface of this machine has this address");
}

static void test_no_memory_is_an_error(void **state)
{
	struct sockets *s = listen_on("127.0.0.1:0", 1);
	struct datagrams *d = NULL;

	(void)state;
	fault.no_memory = true;
	assert_refused("127.0.0.1:0", 1, "out of memory");
	assert_int_equal(datagrams_open(&d, sockets_fd(s, 0)), -ENOMEM);
	fault.no_memory = false;
	datagrams_close(NULL);
	sockets_close(NULL);
	sockets_close(s);
}

/* --- Workers --- */

#define WORKERS 4

static void record_with_cid(uint8_t record[32], unsigned first)
{
	memset(record, 0xee, 32);
	record[0] = 25;
	record[11] = (uint8_t)first;
}

/* The only worker that has something to read. */
static unsigned who_reads(const struct sockets *s, uint8_t byte[8192], ssize_t *len)
{
	unsigned who = WORKERS;

	for (int tries = 0; who == WORKERS && tries < 1000; tries++) {
		for (unsigned w = 0; w < WORKERS; w++) {
			if (!readable(sockets_fd(s, w), 0))
				continue;
			assert_int_equal(who, WORKERS);
			who = w;
			*len = recv(sockets_fd(s, w), byte, 8192, 0);
		}
		if (who == WORKERS)
			poll(NULL, 0, 10);
	}
	assert_int_not_equal(who, WORKERS);
	return who;
}

static void assert_steered(const char *where, const char *ip)
{
	struct sockets *s = listen_on(where, WORKERS);
	uint8_t record[32], got[8192];
	ssize_t len;

	for (unsigned first = 0; first < 256; first++) {
		int fd = client(ip, sockets_port(s)); /* each from another port */

		record_with_cid(record, first);
		say(fd, record, sizeof(record));
		assert_int_equal(who_reads(s, got, &len), first % WORKERS);
		assert_int_equal(len, sizeof(record));
		assert_memory_equal(got, record, sizeof(record));
		close(fd);
	}
	sockets_close(s);
}

static void test_a_connection_id_leads_to_its_worker(void **state)
{
	(void)state;
	assert_steered("0.0.0.0:0", "127.0.0.1");
	NEED_IPV6();
	assert_steered("[::]:0", "127.0.0.1");
	assert_steered("[::]:0", "::1");
}

static void test_records_without_connection_id_stay_with_one_worker(void **state)
{
	struct sockets *s = listen_on("0.0.0.0:0", WORKERS);
	static const uint8_t hello[32] = {22}, data[32] = {23};
	bool seen[WORKERS] = {false};
	unsigned workers = 0;
	uint8_t got[8192];
	ssize_t len;

	(void)state;
	for (unsigned flow = 0; flow < 100; flow++) {
		int fd = client("127.0.0.1", sockets_port(s));
		unsigned first;

		say(fd, hello, sizeof(hello));
		first = who_reads(s, got, &len);
		for (unsigned i = 0; i < 5; i++) {
			say(fd, i % 2 ? hello : data, 12 + i);
			assert_int_equal(who_reads(s, got, &len), first);
		}
		seen[first] = true;
		close(fd);
	}
	for (unsigned w = 0; w < WORKERS; w++)
		workers += seen[w];
	assert_int_equal(workers, WORKERS); /* 100 flows: one in 10^12 misses */
	sockets_close(s);
}

static void test_what_is_too_short_to_steer_reaches_somebody(void **state)
{
	struct sockets *s = listen_on("0.0.0.0:0", WORKERS);
	int fd = client("127.0.0.1", sockets_port(s));
	uint8_t record[32], got[8192];
	ssize_t len;

	(void)state;
	record_with_cid(record, 3);
	for (size_t cut = 0; cut < 12; cut++) {
		say(fd, record, cut);
		who_reads(s, got, &len);
		assert_int_equal(len, cut);
	}
	close(fd);
	sockets_close(s);
}

/* As the supervisor and a worker do it: the parent keeps all sockets and reads none. */
static void test_a_worker_keeps_only_its_socket_and_steering_goes_on(void **state)
{
	struct sockets *s = listen_on("127.0.0.1:0", WORKERS);
	int fd = client("127.0.0.1", sockets_port(s));
	uint8_t record[32], got[64] = {0};
	pid_t child = fork();
	int status;

	(void)state;
	if (child == 0) {
		bool others_closed;
		ssize_t n = -1;

		sockets_keep(s, 2);
		others_closed =
			sockets_fd(s, 0) < 0 && sockets_fd(s, 1) < 0 && sockets_fd(s, 3) < 0;
		if (readable(sockets_fd(s, 2), WAIT_MS))
			n = recv(sockets_fd(s, 2), got, sizeof(got), 0);
		_exit(n == sizeof(record) && got[11] == 6 && others_closed ? 0 : 1);
	}
	record_with_cid(record, 6);
	say(fd, record, sizeof(record));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(sockets_fd(s, WORKERS), -1);
	close(fd);
	sockets_close(s);
}

/* --- Many datagrams --- */

static struct address address_of(int fd)
{
	struct sockaddr_storage me;
	socklen_t len = sizeof(me);
	struct address a;

	assert_int_equal(getsockname(fd, (struct sockaddr *)&me, &len), 0);
	assert_int_equal(address_from_sockaddr(&a, (struct sockaddr *)&me), 0);
	return a;
}

struct pair {
	struct sockets *s;
	struct datagrams *d;
	int fd; /* the server's */
	int client;
	struct address to; /* the client */
};

static struct pair make_pair(void)
{
	struct pair p = {.s = listen_on("127.0.0.1:0", 1)};

	p.d = datagrams_of(p.s, 0);
	p.fd = sockets_fd(p.s, 0);
	p.client = client("127.0.0.1", sockets_port(p.s));
	p.to = address_of(p.client);
	return p;
}

static void end_pair(struct pair *p)
{
	close(p->client);
	datagrams_close(p->d);
	sockets_close(p->s);
}

static struct datagrams_stats stats_of(const struct pair *p)
{
	struct datagrams_stats stats;

	datagrams_stats(p->d, &stats);
	return stats;
}

static void queue(struct pair *p, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++) {
		uint8_t byte = (uint8_t)i;

		assert_int_equal(datagrams_send(p->d, &p->to, &byte, 1), 0);
	}
}

static void assert_client_reads(const struct pair *p, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++) {
		uint8_t byte;

		assert_true(readable(p->client, WAIT_MS));
		assert_int_equal(recv(p->client, &byte, 1, 0), 1);
		assert_int_equal(byte, i);
	}
}

static void test_many_are_received_in_order(void **state)
{
	struct pair p = make_pair();

	(void)state;
	for (unsigned i = 0; i < 150; i++) {
		uint8_t byte = (uint8_t)i;

		say(p.client, &byte, 1);
	}
	memset(&heard, 0, sizeof(heard));
	assert_int_equal(datagrams_receive(p.d, hear, &heard), DATAGRAMS_AT_ONCE);
	assert_int_equal(datagrams_receive(p.d, hear, &heard), DATAGRAMS_AT_ONCE);
	assert_int_equal(datagrams_receive(p.d, hear, &heard), 150 - 2 * DATAGRAMS_AT_ONCE);
	assert_int_equal(datagrams_receive(p.d, hear, &heard), 0);
	assert_int_equal(heard.count, 150);
	for (unsigned i = 0; i < 150; i++)
		assert_int_equal(heard.first[i], i);
	end_pair(&p);
}

static void test_many_are_sent_in_order(void **state)
{
	struct pair p = make_pair();

	(void)state;
	queue(&p, 0, 150);
	assert_true(datagrams_flush(p.d));
	assert_client_reads(&p, 0, 150);
	assert_int_equal(stats_of(&p).sent, 150);
	end_pair(&p);
}

static void test_an_empty_datagram_is_one(void **state)
{
	struct pair p = make_pair();

	(void)state;
	say(p.client, "", 0);
	receive(p.d, p.fd, 1);
	assert_int_equal(heard.len, 0);
	end_pair(&p);
}

static void test_the_largest_go_through_and_larger_ones_are_dropped(void **state)
{
	static uint8_t large[DATAGRAM_RECEIVE_MAX + 1], got[DATAGRAM_SEND_MAX + 1];
	struct pair p = make_pair();

	(void)state;
	say(p.client, large, DATAGRAM_RECEIVE_MAX + 1);
	say(p.client, large, DATAGRAM_RECEIVE_MAX);
	receive(p.d, p.fd, 1);
	assert_int_equal(heard.len, DATAGRAM_RECEIVE_MAX);
	assert_int_equal(stats_of(&p).truncated, 1);

	assert_int_equal(datagrams_send(p.d, &p.to, large, DATAGRAM_SEND_MAX + 1), -EMSGSIZE);
	assert_int_equal(datagrams_send(p.d, &p.to, large, DATAGRAM_SEND_MAX), 0);
	assert_true(datagrams_flush(p.d));
	assert_true(readable(p.client, WAIT_MS));
	assert_int_equal(recv(p.client, got, sizeof(got), 0), DATAGRAM_SEND_MAX);
	end_pair(&p);
}

static void test_ipv6_on_an_ipv4_socket_is_an_error(void **state)
{
	struct pair p = make_pair();
	struct address six = {.ip = {0x20, 1, 0xd, 0xb8}, .port = htons(5684)};

	(void)state;
	assert_int_equal(datagrams_send(p.d, &six, "x", 1), -EAFNOSUPPORT);
	queue(&p, 0, 1);
	assert_true(datagrams_flush(p.d));
	assert_client_reads(&p, 0, 1);
	end_pair(&p);
}

/* --- Trouble of one peer, or of the kernel --- */

/* Port 0 of nobody, an address that is no host's, and a source that is not ours: the kernel says
 * no, and the datagrams around it leave. */
static void test_what_the_kernel_refuses_stops_no_other(void **state)
{
	struct pair p = make_pair();
	struct address bad[3] = {p.to, p.to, p.to};

	(void)state;
	bad[0].port = 0;
	memcpy(bad[1].ip + 12, "\xff\xff\xff\xff", 4); /* broadcast: no permission */
	memcpy(bad[2].local, p.to.ip, 12);
	memcpy(bad[2].local + 12, "\xcb\x00\x71\x07", 4);
	for (unsigned i = 0; i < 30; i++) {
		queue(&p, i, i + 1);
		assert_int_equal(datagrams_send(p.d, &bad[i % 3], "x", 1), 0);
	}
	assert_true(datagrams_flush(p.d));
	assert_client_reads(&p, 0, 30);
	assert_int_equal(stats_of(&p).refused, 30);
	assert_int_equal(stats_of(&p).sent, 30);
	end_pair(&p);
}

static void test_a_peer_that_is_gone_stops_no_other(void **state)
{
	struct pair p = make_pair();
	int gone = client("127.0.0.1", sockets_port(p.s));
	struct address nobody = address_of(gone);

	(void)state;
	close(gone);
	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(datagrams_send(p.d, &nobody, "x", 1), 0);
		queue(&p, i, i + 1);
		if (i % 7 == 0)
			assert_true(datagrams_flush(p.d));
		say(p.client, "y", 1);
	}
	assert_true(datagrams_flush(p.d));
	assert_client_reads(&p, 0, 200);
	receive(p.d, p.fd, 200);
	end_pair(&p);
}

static void test_an_error_of_an_earlier_datagram_loses_none(void **state)
{
	struct pair p = make_pair();

	(void)state;
	queue(&p, 0, 10);
	fault.send_takes = 4;
	fault.send_error = ECONNREFUSED;
	fault.send_errors = 1;
	assert_true(datagrams_flush(p.d));
	assert_client_reads(&p, 0, 10);
	assert_int_equal(stats_of(&p).refused, 0);
	end_pair(&p);
}

static void test_errors_without_end_end(void **state)
{
	struct pair p = make_pair();

	(void)state;
	queue(&p, 0, 10);
	fault.send_error = ENOBUFS;
	fault.send_errors = 1000000;
	assert_true(datagrams_flush(p.d));
	assert_int_equal(stats_of(&p).refused, 10);
	assert_int_equal(fault.send_errors, 1000000 - 2 * 10);

	fault.receive_error = ECONNREFUSED;
	fault.receive_errors = 1000000;
	fault.receive_calls = 0;
	assert_int_equal(datagrams_receive(p.d, hear, &heard), 0);
	assert_in_range(fault.receive_calls, 1, 100);
	end_pair(&p);
}

static void test_errors_of_peers_hide_no_datagram(void **state)
{
	struct pair p = make_pair();

	(void)state;
	say(p.client, "x", 1);
	assert_true(readable(p.fd, WAIT_MS));
	fault.receive_error = EHOSTUNREACH;
	fault.receive_errors = 3;
	assert_int_equal(datagrams_receive(p.d, hear, &heard), 1);
	end_pair(&p);
}

/* It waits in the queue; when that is full too, the newest are lost; nothing is sent twice or out
 * of order. */
static void test_what_the_kernel_does_not_take_waits(void **state)
{
	struct pair p = make_pair();

	(void)state;
	fault.send_error = EAGAIN;
	fault.send_takes = 20;
	fault.send_errors = 1000;
	queue(&p, 0, 20 + DATAGRAMS_AT_ONCE); /* at 64 it is flushed, and 20 go */
	assert_false(datagrams_flush(p.d));
	assert_int_equal(datagrams_send(p.d, &p.to, "x", 1), -ENOBUFS);
	assert_int_equal(datagrams_send(p.d, &p.to, "x", 1), -ENOBUFS);
	assert_int_equal(stats_of(&p).lost, 2);
	assert_client_reads(&p, 0, 20);
	assert_false(readable(p.client, 0));

	fault.send_takes = 10;
	assert_false(datagrams_flush(p.d));
	fault.send_errors = 0;
	assert_true(datagrams_flush(p.d));
	assert_client_reads(&p, 20, 20 + DATAGRAMS_AT_ONCE);
	assert_false(readable(p.client, 0));
	end_pair(&p);
}

/* What waits moves to the front of the queue, with its source. */
static void test_what_waits_keeps_its_source(void **state)
{
	struct sockets *s = listen_on("0.0.0.0:0", 1);
	struct datagrams *d = datagrams_of(s, 0);
	int one = client("127.0.0.1", sockets_port(s)), two = client("127.0.0.2", sockets_port(s));
	struct address to_one, to_two;
	char text[8];

	(void)state;
	say(one, "x", 1);
	receive(d, sockets_fd(s, 0), 1);
	to_one = heard.from;
	say(two, "x", 1);
	receive(d, sockets_fd(s, 0), 1);
	to_two = heard.from;

	assert_int_equal(datagrams_send(d, &to_one, "one", 3), 0);
	assert_int_equal(datagrams_send(d, &to_two, "two", 3), 0);
	fault.send_takes = 1;
	fault.send_error = EAGAIN;
	fault.send_errors = 1;
	assert_false(datagrams_flush(d));
	assert_int_equal(datagrams_send(d, &to_one, "uno", 3), 0);
	assert_true(datagrams_flush(d));
	assert_true(readable(two, WAIT_MS));
	assert_int_equal(recv(two, text, sizeof(text), 0), 3);
	assert_memory_equal(text, "two", 3);
	for (int i = 0; i < 2; i++) {
		assert_true(readable(one, WAIT_MS));
		assert_int_equal(recv(one, text, sizeof(text), 0), 3);
		assert_memory_equal(text, i ? "uno" : "one", 3);
	}
	close(one);
	close(two);
	datagrams_close(d);
	sockets_close(s);
}

static void test_a_socket_that_is_none_is_an_error(void **state)
{
	struct pair p = make_pair();
	struct datagrams *d = NULL;
	int pipes[2];

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(datagrams_open(&d, pipes[0]), -ENOTSOCK);
	assert_int_equal(dup2(pipes[0], p.fd), p.fd);
	assert_int_equal(datagrams_receive(p.d, hear, &heard), -ENOTSOCK);
	close(pipes[0]);
	close(pipes[1]);
	end_pair(&p);
}

#define TEST(name) cmocka_unit_test_setup(name, begin)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_ipv4),
		TEST(test_ipv6),
		TEST(test_the_ipv6_wildcard_takes_ipv4_too),
		TEST(test_an_answer_leaves_from_the_address_that_was_asked),
		TEST(test_one_address_does_not_take_what_is_for_another),
		TEST(test_without_ipv6_the_wildcard_is_ipv4),
		TEST(test_a_small_receive_buffer_is_said),
		TEST(test_what_is_no_address_and_port_is_refused),
		TEST(test_a_port_of_another_program_is_refused),
		TEST(test_an_address_of_another_machine_is_refused),
		TEST(test_no_memory_is_an_error),
		TEST(test_a_connection_id_leads_to_its_worker),
		TEST(test_records_without_connection_id_stay_with_one_worker),
		TEST(test_what_is_too_short_to_steer_reaches_somebody),
		TEST(test_a_worker_keeps_only_its_socket_and_steering_goes_on),
		TEST(test_many_are_received_in_order),
		TEST(test_many_are_sent_in_order),
		TEST(test_an_empty_datagram_is_one),
		TEST(test_the_largest_go_through_and_larger_ones_are_dropped),
		TEST(test_ipv6_on_an_ipv4_socket_is_an_error),
		TEST(test_what_the_kernel_refuses_stops_no_other),
		TEST(test_a_peer_that_is_gone_stops_no_other),
		TEST(test_an_error_of_an_earlier_datagram_loses_none),
		TEST(test_errors_without_end_end),
		TEST(test_errors_of_peers_hide_no_datagram),
		TEST(test_what_the_kernel_does_not_take_waits),
		TEST(test_what_waits_keeps_its_source),
		TEST(test_a_socket_that_is_none_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
