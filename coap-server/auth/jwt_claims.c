/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exp, nbf, iat and aud (RFC 7519 section 4.1). Dates are whole seconds between 1970 and 9999, so
 * that no sum of them overflows; RFC 7519 allows fractions, no modem writes them.
 */
#include "coap-server/auth/jwt_internal.h"

#include <inttypes.h>
#include <string.h>

#define DATE_MAX INT64_C(253402300799) /* 9999-12-31T23:59:59Z */
#define ABSENT	 INT64_C(-1)

struct dates {
	int64_t exp, nbf, iat; /* or ABSENT */
};

#define refuse(who, ...) identify_refuse(who, (who)->principal, REFUSAL_UNKNOWN, __VA_ARGS__)

static bool read_date(struct identity *who, const json_t *claims, const char *name, int64_t *out)
{
	const json_t *value = json_object_get(claims, name);

	*out = ABSENT;
	if (!value)
		return true;
	if (!json_is_integer(value)) {
		refuse(who, "the JWT's `%s` is no whole number of seconds", name);
		return false;
	}
	*out = json_integer_value(value);
	if (*out >= 0 && *out <= DATE_MAX)
		return true;
	refuse(who, "the JWT's `%s` is %" PRId64 ", which is not between the years 1970 and 9999",
	       name, *out);
	return false;
}

static bool check_lifetime(struct identity *who, const struct dates *d,
			   const struct jwt_rules *rules, int64_t now_s)
{
	int64_t from = d->iat == ABSENT ? now_s : d->iat;

	if (d->iat != ABSENT && d->exp <= d->iat) {
		refuse(who, "the JWT's `exp` is not after its `iat`");
		return false;
	}
	if (rules->max_lifetime_s == 0 || d->exp - from <= rules->max_lifetime_s)
		return true;
	refuse(who,
	       "the JWT is good for %" PRId64 " s, longer than the %" PRId64
	       " s of coap.jwt_max_lifetime_s; let the device ask its modem for a shorter one",
	       d->exp - from, rules->max_lifetime_s);
	return false;
}

static bool check_now(struct identity *who, const struct dates *d, const struct jwt_rules *rules,
		      int64_t now_s)
{
	const int64_t leeway = rules->leeway_s;

	if (d->iat != ABSENT && d->iat > now_s + leeway) {
		refuse(who,
		       "the JWT was issued %" PRId64
		       " s in the future (`iat`, coap.jwt_leeway_s is "
		       "%" PRId64 "): is the device's clock right, and this machine's?",
		       d->iat - now_s, leeway);
		return false;
	}
	if (d->nbf != ABSENT && d->nbf > now_s + leeway) {
		refuse(who,
		       "the JWT is not valid before %" PRId64 " s from now (`nbf`, "
		       "coap.jwt_leeway_s is %" PRId64 ")",
		       d->nbf - now_s, leeway);
		return false;
	}
	if (d->exp != ABSENT && now_s - leeway >= d->exp) {
		refuse(who,
		       "the JWT expired %" PRId64 " s ago (`exp`, coap.jwt_leeway_s is %" PRId64
		       "): is the device's clock right, and does it make a new one for each "
		       "session?",
		       now_s - d->exp, leeway);
		return false;
	}
	return true;
}

static bool check_dates(struct identity *who, const json_t *claims, const struct jwt_rules *rules,
			int64_t now_s)
{
	struct dates d;

	if (!read_date(who, claims, "exp", &d.exp) || !read_date(who, claims, "nbf", &d.nbf) ||
	    !read_date(who, claims, "iat", &d.iat))
		return false;
	if (d.exp == ABSENT && d.iat != ABSENT) {
		refuse(who, "the JWT has `iat` but no `exp`: it would be good for ever");
		return false;
	}
	if (d.exp == ABSENT && !rules->accept_clockless) {
		refuse(who, "the JWT has neither `exp` nor `iat`: the modem had no network time; "
			    "wait for that, or set coap.jwt_clockless = accept");
		return false;
	}
	if (d.exp != ABSENT && !check_lifetime(who, &d, rules, now_s))
		return false;
	return check_now(who, &d, rules, now_s);
}

/* Of NULL: whether it is well-formed. */
static bool names(const json_t *string, const char *audience)
{
	return !audience || strcmp(json_string_value(string), audience) == 0;
}

static void check_audience(struct identity *who, const json_t *claims, const char *audience)
{
	const json_t *aud = json_object_get(claims, "aud");
	bool named = false;

	if (!aud)
		return;
	if (json_is_string(aud))
		named = names(aud, audience);
	for (size_t i = 0; i < json_array_size(aud); i++) {
		const json_t *one = json_array_get(aud, i);

		if (!json_is_string(one)) {
			refuse(who, "the JWT's `aud` holds something that is no text");
			return;
		}
		named = named || names(one, audience);
	}
	if (named)
		return;
	if (!json_is_string(aud) && json_array_size(aud) == 0)
		refuse(who, "the JWT's `aud` is neither a text nor a list of them");
	else
		refuse(who,
		       "the JWT is for somebody else: its `aud` does not name '%.100s' "
		       "(coap.jwt_audience)",
		       audience);
}

void jwt_claims_judge(struct identity *who, const json_t *claims, const struct jwt_rules *rules,
		      int64_t now_s)
{
	if (check_dates(who, claims, rules, now_s))
		check_audience(who, claims, rules->audience);
}
