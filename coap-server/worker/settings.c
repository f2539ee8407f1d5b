/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/worker/settings.h"

#include <stdio.h>
#include <string.h>

#include "core/base/settings.h"

static const char *const by_reload[] = {
	"secrets.key_file",    "coap.certificate_file",	  "coap.key_file",
	"coap.client_ca_file", "coap.requests_per_s",	  "coap.requests_burst",
	"coap.jwt_leeway_s",   "coap.jwt_max_lifetime_s", "coap.jwt_clockless",
	"coap.jwt_audience",   "store.status_interval_s", "log.level",
};

static bool changes_by_reload(const char *name)
{
	for (size_t i = 0; i < sizeof(by_reload) / sizeof(*by_reload); i++)
		if (strcmp(by_reload[i], name) == 0)
			return true;
	return false;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same(const struct setting *s, const void *a, const void *b)
{
	return s->type == SETTING_TEXT ? same_text(*(char *const *)a, *(char *const *)b)
				       : *(const int64_t *)a == *(const int64_t *)b;
}

static void swap(const struct setting *s, void *a, void *b)
{
	size_t size = s->type == SETTING_TEXT ? sizeof(char *) : sizeof(int64_t);
	unsigned char t[sizeof(int64_t)];

	memcpy(t, a, size);
	memcpy(a, b, size);
	memcpy(b, t, size);
}

void settings_adopt(struct config *current, struct config *fresh, char *pending, size_t pending_len)
{
	size_t used = 0;

	pending[0] = '\0';
	for (size_t i = 0; i < setting_count; i++) {
		const struct setting *s = &settings[i];
		void *a = (char *)current + s->offset, *b = (char *)fresh + s->offset;

		if (changes_by_reload(s->name))
			swap(s, a, b);
		else if (!same(s, a, b) && used < pending_len)
			used += (size_t)snprintf(pending + used, pending_len - used, "%s%s",
						 used ? ", " : "", s->name);
	}
}
