/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots: what goes in is found again, what is wrong is refused, and nothing is looked up
 * slowly. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/registry/snapshot.h"

static char err[256];

static void fingerprint_of(uint8_t out[FINGERPRINT_LEN], unsigned n)
{
	memset(out, 0, FINGERPRINT_LEN);
	memcpy(out, &n, sizeof(n));
}

static int add_policy(struct snapshot_builder *b, const char *name)
{
	return snapshot_add_policy(b, name, err, sizeof(err));
}

static int add_rule(struct snapshot_builder *b, const char *policy, const char *filter)
{
	return snapshot_add_policy_rule(b, policy, false, POLICY_PUBLISH, filter, err, sizeof(err));
}

static int add_principal(struct snapshot_builder *b, const char *id, const char *policy)
{
	return snapshot_add_principal(b, id, PRINCIPAL_DEVICE, PRINCIPAL_ACTIVE, policy, err,
				      sizeof(err));
}

static int add_credential(struct snapshot_builder *b, unsigned n, const char *principal,
			  bool revoked)
{
	uint8_t fingerprint[FINGERPRINT_LEN];

	fingerprint_of(fingerprint, n);
	return snapshot_add_credential(b, CREDENTIAL_X509, fingerprint, principal, revoked, NULL, 0,
				       err, sizeof(err));
}

static const struct credential *find(const struct snapshot *s, enum credential_kind kind,
				     unsigned n)
{
	uint8_t fingerprint[FINGERPRINT_LEN];

	fingerprint_of(fingerprint, n);
	return snapshot_credential(s, kind, fingerprint);
}

static void test_ids_are_letters_digits_and_four_signs(void **state)
{
	char long_id[PRINCIPAL_ID_MAX + 1];

	(void)state;
	memset(long_id, 'a', sizeof(long_id));
	assert_true(principal_id_valid("Dev_1.a:b-c", 11));
	assert_true(principal_id_valid(long_id, PRINCIPAL_ID_MAX));
	assert_false(principal_id_valid(long_id, PRINCIPAL_ID_MAX + 1));
	assert_false(principal_id_valid("", 0));
	for (int c = 0; c < 256; c++) {
		char id[] = {'a', (char)c, 'b'};
		bool good = c && c < 128 &&
			    strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
				   "_.:-",
				   c);

		if (principal_id_valid(id, 3) != good)
			fail_msg("byte %d", c);
	}
}

static void test_names_are_those_of_sql(void **state)
{
	(void)state;
	assert_int_equal(principal_state_parse("pending"), PRINCIPAL_PENDING);
	assert_int_equal(principal_state_parse("active"), PRINCIPAL_ACTIVE);
	assert_int_equal(principal_state_parse("suspended"), PRINCIPAL_SUSPENDED);
	assert_int_equal(principal_state_parse("revoked"), PRINCIPAL_REVOKED);
	assert_int_equal(principal_state_parse("Active"), -1);
	assert_string_equal(principal_state_name(PRINCIPAL_SUSPENDED), "suspended");
	assert_int_equal(principal_kind_parse("device"), PRINCIPAL_DEVICE);
	assert_int_equal(principal_kind_parse("service"), PRINCIPAL_SERVICE);
	assert_int_equal(principal_kind_parse(""), -1);
	assert_int_equal(credential_kind_parse("x509"), CREDENTIAL_X509);
	assert_int_equal(credential_kind_parse("x509_key"), CREDENTIAL_X509_KEY);
	assert_int_equal(credential_kind_parse("jwt"), CREDENTIAL_JWT);
	assert_int_equal(credential_kind_parse("psk"), CREDENTIAL_PSK);
	assert_int_equal(credential_kind_parse("token"), CREDENTIAL_TOKEN);
	assert_int_equal(credential_kind_parse("tokens"), -1);
	assert_string_equal(credential_kind_name(CREDENTIAL_PSK), "psk");
	assert_int_equal(policy_action_parse("publish"), POLICY_PUBLISH);
	assert_int_equal(policy_action_parse("subscribe"), POLICY_SUBSCRIBE);
	assert_int_equal(policy_action_parse("receive"), POLICY_RECEIVE);
	assert_int_equal(policy_action_parse("relay"), POLICY_RELAY);
	assert_int_equal(policy_action_parse("*"), -1);
}

/* How many of these the walk gives; each must be one that it was asked for. */
static size_t walk(const struct snapshot *s, const char *id, enum credential_kind kind)
{
	const struct principal *p = snapshot_principal(s, id);
	const struct credential *c = NULL, *seen[8];
	size_t n = 0;

	while ((c = snapshot_credential_next(s, p, kind, c))) {
		assert_ptr_equal(c->principal, p);
		assert_int_equal(c->kind, kind);
		for (size_t i = 0; i < n; i++)
			assert_ptr_not_equal(c, seen[i]);
		assert_true(n < 8);
		seen[n++] = c;
	}
	return n;
}

static void test_credentials_of_a_principal_are_walked_by_kind(void **state)
{
	struct snapshot_builder *b = snapshot_builder_new();
	const struct snapshot *s;

	(void)state;
	assert_int_equal(add_policy(b, "device"), 0);
	assert_int_equal(add_principal(b, "dev-1", "device"), 0);
	assert_int_equal(add_principal(b, "dev-2", "device"), 0);
	assert_int_equal(add_principal(b, "dev-3", "device"), 0);
	for (unsigned n = 0; n < 12; n++) {
		const char *id = n % 2 ? "dev-1" : "dev-2";
		enum credential_kind kind = n % 3 ? CREDENTIAL_JWT : CREDENTIAL_X509;
		uint8_t fingerprint[FINGERPRINT_LEN];

		fingerprint_of(fingerprint, n);
		assert_int_equal(snapshot_add_credential(b, kind, fingerprint, id, n % 4 == 1, NULL,
							 0, err, sizeof(err)),
				 0);
	}
	s = snapshot_build(b, 1);
	assert_int_equal(walk(s, "dev-1", CREDENTIAL_JWT), 4);
	assert_int_equal(walk(s, "dev-1", CREDENTIAL_X509), 2);
	assert_int_equal(walk(s, "dev-1", CREDENTIAL_PSK), 0);
	assert_int_equal(walk(s, "dev-2", CREDENTIAL_JWT), 4);
	assert_int_equal(walk(s, "dev-3", CREDENTIAL_JWT), 0);
	snapshot_release(s);
}

static void test_what_was_added_is_found(void **state)
{
	struct snapshot_builder *b = snapshot_builder_new();
	const uint8_t key[FINGERPRINT_LEN] = {7};
	const struct snapshot *s;
	const struct principal *p;
	const struct credential *c;

	(void)state;
	assert_int_equal(add_policy(b, "device"), 0);
	assert_int_equal(add_rule(b, "device", "m/d/${device}/d2c"), 0);
	assert_int_equal(snapshot_add_principal(b, "dev-1", PRINCIPAL_SERVICE, PRINCIPAL_SUSPENDED,
						"device", err, sizeof(err)),
			 0);
	assert_int_equal(snapshot_add_credential(b, CREDENTIAL_JWT, key, "dev-1", false, "abc", 3,
						 err, sizeof(err)),
			 0);
	assert_int_equal(add_credential(b, 1, "dev-1", true), 0);
	s = snapshot_build(b, 42);

	assert_int_equal(snapshot_version(s), 42);
	assert_int_equal(snapshot_principal_count(s), 1);
	p = snapshot_principal(s, "dev-1");
	assert_non_null(p);
	assert_string_equal(p->id, "dev-1");
	assert_int_equal(p->kind, PRINCIPAL_SERVICE);
	assert_int_equal(p->state, PRINCIPAL_SUSPENDED);
	assert_string_equal(p->policy->name, "device");
	assert_int_equal(p->policy->rule_count, 1);
	assert_string_equal(p->policy->rules[0].filter, "m/d/${device}/d2c");
	assert_int_equal(snapshot_credential_count(s, p), 1);
	c = snapshot_credential(s, CREDENTIAL_JWT, key);
	assert_non_null(c);
	assert_ptr_equal(c->principal, p);
	assert_false(c->revoked);
	assert_int_equal(c->material_len, 3);
	assert_memory_equal(c->material, "abc", 3);
	assert_true(find(s, CREDENTIAL_X509, 1)->revoked);
	assert_null(find(s, CREDENTIAL_X509, 1)->material);
	assert_null(find(s, CREDENTIAL_X509, 2));
	assert_null(find(s, CREDENTIAL_PSK, 1));
	assert_null(snapshot_principal(s, "dev-2"));
	assert_null(snapshot_principal(s, ""));
	snapshot_release(s);
}

static void test_empty_snapshot_knows_nobody(void **state)
{
	const struct snapshot *s = snapshot_build(snapshot_builder_new(), 0);

	(void)state;
	assert_null(snapshot_principal(s, "dev-1"));
	assert_null(find(s, CREDENTIAL_X509, 1));
	assert_int_equal(snapshot_principal_count(s), 0);
	assert_int_equal(snapshot_rule_count(s), 0);
	assert_int_equal(snapshot_version(s), 0);
	snapshot_release(s);
	snapshot_release(NULL);
}

static void test_wrong_entries_are_refused_and_leave_no_trace(void **state)
{
	struct snapshot_builder *b = snapshot_builder_new();
	const uint8_t fingerprint[FINGERPRINT_LEN] = {0};
	static const char big[5000];
	const struct snapshot *s;

	(void)state;
	assert_int_equal(add_policy(b, "no/name"), -EINVAL);
	assert_int_equal(add_rule(b, "missing", "a"), -EINVAL);
	assert_string_equal(err, "there is no policy 'missing'");
	assert_int_equal(add_policy(b, "p"), 0);
	assert_int_equal(add_rule(b, "p", "a/#/b"), -EINVAL);
	assert_string_equal(err, "'a/#/b' is not a topic filter");
	assert_int_equal(add_rule(b, "p", "m/${devcie}/#"), -EINVAL);
	assert_string_equal(err, "'m/${devcie}/#' holds a variable other than ${device}");
	assert_int_equal(add_principal(b, "a+b", "p"), -EINVAL);
	assert_int_equal(add_principal(b, "dev-1", "missing"), -EINVAL);
	assert_int_equal(add_credential(b, 1, "dev-1", false), -EINVAL);
	assert_string_equal(err, "there is no principal 'dev-1'");
	assert_int_equal(add_principal(b, "dev-1", "p"), 0);
	assert_int_equal(snapshot_add_credential(b, CREDENTIAL_JWT, fingerprint, "dev-1", false,
						 big, sizeof(big), err, sizeof(err)),
			 -EINVAL);
	s = snapshot_build(b, 1);
	assert_int_equal(snapshot_principal_count(s), 1);
	assert_int_equal(snapshot_principal(s, "dev-1")->policy->rule_count, 0);
	assert_int_equal(snapshot_credential_count(s, snapshot_principal(s, "dev-1")), 0);
	snapshot_release(s);
}

static void test_nothing_is_added_twice(void **state)
{
	struct snapshot_builder *b = snapshot_builder_new();
	const struct snapshot *s;

	(void)state;
	assert_int_equal(add_policy(b, "p"), 0);
	assert_int_equal(add_policy(b, "q"), 0);
	assert_int_equal(add_policy(b, "p"), -EEXIST);
	assert_int_equal(add_rule(b, "p", "a"), 0);
	assert_int_equal(add_rule(b, "p", "a"), -EEXIST);
	assert_int_equal(add_rule(b, "q", "a"), 0);
	assert_int_equal(
		snapshot_add_policy_rule(b, "p", true, POLICY_PUBLISH, "a", err, sizeof(err)), 0);
	assert_int_equal(
		snapshot_add_policy_rule(b, "p", true, POLICY_RECEIVE, "a", err, sizeof(err)), 0);
	assert_int_equal(add_principal(b, "dev-1", "p"), 0);
	assert_int_equal(add_principal(b, "dev-1", "q"), -EEXIST);
	assert_int_equal(add_principal(b, "dev-2", "q"), 0);
	assert_int_equal(add_credential(b, 1, "dev-1", false), 0);
	assert_int_equal(add_credential(b, 1, "dev-2", false), -EEXIST);
	s = snapshot_build(b, 1);
	assert_string_equal(snapshot_principal(s, "dev-1")->policy->name, "p");
	assert_string_equal(find(s, CREDENTIAL_X509, 1)->principal->id, "dev-1");
	assert_int_equal(snapshot_credential_count(s, snapshot_principal(s, "dev-2")), 0);
	snapshot_release(s);
}

static int add_message_rule(struct snapshot_builder *b, const char *name, const char *sql)
{
	return snapshot_add_rule(b, &(struct snapshot_rule){name, 7, sql, "[]", NULL}, err,
				 sizeof(err));
}

static void test_rules_are_kept_as_they_stand(void **state)
{
	struct snapshot_builder *b = snapshot_builder_new();
	char sql[] = "this is not judged here";
	const struct snapshot *s;

	(void)state;
	assert_int_equal(add_message_rule(b, "hot", sql), 0);
	sql[0] = 'X';
	assert_int_equal(snapshot_add_rule(b, &(struct snapshot_rule){"a:b", -1, "", "{", "null"},
					   err, sizeof(err)),
			 0);
	s = snapshot_build(b, 1);
	assert_int_equal(snapshot_rule_count(s), 2);
	assert_string_equal(snapshot_rule_at(s, 0)->name, "hot");
	assert_int_equal(snapshot_rule_at(s, 0)->revision, 7);
	assert_string_equal(snapshot_rule_at(s, 0)->sql, "this is not judged here");
	assert_null(snapshot_rule_at(s, 0)->error_action);
	assert_string_equal(snapshot_rule_at(s, 1)->actions, "{");
	assert_string_equal(snapshot_rule_at(s, 1)->error_action, "null");
	snapshot_release(s);
}

static void test_wrong_rules_are_refused(void **state)
{
	struct snapshot_builder *b = snapshot_builder_new();
	static char longest[SNAPSHOT_TEXT_MAX + 2];
	const struct snapshot *s;

	(void)state;
	memset(longest, 'x', SNAPSHOT_TEXT_MAX + 1);
	assert_int_equal(add_message_rule(b, "no name", "x"), -EINVAL);
	assert_int_equal(add_message_rule(b, "", "x"), -EINVAL);
	assert_int_equal(add_message_rule(b, "long", longest), -EINVAL);
	assert_string_equal(err, "its sql, actions or error_action has more than 65535 bytes");
	longest[SNAPSHOT_TEXT_MAX] = '\0';
	assert_int_equal(add_message_rule(b, "long", longest), 0);
	assert_int_equal(add_message_rule(b, "long", "x"), -EEXIST);
	s = snapshot_build(b, 1);
	assert_int_equal(snapshot_rule_count(s), 1);
	assert_string_equal(snapshot_rule_at(s, 0)->sql, longest);
	snapshot_release(s);
}

static void test_a_builder_can_be_given_up(void **state)
{
	struct snapshot_builder *b = snapshot_builder_new();

	(void)state;
	assert_int_equal(add_policy(b, "p"), 0);
	assert_int_equal(add_rule(b, "p", "a"), 0);
	assert_int_equal(add_principal(b, "dev-1", "p"), 0);
	snapshot_builder_free(b);
	snapshot_builder_free(NULL);
}

static void test_many_rules_keep_their_order(void **state)
{
	struct snapshot_builder *b = snapshot_builder_new();
	const struct snapshot *s;
	const struct policy *p;
	char filter[32];

	(void)state;
	assert_int_equal(add_policy(b, "p"), 0);
	assert_int_equal(add_principal(b, "dev-1", "p"), 0);
	for (int i = 0; i < 1000; i++) {
		snprintf(filter, sizeof(filter), "a/%d", i);
		assert_int_equal(add_rule(b, "p", filter), 0);
	}
	s = snapshot_build(b, 1);
	p = snapshot_principal(s, "dev-1")->policy;
	assert_int_equal(p->rule_count, 1000);
	for (int i = 0; i < 1000; i++) {
		snprintf(filter, sizeof(filter), "a/%d", i);
		assert_string_equal(p->rules[i].filter, filter);
	}
	snapshot_release(s);
}

/* Prints how long it took: a figure, not a condition. */
static void test_a_hundred_thousand_devices(void **state)
{
	const unsigned count = 100000;
	int64_t start = clock_monotonic_us(), built;
	struct snapshot_builder *b = snapshot_builder_new();
	const struct snapshot *s;
	char id[32];

	(void)state;
	assert_int_equal(add_policy(b, "device"), 0);
	for (unsigned i = 0; i < count; i++) {
		snprintf(id, sizeof(id), "nrf-%015u", i);
		assert_int_equal(add_principal(b, id, "device"), 0);
	}
	for (unsigned i = 0; i < count; i++) {
		snprintf(id, sizeof(id), "nrf-%015u", i);
		assert_int_equal(add_credential(b, i, id, false), 0);
	}
	s = snapshot_build(b, 1);
	built = clock_monotonic_us();
	for (unsigned i = 0; i < count; i++) {
		snprintf(id, sizeof(id), "nrf-%015u", i);
		assert_string_equal(find(s, CREDENTIAL_X509, i)->principal->id, id);
		assert_non_null(snapshot_principal(s, id));
	}
	print_message("%u principals with credentials: built in %d ms, all looked up in %d ms\n",
		      count, (int)((built - start) / US_PER_MS),
		      (int)((clock_monotonic_us() - built) / US_PER_MS));
	assert_int_equal(snapshot_principal_count(s), count);
	snapshot_release(s);
}

static void *retain_and_release(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		const struct snapshot *s = snapshot_retain(arg);

		if (!snapshot_principal(s, "dev-1"))
			return arg;
		snapshot_release(s);
	}
	snapshot_release(arg);
	return NULL;
}

/* Run with MODE=asan: the last reference may be any thread's. */
static void test_threads_share_a_snapshot(void **state)
{
	struct snapshot_builder *b = snapshot_builder_new();
	const struct snapshot *s;
	pthread_t threads[3];

	(void)state;
	assert_int_equal(add_policy(b, "p"), 0);
	assert_int_equal(add_principal(b, "dev-1", "p"), 0);
	s = snapshot_build(b, 1);
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, retain_and_release,
						(void *)snapshot_retain(s)),
				 0);
	snapshot_release(s);
	for (int i = 0; i < 3; i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ids_are_letters_digits_and_four_signs),
		cmocka_unit_test(test_names_are_those_of_sql),
		cmocka_unit_test(test_what_was_added_is_found),
		cmocka_unit_test(test_credentials_of_a_principal_are_walked_by_kind),
		cmocka_unit_test(test_empty_snapshot_knows_nobody),
		cmocka_unit_test(test_wrong_entries_are_refused_and_leave_no_trace),
		cmocka_unit_test(test_nothing_is_added_twice),
		cmocka_unit_test(test_rules_are_kept_as_they_stand),
		cmocka_unit_test(test_wrong_rules_are_refused),
		cmocka_unit_test(test_a_builder_can_be_given_up),
		cmocka_unit_test(test_many_rules_keep_their_order),
		cmocka_unit_test(test_a_hundred_thousand_devices),
		cmocka_unit_test(test_threads_share_a_snapshot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
