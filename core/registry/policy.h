/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a principal may do: rights are (effect, action, topic filter with ${device}). Nothing is
 * allowed unless a rule allows it, and a rule that denies wins over all that allow. One check for
 * both protocols.
 */
#ifndef FG_REGISTRY_POLICY_H
#define FG_REGISTRY_POLICY_H

#include <stdbool.h>
#include <stddef.h>

enum policy_action {
	POLICY_PUBLISH,
	POLICY_SUBSCRIBE, /* the topic of the check is a filter and may hold wildcards */
	POLICY_RECEIVE,
	POLICY_RELAY, /* what is published comes from Fieldgate itself: it is not taken in again */
};

struct policy_rule {
	bool deny;
	enum policy_action action;
	const char *filter;
};

struct policy {
	const char *name;
	size_t rule_count;
	const struct policy_rule *rules;
};

/*
 * May the principal with this id and policy do that? Allocates nothing; any thread.
 * PUBLISH, RECEIVE and RELAY: the topic must match an allowing filter and no denying one.
 * SUBSCRIBE: an allowing filter must cover all of the asked filter, and no denying filter may
 * overlap it; of a shared subscription the filter counts. An invalid topic or filter is never
 * allowed.
 */
bool policy_allows(const struct policy *p, enum policy_action action, const char *principal_id,
		   const char *topic);

#endif
