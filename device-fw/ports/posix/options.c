/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/ports/posix/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device-fw/core/command.h"
#include "device-fw/core/config.h"
#include "device-fw/ports/posix/sensors.h"

#define COAP_PORT  5684
#define MQTT_PORT  8883
#define FIRST_CODE 256 /* for getopt: above all characters */

enum kind { HEADING, FLAG, TEXT, WHOLE, REAL };
enum scope { BOTH, ONE, FLEET };

struct option_row {
	enum kind kind;
	enum scope scope;
	const char *name, *value, *help;
	size_t at;
	double min, max;
};

#define AT(member)    offsetof(struct options, member)
#define DAYS_S	      (30 * 86400)
#define HOUR_MS	      3600000
#define SECTORS_MAX   4096
#define DEVICES_MAX   200000
#define KEEPALIVE_MAX 65535

static const struct option_row rows[] = {
	{HEADING, BOTH, "Where to", NULL, NULL, 0, 0, 0},
	{TEXT, BOTH, "transport", "coap|mqtt", "CoAP over DTLS (coap), or MQTT over TLS",
	 AT(transport_name), 0, 0},
	{TEXT, BOTH, "host", "NAME", "the server, and the name in its certificate (localhost)",
	 AT(host), 0, 0},
	{WHOLE, BOTH, "port", "N", "(5684, or 8883 for MQTT)", AT(port), 1, 65535},
	{TEXT, BOTH, "ca", "FILE", "who may have signed the server's certificate; not for PSK",
	 AT(ca), 0, 0},

	{HEADING, ONE, "Who it is: certificate, pre-shared key, or key for JWTs (CoAP)", NULL, NULL,
	 0, 0, 0},
	{TEXT, ONE, "id", "ID", "the device's id in the registry", AT(id), 0, 0},
	{TEXT, ONE, "cert", "FILE", "PEM", AT(cert), 0, 0},
	{TEXT, ONE, "key", "FILE", "PEM", AT(key), 0, 0},
	{TEXT, ONE, "psk-file", "FILE", "the key in hex, or what `fleet psk` has shown",
	 AT(psk_file), 0, 0},
	{TEXT, ONE, "psk-identity", "TEXT", "unless it is in that file", AT(psk_identity), 0, 0},
	{TEXT, ONE, "jwt-key", "FILE", "PEM, P-256", AT(jwt_key), 0, 0},

	{HEADING, FLEET, "Who they are", NULL, NULL, 0, 0, 0},
	{TEXT, FLEET, "credentials", "FILE",
	 "a line for each device: ID,psk,IDENTITY,KEY-IN-HEX or\n"
	 "ID,cert,CERT-FILE,KEY-FILE or ID,jwt,KEY-FILE",
	 AT(credentials), 0, 0},
	{TEXT, FLEET, "pki", "DIR", "instead: pki/fleet's directory, with its devices and CAs",
	 AT(pki), 0, 0},
	{WHOLE, FLEET, "devices", "N", "(all of them)", AT(devices), 1, DEVICES_MAX},

	{HEADING, BOTH, "What it does", NULL, NULL, 0, 0, 0},
	{WHOLE, BOTH, "interval", "S", "seconds between readings (60)", AT(interval_s),
	 FG_INTERVAL_MIN_S, FG_INTERVAL_MAX_S},
	{WHOLE, FLEET, "jitter", "PERCENT", "intervals differ by up to so much (0)",
	 AT(jitter_percent), 0, 100},
	{WHOLE, BOTH, "metrics", "N", "sensors in a reading (10)", AT(metrics), 1, SENSORS_MAX},
	{WHOLE, BOTH, "batch", "N", "most readings in a message", AT(batch), 1, 23},
	{WHOLE, BOTH, "count", "N", "end when so many readings are acknowledged, of each device",
	 AT(count), 1, UINT32_MAX},
	{WHOLE, BOTH, "seconds", "S", "measure so long, then end when all is acknowledged",
	 AT(seconds), 1, DAYS_S},
	{WHOLE, BOTH, "drain", "S", "but not later than this after --seconds (30)", AT(drain_s), 0,
	 DAYS_S},
	{FLAG, BOTH, "sleep", NULL, "release the radio between messages", AT(sleep), 0, 0},
	{FLAG, BOTH, "observe", NULL,
	 "CoAP: be told of messages at once, not after the next reading", AT(observe), 0, 0},
	{FLAG, BOTH, "persistent", NULL, "MQTT: a session that outlives the connection",
	 AT(persistent), 0, 0},
	{TEXT, BOTH, "clock", "unknown|SECONDS", "it does not know the time, or is so much fast",
	 AT(clock), 0, 0},
	{WHOLE, FLEET, "connecting", "N", "so many connect at the same time at the beginning (64)",
	 AT(connecting), 1, DEVICES_MAX},
	{REAL, FLEET, "ramp", "S", "instead: spread the starts over so long", AT(ramp_s), 0,
	 DAYS_S},
	{REAL, FLEET, "rebind-every", "S", "CoAP: a new local port, as NATs do", AT(rebind_every_s),
	 0.1, DAYS_S},
	{REAL, FLEET, "offline-every", "S", "lose the network", AT(offline_every_s), 0.1, DAYS_S},
	{REAL, FLEET, "offline-for", "S", "for so long (10)", AT(offline_for_s), 0.1, DAYS_S},
	{WHOLE, BOTH, "seed", "N", "of what the sensors say, and of jitter (1)", AT(seed), 0,
	 INT32_MAX},

	{HEADING, BOTH, "Its network", NULL, NULL, 0, 0, 0},
	{FLAG, BOTH, "no-cid", NULL, "do not offer a Connection ID", AT(no_cid), 0, 0},
	{FLAG, BOTH, "only-cbc", NULL, "offer no more cipher suites than old modem firmware",
	 AT(only_cbc), 0, 0},
	{REAL, BOTH, "loss", "P", "CoAP: of datagrams, in each direction: 0 to 1", AT(loss), 0, 1},
	{REAL, BOTH, "duplicate", "P", "", AT(duplicate), 0, 1},
	{WHOLE, BOTH, "delay", "MS", "in each direction", AT(delay_ms), 0, HOUR_MS},
	{WHOLE, BOTH, "delay-jitter", "MS", "", AT(delay_jitter_ms), 0, HOUR_MS},

	{HEADING, BOTH, "Its patience (what it is otherwise: device-fw/core/config.h, session.h)",
	 NULL, NULL, 0, 0, 0},
	{WHOLE, BOTH, "ack-timeout-ms", "MS", "CoAP's ACK_TIMEOUT", AT(ack_timeout_ms), 1, HOUR_MS},
	{WHOLE, BOTH, "max-retransmit", "N", "", AT(max_retransmit), 1, 10},
	{WHOLE, BOTH, "handshake-min-ms", "MS", "first retransmission of a DTLS flight",
	 AT(handshake_min_ms), 1, HOUR_MS},
	{WHOLE, BOTH, "run-ms", "MS", "connected without any answer", AT(run_ms), 1, INT32_MAX},
	{WHOLE, BOTH, "backoff-min-ms", "MS", "pause after a failure, doubled up to",
	 AT(backoff_min_ms), 1, INT32_MAX},
	{WHOLE, BOTH, "backoff-max-ms", "MS", "", AT(backoff_max_ms), 1, INT32_MAX},
	{WHOLE, BOTH, "refused-min-ms", "MS", "the same when the server has said no",
	 AT(refused_min_ms), 1, INT32_MAX},
	{WHOLE, BOTH, "state-poll", "S", "CoAP: how often to ask what is desired", AT(state_poll_s),
	 1, INT32_MAX},
	{WHOLE, BOTH, "keepalive", "S", "MQTT", AT(keepalive_s), 1, KEEPALIVE_MAX},

	{HEADING, BOTH, "What it keeps", NULL, NULL, 0, 0, 0},
	{TEXT, BOTH, "state", "DIR",
	 "where readings and settings outlive the process (a fleet: a\n"
	 "directory there for each device)",
	 AT(state), 0, 0},
	{WHOLE, BOTH, "sectors", "N", "flash for readings, of 4096 bytes (16; a fleet: 4)",
	 AT(sectors), 2, SECTORS_MAX},

	{HEADING, BOTH, "What it says", NULL, NULL, 0, 0, 0},
	{FLAG, BOTH, "json", NULL, "one JSON object a line on standard output", AT(json), 0, 0},
	{FLAG, FLEET, "events", NULL, "each event of each device", AT(events), 0, 0},
	{FLAG, ONE, "interactive", NULL, "commands on standard input though it is no terminal",
	 AT(interactive), 0, 0},
	{TEXT, BOTH, "acked", "FILE", "append `ID SEQ` for each reading that is acknowledged",
	 AT(acked), 0, 0},
	{TEXT, BOTH, "recorded", "FILE", "the same for each that is taken", AT(recorded), 0, 0},
};

#define ROWS (sizeof(rows) / sizeof(*rows))

static bool belongs(const struct option_row *row, bool fleet)
{
	return row->scope == BOTH || (row->scope == FLEET) == fleet;
}

static void print_row(const struct option_row *row)
{
	char left[40];
	const char *help = row->help;

	snprintf(left, sizeof(left), "--%s %s", row->name, row->value ? row->value : "");
	for (const char *word = left; help; word = "") {
		const char *end = strchrnul(help, '\n');

		printf("  %-26s %.*s\n", word, (int)(end - help), help);
		help = *end ? end + 1 : NULL;
	}
}

static _Noreturn void show_help(bool fleet)
{
	if (fleet)
		puts("usage: fieldgate-device fleet --transport coap|mqtt --credentials FILE "
		     "[option...]");
	else
		puts("usage: fieldgate-device --transport coap|mqtt --id ID [option...]\n"
		     "       fieldgate-device fleet ...   many devices; see fieldgate-device fleet "
		     "--help\n"
		     "\nOn a terminal it takes commands; `help` lists them.");
	for (size_t i = 0; i < ROWS; i++) {
		if (!belongs(&rows[i], fleet))
			continue;
		if (rows[i].kind == HEADING)
			printf("\n%s:\n", rows[i].name);
		else
			print_row(&rows[i]);
	}
	exit(0);
}

static _Noreturn void __attribute__((format(printf, 1, 2))) fail(const char *format, ...)
{
	va_list arguments;

	fputs("fieldgate-device: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(2);
}

static double take_number(const struct option_row *row, const char *text)
{
	char *end;
	double value;

	errno = 0;
	value = row->kind == WHOLE ? (double)strtol(text, &end, 10) : strtod(text, &end);
	if (errno || end == text || *end || !(value >= row->min && value <= row->max))
		fail("--%s %s: expected a %snumber from %.10g to %.10g", row->name, text,
		     row->kind == WHOLE ? "whole " : "", row->min, row->max);
	return value;
}

static void take(struct options *o, const struct option_row *row, const char *text)
{
	char *member = (char *)o + row->at;

	switch (row->kind) {
	case FLAG:
		*(bool *)member = true;
		break;
	case TEXT:
		*(const char **)(void *)member = text;
		break;
	case WHOLE:
		*(long *)(void *)member = (long)take_number(row, text);
		break;
	case REAL:
		*(double *)(void *)member = take_number(row, text);
		break;
	case HEADING:
		break;
	}
}

static bool is_id(const char *id)
{
	size_t length = strlen(id);

	return length >= 1 && length <= FG_DEVICE_ID_MAX &&
	       strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-") ==
		       length;
}

static void check_one(const struct options *o)
{
	int ways = (o->cert || o->key) + (o->psk_file != NULL) + (o->jwt_key != NULL);

	if (!o->id)
		fail("--id says which device it is");
	if (!is_id(o->id))
		fail("--id %s: an id has 1 to %d letters, digits and _ . : -", o->id,
		     FG_DEVICE_ID_MAX);
	if (ways != 1 || !o->cert != !o->key)
		fail("give one of: --cert with --key; --psk-file; --jwt-key");
	if (o->psk_identity && !o->psk_file)
		fail("--psk-identity wants --psk-file");
	if (o->jwt_key && o->transport == FG_TRANSPORT_MQTT)
		fail("--jwt-key is for CoAP; over MQTT a device has a certificate or a PSK");
	if (!o->psk_file && !o->ca)
		fail("--ca is wanted, with the CA that the server's certificate is to be of");
}

static void check(struct options *o)
{
	if (!o->transport_name)
		fail("--transport coap or --transport mqtt? See --help");
	if (strcmp(o->transport_name, "mqtt") == 0)
		o->transport = FG_TRANSPORT_MQTT;
	else if (strcmp(o->transport_name, "coap") != 0)
		fail("--transport %s: coap or mqtt", o->transport_name);
	if (!o->port)
		o->port = o->transport == FG_TRANSPORT_MQTT ? MQTT_PORT : COAP_PORT;
	if (!o->fleet)
		check_one(o);
	else if (!o->credentials == !o->pki)
		fail("give one of --credentials and --pki");
}

static size_t make_longs(struct option *longs, bool fleet)
{
	size_t n = 0;

	for (size_t i = 0; i < ROWS; i++)
		if (rows[i].kind != HEADING && belongs(&rows[i], fleet))
			longs[n++] = (struct option){.name = rows[i].name,
						     .has_arg = rows[i].kind != FLAG,
						     .val = FIRST_CODE + (int)i};
	longs[n++] = (struct option){.name = "help", .val = 'h'};
	longs[n] = (struct option){0};
	return n;
}

void options_parse(struct options *o, int argc, char **argv)
{
	struct option longs[ROWS + 2];
	int code;

	*o = (struct options){
		.fleet = argc > 1 && strcmp(argv[1], "fleet") == 0,
		.host = "localhost",
		.interval_s = 60,
		.metrics = SENSORS_MAX,
		.drain_s = 30,
		.offline_for_s = 10,
		.connecting = 64,
		.seed = 1,
	};
	o->sectors = o->fleet ? 4 : 16;
	make_longs(longs, o->fleet);
	optind = o->fleet ? 2 : 1;
	while ((code = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		if (code == 'h')
			show_help(o->fleet);
		if (code < FIRST_CODE)
			fail("see --help for what there is");
		take(o, &rows[code - FIRST_CODE], optarg);
	}
	if (optind < argc)
		fail("%s: not an option; see --help", argv[optind]);
	check(o);
}
