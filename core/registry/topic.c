/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Topics and filters, compared level by level. A filter is read through a cursor that yields the
 * device's id in place of `${device}` as it goes, so nothing is ever expanded or copied; and since
 * '#' stands only at the end, no comparison ever goes back.
 */
#include "core/registry/topic.h"

#include <stddef.h>
#include <string.h>

#define DEVICE_VARIABLE	    "${device}"
#define DEVICE_VARIABLE_LEN (sizeof(DEVICE_VARIABLE) - 1)
#define SHARE_PREFIX	    "$share/"
#define SHARE_PREFIX_LEN    (sizeof(SHARE_PREFIX) - 1)

/* The length of the well-formed UTF-8 sequence at s (Unicode 15, table 3-7), or 0. Stops at a NUL.
 */
static size_t utf8_sequence(const unsigned char *s)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t len;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	len = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	if (s[0] == 0xe0)
		low = 0xa0; /* below: overlong */
	else if (s[0] == 0xed)
		high = 0x9f; /* above: surrogates */
	else if (s[0] == 0xf0)
		low = 0x90; /* below: overlong */
	else if (s[0] == 0xf4)
		high = 0x8f; /* above: beyond U+10FFFF */
	if (s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if (s[i] < 0x80 || s[i] > 0xbf)
			return 0;
	return len;
}

static bool utf8_string_valid(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;
	const unsigned char *start = p;

	while (*p) {
		size_t len = utf8_sequence(p);

		if (len == 0)
			return false;
		p += len;
		if ((size_t)(p - start) > TOPIC_MAX_BYTES)
			return false;
	}
	return p != start;
}

bool topic_name_valid(const char *topic)
{
	return utf8_string_valid(topic) && !strpbrk(topic, "+#");
}

bool topic_filter_valid(const char *filter)
{
	if (!utf8_string_valid(filter))
		return false;
	for (const char *p = filter; (p = strpbrk(p, "+#")); p++) {
		if (p > filter && p[-1] != '/')
			return false;
		if (p[1] != '\0' && (*p == '#' || p[1] != '/'))
			return false;
	}
	return true;
}

/* A place in a filter. While it is inside the device's id, `after` is where the filter goes on. */
struct cursor {
	const char *at;
	const char *after;
	const char *device;
};

/* Move on to the next character there is: into the device's id, or out of it. */
static void settle(struct cursor *c)
{
	for (;;) {
		if (c->after && *c->at == '\0') {
			c->at = c->after;
			c->after = NULL;
		} else if (c->device && !c->after &&
			   strncmp(c->at, DEVICE_VARIABLE, DEVICE_VARIABLE_LEN) == 0) {
			c->after = c->at + DEVICE_VARIABLE_LEN;
			c->at = c->device;
		} else {
			return;
		}
	}
}

static void advance(struct cursor *c)
{
	c->at++;
	settle(c);
}

/* A cursor over a client's own filter or a topic, in which `${device}` means nothing. */
static struct cursor cursor_plain(const char *text)
{
	return (struct cursor){.at = text};
}

/* False when the filter needs a device's id and there is none that could stand in a level. */
static bool cursor_init(struct cursor *c, const char *filter, const char *device)
{
	*c = (struct cursor){.at = filter};
	if (!strstr(filter, DEVICE_VARIABLE))
		return true;
	if (!device || !*device || strpbrk(device, "/+#"))
		return false;
	c->device = device;
	settle(c);
	return true;
}

static bool level_ends(const struct cursor *c)
{
	return *c->at == '/' || *c->at == '\0';
}

/* The next three: c stands at the beginning of a level. */

static bool is_hash(const struct cursor *c)
{
	return c->at[0] == '#' && c->at[1] == '\0' && !c->after;
}

static bool is_plus(const struct cursor *c)
{
	return c->at[0] == '+' && (c->at[1] == '\0' || c->at[1] == '/') && !c->after;
}

static bool is_wildcard(const struct cursor *c)
{
	return is_hash(c) || is_plus(c);
}

/* Is all that is left a '#' below this level, which matches the level itself too (section 4.7.1.2)?
 */
static bool only_hash_below(const struct cursor *c)
{
	struct cursor below = *c;

	if (*below.at != '/')
		return false;
	advance(&below);
	return is_hash(&below);
}

static void skip_level(struct cursor *c)
{
	while (!level_ends(c))
		advance(c);
}

/* Go through a level of both as long as they are equal; true if all of it is. */
static bool same_level(struct cursor *a, struct cursor *b)
{
	while (!level_ends(a) && *a->at == *b->at) {
		advance(a);
		advance(b);
	}
	return level_ends(a) && level_ends(b);
}

/* Topics beginning with '$' are not reached by a leading wildcard (section 4.7.2). */
static bool dollar_apart(const struct cursor *filter, const struct cursor *other)
{
	return is_wildcard(filter) && *other->at == '$';
}

bool topic_matches(const char *filter, const char *device, const char *topic)
{
	struct cursor f, t = cursor_plain(topic);

	if (!cursor_init(&f, filter, device) || dollar_apart(&f, &t))
		return false;
	for (;;) {
		if (is_hash(&f))
			return true;
		if (is_plus(&f)) {
			skip_level(&f);
			skip_level(&t);
		} else if (!same_level(&f, &t)) {
			return false;
		}
		if (*t.at == '\0')
			return *f.at == '\0' || only_hash_below(&f);
		if (*f.at == '\0')
			return false;
		advance(&f);
		advance(&t);
	}
}

/* `asked` has come to its '#'. Only '#' covers that, or "+/#" where the topic without that level
 * would be the empty one, which does not exist: at the ends of "#" and "/#". */
static bool covers_hash(const struct cursor *f, const char *asked)
{
	struct cursor rest = *f;

	if (strcmp(asked, "#") != 0 && strcmp(asked, "/#") != 0)
		return false;
	if (!is_plus(&rest))
		return false;
	skip_level(&rest);
	return only_hash_below(&rest);
}

bool topic_filter_covers(const char *filter, const char *device, const char *asked)
{
	struct cursor f, a = cursor_plain(asked);

	if (!cursor_init(&f, filter, device) || dollar_apart(&f, &a))
		return false;
	for (;;) {
		if (is_hash(&f))
			return true;
		if (is_hash(&a))
			return covers_hash(&f, asked);
		if (is_plus(&f)) {
			skip_level(&f);
			skip_level(&a);
		} else if (is_plus(&a) || !same_level(&f, &a)) {
			return false;
		}
		if (*a.at == '\0')
			return *f.at == '\0' || only_hash_below(&f);
		if (*f.at == '\0')
			return false;
		advance(&f);
		advance(&a);
	}
}

bool topic_filters_overlap(const char *filter, const char *device, const char *asked)
{
	struct cursor f, a = cursor_plain(asked);

	if (!cursor_init(&f, filter, device) || dollar_apart(&f, &a) || dollar_apart(&a, &f))
		return false;
	for (;;) {
		if (is_hash(&f) || is_hash(&a))
			return true;
		if (is_plus(&f) || is_plus(&a)) {
			skip_level(&f);
			skip_level(&a);
		} else if (!same_level(&f, &a)) {
			return false;
		}
		if (*f.at == '\0' && *a.at == '\0')
			return true;
		/* What "+" and "/#" have in common would be the empty topic, which does not exist.
		 */
		if (*f.at == '\0')
			return only_hash_below(&a) && strcmp(asked, "/#") != 0;
		if (*a.at == '\0')
			return only_hash_below(&f) && strcmp(filter, "/#") != 0;
		advance(&f);
		advance(&a);
	}
}

const char *topic_shared_filter(const char *asked)
{
	const char *group = asked + SHARE_PREFIX_LEN;
	size_t len;

	if (strncmp(asked, SHARE_PREFIX, SHARE_PREFIX_LEN) != 0)
		return asked;
	len = strcspn(group, "/+#");
	if (len == 0 || group[len] != '/' || group[len + 1] == '\0')
		return NULL;
	return group + len + 1;
}
