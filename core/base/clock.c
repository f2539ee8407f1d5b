/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/types.h>
#include <time.h>

static int64_t (*realtime_override)(void);
static int64_t (*monotonic_override)(void);

static int64_t read_clock(clockid_t id)
{
	struct timespec ts;

	if (clock_gettime(id, &ts) != 0)
		abort();
	return (int64_t)ts.tv_sec * US_PER_S + ts.tv_nsec / 1000;
}

int64_t clock_realtime_us(void)
{
	return realtime_override ? realtime_override() : read_clock(CLOCK_REALTIME);
}

int64_t clock_monotonic_us(void)
{
	return monotonic_override ? monotonic_override() : read_clock(CLOCK_MONOTONIC);
}

const char *clock_date_text(char text[CLOCK_DATE_MAX], int64_t seconds)
{
	const time_t t = (time_t)seconds;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || tm.tm_year < -1900 || tm.tm_year > 9999 - 1900 ||
	    strftime(text, CLOCK_DATE_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(text, CLOCK_DATE_MAX, "second %lld", (long long)seconds);
	return text;
}

void clock_override(int64_t (*realtime_us)(void), int64_t (*monotonic_us)(void))
{
	realtime_override = realtime_us;
	monotonic_override = monotonic_us;
}

void random_bytes(void *buf, size_t len)
{
	unsigned char *p = buf;

	while (len > 0) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			abort();
		}
		p += n;
		len -= (size_t)n;
	}
}
