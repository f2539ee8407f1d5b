/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap-client/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "tests/coap-client/device.h"
#include "tests/coap-client/die.h"
#include "tests/coap-client/events.h"
#include "tests/coap-client/flood.h"
#include "tests/coap-client/request.h"

#define LINE_MAX_BYTES (8U << 20)
#define IDLE_MS	       1000

static bool quit;

/* The device that the command names, or NULL after an answer that says so. */
static struct device *device_of(json_t *in, json_int_t id, const char *field)
{
	const char *name = arg_text(in, field, "");
	struct device *d = device_find(name);

	if (!d)
		reply_error(id, NULL, "command", "%s: there is no device \"%s\"", field, name);
	return d;
}

static void do_device(json_t *in, json_int_t id)
{
	char err[256];
	struct device *d = device_new(in, err, sizeof(err));

	if (d)
		reply(id, json_pack("{s:i}", "port", d->port->number));
	else
		reply_error(id, NULL, "command", "%s", err);
}

static void do_forget(json_t *in, json_int_t id)
{
	struct device *d = device_of(in, id, "device");

	if (!d)
		return;
	device_free(d);
	reply(id, NULL);
}

static void do_handshake(json_t *in, json_int_t id)
{
	struct device *d = device_of(in, id, "device");

	if (d)
		device_handshake(d, in, id);
}

static void do_request(json_t *in, json_int_t id)
{
	struct device *d = device_of(in, id, "device");

	if (d)
		request_begin(d, in, id);
}

static void do_ping(json_t *in, json_int_t id)
{
	struct device *d = device_of(in, id, "device");

	if (d)
		request_ping(d, in, id);
}

static void do_raw(json_t *in, json_int_t id)
{
	struct device *d = device_of(in, id, "device");
	size_t len = 0;
	uint8_t *bytes = arg_hex(in, "hex", &len);

	if (d && !bytes)
		reply_error(id, NULL, "command", "hex: expected hexadecimal digits");
	else if (d && request_raw(d, bytes, len) != 0)
		reply_error(id, NULL, "no_session", "%s: not open, or too long", d->name);
	else if (d)
		reply(id, NULL);
	free(bytes);
}

static void do_close(json_t *in, json_int_t id)
{
	struct device *d = device_of(in, id, "device");

	if (!d)
		return;
	tls_close(&d->tls, arg_bool(in, "notify", true));
	request_fail_all(d, "closed");
	reply(id, NULL);
}

static void do_answers(json_t *in, json_int_t id)
{
	struct device *d = device_of(in, id, "device");
	const char *how = arg_text(in, "how", "normal");

	if (!d)
		return;
	d->answers = strcmp(how, "none") == 0	 ? ANSWERS_NONE
		     : strcmp(how, "reset") == 0 ? ANSWERS_RESET
						 : ANSWERS_NORMAL;
	reply(id, NULL);
}

static void do_rebind(json_t *in, json_int_t id)
{
	struct device *d = device_of(in, id, "device");
	int r;

	if (!d)
		return;
	r = device_rebind(d, arg_text(in, "bind", NULL), (uint16_t)arg_int(in, "local_port", 0),
			  arg_bool(in, "keep", false));
	if (r == 0)
		reply(id, json_pack("{s:i}", "port", d->port->number));
	else
		reply_error(id, NULL, "command", "bind: %s", strerror(-r));
}

static void do_swap(json_t *in, json_int_t id)
{
	struct device *a = device_of(in, id, "device");
	struct device *b = a ? device_of(in, id, "with") : NULL;

	if (!b)
		return;
	device_swap(a, b);
	reply(id, NULL);
}

static void do_hold(json_t *in, json_int_t id)
{
	struct device *d = device_of(in, id, "device");

	if (!d)
		return;
	d->hold = (unsigned)arg_int(in, "count", 1);
	reply(id, json_pack("{s:I}", "next_index", (json_int_t)d->capture_count));
}

static void do_captured(json_t *in, json_int_t id)
{
	struct device *d = device_of(in, id, "device");

	if (d)
		reply(id, json_pack("{s:o}", "datagrams",
				    device_captured(d, (size_t)arg_int(in, "since", 0))));
}

static void do_stats(json_t *in, json_int_t id)
{
	struct device *d = device_of(in, id, "device");

	if (d)
		reply(id, device_stats(d));
}

static void take_impairment(struct impairment *i, json_t *in)
{
	*i = (struct impairment){
		.drop = arg_real(in, "drop", 0),
		.duplicate = arg_real(in, "duplicate", 0),
		.reorder = arg_real(in, "reorder", 0),
		.delay_us = arg_int(in, "delay_ms", 50) * US_PER_MS,
	};
}

static void do_impair(json_t *in, json_int_t id)
{
	struct device *d = device_of(in, id, "device");

	if (!d)
		return;
	take_impairment(&d->impairments[DIRECTION_OUT], json_object_get(in, "out"));
	take_impairment(&d->impairments[DIRECTION_IN], json_object_get(in, "in"));
	if (json_object_get(in, "seed"))
		d->chance = impairment_seed((uint64_t)arg_int(in, "seed", 1));
	reply(id, NULL);
}

static void do_socket(json_t *in, json_int_t id)
{
	struct target server;
	struct port *p;

	if (target_parse(&server, arg_text(in, "server", "127.0.0.1"),
			 (uint16_t)arg_int(in, "port", 5684)) != 0) {
		reply_error(id, NULL, "command", "server: expected a numeric address");
		return;
	}
	p = port_open(&server, arg_text(in, "bind", NULL), (uint16_t)arg_int(in, "local_port", 0));
	if (p)
		reply(id, json_pack("{s:i}", "port", p->number));
	else
		reply_error(id, NULL, "command", "bind: %s", strerror(errno));
}

/* Bytes as they are, from the port of a device or from one that is nobody's. */
static void do_send(json_t *in, json_int_t id)
{
	struct device *d = device_find(arg_text(in, "device", ""));
	struct port *p = d ? d->port : port_find((uint16_t)arg_int(in, "from", 0));
	size_t len = 0;
	uint8_t *bytes = arg_hex(in, "hex", &len);

	if (p && bytes) {
		for (json_int_t n = arg_int(in, "times", 1); n > 0; n--)
			port_send(p, bytes, len);
		reply(id, NULL);
	} else {
		reply_error(id, NULL, "command", "send: no such port, or hex is malformed");
	}
	free(bytes);
}

static void do_quit(json_t *in, json_int_t id)
{
	(void)in;
	quit = true;
	reply(id, NULL);
}

static const struct {
	const char *name;
	void (*run)(json_t *in, json_int_t id);
} commands[] = {
	{"device", do_device},	 {"forget", do_forget},	  {"handshake", do_handshake},
	{"request", do_request}, {"ping", do_ping},	  {"raw", do_raw},
	{"close", do_close},	 {"answers", do_answers}, {"rebind", do_rebind},
	{"swap", do_swap},	 {"hold", do_hold},	  {"captured", do_captured},
	{"stats", do_stats},	 {"impair", do_impair},	  {"socket", do_socket},
	{"send", do_send},	 {"flood", flood_begin},  {"quit", do_quit},
};

static void run_line(const char *line, size_t len)
{
	json_error_t error;
	json_t *in = json_loadb(line, len, 0, &error);
	json_int_t id = arg_int(in, "id", 0);
	const char *name = arg_text(in, "do", "");

	if (!in) {
		reply_error(0, NULL, "command", "not JSON: %s", error.text);
		return;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (strcmp(commands[i].name, name) == 0) {
			commands[i].run(in, id);
			json_decref(in);
			return;
		}
	reply_error(id, NULL, "command", "do: there is no command \"%s\"", name);
	json_decref(in);
}

struct input {
	char *bytes;
	size_t len;
};

static void run_lines(struct input *in)
{
	char *from = in->bytes, *end;

	while (!quit && (end = memchr(from, '\n', in->len)) != NULL) {
		run_line(from, (size_t)(end - from));
		in->len -= (size_t)(end + 1 - from);
		from = end + 1;
	}
	memmove(in->bytes, from, in->len);
}

static void read_stdin(struct input *in)
{
	ssize_t n = read(STDIN_FILENO, in->bytes + in->len, LINE_MAX_BYTES - in->len);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		quit = true;
		return;
	}
	in->len += (size_t)n;
	run_lines(in);
	if (in->len == LINE_MAX_BYTES)
		die("a command of more than %u bytes", LINE_MAX_BYTES);
}

static void receive(struct port *p, const uint8_t *datagram, size_t len)
{
	if (p->flood)
		flood_receive(p, datagram, len);
	else
		device_receive(p, datagram, len);
}

static int wait_ms(void)
{
	int64_t next = device_deadlines(), flood = flood_deadline(), left;

	if (flood < next)
		next = flood;
	if (next == INT64_MAX)
		return IDLE_MS;
	left = next - clock_monotonic_us();
	if (left <= 0)
		return 0;
	return left > IDLE_MS * US_PER_MS ? IDLE_MS : (int)(left / US_PER_MS) + 1;
}

/* One for stdin, behind the ports. */
static struct pollfd *fill(size_t *count)
{
	static struct pollfd *fds;
	static size_t size;

	*count = port_count();
	if (!fds || *count + 1 > size) {
		size = 2 * (*count + 1);
		free(fds);
		fds = calloc(size, sizeof(*fds));
		if (!fds)
			die("out of memory");
	}
	port_fill(fds);
	fds[*count] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
	return fds;
}

int commands_run(void)
{
	struct input in = {malloc(LINE_MAX_BYTES), 0};

	if (!in.bytes)
		die("out of memory");
	while (!quit) {
		size_t count;
		struct pollfd *fds = fill(&count);

		if (poll(fds, count + 1, wait_ms()) < 0 && errno != EINTR)
			die("poll failed");
		port_drain(fds, count, receive);
		if (fds[count].revents)
			read_stdin(&in);
		device_ticks(clock_monotonic_us());
		flood_tick(clock_monotonic_us());
	}
	free(in.bytes);
	return 0;
}
