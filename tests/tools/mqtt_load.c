/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mqtt-load: many MQTT devices in one process, as load for benches and as witness for fault tests:
 * it writes down what was acknowledged, so that a test can look for exactly that in PostgreSQL. It
 * talks to loopback only. Its last line is one JSON object with the figures.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "core/base/clock.h"
#include "tests/tools/load_connection.h"

#define LATENCIES_MAX (8U * 1024 * 1024)
#define EVENTS_MAX    256

struct options {
	struct load_options load;
	unsigned connections;
	unsigned first;
	double rate; /* messages per second in all; 0: as fast as the windows allow */
	double seconds;
	double drain_seconds;
	uint64_t messages; /* per connection; 0: no bound */
	const char *prefix, *ca, *credentials, *tokens, *ack_log;
};

static struct {
	uint64_t sent, acked;
	uint32_t *latencies_us;
	size_t latency_count;
	int64_t worst_us;
	FILE *log;
} totals;

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	(void)number;
	interrupted = 1;
}

static void die(const char *what)
{
	fprintf(stderr, "mqtt-load: %s\n", what);
	exit(1);
}

static void on_ack(const char *device, int64_t seq, int64_t latency_us)
{
	totals.acked++;
	if (totals.latency_count < LATENCIES_MAX)
		totals.latencies_us[totals.latency_count++] =
			latency_us > UINT32_MAX ? UINT32_MAX : (uint32_t)latency_us;
	if (latency_us > totals.worst_us)
		totals.worst_us = latency_us;
	if (totals.log)
		fprintf(totals.log, "%s %" PRId64 "\n", device, seq);
}

static const char usage[] =
	"usage: mqtt-load --port N [options]\n"
	"  --host A              IPv4 loopback address (127.0.0.1)\n"
	"  --connections N       devices, each with its own connection (1)\n"
	"  --window N            unacknowledged messages per connection (20)\n"
	"  --prefix P --first N  device ids are P followed by N, N+1, ... in four digits (load-, "
	"0)\n"
	"  --credentials DIR     mutual TLS: DIR/<device>/cert.pem and key.pem\n"
	"  --ca FILE             mutual TLS: verify the broker with this\n"
	"  --tokens FILE         plain TCP: lines `<device> <token>`\n"
	"  --seconds S           stop sending after S seconds (5)\n"
	"  --messages N          or after N messages per connection\n"
	"  --rate R              messages per second in all (as fast as the windows allow)\n"
	"  --drain-seconds S     then wait at most S for acknowledgements (10)\n"
	"  --format json|cbor    (json)\n"
	"  --keepalive S         (60)\n"
	"  --resume              clean session 0: come back after a lost connection and send "
	"again\n"
	"  --ack-log FILE        write `<device> <seq>` for each acknowledgement\n";

static void take_option(struct options *o, int option, const char *value)
{
	switch (option) {
	case 'h':
		if (inet_pton(AF_INET, value, &o->load.address.sin_addr) != 1 ||
		    ntohl(o->load.address.sin_addr.s_addr) >> 24 != 127)
			die("--host: expected an address in 127.0.0.0/8");
		break;
	case 'p':
		o->load.address.sin_port = htons((uint16_t)atoi(value));
		break;
	case 'n':
		o->connections = (unsigned)atoi(value);
		break;
	case 'w':
		o->load.window = (unsigned)atoi(value);
		break;
	case 'P':
		o->prefix = value;
		break;
	case 'f':
		o->first = (unsigned)atoi(value);
		break;
	case 'C':
		o->credentials = value;
		break;
	case 'c':
		o->ca = value;
		break;
	case 't':
		o->tokens = value;
		break;
	case 's':
		o->seconds = atof(value);
		break;
	case 'm':
		o->messages = strtoull(value, NULL, 10);
		break;
	case 'r':
		o->rate = atof(value);
		break;
	case 'd':
		o->drain_seconds = atof(value);
		break;
	case 'F':
		o->load.cbor = strcmp(value, "cbor") == 0;
		break;
	case 'k':
		o->load.keepalive_s = (unsigned)atoi(value);
		break;
	case 'R':
		o->load.resume = true;
		break;
	case 'l':
		o->ack_log = value;
		break;
	default:
		fputs(usage, option == 'H' ? stdout : stderr);
		exit(option == 'H' ? 0 : 2);
	}
}

static void parse(struct options *o, int argc, char **argv)
{
	static const struct option longs[] = {
		{"host", 1, NULL, 'h'},
		{"port", 1, NULL, 'p'},
		{"connections", 1, NULL, 'n'},
		{"window", 1, NULL, 'w'},
		{"prefix", 1, NULL, 'P'},
		{"first", 1, NULL, 'f'},
		{"credentials", 1, NULL, 'C'},
		{"ca", 1, NULL, 'c'},
		{"tokens", 1, NULL, 't'},
		{"seconds", 1, NULL, 's'},
		{"messages", 1, NULL, 'm'},
		{"rate", 1, NULL, 'r'},
		{"drain-seconds", 1, NULL, 'd'},
		{"format", 1, NULL, 'F'},
		{"keepalive", 1, NULL, 'k'},
		{"resume", 0, NULL, 'R'},
		{"ack-log", 1, NULL, 'l'},
		{"help", 0, NULL, 'H'},
		{0},
	};
	int option;

	*o = (struct options){
		.load = {.window = 20, .keepalive_s = 60, .on_ack = on_ack},
		.connections = 1,
		.seconds = 5,
		.drain_seconds = 10,
		.prefix = "load-",
	};
	o->load.address.sin_family = AF_INET;
	o->load.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1)
		take_option(o, option, optarg);
	if (!o->load.address.sin_port || !o->connections || !o->load.window || optind != argc)
		take_option(o, '?', NULL);
}

static SSL_CTX *device_tls(const struct options *o, const char *device)
{
	char cert[4096], key[4096];
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	snprintf(cert, sizeof(cert), "%s/%s/cert.pem", o->credentials, device);
	snprintf(key, sizeof(key), "%s/%s/key.pem", o->credentials, device);
	if (!ctx || SSL_CTX_use_certificate_chain_file(ctx, cert) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
		die(cert);
	if (!o->ca || SSL_CTX_load_verify_locations(ctx, o->ca, NULL) != 1)
		die("--ca: cannot read it");
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	return ctx;
}

static char *read_token(const struct options *o, const char *device)
{
	char line[512], id[128], token[256];
	FILE *in = fopen(o->tokens, "re");
	char *found = NULL;

	if (!in)
		die("--tokens: cannot read it");
	while (!found && fgets(line, sizeof(line), in))
		if (sscanf(line, "%127s %255s", id, token) == 2 && strcmp(id, device) == 0)
			found = strdup(token);
	fclose(in);
	if (!found)
		die("--tokens: a device has none");
	return found;
}

static struct load_connection *make_connections(const struct options *o)
{
	struct load_connection *all = calloc(o->connections, sizeof(*all));

	if (!all)
		die("out of memory");
	for (unsigned i = 0; i < o->connections; i++) {
		char device[65];

		snprintf(device, sizeof(device), "%s%04u", o->prefix, o->first + i);
		load_connection_init(&all[i], &o->load, device, i);
		if (o->credentials)
			all[i].tls = device_tls(o, device);
		else if (o->tokens)
			all[i].token = read_token(o, device);
	}
	return all;
}

static void watch(int epoll, struct load_connection *c, int operation)
{
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};

	if (c->want_write)
		e.events |= EPOLLOUT;
	if (epoll_ctl(epoll, operation, c->fd, &e) != 0)
		die("epoll_ctl failed");
}

static void open_connection(int epoll, struct load_connection *c)
{
	if (load_connection_open(c) != 0)
		die("cannot open a socket");
	if (c->fd >= 0)
		watch(epoll, c, EPOLL_CTL_ADD);
}

struct run {
	const struct options *o;
	struct load_connection *all;
	int epoll;
	int64_t start_us, stop_us, end_us;
	uint64_t allowed; /* messages that the rate permits up to now */
	unsigned turn;
	bool sending;
};

static bool may_send(const struct run *r, const struct load_connection *c)
{
	const struct options *o = r->o;

	if (!r->sending || !load_connection_ready(c))
		return false;
	if (o->messages && (uint64_t)(c->next_seq - LOAD_SEQ_FIRST) >= o->messages)
		return false;
	return o->rate <= 0 || totals.sent < r->allowed;
}

static void flush(struct run *r, struct load_connection *c)
{
	bool wanted = c->want_write;

	if (load_connection_flush(c) == 0 && c->want_write != wanted)
		watch(r->epoll, c, EPOLL_CTL_MOD);
}

static void fill(struct run *r, struct load_connection *c)
{
	while (may_send(r, c)) {
		load_connection_publish(c);
		totals.sent++;
		if (r->o->rate > 0)
			break;
	}
	if (c->state != LOAD_IDLE)
		flush(r, c);
}

/* With a rate: hand the messages out in turn, so that they spread over the connections. */
static void fill_by_rate(struct run *r, int64_t now)
{
	unsigned idle = 0;

	r->allowed = (uint64_t)((double)(now - r->start_us) / US_PER_S * r->o->rate);
	while (totals.sent < r->allowed && r->sending && idle < r->o->connections) {
		struct load_connection *c = &r->all[r->turn];
		uint64_t before = totals.sent;

		r->turn = (r->turn + 1) % r->o->connections;
		fill(r, c);
		idle = totals.sent == before ? idle + 1 : 0;
	}
}

static void reconnect_due(struct run *r, int64_t now)
{
	for (unsigned i = 0; i < r->o->connections; i++) {
		struct load_connection *c = &r->all[i];

		if (c->state == LOAD_IDLE && c->retry_at_us <= now &&
		    (r->o->load.resume || !c->connects))
			open_connection(r->epoll, c);
	}
}

static bool all_done(const struct run *r)
{
	for (unsigned i = 0; i < r->o->connections; i++) {
		const struct load_connection *c = &r->all[i];

		if (c->in_flight && (r->o->load.resume || c->state != LOAD_IDLE))
			return false;
		if (r->sending && c->state != LOAD_IDLE &&
		    (!r->o->messages || (uint64_t)(c->next_seq - LOAD_SEQ_FIRST) < r->o->messages))
			return false;
		if (r->sending && c->state == LOAD_IDLE && (r->o->load.resume || !c->connects))
			return false;
	}
	return true;
}

static void run_loop(struct run *r)
{
	struct epoll_event events[EVENTS_MAX];
	int64_t now = clock_monotonic_us(), next_check = 0;

	while (now < r->end_us && !interrupted) {
		int n = epoll_wait(r->epoll, events, EVENTS_MAX, r->o->rate > 0 ? 1 : 20);

		for (int i = 0; i < n; i++) {
			struct load_connection *c = events[i].data.ptr;

			if (c->state != LOAD_IDLE && load_connection_readable(c) == 0)
				r->o->rate > 0 ? flush(r, c) : fill(r, c);
		}
		now = clock_monotonic_us();
		if (now >= r->stop_us)
			r->sending = false;
		if (r->o->rate > 0)
			fill_by_rate(r, now);
		if (now >= next_check) {
			reconnect_due(r, now);
			if (all_done(r))
				break;
			next_check = now + 10 * US_PER_MS;
		}
	}
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double percentile_ms(double p)
{
	size_t n = totals.latency_count;

	if (n == 0)
		return 0;
	return totals.latencies_us[(size_t)(p * (double)(n - 1))] / 1000.0;
}

static void report(const struct run *r, double seconds)
{
	unsigned losses = 0, refused = 0, unacked = 0;

	for (unsigned i = 0; i < r->o->connections; i++) {
		losses += r->all[i].losses;
		refused += r->all[i].refused;
		unacked += r->all[i].in_flight;
	}
	qsort(totals.latencies_us, totals.latency_count, sizeof(uint32_t), compare_u32);
	printf("{\"sent\": %" PRIu64 ", \"acked\": %" PRIu64
	       ", \"unacked\": %u, \"seconds\": %.3f, \"acked_per_s\": %.0f, "
	       "\"puback_p50_ms\": %.3f, \"puback_p99_ms\": %.3f, \"puback_max_ms\": %.3f, "
	       "\"connections_lost\": %u, \"connects_refused\": %u}\n",
	       totals.sent, totals.acked, unacked, seconds, (double)totals.acked / seconds,
	       percentile_ms(0.5), percentile_ms(0.99), (double)totals.worst_us / 1000.0, losses,
	       refused);
}

int main(int argc, char **argv)
{
	struct options o;
	struct run r = {.o = &o, .sending = true};
	int64_t end;

	parse(&o, argc, argv);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGPIPE, SIG_IGN);
	totals.latencies_us = malloc(LATENCIES_MAX * sizeof(uint32_t));
	totals.log = o.ack_log ? fopen(o.ack_log, "we") : NULL;
	if (!totals.latencies_us || (o.ack_log && !totals.log))
		die("cannot begin: out of memory, or --ack-log cannot be written");
	r.all = make_connections(&o);
	r.epoll = epoll_create1(EPOLL_CLOEXEC);
	r.start_us = clock_monotonic_us();
	r.stop_us = r.start_us + (int64_t)(o.seconds * US_PER_S);
	r.end_us = r.stop_us + (int64_t)(o.drain_seconds * US_PER_S);
	run_loop(&r);
	end = clock_monotonic_us();
	for (unsigned i = 0; i < o.connections; i++)
		load_connection_goodbye(&r.all[i]);
	if (totals.log && fclose(totals.log) != 0)
		die("--ack-log could not be written");
	report(&r, (double)(end - r.start_us) / US_PER_S);
	for (unsigned i = 0; i < o.connections; i++) {
		SSL_CTX_free(r.all[i].tls);
		free((char *)r.all[i].token);
		load_connection_free(&r.all[i]);
	}
	free(r.all);
	free(totals.latencies_us);
	return 0;
}
