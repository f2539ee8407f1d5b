/* SPDX-License-Identifier: Apache-2.0 */
#include "core/payload/timestamp.h"

#include <math.h>

#include "core/base/clock.h"

/* Up to here the next smaller unit would be a time before March 1973: see payload_decode. */
#define SECONDS_BELOW	   INT64_C(100000000000)
#define MILLISECONDS_BELOW INT64_C(100000000000000)
#define MICROSECONDS_BELOW INT64_C(100000000000000000)

struct scanner {
	const char *s;
	const char *end;
};

/* A number between -limit and limit? Integers are not compared as doubles, which would round them.
 */
static bool is_within(const struct value *v, int64_t limit)
{
	if (v->type == VALUE_INTEGER)
		return v->u.integer > -limit && v->u.integer < limit;
	return v->type == VALUE_NUMBER && fabs(v->u.number) < (double)limit;
}

bool timestamp_scale(const struct value *v, int64_t us_per_unit, int64_t *us)
{
	if (!is_within(v, TIMESTAMP_LIMIT_US / us_per_unit))
		return false;
	if (v->type == VALUE_INTEGER)
		*us = v->u.integer * us_per_unit;
	else
		*us = llround(v->u.number * (double)us_per_unit);
	return true;
}

static bool from_nanoseconds(const struct value *v, int64_t *us)
{
	if (v->type == VALUE_INTEGER) {
		*us = v->u.integer / 1000;
		return true;
	}
	if (!is_within(v, INT64_MAX))
		return false;
	*us = llround(v->u.number / 1000);
	return true;
}

bool timestamp_from_value(const struct value *v, int64_t *us)
{
	if (v->type == VALUE_TEXT)
		return timestamp_parse_rfc3339(v->u.text.data, v->u.text.len, us);
	if (is_within(v, SECONDS_BELOW))
		return timestamp_scale(v, US_PER_S, us);
	if (is_within(v, MILLISECONDS_BELOW))
		return timestamp_scale(v, US_PER_MS, us);
	if (is_within(v, MICROSECONDS_BELOW))
		return timestamp_scale(v, 1, us);
	return from_nanoseconds(v, us);
}

/* Exactly digits decimal digits, from low to high. */
static bool scan_number(struct scanner *sc, int digits, int low, int high, int *out)
{
	int n = 0;

	if (sc->end - sc->s < digits)
		return false;
	for (int i = 0; i < digits; i++, sc->s++) {
		if (*sc->s < '0' || *sc->s > '9')
			return false;
		n = n * 10 + (*sc->s - '0');
	}
	*out = n;
	return n >= low && n <= high;
}

static bool scan_char(struct scanner *sc, char a, char b)
{
	if (sc->s == sc->end || (*sc->s != a && *sc->s != b))
		return false;
	sc->s++;
	return true;
}

static int days_in_month(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month - 1] + (leap && month == 2);
}

/* Days from 1970-01-01 in the proleptic Gregorian calendar; the year is taken to begin in March. */
static int64_t days_since_1970(int year, int month, int day)
{
	int64_t y = month > 2 ? year : year - 1;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t year_of_era = y - era * 400;
	int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

	return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 +
	       day_of_year - 719468;
}

static bool scan_date(struct scanner *sc, int64_t *us)
{
	int year, month, day;

	if (!scan_number(sc, 4, 0, 9999, &year) || !scan_char(sc, '-', '-') ||
	    !scan_number(sc, 2, 1, 12, &month) || !scan_char(sc, '-', '-') ||
	    !scan_number(sc, 2, 1, days_in_month(year, month), &day))
		return false;
	*us = days_since_1970(year, month, day) * US_PER_DAY;
	return true;
}

/* The decimals of a second; none without a point. */
static bool scan_fraction(struct scanner *sc, int64_t *us)
{
	int64_t unit = US_PER_S / 10;

	*us = 0;
	if (!scan_char(sc, '.', '.'))
		return true;
	if (sc->s == sc->end || *sc->s < '0' || *sc->s > '9')
		return false;
	for (; sc->s < sc->end && *sc->s >= '0' && *sc->s <= '9'; sc->s++, unit /= 10)
		*us += (*sc->s - '0') * unit;
	return true;
}

static bool scan_time(struct scanner *sc, int64_t *us)
{
	int hour, minute, second;

	/* 60: a leap second, which is the next second in the time that POSIX counts */
	if (!scan_number(sc, 2, 0, 23, &hour) || !scan_char(sc, ':', ':') ||
	    !scan_number(sc, 2, 0, 59, &minute) || !scan_char(sc, ':', ':') ||
	    !scan_number(sc, 2, 0, 60, &second) || !scan_fraction(sc, us))
		return false;
	*us += (hour * INT64_C(3600) + minute * INT64_C(60) + second) * US_PER_S;
	return true;
}

static bool scan_offset(struct scanner *sc, int64_t *us)
{
	int hour, minute;
	bool west;

	*us = 0;
	if (scan_char(sc, 'Z', 'z'))
		return true;
	west = sc->s < sc->end && *sc->s == '-';
	if (!scan_char(sc, '+', '-') || !scan_number(sc, 2, 0, 23, &hour) ||
	    !scan_char(sc, ':', ':') || !scan_number(sc, 2, 0, 59, &minute))
		return false;
	*us = (hour * INT64_C(3600) + minute * INT64_C(60)) * US_PER_S;
	if (west)
		*us = -*us;
	return true;
}

bool timestamp_parse_rfc3339(const char *s, size_t len, int64_t *us)
{
	struct scanner sc = {.s = s, .end = s + len};
	int64_t date, time, offset;

	/* RFC 3339 allows a space, and lower case, where ISO 8601 has only T and Z. */
	if (!scan_date(&sc, &date) || (!scan_char(&sc, 'T', 't') && !scan_char(&sc, ' ', ' ')) ||
	    !scan_time(&sc, &time) || !scan_offset(&sc, &offset) || sc.s != sc.end)
		return false;
	*us = date + time - offset;
	return true;
}
