/* SPDX-License-Identifier: Apache-2.0 */
/* What a policy allows, rule by rule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/registry/policy.h"

#define POLICY(...)                                                                                \
	(const struct policy)                                                                      \
	{                                                                                          \
		.name = "test",                                                                    \
		.rule_count =                                                                      \
			sizeof((struct policy_rule[]){__VA_ARGS__}) / sizeof(struct policy_rule),  \
		.rules = (const struct policy_rule[]){__VA_ARGS__},                                \
	}
#define ALLOW(action, filter)                                                                      \
	{                                                                                          \
		false, POLICY_##action, filter                                                     \
	}
#define DENY(action, filter)                                                                       \
	{                                                                                          \
		true, POLICY_##action, filter                                                      \
	}

/* The rules of the policy `device` in sql/0001_registry.sql. */
static const struct policy_rule device_rules[] = {
	ALLOW(PUBLISH, "m/d/${device}/d2c"),   ALLOW(PUBLISH, "m/d/${device}/d2c/#"),
	ALLOW(SUBSCRIBE, "m/d/${device}/c2d"), ALLOW(SUBSCRIBE, "m/d/${device}/c2d/#"),
	ALLOW(RECEIVE, "m/d/${device}/c2d"),   ALLOW(RECEIVE, "m/d/${device}/c2d/#"),
};
static const struct policy device = {"device", 6, device_rules};

static bool may_publish(const struct policy *p, const char *topic)
{
	return policy_allows(p, POLICY_PUBLISH, "dev-1", topic);
}

static bool may_subscribe(const struct policy *p, const char *filter)
{
	return policy_allows(p, POLICY_SUBSCRIBE, "dev-1", filter);
}

static bool may_receive(const struct policy *p, const char *topic)
{
	return policy_allows(p, POLICY_RECEIVE, "dev-1", topic);
}

static void test_nothing_is_allowed_without_a_rule(void **state)
{
	const struct policy none = {"none", 0, NULL};

	(void)state;
	assert_false(may_publish(&none, "a"));
	assert_false(may_subscribe(&none, "a"));
	assert_false(may_receive(&none, "a"));
	assert_false(may_publish(NULL, "a"));
	assert_false(policy_allows(&device, POLICY_PUBLISH, NULL, "m/d/dev-1/d2c"));
}

static void test_relay_is_a_right_of_its_own(void **state)
{
	static const struct policy_rule rules[] = {ALLOW(PUBLISH, "#"), ALLOW(RELAY, "m/d/#")};
	const struct policy bus = {"bus", 2, rules};

	(void)state;
	assert_true(policy_allows(&bus, POLICY_RELAY, "coap", "m/d/dev-1/d2c"));
	assert_false(policy_allows(&bus, POLICY_RELAY, "coap", "alarms"));
	assert_true(policy_allows(&bus, POLICY_PUBLISH, "coap", "alarms"));
	assert_false(policy_allows(&device, POLICY_RELAY, "dev-1", "m/d/dev-1/d2c"));
}

static void test_device_publishes_its_own_d2c_topics_only(void **state)
{
	(void)state;
	assert_true(may_publish(&device, "m/d/dev-1/d2c"));
	assert_true(may_publish(&device, "m/d/dev-1/d2c/bulk"));
	assert_true(may_publish(&device, "m/d/dev-1/d2c/a/b"));
	assert_false(may_publish(&device, "m/d/dev-2/d2c"));
	assert_false(may_publish(&device, "m/d/dev-11/d2c"));
	assert_false(may_publish(&device, "m/d/dev-1/d2cx"));
	assert_false(may_publish(&device, "m/d/dev-1/c2d"));
	assert_false(may_publish(&device, "m/d/dev-1"));
	assert_false(may_publish(&device, "/m/d/dev-1/d2c"));
	assert_false(may_publish(&device, "$SYS/broker/uptime"));
}

static void test_device_subscribes_its_own_c2d_topics_only(void **state)
{
	(void)state;
	assert_true(may_subscribe(&device, "m/d/dev-1/c2d"));
	assert_true(may_subscribe(&device, "m/d/dev-1/c2d/#"));
	assert_true(may_subscribe(&device, "m/d/dev-1/c2d/+/r"));
	assert_false(may_subscribe(&device, "m/d/+/c2d"));
	assert_false(may_subscribe(&device, "m/d/dev-2/c2d"));
	assert_false(may_subscribe(&device, "m/d/dev-1/#"));
	assert_false(may_subscribe(&device, "m/d/dev-1/+"));
	assert_false(may_subscribe(&device, "#"));
	assert_false(may_subscribe(&device, "$SYS/#"));
	assert_false(may_subscribe(&device, "m/d/dev-1/d2c"));
}

static void test_device_receives_its_own_c2d_topics_only(void **state)
{
	(void)state;
	assert_true(may_receive(&device, "m/d/dev-1/c2d"));
	assert_true(may_receive(&device, "m/d/dev-1/c2d/x"));
	assert_false(may_receive(&device, "m/d/dev-2/c2d"));
	assert_false(may_receive(&device, "m/d/dev-1/d2c"));
}

static void test_deny_wins_wherever_it_stands(void **state)
{
	const struct policy first = POLICY(DENY(PUBLISH, "a/secret/#"), ALLOW(PUBLISH, "a/#"));
	const struct policy last = POLICY(ALLOW(PUBLISH, "a/#"), DENY(PUBLISH, "a/secret/#"));
	const struct policy between = POLICY(ALLOW(PUBLISH, "a/#"), DENY(PUBLISH, "a/secret/#"),
					     ALLOW(PUBLISH, "a/secret/x"));

	(void)state;
	assert_true(may_publish(&first, "a/b"));
	assert_false(may_publish(&first, "a/secret/x"));
	assert_true(may_publish(&last, "a/b"));
	assert_false(may_publish(&last, "a/secret"));
	assert_false(may_publish(&between, "a/secret/x"));
}

static void test_deny_of_one_action_leaves_the_others(void **state)
{
	const struct policy p = POLICY(ALLOW(PUBLISH, "a/#"), ALLOW(RECEIVE, "a/#"),
				       ALLOW(SUBSCRIBE, "a/#"), DENY(PUBLISH, "a/#"));

	(void)state;
	assert_false(may_publish(&p, "a/b"));
	assert_true(may_receive(&p, "a/b"));
	assert_true(may_subscribe(&p, "a/b"));
}

static void test_subscription_that_could_reach_a_denied_topic_is_refused(void **state)
{
	const struct policy p = POLICY(ALLOW(SUBSCRIBE, "a/#"), DENY(SUBSCRIBE, "a/+/secret"));

	(void)state;
	assert_true(may_subscribe(&p, "a/b/open"));
	assert_true(may_subscribe(&p, "a/+"));
	assert_false(may_subscribe(&p, "a/b/secret"));
	assert_false(may_subscribe(&p, "a/b/+"));
	assert_false(may_subscribe(&p, "a/#"));
	assert_false(may_subscribe(&p, "a/b/#"));
}

static void test_one_rule_must_cover_the_whole_subscription(void **state)
{
	const struct policy p = POLICY(ALLOW(SUBSCRIBE, "a/b"), ALLOW(SUBSCRIBE, "a/c/#"));

	(void)state;
	assert_true(may_subscribe(&p, "a/b"));
	assert_false(may_subscribe(&p, "a/+"));
	assert_false(may_subscribe(&p, "a/#"));
}

static void test_denied_device_variable_reaches_wildcards(void **state)
{
	const struct policy p =
		POLICY(ALLOW(SUBSCRIBE, "m/d/#"), DENY(SUBSCRIBE, "m/d/${device}/private"));

	(void)state;
	assert_false(may_subscribe(&p, "m/d/+/private"));
	assert_true(may_subscribe(&p, "m/d/dev-2/private"));
}

static void test_of_a_shared_subscription_the_filter_counts(void **state)
{
	(void)state;
	assert_true(may_subscribe(&device, "$share/g/m/d/dev-1/c2d/#"));
	assert_false(may_subscribe(&device, "$share/g/m/d/dev-2/c2d/#"));
	assert_false(may_subscribe(&device, "$share/g/#"));
	assert_false(may_subscribe(&device, "$share/m/d/dev-1/c2d"));
	assert_false(may_subscribe(&device, "$share/g+/m/d/dev-1/c2d"));
	assert_false(may_subscribe(&device, "$share//m/d/dev-1/c2d"));
}

static void test_wildcards_do_not_reach_dollar_topics(void **state)
{
	const struct policy all = POLICY(ALLOW(PUBLISH, "#"), ALLOW(SUBSCRIBE, "#"));

	(void)state;
	assert_true(may_publish(&all, "a/b"));
	assert_false(may_publish(&all, "$SYS/broker"));
	assert_true(may_subscribe(&all, "#"));
	assert_false(may_subscribe(&all, "$SYS/#"));
}

static void test_what_is_no_topic_is_never_allowed(void **state)
{
	const struct policy all =
		POLICY(ALLOW(PUBLISH, "#"), ALLOW(SUBSCRIBE, "#"), ALLOW(RECEIVE, "#"));

	(void)state;
	assert_false(may_publish(&all, ""));
	assert_false(may_publish(&all, "a/+"));
	assert_false(may_publish(&all, "#"));
	assert_false(may_publish(&all, "a/\xff"));
	assert_false(may_receive(&all, "a/#"));
	assert_false(may_subscribe(&all, "a#"));
	assert_false(may_subscribe(&all, "a/#/b"));
	assert_false(may_subscribe(&all, ""));
	assert_false(may_publish(&all, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_allowed_without_a_rule),
		cmocka_unit_test(test_relay_is_a_right_of_its_own),
		cmocka_unit_test(test_device_publishes_its_own_d2c_topics_only),
		cmocka_unit_test(test_device_subscribes_its_own_c2d_topics_only),
		cmocka_unit_test(test_device_receives_its_own_c2d_topics_only),
		cmocka_unit_test(test_deny_wins_wherever_it_stands),
		cmocka_unit_test(test_deny_of_one_action_leaves_the_others),
		cmocka_unit_test(test_subscription_that_could_reach_a_denied_topic_is_refused),
		cmocka_unit_test(test_one_rule_must_cover_the_whole_subscription),
		cmocka_unit_test(test_denied_device_variable_reaches_wildcards),
		cmocka_unit_test(test_of_a_shared_subscription_the_filter_counts),
		cmocka_unit_test(test_wildcards_do_not_reach_dollar_topics),
		cmocka_unit_test(test_what_is_no_topic_is_never_allowed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
