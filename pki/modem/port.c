/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/modem/port.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <termios.h>
#include <unistd.h>

static const struct {
	unsigned baud;
	speed_t speed;
} speeds[] = {
	{9600, B9600},	   {19200, B19200},   {38400, B38400},
	{57600, B57600},   {115200, B115200}, {230400, B230400},
	{460800, B460800}, {921600, B921600}, {1000000, B1000000},
};

static const speed_t *find_speed(unsigned baud)
{
	for (size_t i = 0; i < sizeof(speeds) / sizeof(*speeds); i++)
		if (speeds[i].baud == baud)
			return &speeds[i].speed;
	return NULL;
}

bool port_knows_baud(unsigned baud)
{
	return find_speed(baud) != NULL;
}

static int make_raw(int fd, speed_t speed)
{
	struct termios t;

	if (tcgetattr(fd, &t) != 0)
		return -1;
	cfmakeraw(&t);
	t.c_cflag |= CLOCAL | CREAD;
	/* Between two commands DTR stays as it is: there are boards that it resets. */
	t.c_cflag &= ~(tcflag_t)(HUPCL | CSTOPB | CRTSCTS);
	t.c_cc[VMIN] = 0;
	t.c_cc[VTIME] = 0;
	if (cfsetspeed(&t, speed) != 0 || tcsetattr(fd, TCSANOW, &t) != 0)
		return -1;
	/* What the modem has said to nobody belongs to no command of ours. */
	return tcflush(fd, TCIFLUSH);
}

static const char *what_to_do(int error)
{
	switch (error) {
	case ENOENT:
		return "; is the board plugged in? `ls /dev/serial/by-id` shows what is";
	case EACCES:
		return "; serial ports belong to a group, often dialout: log in again after "
		       "`adduser USER "
		       "dialout`";
	case ENOTTY:
		return "; it must be a serial port, such as /dev/ttyACM0";
	default:
		return "";
	}
}

int port_open(const char *path, unsigned baud, char *err, size_t err_len)
{
	int fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC), error;

	if (fd >= 0 && !isatty(fd)) {
		error = ENOTTY;
	} else if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
		snprintf(err, err_len, "%s: another program is talking to it: close that first",
			 path);
		close(fd);
		return -1;
	} else if (fd >= 0 && make_raw(fd, *find_speed(baud)) == 0) {
		return fd;
	} else {
		error = errno;
	}
	if (fd >= 0)
		close(fd);
	snprintf(err, err_len, "%s: %s%s", path, strerror(error), what_to_do(error));
	return -1;
}
