/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Topics and filters against an independent reference: it cuts both into levels and compares those,
 * and it decides "covers" and "overlaps" by trying every topic there is. All filters of up to four
 * levels over a small alphabet, and all topics one level deeper, are enough to tell any two filters
 * apart.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/registry/topic.h"

/* --- The reference --- */

#define LEVELS_MAX 8
#define LEVEL_SIZE 48

struct levels {
	size_t count;
	char text[LEVELS_MAX][LEVEL_SIZE];
};

static struct levels split(const char *s)
{
	struct levels l = {.count = 1};
	size_t n = 0;

	for (; *s; s++) {
		if (*s == '/') {
			l.count++;
			n = 0;
			assert_true(l.count <= LEVELS_MAX);
		} else {
			assert_true(n < LEVEL_SIZE - 1);
			l.text[l.count - 1][n++] = *s;
		}
	}
	return l;
}

static bool reference_levels_match(const struct levels *f, size_t i, const struct levels *t,
				   size_t k)
{
	if (i < f->count && strcmp(f->text[i], "#") == 0)
		return true;
	if (i == f->count || k == t->count)
		return i == f->count && k == t->count;
	if (strcmp(f->text[i], "+") != 0 && strcmp(f->text[i], t->text[k]) != 0)
		return false;
	return reference_levels_match(f, i + 1, t, k + 1);
}

static bool reference_matches(const char *filter, const char *topic)
{
	struct levels f = split(filter), t = split(topic);

	if ((filter[0] == '+' || filter[0] == '#') && topic[0] == '$')
		return false;
	return reference_levels_match(&f, 0, &t, 0);
}

static bool reference_filter_valid(const char *filter)
{
	struct levels f = split(filter);

	for (size_t i = 0; i < f.count; i++) {
		const char *level = f.text[i];

		if (strcmp(level, "+") == 0 || (strcmp(level, "#") == 0 && i == f.count - 1))
			continue;
		if (strchr(level, '+') || strchr(level, '#'))
			return false;
	}
	return *filter != '\0';
}

/* --- Every filter and every topic of a small world --- */

#define FILTER_DEPTH 4
#define TOPIC_DEPTH  (FILTER_DEPTH + 1)
#define NAMES_MAX    2048

static char filters[NAMES_MAX][16];
static size_t filter_count;
static char topics[NAMES_MAX][16];
static size_t topic_count;
static uint64_t matched[NAMES_MAX][NAMES_MAX / 64]; /* by filter: the topics it matches */

static void extend(char out[][16], size_t *count, const char *prefix, bool first, size_t depth,
		   const char *const *words, size_t word_count)
{
	for (size_t i = 0; depth > 0 && i < word_count; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%s%s%s", prefix, first ? "" : "/", words[i]);
		if (*name) {
			assert_true(*count < NAMES_MAX);
			strcpy(out[(*count)++], name);
		}
		if (strcmp(words[i], "#") != 0)
			extend(out, count, name, false, depth - 1, words, word_count);
	}
}

static int make_world(void **state)
{
	/* "z" is in no filter: it stands for every level that only '+' matches. */
	static const char *const filter_words[] = {"", "a", "$", "+", "#"};
	static const char *const topic_words[] = {"", "a", "$", "z"};

	(void)state;
	extend(filters, &filter_count, "", true, FILTER_DEPTH, filter_words, 5);
	extend(topics, &topic_count, "", true, TOPIC_DEPTH, topic_words, 4);
	for (size_t f = 0; f < filter_count; f++)
		for (size_t t = 0; t < topic_count; t++)
			if (reference_matches(filters[f], topics[t]))
				matched[f][t / 64] |= UINT64_C(1) << t % 64;
	return 0;
}

static bool reference_covers(size_t filter, size_t asked)
{
	for (size_t w = 0; w < NAMES_MAX / 64; w++)
		if (matched[asked][w] & ~matched[filter][w])
			return false;
	return true;
}

static bool reference_overlaps(size_t filter, size_t asked)
{
	for (size_t w = 0; w < NAMES_MAX / 64; w++)
		if (matched[asked][w] & matched[filter][w])
			return true;
	return false;
}

static void test_matching_is_as_the_specification_says(void **state)
{
	(void)state;
	for (size_t f = 0; f < filter_count; f++)
		for (size_t t = 0; t < topic_count; t++)
			if (topic_matches(filters[f], NULL, topics[t]) !=
			    reference_matches(filters[f], topics[t]))
				fail_msg("filter '%s', topic '%s'", filters[f], topics[t]);
}

static void test_a_filter_covers_another_when_no_topic_contradicts(void **state)
{
	(void)state;
	for (size_t f = 0; f < filter_count; f++)
		for (size_t a = 0; a < filter_count; a++)
			if (topic_filter_covers(filters[f], NULL, filters[a]) !=
			    reference_covers(f, a))
				fail_msg("filter '%s', asked '%s'", filters[f], filters[a]);
}

static void test_two_filters_overlap_when_some_topic_is_in_both(void **state)
{
	(void)state;
	for (size_t f = 0; f < filter_count; f++)
		for (size_t a = 0; a < filter_count; a++)
			if (topic_filters_overlap(filters[f], NULL, filters[a]) !=
			    reference_overlaps(f, a))
				fail_msg("filter '%s', asked '%s'", filters[f], filters[a]);
}

/* The examples of MQTT 5.0 section 4.7, so that the reference is held to something too. */
static void test_examples_of_the_specification(void **state)
{
	(void)state;
	assert_true(topic_matches("sport/tennis/player1/#", NULL, "sport/tennis/player1"));
	assert_true(topic_matches("sport/tennis/player1/#", NULL, "sport/tennis/player1/ranking"));
	assert_true(topic_matches("sport/#", NULL, "sport"));
	assert_true(topic_matches("sport/tennis/+", NULL, "sport/tennis/player2"));
	assert_false(topic_matches("sport/tennis/+", NULL, "sport/tennis/player1/ranking"));
	assert_false(topic_matches("sport/+", NULL, "sport"));
	assert_true(topic_matches("sport/+", NULL, "sport/"));
	assert_true(topic_matches("+/+", NULL, "/finance"));
	assert_true(topic_matches("/+", NULL, "/finance"));
	assert_false(topic_matches("+", NULL, "/finance"));
	assert_false(topic_matches("#", NULL, "$SYS/broker"));
	assert_false(topic_matches("+/monitor/Clients", NULL, "$SYS/monitor/Clients"));
	assert_true(topic_matches("$SYS/#", NULL, "$SYS/broker"));
	assert_true(topic_matches("$SYS/monitor/+", NULL, "$SYS/monitor/Clients"));
	assert_false(topic_matches("ACCOUNTS", NULL, "Accounts"));
	assert_true(topic_filter_valid("sport/tennis/#"));
	assert_false(topic_filter_valid("sport/tennis#"));
	assert_false(topic_filter_valid("sport/tennis/#/ranking"));
	assert_true(topic_filter_valid("+/tennis/#"));
	assert_false(topic_filter_valid("sport+"));
}

/* --- ${device} --- */

static void expand(char *out, size_t size, const char *filter, const char *device)
{
	size_t n = 0;

	while (*filter) {
		if (strncmp(filter, "${device}", 9) == 0) {
			n += (size_t)snprintf(out + n, size - n, "%s", device);
			filter += 9;
		} else {
			out[n++] = *filter++;
		}
		assert_true(n < size);
	}
	out[n] = '\0';
}

static void check_device_filter(const char *filter, const char *device)
{
	char plain[128];

	expand(plain, sizeof(plain), filter, device);
	for (size_t t = 0; t < topic_count; t++)
		if (topic_matches(filter, device, topics[t]) != reference_matches(plain, topics[t]))
			fail_msg("filter '%s', device '%s', topic '%s'", filter, device, topics[t]);
	for (size_t a = 0; a < filter_count; a++) {
		if (topic_filter_covers(filter, device, filters[a]) !=
		    topic_filter_covers(plain, NULL, filters[a]))
			fail_msg("filter '%s', device '%s', asked '%s'", filter, device,
				 filters[a]);
		if (topic_filters_overlap(filter, device, filters[a]) !=
		    topic_filters_overlap(plain, NULL, filters[a]))
			fail_msg("filter '%s', device '%s', asked '%s'", filter, device,
				 filters[a]);
	}
}

static void test_device_variable_stands_for_the_id_wherever_it_is(void **state)
{
	static const char *const filter_list[] = {
		"${device}",	    "${device}/#",     "a/${device}",  "+/${device}",
		"a/${device}/a",    "a/${device}/+/#", "/${device}/",  "${device}/${device}",
		"$${device}",	    "${device}a",      "a${device}",   "${device}${device}",
		"a${device}a${dev", "${dev",	       "${device",     "a/${device}}",
		"${${device}}",	    "$/${device}/#",   "a/$${device}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(filter_list) / sizeof(*filter_list); i++) {
		check_device_filter(filter_list[i], "a");
		check_device_filter(filter_list[i], "z");
		check_device_filter(filter_list[i], "aa");
	}
	assert_true(topic_matches("a/x${device}y/b", "dev-1", "a/xdev-1y/b"));
	assert_false(topic_matches("a/x${device}y/b", "dev-1", "a/xdev-1/b"));
	assert_false(topic_matches("a/x${device}y/b", "dev-1", "a/xdev-11y/b"));
	assert_true(topic_matches("${device}${device}", "d1", "d1d1"));
	assert_true(topic_matches("a/${dev", "d1", "a/${dev"));
	assert_true(topic_matches("${device}", "d1", "d1"));
	assert_false(topic_matches("${device}", "d1", "d2"));
	assert_false(topic_matches("${device}", "d1", "${device}"));
}

static void test_device_variable_without_an_id_is_in_nothing(void **state)
{
	(void)state;
	assert_false(topic_matches("a/${device}", NULL, "a/${device}"));
	assert_false(topic_matches("a/#/${device}", NULL, "a/b"));
	assert_false(topic_filter_covers("a/${device}/#", NULL, "a/${device}/#"));
	assert_false(topic_filters_overlap("+/${device}", NULL, "#"));
	assert_false(topic_matches("a/${device}", "", "a/"));
}

static void test_an_id_that_is_no_level_never_widens_a_filter(void **state)
{
	(void)state;
	assert_false(topic_matches("a/${device}", "+", "a/b"));
	assert_false(topic_matches("a/${device}", "#", "a/b/c"));
	assert_false(topic_matches("a/${device}", "b/c", "a/b/c"));
	assert_false(topic_filter_covers("a/${device}", "#", "a/#"));
}

static void test_device_variable_of_a_client_is_plain_text(void **state)
{
	(void)state;
	assert_false(topic_filter_covers("a/${device}", "d1", "a/${device}"));
	assert_true(topic_filter_covers("a/+", "d1", "a/${device}"));
	assert_false(topic_filters_overlap("a/d1", "d1", "a/${device}"));
}

/* --- Validity --- */

static void test_validity_of_every_short_string(void **state)
{
	static const char alphabet[] = "a/+#$";
	const size_t base = sizeof(alphabet) - 1;

	(void)state;
	for (size_t len = 0, all = 1; len <= 6; len++, all *= base) {
		for (size_t n = 0; n < all; n++) {
			char s[8] = "";

			for (size_t i = 0, rest = n; i < len; i++, rest /= base)
				s[i] = alphabet[rest % base];
			if (topic_filter_valid(s) != reference_filter_valid(s))
				fail_msg("filter '%s'", s);
			if (topic_name_valid(s) != (len > 0 && !strchr(s, '+') && !strchr(s, '#')))
				fail_msg("topic '%s'", s);
		}
	}
}

/* Decodes by arithmetic and judges the code point, where topic.c judges the bytes. */
static bool reference_utf8_valid(const unsigned char *s)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};

	while (*s) {
		int len = *s < 0x80	  ? 1
			  : *s >> 5 == 6  ? 2
			  : *s >> 4 == 14 ? 3
			  : *s >> 3 == 30 ? 4
					  : 0;
		uint32_t c = len == 1 ? *s : len ? *s & (0x7fu >> len) : 0;

		for (int i = 1; i < len; i++) {
			if (s[i] >> 6 != 2)
				return false;
			c = c << 6 | (s[i] & 0x3fu);
		}
		if (len == 0 || c < least[len] || (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff)
			return false;
		s += len;
	}
	return true;
}

static void check_utf8(unsigned a, unsigned b, unsigned c, unsigned d)
{
	unsigned char s[5] = {(unsigned char)a, (unsigned char)b, (unsigned char)c,
			      (unsigned char)d, 0};
	bool valid = topic_name_valid((const char *)s);

	if (strpbrk((const char *)s, "+#") || !*s)
		return;
	if (valid != reference_utf8_valid(s))
		fail_msg("bytes %02x %02x %02x %02x", a, b, c, d);
}

/* MQTT 5.0 section 1.5.4: no surrogates, and only what RFC 3629 calls well-formed. */
static void test_only_well_formed_utf8_is_valid(void **state)
{
	static const unsigned tails[] = {0x00, 0x41, 0x7f, 0x80, 0x8f,
					 0x90, 0xa0, 0xbf, 0xc0, 0xff};

	(void)state;
	for (unsigned a = 1; a < 256; a++)
		for (unsigned b = 0; b < 256; b++)
			for (size_t c = 0; c < 10; c++)
				for (size_t d = 0; d < 10; d++)
					check_utf8(a, b, tails[c], tails[d]);
	assert_false(topic_name_valid("a/\xc0\x80"));		/* overlong U+0000 */
	assert_false(topic_name_valid("a/\xed\xa0\x80"));	/* U+D800 */
	assert_false(topic_filter_valid("+/\xf4\x90\x80\x80")); /* U+110000 */
	assert_true(topic_name_valid("a/\xef\xbb\xbf"));	/* U+FEFF is kept */
	assert_true(topic_name_valid("m/d/gr\xc3\xbc\xc3\x9f/\xf0\x9f\x93\xa1"));
}

static void test_the_longest_topic_has_65535_bytes(void **state)
{
	char *topic = malloc(TOPIC_MAX_BYTES + 2);

	(void)state;
	assert_non_null(topic);
	memset(topic, 'a', TOPIC_MAX_BYTES + 1);
	topic[TOPIC_MAX_BYTES] = '\0';
	assert_true(topic_name_valid(topic));
	assert_true(topic_filter_valid(topic));
	topic[TOPIC_MAX_BYTES] = 'a';
	topic[TOPIC_MAX_BYTES + 1] = '\0';
	assert_false(topic_name_valid(topic));
	assert_false(topic_filter_valid(topic));
	free(topic);
}

static void test_shared_subscription_means_its_filter(void **state)
{
	const char *plain = "m/d/#";

	(void)state;
	assert_ptr_equal(topic_shared_filter(plain), plain);
	assert_string_equal(topic_shared_filter("$share/group/m/d/#"), "m/d/#");
	assert_string_equal(topic_shared_filter("$share/group//"), "/");
	assert_string_equal(topic_shared_filter("$share"), "$share");
	assert_string_equal(topic_shared_filter("$shared/a"), "$shared/a");
	assert_null(topic_shared_filter("$share/"));
	assert_null(topic_shared_filter("$share/group"));
	assert_null(topic_shared_filter("$share/group/"));
	assert_null(topic_shared_filter("$share//m/d"));
	assert_null(topic_shared_filter("$share/gr+oup/m/d"));
	assert_null(topic_shared_filter("$share/#/m/d"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matching_is_as_the_specification_says),
		cmocka_unit_test(test_a_filter_covers_another_when_no_topic_contradicts),
		cmocka_unit_test(test_two_filters_overlap_when_some_topic_is_in_both),
		cmocka_unit_test(test_examples_of_the_specification),
		cmocka_unit_test(test_device_variable_stands_for_the_id_wherever_it_is),
		cmocka_unit_test(test_device_variable_without_an_id_is_in_nothing),
		cmocka_unit_test(test_an_id_that_is_no_level_never_widens_a_filter),
		cmocka_unit_test(test_device_variable_of_a_client_is_plain_text),
		cmocka_unit_test(test_validity_of_every_short_string),
		cmocka_unit_test(test_only_well_formed_utf8_is_valid),
		cmocka_unit_test(test_the_longest_topic_has_65535_bytes),
		cmocka_unit_test(test_shared_subscription_means_its_filter),
	};

	return cmocka_run_group_tests(tests, make_world, NULL);
}
