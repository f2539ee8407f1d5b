/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap-client/load_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/coap-client/die.h"

static int sent_fd = -1, acknowledged_fd = -1;

static int open_log(const char *path)
{
	int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644) : -1;

	if (path && fd < 0)
		die("%s: %s", path, strerror(errno));
	return fd;
}

void load_log_open(const char *sent, const char *acknowledged)
{
	sent_fd = open_log(sent);
	acknowledged_fd = open_log(acknowledged);
}

static void write_line(int fd, const char *device, uint32_t seq)
{
	char line[128];
	int len;

	if (fd < 0)
		return;
	len = snprintf(line, sizeof(line), "%s %u\n", device, seq);
	if (len >= (int)sizeof(line) || write(fd, line, (size_t)len) != len)
		die("cannot write to a log: %s", strerror(errno));
}

void load_log_sent(const char *device, uint32_t seq)
{
	write_line(sent_fd, device, seq);
}

void load_log_acknowledged(const char *device, uint32_t seq)
{
	write_line(acknowledged_fd, device, seq);
}
