/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The demo device: what a firmware does. It connects by mutual TLS as Nordic's client
 * does (MQTT 3.1.1, client id = device id), publishes a few messages of eight readings with QoS 1,
 * JSON and CBOR in turn, each with the device's own time, and believes only what the broker has
 * acknowledged.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mosquitto.h>

#include "device-fw/demo/sample.h"

#define TOPIC_MAX	128
#define KEEPALIVE_S	60
#define ANSWER_LIMIT_MS 10000 /* how long the broker may take for an answer */
#define PAUSE_MS	150   /* between two messages */

struct options {
	const char *id, *host, *ca, *certificate, *key;
	int port;
	int count;
};

struct device {
	struct mosquitto *client;
	bool connected;
	int refused;	  /* the broker's code when it does not accept the connection */
	int acknowledged; /* id of the message whose PUBACK came last */
	bool gone;
};

static void on_connect(struct mosquitto *client, void *arg, int code)
{
	struct device *d = arg;

	(void)client;
	d->connected = code == 0;
	d->refused = code;
}

static void on_disconnect(struct mosquitto *client, void *arg, int code)
{
	struct device *d = arg;

	(void)client;
	(void)code;
	d->gone = true;
}

static void on_publish(struct mosquitto *client, void *arg, int message_id)
{
	struct device *d = arg;

	(void)client;
	d->acknowledged = message_id;
}

/* What OpenSSL has to say about a handshake that failed arrives here and nowhere else. */
static void on_log(struct mosquitto *client, void *arg, int level, const char *text)
{
	(void)client;
	(void)arg;
	if (level == MOSQ_LOG_ERR)
		fprintf(stderr, "%s\n", text);
}

static int give_up(const char *what, int rc)
{
	fprintf(stderr, "%s: %s\n", what,
		rc == MOSQ_ERR_ERRNO ? strerror(errno) : mosquitto_strerror(rc));
	return -1;
}

static int connect_device(struct device *d, const struct options *o)
{
	int64_t deadline = now_ms(CLOCK_MONOTONIC) + ANSWER_LIMIT_MS;
	int rc;

	rc = mosquitto_tls_set(d->client, o->ca, NULL, o->certificate, o->key, NULL);
	if (rc == MOSQ_ERR_SUCCESS)
		rc = mosquitto_tls_opts_set(d->client, 1, "tlsv1.2", NULL);
	if (rc == MOSQ_ERR_SUCCESS)
		rc = mosquitto_connect(d->client, o->host, o->port, KEEPALIVE_S);
	if (rc != MOSQ_ERR_SUCCESS)
		return give_up("cannot connect", rc);
	while (!d->connected && !d->refused && !d->gone) {
		rc = mosquitto_loop(d->client, 100, 1);
		if (rc != MOSQ_ERR_SUCCESS || now_ms(CLOCK_MONOTONIC) > deadline)
			break;
	}
	if (d->connected)
		return 0;
	if (d->refused) {
		fprintf(stderr, "the broker refuses the connection: %s\n",
			mosquitto_connack_string(d->refused));
		return -1;
	}
	return give_up("the broker closed the connection; its log says why", rc);
}

static int publish_and_wait(struct device *d, const char *topic, const void *payload, size_t len)
{
	int64_t deadline = now_ms(CLOCK_MONOTONIC) + ANSWER_LIMIT_MS;
	int id = 0, rc;

	rc = mosquitto_publish(d->client, &id, topic, (int)len, payload, 1, false);
	while (rc == MOSQ_ERR_SUCCESS && d->acknowledged != id && !d->gone) {
		rc = mosquitto_loop(d->client, 100, 1);
		if (now_ms(CLOCK_MONOTONIC) > deadline)
			break;
	}
	if (d->acknowledged == id)
		return 0;
	return give_up("a message was not acknowledged", rc);
}

static void pause_ms(struct device *d, int64_t ms)
{
	int64_t until = now_ms(CLOCK_MONOTONIC) + ms;

	while (!d->gone && now_ms(CLOCK_MONOTONIC) < until)
		mosquitto_loop(d->client, 20, 1);
}

static int send_sample(struct device *d, const char *topic, int number)
{
	bool as_json = number % 2 == 0;
	struct sample sample;
	unsigned char *payload;
	size_t len;
	int rc;

	sample_measure(&sample, number);
	payload = as_json ? sample_encode_json(&sample, &len) : sample_encode_cbor(&sample, &len);
	if (!payload)
		return give_up("cannot encode", MOSQ_ERR_NOMEM);
	rc = publish_and_wait(d, topic, payload, len);
	free(payload);
	if (rc == 0)
		printf("acknowledged: %d readings as %zu bytes of %s, ts %" PRId64 "\n",
		       METRIC_COUNT, len, as_json ? "JSON" : "CBOR", sample.ts_ms);
	return rc;
}

static int run(const struct options *o)
{
	struct device d = {.acknowledged = 0};
	char topic[TOPIC_MAX];
	int rc;

	snprintf(topic, sizeof(topic), "m/d/%s/d2c", o->id);
	d.client = mosquitto_new(o->id, true, &d);
	if (!d.client)
		return give_up("cannot start", MOSQ_ERR_NOMEM);
	mosquitto_connect_callback_set(d.client, on_connect);
	mosquitto_disconnect_callback_set(d.client, on_disconnect);
	mosquitto_publish_callback_set(d.client, on_publish);
	mosquitto_log_callback_set(d.client, on_log);
	rc = connect_device(&d, o);
	if (rc == 0)
		printf("%s is connected to %s:%d and publishes to %s\n", o->id, o->host, o->port,
		       topic);
	for (int i = 0; rc == 0 && i < o->count; i++) {
		pause_ms(&d, i > 0 ? PAUSE_MS : 0);
		rc = send_sample(&d, topic, i);
	}
	if (d.connected && !d.gone)
		mosquitto_disconnect(d.client);
	mosquitto_destroy(d.client);
	return rc;
}

static int usage(FILE *out)
{
	fputs("usage: demo-device --id ID --host NAME --port N --ca FILE --cert FILE --key FILE"
	      " [--count N]\n\n"
	      "Publishes N messages (default 8) of eight readings and waits for each PUBACK.\n",
	      out);
	return out == stdout ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* A whole number from 1 to max, or 0. */
static int parse_number(const char *text, long max)
{
	char *end;
	long n = strtol(text, &end, 10);

	return *end == '\0' && n >= 1 && n <= max ? (int)n : 0;
}

static int parse_options(struct options *o, int argc, char **argv)
{
	static const struct option names[] = {
		{"id", required_argument, NULL, 'i'},	 {"host", required_argument, NULL, 'h'},
		{"port", required_argument, NULL, 'p'},	 {"ca", required_argument, NULL, 'a'},
		{"cert", required_argument, NULL, 'c'},	 {"key", required_argument, NULL, 'k'},
		{"count", required_argument, NULL, 'n'}, {NULL, 0, NULL, 0},
	};
	int option;

	*o = (struct options){.host = "localhost", .port = 8883, .count = 8};
	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (option) {
		case 'i':
			o->id = optarg;
			break;
		case 'h':
			o->host = optarg;
			break;
		case 'p':
			o->port = parse_number(optarg, 65535);
			break;
		case 'a':
			o->ca = optarg;
			break;
		case 'c':
			o->certificate = optarg;
			break;
		case 'k':
			o->key = optarg;
			break;
		case 'n':
			o->count = parse_number(optarg, 1000000);
			break;
		default:
			return -1;
		}
	}
	return o->id && o->ca && o->certificate && o->key && o->port > 0 && o->count > 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
	struct options o;
	int rc;

	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		return usage(stdout);
	if (parse_options(&o, argc, argv) != 0)
		return usage(stderr);
	setvbuf(stdout, NULL, _IOLBF, 0);
	mosquitto_lib_init();
	rc = run(&o);
	mosquitto_lib_cleanup();
	return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
