/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/ports/posix/commands.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "device-fw/core/cbor.h"

#define BUTTONS_SIZE 64

struct command {
	const char *name, *arguments, *help;
	/* 0, or a negative errno */
	int (*run)(struct commands *c, char *arguments);
};

/* The next word; "" at the end. */
static char *word(char **rest)
{
	char *found;

	*rest += strspn(*rest, " \t");
	found = strsep(rest, " \t");
	if (!*rest)
		*rest = found + strlen(found);
	return found;
}

static bool number(const char *text, long *out)
{
	char *end;

	errno = 0;
	*out = strtol(text, &end, 10);
	return errno == 0 && end != text && *end == '\0';
}

static int run_get(struct commands *c, char *arguments)
{
	char *path = word(&arguments);

	return device_get(c->device, *path ? path : "state");
}

/* JSON is taken for JSON, anything else for text. */
static int format_of(const char *payload)
{
	return *payload == '{' || *payload == '[' ? FG_COAP_FORMAT_JSON : FG_COAP_FORMAT_TEXT;
}

static int run_put(struct commands *c, char *arguments)
{
	char *path = word(&arguments), *rest, *first;
	long format;

	arguments += strspn(arguments, " \t");
	rest = arguments;
	first = strndup(rest, strcspn(rest, " \t"));
	if (!first)
		return -ENOMEM;
	if (number(first, &format) && rest[strlen(first)])
		rest += strlen(first) + 1;
	else
		format = format_of(rest);
	free(first);
	if (!*path || !*rest)
		return -EINVAL;
	return device_put(c->device, path, (int)format, rest, strlen(rest));
}

/* {"ts": ms, "button": 3}, as a message of its own: bit 0 for button 1, bit 1 for button 2. */
static int put_buttons(struct device *d, uint8_t pressed)
{
	const int64_t wall_ms = device_wall_ms(d);
	uint8_t message[BUTTONS_SIZE];
	struct fg_cbor_writer w;

	fg_cbor_begin(&w, message, sizeof(message));
	fg_cbor_map(&w, wall_ms > 0 ? 2 : 1);
	if (wall_ms > 0) {
		fg_cbor_string(&w, "ts");
		fg_cbor_uint(&w, (uint64_t)wall_ms);
	}
	fg_cbor_string(&w, "button");
	fg_cbor_uint(&w, pressed);
	return device_put(d, "msg/d2c", FG_COAP_FORMAT_CBOR, message, w.length);
}

/* As on the boards: 1 asks, 1 and 2 together say. */
static int run_button(struct commands *c, char *arguments)
{
	const char *which = word(&arguments);

	if (strcmp(which, "1") == 0)
		return device_get(c->device, "state");
	return strcmp(which, "1+2") == 0 ? put_buttons(c->device, 3) : -EINVAL;
}

static int run_read(struct commands *c, char *arguments)
{
	(void)arguments;
	device_read(c->device);
	return 0;
}

static int run_interval(struct commands *c, char *arguments)
{
	long seconds;

	return number(word(&arguments), &seconds) ? device_set_interval(c->device, seconds)
						  : -EINVAL;
}

static int run_rebind(struct commands *c, char *arguments)
{
	(void)arguments;
	return device_rebind(c->device);
}

static int run_offline(struct commands *c, char *arguments)
{
	(void)arguments;
	device_set_offline(c->device, true);
	return 0;
}

static int run_online(struct commands *c, char *arguments)
{
	(void)arguments;
	device_set_offline(c->device, false);
	link_set_cut(c->device->link, false);
	return 0;
}

static int run_cut(struct commands *c, char *arguments)
{
	(void)arguments;
	link_set_cut(c->device->link, true);
	return 0;
}

static int run_time(struct commands *c, char *arguments)
{
	const char *ahead = word(&arguments);
	long seconds = 0;

	if (strcmp(ahead, "unknown") != 0 && !number(ahead, &seconds))
		return -EINVAL;
	device_set_clock(c->device, strcmp(ahead, "unknown") != 0, (double)seconds);
	return 0;
}

static int run_reboot(struct commands *c, char *arguments)
{
	(void)arguments;
	device_reboot(c->device);
	return 0;
}

static int run_status(struct commands *c, char *arguments)
{
	const struct device *d = c->device;
	const struct fg_agent *a = &d->agent;
	const struct link_counters *l = link_counters(d->link);
	const char *state = output_state_name(a->session.state);

	(void)arguments;
	output_event(&d->world->output, "status", d->config.device,
		     json_pack("{s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
			       "state", state, "interval", (int)a->interval_s, "waiting",
			       (json_int_t)a->backlog.waiting, "next_seq",
			       (json_int_t)a->backlog.next_seq, "lost", (json_int_t)a->backlog.lost,
			       "boot", (json_int_t)a->backlog.boot, "handshakes",
			       (json_int_t)d->handshakes, "resumed", (json_int_t)d->resumed,
			       "retransmissions", (json_int_t)device_retransmissions(d), "sent",
			       (json_int_t)l->sent, "received", (json_int_t)l->received, "wall_ms",
			       (json_int_t)device_wall_ms(d)),
		     "%s; a reading each %" PRId32 " s, %" PRIu32 " wait, the next is %" PRIu32
		     "; %" PRIu64 " handshakes, %" PRIu64 " resumed, %" PRIu32 " retransmissions",
		     state, a->interval_s, a->backlog.waiting, a->backlog.next_seq, d->handshakes,
		     d->resumed, device_retransmissions(d));
	return 0;
}

static int run_quit(struct commands *c, char *arguments)
{
	(void)arguments;
	c->quit(c->arg);
	return 0;
}

static int run_help(struct commands *c, char *arguments);

static const struct command all[] = {
	{"get", "[PATH]", "GET (state)", run_get},
	{"put", "PATH [FORMAT] PAYLOAD", "PUT, with a Content-Format's number", run_put},
	{"button", "1|1+2", "the buttons of the boards: GET state; PUT msg/d2c", run_button},
	{"read", "", "take a reading now", run_read},
	{"interval", "S", "take one so often", run_interval},
	{"rebind", "", "a new local port, the same session", run_rebind},
	{"offline", "", "the network is gone, and the modem says so", run_offline},
	{"cut", "", "the network is gone, and nobody says so", run_cut},
	{"online", "", "it is back", run_online},
	{"time", "unknown|SECONDS", "the clock: not known, or ahead by so much", run_time},
	{"reboot", "", "memory is lost, what is stored is not", run_reboot},
	{"status", "", "", run_status},
	{"quit", "", "", run_quit},
	{"help", "", "", run_help},
};

#define COMMANDS (sizeof(all) / sizeof(*all))

static int run_help(struct commands *c, char *arguments)
{
	(void)c;
	(void)arguments;
	for (size_t i = 0; i < COMMANDS; i++)
		printf("%-8s %-22s %s\n", all[i].name, all[i].arguments, all[i].help);
	return 0;
}

static const char *explain(int error)
{
	switch (error) {
	case -EBUSY:
		return "the one before is not answered yet";
	case -ENOTSUP:
		return "that is for CoAP";
	case -EINVAL:
	case -ERANGE:
		return "it wants something else behind it; see help";
	case -ENOTCONN:
		return "there is no connection";
	default:
		return strerror(-error);
	}
}

static void run_line(struct commands *c, char *line)
{
	struct output *o = &c->device->world->output;
	const char *name = word(&line);
	int rc;

	if (!*name)
		return;
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(name, all[i].name) == 0) {
			rc = all[i].run(c, line);
			output_command(o, c->device->config.device, name, rc, explain(rc));
			return;
		}
	output_command(o, c->device->config.device, name, -EINVAL, "no such command; try help");
}

/* The last line of what has come may be a part only. */
static void run_lines(struct commands *c)
{
	char *from = c->line, *end;

	while ((end = memchr(from, '\n', c->length - (size_t)(from - c->line)))) {
		*end = '\0';
		run_line(c, from);
		from = end + 1;
	}
	c->length -= (size_t)(from - c->line);
	memmove(c->line, from, c->length);
	if (c->length == sizeof(c->line))
		c->length = 0;
}

static void on_input(void *arg, uint32_t events)
{
	struct commands *c = arg;
	ssize_t got = read(c->input.fd, c->line + c->length, sizeof(c->line) - c->length);

	(void)events;
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		commands_end(c);
		c->quit(c->arg);
		return;
	}
	c->length += (size_t)got;
	run_lines(c);
}

int commands_begin(struct commands *c)
{
	c->input = (struct loop_fd){.call = on_input, .arg = c, .fd = STDIN_FILENO};
	return loop_watch(c->device->world->loop, &c->input, EPOLLIN);
}

void commands_end(struct commands *c)
{
	if (c->input.fd < 0)
		return;
	loop_unwatch(c->device->world->loop, &c->input);
	c->input.fd = -1;
}
