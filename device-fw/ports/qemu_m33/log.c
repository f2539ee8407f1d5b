/* SPDX-License-Identifier: Apache-2.0 */
/* What has happened, a line each, by semihosting to the emulator's standard output: for tests. */
#include <stdint.h>
#include <string.h>

#include "device-fw/ports/qemu_m33/board.h"
#include "device-fw/ports/qemu_m33/cpu.h"
#include "device-fw/ports/qemu_m33/semihosting.h"

static char line[160];
static size_t used;

static void put_text(const char *text)
{
	while (*text != '\0' && used < sizeof(line) - 2)
		line[used++] = *text++;
}

static void put_number(const char *name, int64_t value)
{
	char digits[24];
	size_t at = sizeof(digits) - 1;
	uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

	digits[at] = '\0';
	do
		digits[--at] = (char)('0' + rest % 10);
	while ((rest /= 10) > 0);
	if (value < 0)
		digits[--at] = '-';
	put_text(name);
	put_text(digits + at);
}

static void end_line(void)
{
	line[used++] = '\n';
	line[used] = '\0';
	used = 0;
	semihosting_call(SEMIHOSTING_WRITE0, line);
}

static void put_state(enum fg_session_state state)
{
	static const char *const names[] = {
		[FG_SESSION_OFF] = "off",
		[FG_SESSION_ATTACHING] = "attaching",
		[FG_SESSION_CONNECTING] = "connecting",
		[FG_SESSION_AUTHENTICATING] = "authenticating",
		[FG_SESSION_RUNNING] = "running",
		[FG_SESSION_SLEEPING] = "sleeping",
		[FG_SESSION_RESUMING] = "resuming",
		[FG_SESSION_BACKING_OFF] = "backing_off",
	};

	put_text("state ");
	put_text(names[state]);
}

static void put_delivery(const char *what, const struct fg_note *note)
{
	put_text(what);
	put_number(" first=", note->delivery.first);
	put_number(" last=", note->delivery.last);
	put_number(" count=", note->delivery.count);
	put_number(" code=", note->delivery.code);
}

void board_note(void *ctx, const struct fg_note *note)
{
	(void)ctx;
	put_number("", note->now_ms);
	put_text(" ");
	switch (note->kind) {
	case FG_NOTE_STATE:
		put_state(note->state);
		break;
	case FG_NOTE_CONNECTED:
		put_number("connected resumed=", note->connection.resumed);
		put_number(" connection_id=", note->connection.connection_id);
		break;
	case FG_NOTE_RECORDED:
		put_number("recorded seq=", note->record.seq);
		put_number(" error=", note->record.error);
		break;
	case FG_NOTE_ACKNOWLEDGED:
		put_delivery("acknowledged", note);
		break;
	case FG_NOTE_REFUSED:
		put_delivery("refused", note);
		break;
	case FG_NOTE_FAULT:
		put_number("fault error=", note->fault.error);
		put_number(" code=", note->fault.code);
		break;
	case FG_NOTE_COMMAND:
		put_number("command present=", note->command->present);
		put_number(" interval=", note->command->interval_s);
		put_number(" id=", note->command->id);
		break;
	case FG_NOTE_COMMAND_REFUSED:
		put_text("command_refused");
		break;
	case FG_NOTE_TIME:
		put_number("time wall_ms=", note->wall_ms);
		break;
	default:
		put_number("note kind=", note->kind);
		break;
	}
	end_line();
}

/* In place of the reboot of a device in the field: a test is to end here. */
void fault(void)
{
	semihosting_call(SEMIHOSTING_WRITE0, "fault\n");
	semihosting_exit(1);
}
