/* SPDX-License-Identifier: Apache-2.0 */
#include "core/rule/template.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/rule/functions.h"

int rule_template_render(const struct rule_template *t, const struct rule_input *in,
			 struct arena *a, const char **out, char *why, size_t why_len)
{
	(void)in, (void)a, (void)out;
	snprintf(why, why_len, "rule '%s', %s: not evaluated yet", t->name, t->where);
	return -EBADMSG;
}
