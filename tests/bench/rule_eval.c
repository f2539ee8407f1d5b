/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a rule costs: the CPU time it takes to evaluate typical statements for a message that is
 * decoded already, one thread, the arena reset for each; and, beside it, to decode the message,
 * which the pipeline does once for all rules.
 *
 *     build/release/tests/bench/rule_eval [evaluations of each]
 *
 * `rule_eval file N` writes N messages, and `rule_eval run FILE STATEMENT` is what jq would be: it
 * reads a file of messages, one a line, and prints what SELECT gives.
 * tests/bench/bench_rule_eval.py times both.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/payload/payload.h"
#include "core/rule/statement.h"

#define MESSAGES 1000

static const struct decode_limits limits = {
	.max_bytes = 131072, .max_depth = 8, .max_readings = 256};

static const struct {
	const char *what, *text;
} statements[] = {
	{"WHERE of one comparison, does not hold",
	 "SELECT temperature FROM 'm/d/+/d2c' WHERE temperature > 1000"},
	{"WHERE of four, the last decides",
	 "SELECT temperature FROM 'm/d/+/d2c' WHERE temperature > 0 AND humidity < 200"
	 " AND state = 'ok' AND battery.mv BETWEEN 0 AND 100"},
	{"WHERE with LIKE and IN, does not hold",
	 "SELECT temperature FROM 'm/d/+/d2c' WHERE name LIKE 'sensor-%x'"
	 " OR state IN ('warning', 'alarm', 'off')"},
	{"SELECT of three members, holds",
	 "SELECT temperature, humidity, battery.mv FROM 'm/d/+/d2c' WHERE temperature > 0"},
	{"SELECT of five expressions, holds",
	 "SELECT device() AS device, topic(2) AS kind, round(temperature * 1.8 + 32, 1) AS"
	 " fahrenheit, timestamp() AS ts, CASE WHEN rsrp < -110 THEN 'weak' ELSE 'good' END"
	 " AS signal FROM 'm/d/+/d2c' WHERE temperature > 0"},
	{"SELECT * and two more, holds",
	 "SELECT *, device() AS device, upper(state) AS state FROM 'm/d/+/d2c'"
	 " WHERE temperature > 0"},
};

static void die(const char *what, const char *detail)
{
	fprintf(stderr, "rule_eval: %s: %s\n", what, detail);
	exit(1);
}

/* Of this process, so that others on the machine do not count. */
static double cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int message(char *out, size_t size, long i)
{
	return snprintf(out, size,
			"{\"temperature\":%.2f,\"humidity\":%.1f,\"pressure\":%.1f,"
			"\"battery\":{\"mv\":%ld,\"percent\":%ld},\"rsrp\":%ld,\"latitude\":%.6f,"
			"\"longitude\":%.6f,\"state\":\"%s\",\"name\":\"sensor-%ld\"}",
			20.0 + (double)(i % 100) / 10, 50.0 + (double)(i % 30),
			1013.0 + (double)(i % 10), 3600 + i % 200, i % 100, -120 + i % 40,
			63.42 + (double)(i % 1000) / 1e5, 10.39 + (double)(i % 1000) / 1e5,
			i % 20 == 0 ? "low" : "ok", i % 5000);
}

static struct rule_statement *compile(const char *text)
{
	struct rule_statement *s;
	char err[400];

	if (rule_parse(&s, "bench", text, strlen(text), err, sizeof(err)) != 0)
		die("rule_parse", err);
	return s;
}

static void decode(struct arena *a, const char *text, size_t len, struct rule_input *in,
		   struct value *v)
{
	char reason[200];

	if (payload_parse(a, PAYLOAD_JSON, text, len, &limits, v, reason, sizeof(reason)) != 0)
		die("payload_parse", reason);
	*in = (struct rule_input){.topic = "m/d/bench-00001/d2c",
				  .device = "bench-00001",
				  .payload = v,
				  .raw = text,
				  .raw_len = len,
				  .received_at_us = INT64_C(1772368496789012)};
}

/* --- In this process --- */

static char texts[MESSAGES][512];
static struct value values[MESSAGES];
static struct rule_input inputs[MESSAGES];

static double decode_all(struct arena *a, long rounds)
{
	double begin = cpu_ns();

	for (long r = 0; r < rounds; r++) {
		arena_reset(a);
		for (size_t i = 0; i < MESSAGES; i++)
			decode(a, texts[i], strlen(texts[i]), &inputs[i], &values[i]);
	}
	return (cpu_ns() - begin) / (double)(rounds * MESSAGES);
}

static double evaluate_all(const struct rule_statement *s, struct arena *a, long count, long *held)
{
	double begin = cpu_ns();
	struct value out;
	char why[RULE_WHY_MAX];

	*held = 0;
	for (long i = 0; i < count; i++) {
		int rc;

		arena_reset(a);
		rc = rule_evaluate(s, &inputs[i % MESSAGES], a, &out, why, sizeof(why));
		if (rc < 0)
			die("rule_evaluate", why);
		*held += rc;
	}
	return (cpu_ns() - begin) / (double)count;
}

static void measure(long count)
{
	struct arena payloads, arena;
	double sum = 0, ns;
	size_t n = sizeof(statements) / sizeof(statements[0]);
	long held;

	arena_init(&payloads, 1 << 20, 64 << 20);
	arena_init(&arena, 65536, 4 << 20);
	for (long i = 0; i < MESSAGES; i++)
		message(texts[i], sizeof(texts[i]), i);
	decode_all(&payloads, 1);
	printf("decoding a message of %zu bytes: %.0f ns\n", strlen(texts[0]),
	       decode_all(&payloads, count / MESSAGES / 10 + 1));
	for (size_t i = 0; i < n; i++) {
		struct rule_statement *s = compile(statements[i].text);

		evaluate_all(s, &arena, MESSAGES, &held);
		ns = evaluate_all(s, &arena, count, &held);
		sum += ns;
		printf("%-42s %6.0f ns, holds for %ld %%\n", statements[i].what, ns,
		       held * 100 / count);
		rule_free(s);
	}
	printf("metric rules.ns_per_eval %.0f ns\n", sum / (double)n);
	arena_free(&arena);
	arena_free(&payloads);
}

/* --- As a filter, beside jq --- */

static void write_messages(long count)
{
	char text[512];

	for (long i = 0; i < count; i++) {
		message(text, sizeof(text), i);
		puts(text);
	}
}

static void run_file(const char *path, const char *statement)
{
	struct rule_statement *s = compile(statement);
	struct arena arena;
	char line[1024], why[RULE_WHY_MAX];
	FILE *in = fopen(path, "re");

	if (!in)
		die("fopen", path);
	arena_init(&arena, 65536, 4 << 20);
	while (fgets(line, sizeof(line), in)) {
		struct rule_input input;
		struct value v, out;
		size_t len;
		int rc;

		arena_reset(&arena);
		decode(&arena, line, strlen(line), &input, &v);
		rc = rule_evaluate(s, &input, &arena, &out, why, sizeof(why));
		if (rc < 0)
			die("rule_evaluate", why);
		if (rc == 1)
			puts(value_print_json(&arena, &out, &len));
	}
	fclose(in);
	arena_free(&arena);
	rule_free(s);
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "file") == 0)
		write_messages(atol(argv[2]));
	else if (argc == 4 && strcmp(argv[1], "run") == 0)
		run_file(argv[2], argv[3]);
	else
		measure(argc > 1 ? atol(argv[1]) : 2000000);
	return 0;
}
