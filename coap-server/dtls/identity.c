/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/dtls/identity.h"

#include <string.h>

#include "core/base/clock.h"

static int64_t monotonic_s(void)
{
	return clock_monotonic_us() / US_PER_S;
}

void dtls_identity_limit(struct dtls_identity *i, int64_t valid_for_s)
{
	int64_t ends_s;

	if (valid_for_s >= UINT32_MAX - monotonic_s())
		return; /* after 136 years */
	ends_s = monotonic_s() + (valid_for_s > 0 ? valid_for_s : 0);
	if (ends_s < 1)
		ends_s = 1;
	if (i->ends_s == 0 || ends_s < i->ends_s)
		i->ends_s = (uint32_t)ends_s;
}

void dtls_identity_set(struct dtls_identity *out, const struct identity *found)
{
	memset(out, 0, sizeof(*out));
	memcpy(out->id, found->principal->id, strlen(found->principal->id) + 1);
	out->kind = (uint8_t)found->credential->kind;
	memcpy(out->fingerprint, found->credential->fingerprint, FINGERPRINT_LEN);
	dtls_identity_limit(out, found->valid_for_s);
}

bool dtls_identity_expired(const struct dtls_identity *i)
{
	return i->ends_s != 0 && monotonic_s() >= i->ends_s;
}
