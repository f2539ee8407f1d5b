/* SPDX-License-Identifier: Apache-2.0 */
/* Of the message itself. A time is that of receipt, so a message gives the same whenever it is
 * looked at: after a restart, and by whoever follows the journal. */
#include <stdio.h>
#include <string.h>

#include "core/rule/evaluation.h"
#include "core/rule/functions_table.h"

#define US_PER_MS  1000
#define MS_PER_DAY INT64_C(86400000)

/* Levels count from 1. */
static bool topic_level(const char *topic, int64_t level, struct rule_result *out)
{
	const char *end;

	for (; level > 1; level--) {
		topic = strchr(topic, '/');
		if (!topic)
			return false;
		topic++;
	}
	end = strchrnul(topic, '/');
	rule_set_text(out, topic, (size_t)(end - topic));
	return true;
}

int rule_call_topic(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		    struct rule_result *out)
{
	int64_t level;

	if (count == 0)
		rule_set_text(out, e->in->topic, strlen(e->in->topic));
	else if (rule_to_integer(&args[0], &level) && level >= 1)
		topic_level(e->in->topic, level, out);
	return 0;
}

int rule_call_device(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		     struct rule_result *out)
{
	(void)args, (void)count;
	if (e->in->device)
		rule_set_text(out, e->in->device, strlen(e->in->device));
	return 0;
}

static int64_t received_ms(const struct rule_evaluation *e)
{
	int64_t us = e->in->received_at_us, ms = us / US_PER_MS;

	return us % US_PER_MS < 0 ? ms - 1 : ms;
}

int rule_call_timestamp(struct rule_evaluation *e, const struct rule_result *args, size_t count,
			struct rule_result *out)
{
	(void)args, (void)count;
	rule_set_integer(out, received_ms(e));
	return 0;
}

struct date {
	int64_t year;
	int month, day;
};

/* Years are counted from March, so that the leap day is the last of a year, and in eras of 400
 * years, which all have 146097 days. gmtime_r would look at the time zone, and lock. */
static struct date date_of(int64_t days)
{
	int64_t z = days + 719468; /* from 0000-03-01 on */
	int64_t era = z / 146097, of_era = z % 146097;
	int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
	int64_t month = (5 * of_year + 2) / 153;
	struct date d = {.year = era * 400 + year + (month >= 10),
			 .month = (int)(month < 10 ? month + 3 : month - 9),
			 .day = (int)(of_year - (153 * month + 2) / 5 + 1)};

	return d;
}

int rule_call_received_at(struct rule_evaluation *e, const struct rule_result *args, size_t count,
			  struct rule_result *out)
{
	int64_t ms = received_ms(e), of_day = ms % MS_PER_DAY;
	struct date d;
	char s[64], *text;
	int len, rc;

	(void)args, (void)count;
	if (ms < 0)
		return 0;
	d = date_of(ms / MS_PER_DAY);
	if (d.year > 9999)
		return 0;
	len = snprintf(s, sizeof(s), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", (int)d.year, d.month,
		       d.day, (int)(of_day / 3600000), (int)(of_day / 60000 % 60),
		       (int)(of_day / 1000 % 60), (int)(of_day % 1000));
	rc = rule_alloc_text(e, (size_t)len, &text);
	if (rc)
		return rc;
	memcpy(text, s, (size_t)len);
	rule_set_text(out, text, (size_t)len);
	return 0;
}
