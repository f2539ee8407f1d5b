/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/dtls/identity.h"

#include <string.h>

#include "core/base/clock.h"

/* A credential is good in the whole second of its end, and both clocks are somewhere within a
 * second when one is read after the other: the session must not end before, or its device would be
 * let in again for that moment. */
#define END_MARGIN_S 2

static int64_t monotonic_s(void)
{
	return clock_monotonic_us() / US_PER_S;
}

void dtls_identity_limit(struct dtls_identity *i, int64_t valid_for_s)
{
	int64_t ends_s = monotonic_s() + END_MARGIN_S;

	if (valid_for_s >= UINT32_MAX - ends_s)
		return; /* in 136 years */
	if (valid_for_s > 0)
		ends_s += valid_for_s;
	if (i->ends_s == 0 || ends_s < i->ends_s)
		i->ends_s = (uint32_t)ends_s;
}

void dtls_identity_set(struct dtls_identity *out, const struct identity *found)
{
	memset(out, 0, sizeof(*out));
	memcpy(out->id, found->principal->id, strlen(found->principal->id) + 1);
	out->kind = (uint8_t)found->credential->kind;
	memcpy(out->fingerprint, found->credential->fingerprint, FINGERPRINT_LEN);
	out->edition = found->credential->edition;
	dtls_identity_limit(out, found->valid_for_s);
}

bool dtls_identity_expired(const struct dtls_identity *i)
{
	return i->ends_s != 0 && monotonic_s() >= i->ends_s;
}
