/* SPDX-License-Identifier: Apache-2.0 */
/* The report of an error, with the members that AWS IoT gives its error action. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include <openssl/evp.h>

#include "core/payload/text.h"
#include "core/rule/set_internal.h"

/* As long a payload as RULE_RESULT_MAX can hold in base64; a longer one is left out: null. */
#define PAYLOAD_MAX (RULE_RESULT_MAX / 4 * 3)

#define REPORT_MEMBERS	5
#define FAILURE_MEMBERS 3

static struct value text(const char *s)
{
	return (struct value){.type = VALUE_TEXT, .u.text = {.data = s, .len = strlen(s)}};
}

static struct value text_or_null(const char *s)
{
	return s ? text(s) : (struct value){.type = VALUE_NULL};
}

static struct member member(const char *key, struct value v)
{
	return (struct member){.key = key, .key_len = strlen(key), .value = v};
}

static int original_payload(struct value *out, const struct rule_input *in, struct arena *a)
{
	unsigned char *base64;

	*out = (struct value){.type = VALUE_NULL};
	if (in->raw_len > PAYLOAD_MAX)
		return 0;
	base64 = arena_alloc(a, (in->raw_len + 2) / 3 * 4 + 1);
	if (!base64)
		return -ENOMEM;
	EVP_EncodeBlock(base64, in->raw, (int)in->raw_len);
	*out = text((const char *)base64);
	return 0;
}

static int failures(struct value *out, const struct rule_failure *failure, struct arena *a)
{
	struct value *item = arena_alloc(a, sizeof(*item));
	struct member *m = arena_alloc(a, FAILURE_MEMBERS * sizeof(*m));
	char *why = arena_alloc(a, RULE_WHY_MAX);

	if (!item || !m || !why)
		return -ENOMEM;
	text_reason(why, RULE_WHY_MAX, 0, "%s", failure->why);
	m[0] = member("failedAction", text(failure->action));
	m[1] = member("failedResource", text_or_null(failure->object));
	m[2] = member("errorMessage", text(why));
	*item = (struct value){.type = VALUE_MAP, .u.map = {m, FAILURE_MEMBERS}};
	*out = (struct value){.type = VALUE_ARRAY, .u.array = {item, 1}};
	return 0;
}

int rule_report(struct value *out, const struct rule *r, const struct rule_input *in,
		const struct rule_failure *failure, struct arena *a)
{
	struct member *m = arena_alloc(a, REPORT_MEMBERS * sizeof(*m));
	struct value payload, list;
	int rc = m ? original_payload(&payload, in, a) : -ENOMEM;

	if (rc == 0)
		rc = failures(&list, failure, a);
	if (rc != 0)
		return rc;
	m[0] = member("ruleName", text(r->name));
	m[1] = member("topic", text(in->topic));
	m[2] = member("clientId", text_or_null(in->device));
	m[3] = member("base64OriginalPayload", payload);
	m[4] = member("failures", list);
	*out = (struct value){.type = VALUE_MAP, .u.map = {m, REPORT_MEMBERS}};
	return 0;
}
