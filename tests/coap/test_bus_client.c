/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bus of fieldgate-coap with a real Mosquitto: what it is given arrives, however the broker
 * behaves meanwhile, and nobody waits for it. Only what no Mosquitto does on demand (to end a
 * connection for a certain message, to be silent) is done by a listener of the test's own.
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
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "coap-server/bus/client.h"
#include "core/base/log.h"
#include "tests/coap/bus_broker.h"
#include "tests/coap/world_pki.h"

#define LOOKS	  1500 /* of 20 ms: half a minute */
#define IN_FLIGHT 100

/* --- What is logged --- */

static struct {
	pthread_mutex_t lock;
	char text[65536];
	size_t len;
} logged = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void keep_line(enum log_level level, const char *line, void *arg)
{
	(void)level;
	(void)arg;
	pthread_mutex_lock(&logged.lock);
	logged.len += (size_t)snprintf(logged.text + logged.len, sizeof(logged.text) - logged.len,
				       "%s\n", line);
	if (logged.len > sizeof(logged.text) - 2000)
		logged.len = 0;
	pthread_mutex_unlock(&logged.lock);
}

static bool was_logged(const char *text)
{
	bool found;

	pthread_mutex_lock(&logged.lock);
	found = strstr(logged.text, text) != NULL;
	pthread_mutex_unlock(&logged.lock);
	return found;
}

static void wait_logged(const char *text)
{
	for (int i = 0; !was_logged(text); i++) {
		if (i >= LOOKS)
			fail_msg("not logged: %s; but:\n%s", text, logged.text);
		usleep(20000);
	}
}

/* --- A client --- */

static struct bus_client_options options(uint16_t port)
{
	return (struct bus_client_options){
		.tls = {.host = "localhost",
			.ca_file = world_pki_file("ca.pem"),
			.certificate_file = world_pki_file("device.pem"),
			.key_file = world_pki_file("device.key")},
		.port = port,
		.max_in_flight = IN_FLIGHT,
	};
}

static struct bus_client *open_client(const struct bus_client_options *o)
{
	struct bus_client *b;

	logged.text[0] = '\0';
	logged.len = 0;
	assert_int_equal(bus_client_open(&b, o), 0);
	return b;
}

static struct bus_client_stats stats_of(struct bus_client *b)
{
	struct bus_client_stats s;

	bus_client_stats(b, &s);
	return s;
}

static int publish(struct bus_client *b, const char *topic, unsigned number)
{
	const struct bus *bus = bus_client_bus(b);
	struct bus_message m = {.topic = topic, .qos = 1};
	char text[16];

	snprintf(text, sizeof(text), "%u", number);
	m.payload = text;
	m.payload_len = strlen(text);
	return bus->publish(bus->arg, &m, number);
}

static uint64_t settled(struct bus_client *b)
{
	const struct bus *bus = bus_client_bus(b);

	return bus->settled(bus->arg);
}

/* As the relay does: when there is no room, wait until it is told that there is. */
static void publish_waiting(struct bus_client *b, const char *topic, unsigned number)
{
	const struct bus *bus = bus_client_bus(b);
	struct pollfd fd = {.fd = bus->wake_fd(bus->arg), .events = POLLIN};
	eventfd_t ignored;
	int rc;

	while ((rc = publish(b, topic, number)) == -EAGAIN) {
		assert_int_equal(poll(&fd, 1, 60000), 1);
		eventfd_read(fd.fd, &ignored);
	}
	assert_int_equal(rc, 0);
}

static void wait_settled(struct bus_client *b, struct bus_broker *broker, uint64_t ticket)
{
	for (int i = 0; settled(b) < ticket; i++) {
		if (i >= LOOKS)
			fail_msg("settled up to %llu only; logged:\n%s",
				 (unsigned long long)settled(b), logged.text);
		if (broker)
			bus_broker_poll(broker, 20);
		else
			usleep(20000);
	}
}

static void wait_received(struct bus_broker *broker, size_t count)
{
	for (int i = 0; broker->received < count; i++) {
		assert_true(i < LOOKS);
		bus_broker_poll(broker, 20);
	}
}

static void wait_connected(struct bus_client *b)
{
	for (int i = 0; !stats_of(b).connected; i++) {
		if (i >= LOOKS)
			fail_msg("not connected; logged:\n%s", logged.text);
		usleep(20000);
	}
}

/* --- A broker that does as the test wants --- */

struct odd_broker {
	int fd;
	uint16_t port;
	pthread_t thread;
	atomic_uint accepted, published;
	bool silent;	    /* takes connections and says nothing */
	const char *poison; /* ends the connection when this topic is published */
	atomic_bool healed; /* not any more */
	atomic_uint ended;  /* connections, for that */
	unsigned char why;  /* and it says so: a reason of MQTT 5; 0: it says nothing */
};

static bool read_all(SSL *ssl, unsigned char *to, size_t len)
{
	for (size_t at = 0; at < len;) {
		int n = SSL_read(ssl, to + at, (int)(len - at));

		if (n <= 0)
			return false;
		at += (size_t)n;
	}
	return true;
}

/* One packet of at most 127 bytes, which is all that these tests send to it. */
static bool serve_packet(struct odd_broker *o, SSL *ssl)
{
	const unsigned char connack[] = {0x20, 0x03, 0x00, 0x00, 0x00};
	unsigned char head[2], body[128] = {0}, puback[4] = {0x40, 0x02};
	size_t topic;

	if (!read_all(ssl, head, 2) || head[1] > 127 || !read_all(ssl, body, head[1]))
		return false;
	if (head[0] == 0x10)
		return SSL_write(ssl, connack, sizeof(connack)) > 0;
	if ((head[0] & 0xf0) != 0x30)
		return head[0] == 0xc0; /* a ping needs no answer here */
	topic = body[0] * 256u + body[1];
	if (o->poison && !atomic_load(&o->healed) && strlen(o->poison) == topic &&
	    memcmp(body + 2, o->poison, topic) == 0) {
		const unsigned char disconnect[] = {0xe0, 0x02, o->why, 0x00};

		atomic_fetch_add(&o->ended, 1);
		if (o->why)
			SSL_write(ssl, disconnect, sizeof(disconnect));
		return false;
	}
	memcpy(puback + 2, body + 2 + topic, 2);
	atomic_fetch_add(&o->published, 1);
	return SSL_write(ssl, puback, sizeof(puback)) > 0;
}

static void serve(struct odd_broker *o, SSL_CTX *context, int fd)
{
	SSL *ssl = SSL_new(context);

	SSL_set_fd(ssl, fd);
	if (SSL_accept(ssl) == 1)
		while (serve_packet(o, ssl))
			;
	SSL_free(ssl);
	close(fd);
}

static void *odd_run(void *arg)
{
	struct odd_broker *o = arg;
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	int fd;

	SSL_CTX_use_certificate_file(context, world_pki_file("localhost.pem"), SSL_FILETYPE_PEM);
	SSL_CTX_use_PrivateKey_file(context, world_pki_file("localhost.key"), SSL_FILETYPE_PEM);
	while ((fd = accept(o->fd, NULL, NULL)) >= 0) {
		atomic_fetch_add(&o->accepted, 1);
		if (!o->silent)
			serve(o, context, fd);
	}
	SSL_CTX_free(context);
	return NULL;
}

static void odd_start(struct odd_broker *o)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	o->port = bus_free_port();
	a.sin_port = htons(o->port);
	o->fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(o->fd, (const struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(o->fd, 16), 0);
	assert_int_equal(pthread_create(&o->thread, NULL, odd_run, o), 0);
}

static void odd_stop(struct odd_broker *o)
{
	shutdown(o->fd, SHUT_RDWR);
	pthread_join(o->thread, NULL);
	close(o->fd);
}

/* --- The tests --- */

static void test_everything_arrives_once(void **state)
{
	enum { COUNT = 5000 };
	struct bus_broker broker;
	struct bus_client_options o;
	struct bus_client *b;

	(void)state;
	bus_broker_init(&broker);
	bus_broker_start(&broker);
	bus_broker_subscribe(&broker);
	o = options(broker.port);
	b = open_client(&o);
	for (unsigned i = 1; i <= COUNT; i++) {
		publish_waiting(b, "m/d/dev-1/d2c", i);
		if (i % 50 == 0)
			bus_broker_poll(&broker, 1);
	}
	wait_settled(b, &broker, COUNT);
	wait_received(&broker, COUNT);
	for (unsigned i = 1; i <= COUNT; i++)
		assert_int_equal(broker.times[i], 1);
	assert_int_equal(stats_of(b).published, COUNT);
	assert_int_equal(stats_of(b).refused, 0);
	assert_int_equal(stats_of(b).in_flight, 0);
	bus_client_close(b);
	bus_broker_free(&broker);
}

static void test_without_a_broker_the_ring_fills_and_nobody_waits(void **state)
{
	struct bus_broker broker;
	struct bus_client_options o;
	struct bus_client *b;

	(void)state;
	bus_broker_init(&broker);
	o = options(broker.port);
	b = open_client(&o);
	for (unsigned i = 1; i <= IN_FLIGHT; i++)
		assert_int_equal(publish(b, "m/d/dev-1/d2c", i), 0);
	assert_int_equal(publish(b, "m/d/dev-1/d2c", IN_FLIGHT + 1), -EAGAIN);
	wait_logged("bus_unreachable");
	assert_int_equal(settled(b), 0);
	bus_broker_start(&broker);
	bus_broker_subscribe(&broker);
	wait_settled(b, &broker, IN_FLIGHT);
	publish_waiting(b, "m/d/dev-1/d2c", IN_FLIGHT + 1);
	wait_settled(b, &broker, IN_FLIGHT + 1);
	bus_client_close(b);
	bus_broker_free(&broker);
}

static void test_a_killed_broker_gets_what_it_had_not_answered_for(void **state)
{
	enum { COUNT = 3000, KILLS = 3 };
	struct bus_broker broker;
	struct bus_client_options o;
	struct bus_client *b;
	unsigned at = 0;

	(void)state;
	bus_broker_init(&broker);
	bus_broker_start(&broker);
	o = options(broker.port);
	b = open_client(&o);
	for (int kill = 0; kill < KILLS; kill++) {
		for (unsigned i = 0; i < COUNT; i++)
			publish_waiting(b, "m/d/dev-1/d2c", ++at);
		bus_broker_kill(&broker); /* with messages on the wire */
		while (publish(b, "m/d/dev-1/d2c", at + 1) == 0)
			at++;
		bus_broker_start(&broker);
	}
	wait_settled(b, NULL, at);
	assert_int_equal(stats_of(b).published, at);
	assert_true(stats_of(b).connections >= KILLS + 1);
	bus_client_close(b);
	bus_broker_free(&broker);
}

static void test_messages_of_all_lives_are_seen_by_a_new_subscriber(void **state)
{
	struct bus_broker broker;
	struct bus_client_options o;
	struct bus_client *b;

	(void)state;
	bus_broker_init(&broker);
	bus_broker_start(&broker);
	o = options(broker.port);
	b = open_client(&o);
	wait_connected(b);
	kill(broker.pid, SIGSTOP); /* takes them and does not answer */
	for (unsigned i = 1; i <= IN_FLIGHT; i++)
		assert_int_equal(publish(b, "m/d/dev-1/d2c", i), 0);
	usleep(100000);
	bus_broker_kill(&broker);
	bus_broker_start(&broker);
	bus_broker_subscribe(&broker);
	for (unsigned i = IN_FLIGHT + 1; i <= 2 * IN_FLIGHT; i++) {
		while (publish(b, "m/d/dev-1/d2c", i) == -EAGAIN)
			bus_broker_poll(&broker, 20);
	}
	wait_settled(b, &broker, 2 * IN_FLIGHT);
	/* The subscriber may have come after the first of them; never after the last. */
	for (unsigned i = IN_FLIGHT + 1; i <= 2 * IN_FLIGHT; i++) {
		for (int looks = 0; broker.times[i] == 0; looks++) {
			assert_true(looks < LOOKS);
			bus_broker_poll(&broker, 20);
		}
	}
	bus_client_close(b);
	bus_broker_free(&broker);
}

static void test_a_refused_message_is_counted_and_holds_nothing_up(void **state)
{
	char large[120000];
	const struct bus_message too_long = {
		.topic = "m/large", .payload = large, .payload_len = sizeof(large), .qos = 1};
	struct bus_broker broker;
	struct bus_client_options o;
	struct bus_client *b;
	const struct bus *bus;

	(void)state;
	memset(large, 'a', sizeof(large));
	bus_broker_init(&broker);
	bus_broker_start(&broker);
	bus_broker_subscribe(&broker);
	o = options(broker.port);
	b = open_client(&o);
	bus = bus_client_bus(b);
	assert_int_equal(publish(b, "m/1", 1), 0);
	assert_int_equal(publish(b, "forbidden/2", 2), 0);
	assert_int_equal(bus->publish(bus->arg, &too_long, 3), 0);
	assert_int_equal(publish(b, "m/4", 4), 0);
	wait_settled(b, &broker, 4);
	wait_received(&broker, 2);
	assert_int_equal(broker.times[1], 1);
	assert_int_equal(broker.times[4], 1);
	assert_int_equal(stats_of(b).published, 2);
	assert_int_equal(stats_of(b).refused, 2);
	assert_int_equal(stats_of(b).connections, 1);
	assert_true(was_logged("event=bus_publish_refused"));
	assert_true(was_logged("forbidden/2"));
	bus_client_close(b);
	bus_broker_free(&broker);
}

static void test_what_no_broker_takes_is_refused_at_once(void **state)
{
	static const char *const bad[] = {"", "m/+/x", "m/#", "m/\xff"};
	struct bus_client_options o = options(bus_free_port());
	struct bus_client *b = open_client(&o);

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(publish(b, bad[i], 1), -EINVAL);
	assert_int_equal(publish(b, "m/1", 1), 0);
	bus_client_close(b);
}

static void test_qos_0_is_settled_when_it_is_sent(void **state)
{
	const struct bus_message m = {.topic = "r/x", .payload = "7", .payload_len = 1, .qos = 0};
	struct bus_broker broker;
	struct bus_client_options o;
	struct bus_client *b;
	const struct bus *bus;

	(void)state;
	bus_broker_init(&broker);
	bus_broker_start(&broker);
	bus_broker_subscribe(&broker);
	o = options(broker.port);
	b = open_client(&o);
	bus = bus_client_bus(b);
	for (uint64_t i = 1; i <= 50; i++)
		assert_int_equal(bus->publish(bus->arg, &m, i), 0);
	assert_int_equal(publish(b, "m/1", 51), 0);
	wait_settled(b, &broker, 51);
	wait_received(&broker, 51);
	assert_int_equal(broker.times[7], 50);
	assert_int_equal(stats_of(b).in_flight, 0);
	bus_client_close(b);
	bus_broker_free(&broker);
}

static void test_a_silent_listener_keeps_nobody_waiting(void **state)
{
	struct odd_broker odd = {.silent = true};
	struct bus_client_options o;
	struct timespec before, after;
	struct bus_client *b;

	(void)state;
	odd_start(&odd);
	o = options(odd.port);
	b = open_client(&o);
	for (int i = 0; atomic_load(&odd.accepted) == 0; i++) {
		assert_true(i < LOOKS);
		usleep(20000);
	}
	for (unsigned i = 1; i <= IN_FLIGHT; i++)
		assert_int_equal(publish(b, "m/1", i), 0);
	/* The close does not wait for the broker either: ten seconds is when it would be given up.
	 */
	clock_gettime(CLOCK_MONOTONIC, &before);
	bus_client_close(b);
	clock_gettime(CLOCK_MONOTONIC, &after);
	assert_true(after.tv_sec - before.tv_sec < 8);
	odd_stop(&odd);
}

static void test_a_silent_listener_is_left_for_another_try(void **state)
{
	struct odd_broker odd = {.silent = true};
	struct bus_client_options o;
	struct bus_client *b;

	(void)state;
	odd_start(&odd);
	o = options(odd.port);
	b = open_client(&o);
	wait_logged("does not answer");
	for (int i = 0; atomic_load(&odd.accepted) < 2; i++) {
		assert_true(i < LOOKS);
		usleep(20000);
	}
	bus_client_close(b);
	odd_stop(&odd);
}

/* The message is neither lost in silence nor does it hold up the others for ever. */
static void test_a_message_that_ends_each_connection_is_given_up(void **state)
{
	struct odd_broker odd = {.poison = "m/poison"};
	struct bus_client_options o;
	struct bus_client *b;

	(void)state;
	odd_start(&odd);
	o = options(odd.port);
	b = open_client(&o);
	for (unsigned i = 1; i <= 20; i++)
		assert_int_equal(publish(b, i == 10 ? "m/poison" : "m/good", i), 0);
	for (int i = 0; settled(b) < 20; i++) {
		assert_true(i < LOOKS);
		usleep(20000);
		if (i % 25 == 0)
			bus_client_renew(b); /* no delay */
	}
	assert_int_equal(stats_of(b).refused, 1);
	assert_int_equal(stats_of(b).published, 19);
	assert_true(was_logged("topic m/poison"));
	assert_false(was_logged("topic m/good"));
	bus_client_close(b);
	odd_stop(&odd);
}

/* That is how the plugin says that its journal is full: it has no other way. */
static void test_a_message_to_a_device_is_never_given_up(void **state)
{
	struct odd_broker odd = {.poison = "m/d/x/c2d/led"};
	struct bus_client_options o;
	struct bus_client *b;

	(void)state;
	odd_start(&odd);
	o = options(odd.port);
	b = open_client(&o);
	for (unsigned i = 1; i <= 3; i++)
		assert_int_equal(publish(b, i == 2 ? odd.poison : "m/good", i), 0);
	for (int i = 0; atomic_load(&odd.ended) < 20; i++) {
		assert_true(i < 2 * LOOKS);
		usleep(20000);
		if (i % 25 == 0)
			bus_client_renew(b); /* no delay */
	}
	assert_int_equal(settled(b), 1);
	atomic_store(&odd.healed, true);
	for (int i = 0; settled(b) < 3; i++) {
		assert_true(i < LOOKS);
		usleep(20000);
	}
	assert_int_equal(stats_of(b).refused, 0);
	assert_int_equal(stats_of(b).published, 3);
	assert_true(was_logged("bus_downlink_waits"));
	bus_client_close(b);
	odd_stop(&odd);
}

/* Two servers with one service, say, that take the connection from each other. */
static void test_who_is_sent_away_for_another_reason_blames_no_message(void **state)
{
	const unsigned char reasons[] = {0x8b, 0x8e, 0x98}; /* MQTT 5 section 3.14.2.1 */

	(void)state;
	for (size_t n = 0; n < sizeof(reasons); n++) {
		struct odd_broker odd = {.poison = "m/any", .why = reasons[n]};
		struct bus_client_options o;
		struct bus_client *b;

		odd_start(&odd);
		o = options(odd.port);
		b = open_client(&o);
		assert_int_equal(publish(b, "m/any", 1), 0);
		for (int i = 0; atomic_load(&odd.ended) < 15; i++) {
			assert_true(i < 2 * LOOKS);
			usleep(20000);
			if (i % 25 == 0)
				bus_client_renew(b); /* no delay */
		}
		atomic_store(&odd.healed, true);
		for (int i = 0; settled(b) < 1; i++) {
			assert_true(i < LOOKS);
			usleep(20000);
		}
		assert_int_equal(stats_of(b).refused, 0);
		bus_client_close(b);
		odd_stop(&odd);
	}
}

static void test_another_name_in_the_brokers_certificate(void **state)
{
	struct bus_broker broker;
	struct bus_client_options o;
	struct bus_client *b;

	(void)state;
	bus_broker_init(&broker);
	bus_broker_start(&broker);
	o = options(broker.port);
	o.tls.host = "127.0.0.1";
	b = open_client(&o);
	wait_logged("IP address mismatch");
	assert_int_equal(stats_of(b).connections, 0);
	bus_client_close(b);
	bus_broker_free(&broker);
}

static void test_another_ca(void **state)
{
	struct bus_broker broker;
	struct bus_client_options o;
	struct bus_client *b;

	(void)state;
	bus_broker_init(&broker);
	bus_broker_start(&broker);
	o = options(broker.port);
	o.tls.ca_file = world_pki_file("chain.pem");
	b = open_client(&o);
	wait_logged("the broker's certificate for localhost is not good");
	assert_int_equal(stats_of(b).connections, 0);
	bus_client_close(b);
	bus_broker_free(&broker);
}

static void test_a_certificate_that_the_broker_does_not_want(void **state)
{
	struct bus_broker broker;
	struct bus_client_options o;
	struct bus_client *b;

	(void)state;
	bus_broker_init(&broker);
	bus_broker_start(&broker);
	o = options(broker.port);
	o.tls.certificate_file = world_pki_file("stranger.pem");
	o.tls.key_file = world_pki_file("stranger.key");
	b = open_client(&o);
	wait_logged("event=bus_unreachable");
	if (!was_logged("alert") && !was_logged("does the broker take the certificate"))
		fail_msg("%s", logged.text);
	assert_int_equal(stats_of(b).connections, 0);
	bus_client_close(b);
	bus_broker_free(&broker);
}

static void test_a_name_without_address(void **state)
{
	struct bus_client_options o = options(8883);
	struct bus_client *b;

	(void)state;
	o.tls.host = "no-such-host.invalid";
	b = open_client(&o);
	wait_logged("cannot find its address");
	assert_int_equal(publish(b, "m/1", 1), 0);
	bus_client_close(b);
}

static void test_files_that_cannot_be_used_are_named(void **state)
{
	struct bus_tls_options o = options(8883).tls;
	struct bus_tls *t;
	char err[256];

	(void)state;
	o.ca_file = "/nonexistent/ca.pem";
	assert_int_not_equal(bus_tls_open(&t, &o, err, sizeof(err)), 0);
	assert_non_null(strstr(err, "bus.ca_file: /nonexistent/ca.pem: No such file"));
	o = options(8883).tls;
	o.certificate_file = world_pki_file("device.key");
	assert_int_not_equal(bus_tls_open(&t, &o, err, sizeof(err)), 0);
	assert_non_null(strstr(err, "bus.certificate_file"));
	o = options(8883).tls;
	o.key_file = world_pki_file("other.key");
	assert_int_not_equal(bus_tls_open(&t, &o, err, sizeof(err)), 0);
	assert_non_null(strstr(err, "bus.key_file"));
	assert_non_null(strstr(err, "mismatch"));
	o = options(8883).tls;
	assert_int_equal(bus_tls_open(&t, &o, err, sizeof(err)), 0);
	assert_string_equal(t->service, "device-crt");
	bus_tls_close(t);
}

static void copy_file(const char *from, const char *to)
{
	char command[512];

	snprintf(command, sizeof(command), "cp %s %s", from, to);
	assert_int_equal(system(command), 0);
}

/* A certificate that cannot be used is no reason not to serve devices; and the next one is read
 * without a restart. */
static void test_files_are_read_again_at_each_connection(void **state)
{
	struct bus_broker broker;
	struct bus_client_options o;
	char cert[96], key[96];
	struct bus_client *b;

	(void)state;
	bus_broker_init(&broker);
	bus_broker_start(&broker);
	snprintf(cert, sizeof(cert), "%s/service.pem", broker.dir);
	snprintf(key, sizeof(key), "%s/service.key", broker.dir);
	o = options(broker.port);
	o.tls.certificate_file = cert;
	o.tls.key_file = key;
	b = open_client(&o);
	wait_logged("event=bus_files");
	assert_int_equal(publish(b, "m/1", 1), 0);
	copy_file(world_pki_file("device.key"), key);
	copy_file(world_pki_file("device.pem"), cert);
	wait_settled(b, NULL, 1);
	assert_true(was_logged("as device-crt"));
	/* Renewed while the connection is there; `other` is somebody else. */
	copy_file(world_pki_file("other.key"), key);
	copy_file(world_pki_file("other.pem"), cert);
	bus_client_renew(b);
	wait_logged("as server.test");
	bus_client_close(b);
	unlink(cert);
	unlink(key);
	bus_broker_free(&broker);
}

/* A thread that spins would be the worst of neighbours for the one that answers devices. */
static void test_idle_costs_no_cpu(void **state)
{
	struct timespec before, after;
	struct bus_broker broker;
	struct bus_client_options o;
	struct bus_client *b;
	int64_t used_ms;

	(void)state;
	bus_broker_init(&broker);
	bus_broker_start(&broker);
	o = options(broker.port);
	b = open_client(&o);
	wait_connected(b);
	publish_waiting(b, "m/1", 1);
	wait_settled(b, NULL, 1);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	usleep(2000000);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	used_ms =
		(after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
	assert_true(used_ms < 500);
	bus_client_close(b);
	bus_broker_free(&broker);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything_arrives_once),
		cmocka_unit_test(test_without_a_broker_the_ring_fills_and_nobody_waits),
		cmocka_unit_test(test_a_killed_broker_gets_what_it_had_not_answered_for),
		cmocka_unit_test(test_messages_of_all_lives_are_seen_by_a_new_subscriber),
		cmocka_unit_test(test_a_refused_message_is_counted_and_holds_nothing_up),
		cmocka_unit_test(test_what_no_broker_takes_is_refused_at_once),
		cmocka_unit_test(test_qos_0_is_settled_when_it_is_sent),
		cmocka_unit_test(test_a_silent_listener_keeps_nobody_waiting),
		cmocka_unit_test(test_a_silent_listener_is_left_for_another_try),
		cmocka_unit_test(test_a_message_that_ends_each_connection_is_given_up),
		cmocka_unit_test(test_a_message_to_a_device_is_never_given_up),
		cmocka_unit_test(test_who_is_sent_away_for_another_reason_blames_no_message),
		cmocka_unit_test(test_another_name_in_the_brokers_certificate),
		cmocka_unit_test(test_another_ca),
		cmocka_unit_test(test_a_certificate_that_the_broker_does_not_want),
		cmocka_unit_test(test_a_name_without_address),
		cmocka_unit_test(test_files_that_cannot_be_used_are_named),
		cmocka_unit_test(test_files_are_read_again_at_each_connection),
		cmocka_unit_test(test_idle_costs_no_cpu),
	};

	signal(SIGPIPE, SIG_IGN);
	log_set_sink(keep_line, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
