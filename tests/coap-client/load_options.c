/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap-client/load_options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "tests/coap-client/die.h"
#include "tests/coap-client/events.h"

static const char usage[] =
	"usage: coap-client load --port N --credentials FILE [option...]\n"
	"  --server ADDRESS       (127.0.0.1)\n"
	"  --credentials FILE     a line for each session, its fields separated by commas:\n"
	"                         DEVICE,psk,IDENTITY,KEY-IN-HEX | DEVICE,cert,CHAIN,KEY-FILE |\n"
	"                         DEVICE,jwt,TOKEN | DEVICE,none\n"
	"  --ca FILE --host NAME  of the server's certificate\n"
	"  --suites NAMES         Mbed TLS's names, spaces between\n"
	"  --sessions N           (as many as there are credentials)\n"
	"  --sockets N            (1000, or a session each without Connection ID)\n"
	"  --sources N            spread them over 127.0.0.1 and the addresses above (1)\n"
	"  --handshaking N        handshakes at the same time at the beginning (64)\n"
	"  --no-cid  --resume     resume: come back with a ticket\n"
	"  --handshakes           nothing but handshakes, each of all sessions in turn\n"
	"  --in-flight N          messages on their way in all; a session has one (sessions)\n"
	"  --rate R               messages (handshakes) a second in all (as fast as answers come)\n"
	"  --seconds S (5)  --setup-seconds S (300)  --drain-seconds S (60)\n"
	"  --messages N           of each session (any number)\n"
	"  --first-seq N (1)      number of each session's first message\n"
	"  --path PATH (msg/d2c)  --put (not POST)  --small (one reading, not eight)\n"
	"  --timestamp            of the device\n"
	"  --greet                first one message of each session, which is not counted\n"
	"  --no-seq               SEQ is the reading `light`, not a number that tells repeats\n"
	"  --ack-timeout-ms N (2000; also of handshake flights)  --max-retransmit N (4)\n"
	"  --drop P  --duplicate P  --reorder P  --delay-ms N (100)  --seed N (1)\n"
	"                         a bad network: probabilities, and the longest delay\n"
	"  --acked FILE           write `DEVICE SEQ` for each acknowledgement, before the next "
	"message\n"
	"  --sent FILE            the same before each message is sent for the first time\n"
	"  --wait                 begin when a line comes on stdin, after {\"event\": \"ready\"}\n"
	"  --no-recovery          sessions that end do not come back\n"
	"  --no-ping              do not send a CoAP ping after each handshake\n"
	"  --goodbye              end sessions with close_notify\n";

static _Noreturn void show_usage(bool asked)
{
	fputs(usage, asked ? stdout : stderr);
	exit(asked ? 0 : 2);
}

static double number(const char *text)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end || v < 0)
		die("expected a number, not '%s'", text);
	return v;
}

struct strings {
	const char *server;
	uint16_t port;
};

static bool take_flag(struct load_options *o, int option)
{
	switch (option) {
	case 'N':
		return o->no_cid = true;
	case 'R':
		return o->resume = true;
	case 'K':
		return o->handshakes = true;
	case 'm':
		return o->small = true;
	case 'I':
		return o->greet = true;
	case 'O':
		return o->put = true;
	case 'T':
		return o->timestamp = true;
	case 'Q':
		return o->no_seq = true;
	case 'W':
		return o->wait = true;
	case 'n':
		return o->no_recovery = true;
	case 'P':
		return o->no_ping = true;
	case 'G':
		return o->goodbye = true;
	default:
		return false;
	}
}

static bool take_text(struct load_options *o, struct strings *s, int option, const char *value)
{
	switch (option) {
	case 's':
		s->server = value;
		return true;
	case 'C':
		o->credentials = value;
		return true;
	case 'c':
		o->ca = value;
		return true;
	case 'h':
		o->host = value;
		return true;
	case 'u':
		o->suites = value;
		return true;
	case 'a':
		o->path = value;
		return true;
	case 'A':
		o->acked = value;
		return true;
	case 'S':
		o->sent = value;
		return true;
	default:
		return false;
	}
}

static bool take_number(struct load_options *o, struct strings *s, int option, const char *value)
{
	switch (option) {
	case 'p':
		s->port = (uint16_t)number(value);
		return true;
	case 'x':
		o->sessions = (unsigned)number(value);
		return true;
	case 'k':
		o->sockets = (unsigned)number(value);
		return true;
	case 'o':
		o->sources = (unsigned)number(value);
		return true;
	case 'H':
		o->handshaking = (unsigned)number(value);
		return true;
	case 'f':
		o->in_flight = (unsigned)number(value);
		return true;
	case 'r':
		o->rate = number(value);
		return true;
	case 't':
		o->seconds = number(value);
		return true;
	case 'U':
		o->setup_seconds = number(value);
		return true;
	case 'd':
		o->drain_seconds = number(value);
		return true;
	case 'M':
		o->messages = (uint64_t)number(value);
		return true;
	case 'q':
		o->first_seq = (uint32_t)number(value);
		return true;
	case 'i':
		o->ack_timeout_us = (int64_t)(number(value) * US_PER_MS);
		return true;
	case 'D':
		o->impairment.drop = number(value);
		return true;
	case 'w':
		o->impairment.duplicate = number(value);
		return true;
	case 'V':
		o->impairment.reorder = number(value);
		return true;
	case 'y':
		o->impairment.delay_us = (int64_t)(number(value) * US_PER_MS);
		return true;
	case 'e':
		o->seed = (uint64_t)number(value);
		return true;
	case 'j':
		o->max_retransmit = (unsigned)number(value);
		return true;
	default:
		return false;
	}
}

static const struct option longs[] = {
	{"server", 1, NULL, 's'},
	{"port", 1, NULL, 'p'},
	{"credentials", 1, NULL, 'C'},
	{"ca", 1, NULL, 'c'},
	{"host", 1, NULL, 'h'},
	{"suites", 1, NULL, 'u'},
	{"sessions", 1, NULL, 'x'},
	{"sockets", 1, NULL, 'k'},
	{"sources", 1, NULL, 'o'},
	{"handshaking", 1, NULL, 'H'},
	{"no-cid", 0, NULL, 'N'},
	{"resume", 0, NULL, 'R'},
	{"handshakes", 0, NULL, 'K'},
	{"in-flight", 1, NULL, 'f'},
	{"rate", 1, NULL, 'r'},
	{"seconds", 1, NULL, 't'},
	{"setup-seconds", 1, NULL, 'U'},
	{"drain-seconds", 1, NULL, 'd'},
	{"messages", 1, NULL, 'M'},
	{"first-seq", 1, NULL, 'q'},
	{"path", 1, NULL, 'a'},
	{"small", 0, NULL, 'm'},
	{"put", 0, NULL, 'O'},
	{"greet", 0, NULL, 'I'},
	{"timestamp", 0, NULL, 'T'},
	{"no-seq", 0, NULL, 'Q'},
	{"ack-timeout-ms", 1, NULL, 'i'},
	{"max-retransmit", 1, NULL, 'j'},
	{"acked", 1, NULL, 'A'},
	{"sent", 1, NULL, 'S'},
	{"wait", 0, NULL, 'W'},
	{"no-recovery", 0, NULL, 'n'},
	{"no-ping", 0, NULL, 'P'},
	{"drop", 1, NULL, 'D'},
	{"duplicate", 1, NULL, 'w'},
	{"reorder", 1, NULL, 'V'},
	{"delay-ms", 1, NULL, 'y'},
	{"seed", 1, NULL, 'e'},
	{"goodbye", 0, NULL, 'G'},
	{"help", 0, NULL, 'Z'},
	{0},
};

void load_options_parse(struct load_options *o, int argc, char **argv)
{
	struct strings s = {"127.0.0.1", 0};
	int option;

	*o = (struct load_options){
		.path = "msg/d2c",
		.sources = 1,
		.handshaking = 64,
		.max_retransmit = 4,
		.seconds = 5,
		.setup_seconds = 300,
		.drain_seconds = 60,
		.first_seq = 1,
		.ack_timeout_us = 2 * US_PER_S,
		.impairment.delay_us = 100 * US_PER_MS,
		.seed = 1,
	};
	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1)
		if (!take_flag(o, option) && !take_text(o, &s, option, optarg) &&
		    !take_number(o, &s, option, optarg))
			show_usage(option == 'Z');
	if (!s.port || !o->credentials || optind != argc || !o->sources || !o->handshaking ||
	    target_parse(&o->server, s.server, s.port) != 0)
		show_usage(false);
}

bool load_options_lossy(const struct load_options *o)
{
	return o->impairment.drop > 0 || o->impairment.duplicate > 0 || o->impairment.reorder > 0;
}

static char *field(char **rest)
{
	char *found = strsep(rest, ",");

	return found ? found : "";
}

static void make_config(struct load_credentials *c, const struct load_options *o,
			struct tls_options *t)
{
	char err[256];

	t->host = o->host;
	t->suites = o->suites;
	t->cid = !o->no_cid;
	t->cid_len = TLS_TAGGED_CID_LEN;
	t->tickets = o->resume;
	t->retransmit_min_ms = (uint32_t)(o->ack_timeout_us / US_PER_MS);
	c->config = malloc(sizeof(*c->config));
	if (!c->config)
		die("out of memory");
	if (tls_config_init(c->config, t, err, sizeof(err)) != 0)
		die("%s: %s", c->device, err);
	c->config->tagged = true;
}

static void parse_line(struct load_credentials *c, const struct load_options *o, char *line,
		       mbedtls_x509_crt *ca)
{
	struct tls_options t = {.ca = ca};
	const char *kind, *first;
	uint8_t *psk = NULL;

	line[strcspn(line, "\r\n")] = '\0';
	c->device = strdup(field(&line));
	if (!c->device)
		die("out of memory");
	kind = field(&line);
	first = field(&line);
	if (strcmp(kind, "psk") == 0) {
		t.identity = first;
		t.identity_len = strlen(first);
		psk = hex_bytes(field(&line), &t.psk_len);
		t.psk = psk;
	} else if (strcmp(kind, "cert") == 0) {
		t.chain = tls_load_certificates(first);
		t.key = tls_load_key(field(&line));
	} else if (strcmp(kind, "jwt") == 0) {
		c->jwt = strdup(first);
	} else if (strcmp(kind, "none") != 0) {
		die("%s: unknown kind of credentials '%s'", c->device, kind);
	}
	if ((strcmp(kind, "psk") == 0 && !psk) ||
	    (strcmp(kind, "cert") == 0 && (!t.chain || !t.key)))
		die("%s: its key cannot be read", c->device);
	make_config(c, o, &t);
	free(psk);
}

unsigned load_credentials_read(const struct load_options *o, struct load_credentials **out)
{
	FILE *in = fopen(o->credentials, "re");
	mbedtls_x509_crt *ca = o->ca ? tls_load_certificates(o->ca) : NULL;
	unsigned count = 0, size = 0;
	char line[4096];

	*out = NULL;
	if (!in || (o->ca && !ca))
		die("--credentials or --ca cannot be read");
	while ((!o->sessions || count < o->sessions) && fgets(line, sizeof(line), in)) {
		if (count == size) {
			size = size ? 2 * size : 1024;
			*out = reallocarray(*out, size, sizeof(**out));
			if (!*out)
				die("out of memory");
		}
		(*out)[count] = (struct load_credentials){0};
		parse_line(&(*out)[count++], o, line, ca);
	}
	fclose(in);
	if (count == 0 || count < o->sessions)
		die("--credentials: %u lines", count);
	return count;
}
