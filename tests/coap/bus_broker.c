/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <mosquitto.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "tests/coap/bus_broker.h"
#include "tests/coap/world_pki.h"

#define FIRST_PORT 12000
#define PORTS	   7000
#define LOOKS	   1000 /* of 20 ms */

static bool is_free(uint16_t port)
{
	const struct sockaddr_in a = {.sin_family = AF_INET,
				      .sin_port = htons(port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	bool ok = bind(fd, (const struct sockaddr *)&a, sizeof(a)) == 0;

	close(fd);
	return ok;
}

uint16_t bus_free_port(void)
{
	static unsigned next;

	if (next == 0)
		next = (unsigned)getpid() * 7;
	for (int i = 0; i < PORTS; i++) {
		uint16_t port = (uint16_t)(FIRST_PORT + next++ % PORTS);

		if (is_free(port))
			return port;
	}
	fail_msg("no free port");
	return 0;
}

static FILE *create(const struct bus_broker *b, const char *name)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", b->dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	return f;
}

static void write_files(struct bus_broker *b)
{
	FILE *f = create(b, "acl");

	fprintf(f, "topic readwrite #\n\nuser device-crt\ntopic write m/#\ntopic write r/#\n");
	fclose(f);
	f = create(b, "mosquitto.conf");
	fprintf(f,
		"per_listener_settings false\nallow_anonymous true\nacl_file %s/acl\n"
		"max_packet_size 100000\nmax_queued_messages 100000\nlog_dest file %s/log\n",
		b->dir, b->dir);
	if (geteuid() == 0)
		fprintf(f, "user root\n");
	/* On IPv4 only: of localhost's addresses the first may be the wrong one. */
	fprintf(f,
		"listener %u 127.0.0.1\ncafile %s\ncertfile %s\nkeyfile %s\n"
		"require_certificate true\nuse_identity_as_username true\ntls_version tlsv1.2\n"
		"listener %u 127.0.0.1\n",
		b->port, world_pki_file("ca.pem"), world_pki_file("localhost.pem"),
		world_pki_file("localhost.key"), b->plain_port);
	fclose(f);
}

void bus_broker_init(struct bus_broker *b)
{
	memset(b, 0, sizeof(*b));
	mosquitto_lib_init();
	snprintf(b->dir, sizeof(b->dir), "/tmp/fg-bus-XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	b->port = bus_free_port();
	b->plain_port = bus_free_port();
	write_files(b);
}

void bus_broker_free(struct bus_broker *b)
{
	static const char *const names[] = {"acl", "mosquitto.conf", "log"};
	char path[128];

	bus_broker_kill(b);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		snprintf(path, sizeof(path), "%s/%s", b->dir, names[i]);
		unlink(path);
	}
	rmdir(b->dir);
	mosquitto_lib_cleanup();
}

static bool answers(uint16_t port)
{
	const struct sockaddr_in a = {.sin_family = AF_INET,
				      .sin_port = htons(port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	bool ok = connect(fd, (const struct sockaddr *)&a, sizeof(a)) == 0;

	close(fd);
	return ok;
}

void bus_broker_start(struct bus_broker *b)
{
	char conf[128];
	int looks = 0;

	snprintf(conf, sizeof(conf), "%s/mosquitto.conf", b->dir);
	b->pid = fork();
	assert_true(b->pid >= 0);
	if (b->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
		execlp("mosquitto", "mosquitto", "-c", conf, (char *)NULL);
		_exit(127);
	}
	while (!answers(b->plain_port)) {
		assert_int_equal(waitpid(b->pid, NULL, WNOHANG), 0);
		assert_true(looks++ < LOOKS);
		usleep(20000);
	}
}

void bus_broker_kill(struct bus_broker *b)
{
	if (b->subscriber)
		mosquitto_destroy(b->subscriber);
	b->subscriber = NULL;
	if (b->pid == 0)
		return;
	kill(b->pid, SIGKILL);
	waitpid(b->pid, NULL, 0);
	b->pid = 0;
}

static void on_subscribe(struct mosquitto *m, void *arg, int mid, int count, const int *granted)
{
	struct bus_broker *b = arg;

	(void)m;
	(void)mid;
	(void)count;
	(void)granted;
	b->subscribed = true;
}

static void on_message(struct mosquitto *m, void *arg, const struct mosquitto_message *message)
{
	struct bus_broker *b = arg;
	char text[16] = "";

	(void)m;
	b->received++;
	if (message->payloadlen > 0 && message->payloadlen < (int)sizeof(text))
		memcpy(text, message->payload, (size_t)message->payloadlen);
	b->times[strtoul(text, NULL, 10) & 0xffff]++;
}

void bus_broker_subscribe(struct bus_broker *b)
{
	b->subscribed = false;
	b->subscriber = mosquitto_new(NULL, true, b);
	assert_non_null(b->subscriber);
	mosquitto_subscribe_callback_set(b->subscriber, on_subscribe);
	mosquitto_message_callback_set(b->subscriber, on_message);
	assert_int_equal(mosquitto_connect(b->subscriber, "127.0.0.1", b->plain_port, 60), 0);
	assert_int_equal(mosquitto_subscribe(b->subscriber, NULL, "#", 1), 0);
	for (int i = 0; !b->subscribed; i++) {
		assert_true(i < LOOKS);
		bus_broker_poll(b, 20);
	}
}

/* One call of mosquitto_loop takes one message only. */
void bus_broker_poll(struct bus_broker *b, int ms)
{
	int64_t left, until = clock_monotonic_us() + ms * US_PER_MS;

	if (!b->subscriber)
		usleep((useconds_t)ms * 1000);
	while (b->subscriber && (left = until - clock_monotonic_us()) > 0)
		assert_int_equal(mosquitto_loop(b->subscriber, (int)(left / US_PER_MS), 1), 0);
}
