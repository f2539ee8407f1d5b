/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules are tried one after another: the first that denies ends the search, one that allows does
 * not. Policies have a handful of rules, so a list in memory order is the fastest index there is.
 */
#include "core/registry/policy.h"

#include "core/registry/topic.h"

static bool rule_applies(const struct policy_rule *r, enum policy_action action,
			 const char *principal_id, const char *topic)
{
	if (r->action != action)
		return false;
	if (action != POLICY_SUBSCRIBE)
		return topic_matches(r->filter, principal_id, topic);
	if (r->deny)
		return topic_filters_overlap(r->filter, principal_id, topic);
	return topic_filter_covers(r->filter, principal_id, topic);
}

bool policy_allows(const struct policy *p, enum policy_action action, const char *principal_id,
		   const char *topic)
{
	bool allowed = false;

	if (!p || !principal_id || !topic)
		return false;
	if (action == POLICY_SUBSCRIBE) {
		topic = topic_shared_filter(topic);
		if (!topic || !topic_filter_valid(topic))
			return false;
	} else if (!topic_name_valid(topic)) {
		return false;
	}
	for (size_t i = 0; i < p->rule_count; i++) {
		const struct policy_rule *r = &p->rules[i];

		if ((allowed && !r->deny) || !rule_applies(r, action, principal_id, topic))
			continue;
		if (r->deny)
			return false;
		allowed = true;
	}
	return allowed;
}
