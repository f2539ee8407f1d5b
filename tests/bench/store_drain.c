/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast the store empties a journal: fills one with messages of eight JSON values, then times
 * the drain into a real database, and what it costs this process and the server's backend.
 *
 *     bin/dev-postgres init /tmp/pg 5499 && bin/dev-postgres start /tmp/pg
 *     build/release/tests/bench/store_drain "$(bin/dev-postgres url /tmp/pg fieldgate_ingest)"
 * 1000000
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <libpq-fe.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/payload/payload.h"
#include "core/store/store.h"

#define JOURNAL_BYTES (UINT64_C(8) << 30)

static void die(const char *what, const char *detail)
{
	fprintf(stderr, "store_drain: %s: %s\n", what, detail);
	exit(1);
}

static double cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static double process_cpu_seconds(int pid)
{
	unsigned long user, system;
	char path[64];
	FILE *in;
	int n;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	in = fopen(path, "re");
	if (!in)
		return 0;
	n = fscanf(in, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
		   &system);
	fclose(in);
	return n == 2 ? (double)(user + system) / (double)sysconf(_SC_CLK_TCK) : 0;
}

static int backend_pid(const char *url)
{
	PGconn *c = PQconnectdb(url);
	PGresult *r = PQexec(c, "select pid from pg_stat_activity where application_name ="
				" 'fieldgate-bench-store'");
	int pid = PQntuples(r) > 0 ? atoi(PQgetvalue(r, 0, 0)) : 0;

	PQclear(r);
	PQfinish(c);
	return pid;
}

static void fill(struct journal *j, long count, long devices, bool own_time)
{
	int64_t now = clock_realtime_us();
	char device[32], topic[64], payload[512];

	for (long i = 0; i < count; i++) {
		struct journal_record r = {.kind = JOURNAL_TELEMETRY, .format = PAYLOAD_AUTO};
		int n = 0, rc;

		r.device = device;
		r.device_len = (size_t)snprintf(device, sizeof(device), "bench-%05ld", i % devices);
		r.topic = topic;
		r.topic_len = (size_t)snprintf(topic, sizeof(topic), "m/d/%s/d2c", device);
		r.received_at_us = now + i;
		if (own_time)
			n = snprintf(payload, sizeof(payload), "{\"ts\":%" PRId64 ",",
				     (now + i) / 1000);
		else
			n = snprintf(payload, sizeof(payload), "{");
		n += snprintf(payload + n, sizeof(payload) - (size_t)n,
			      "\"temperature\":%.2f,\"humidity\":%.1f,\"pressure\":%.1f,"
			      "\"battery\":%.2f,\"rsrp\":%ld,\"latitude\":%.6f,"
			      "\"longitude\":%.6f,\"speed\":%.1f}",
			      20.0 + (double)(i % 100) / 10, 50.0 + (double)(i % 30),
			      1013.0 + (double)(i % 10), 3.7 + (double)(i % 5) / 100, -100 + i % 40,
			      63.42 + (double)(i % 1000) / 1e5, 10.39 + (double)(i % 1000) / 1e5,
			      (double)(i % 20) / 2);
		r.payload = payload;
		r.payload_len = (size_t)n;
		rc = journal_append(j, &r, NULL);
		if (rc != 0)
			die("journal_append", strerror(-rc));
	}
}

static void report(long count, double seconds, double own, double backend,
		   const struct store_stats *st)
{
	double millions = (double)count / 1e6;

	printf("%ld messages in %.2f s, %" PRIu64 " batches, %" PRIu64 " dead letters\n", count,
	       seconds, st->batches, st->dead_letters);
	printf("metric store.drain_rows_per_s %.0f rows/s\n", (double)st->rows / seconds);
	printf("metric store.drain_cpu_s_per_million %.2f s\n", own / millions);
	printf("metric store.drain_backend_cpu_s_per_million %.2f s\n", backend / millions);
}

static void drain(const char *url, struct journal *j, long count)
{
	const char *batch = getenv("BATCH");
	const struct store_options o = {
		.database_url = url,
		.source = "bench",
		.connect_timeout_s = 5,
		.statement_timeout_s = 60,
		.batch_rows = batch ? strtoul(batch, NULL, 10) : 2000,
		.batch_delay_ms = 5,
		.max_past_days = 400,
		.max_future_days = 1,
		.status_interval_s = 5,
		.limits = {.max_bytes = 131072, .max_depth = 8, .max_readings = 256},
	};
	struct store_stats st = {0};
	struct store *s;
	char err[512];
	double own, backend = 0;
	int64_t begin;
	int pid = 0;

	begin = clock_monotonic_us();
	own = cpu_seconds();
	if (store_start(&s, &o, j, err, sizeof(err)) != 0)
		die("store_start", err);
	while (st.messages < (uint64_t)count) {
		usleep(10000);
		store_stats(s, &st);
		if (!pid && st.connected)
			pid = backend_pid(url);
	}
	own = cpu_seconds() - own;
	backend = process_cpu_seconds(pid);
	report(count, (double)(clock_monotonic_us() - begin) / 1e6, own, backend, &st);
	store_stop(s);
}

int main(int argc, char **argv)
{
	char dir[] = "/tmp/store-drain-XXXXXX", err[512], path[128];
	long count = argc > 2 ? atol(argv[2]) : 1000000;
	long devices = argc > 3 ? atol(argv[3]) : 100;
	struct journal_options jo = {
		.max_bytes = JOURNAL_BYTES, .segment_bytes = 16 << 20, .sync_interval_ms = 50};
	struct journal *j;

	if (argc < 2)
		die("usage", "store_drain URL [MESSAGES [DEVICES]]");
	if (!mkdtemp(dir))
		die("mkdtemp", dir);
	snprintf(path, sizeof(path), "%s/journal", dir);
	jo.dir = path;
	if (journal_open(&j, &jo, err, sizeof(err)) != 0)
		die("journal_open", err);
	fill(j, count, devices, true);
	drain(argv[1], j, count);
	journal_close(j);
	snprintf(path, sizeof(path), "rm -rf %s", dir);
	return system(path) == 0 ? 0 : 1;
}
