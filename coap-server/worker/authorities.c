/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registry's authorities go to the DTLS endpoint, so that a device need not send the
 * certificate of its CA. With the registry they are in force within 5 s; which of them are trusted
 * is for coap.client_ca_file to say (coap-server/dtls/certificates.c).
 */
#include "coap-server/worker/internal.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"

static void ignored(void *arg, size_t i, const char *why)
{
	const struct worker *w = arg;

	log_warn("authority_ignored", NULL,
		 "%s: %s; a device with a certificate of it is refused, unless it sends a chain "
		 "that ends at a CA of coap.client_ca_file",
		 snapshot_authority_at(w->snapshot, i)->name, why);
}

/* They come in no order. */
static uint64_t digest_of(const struct snapshot *s)
{
	uint64_t digest = snapshot_authority_count(s), part;

	for (size_t i = 0; i < snapshot_authority_count(s); i++) {
		memcpy(&part, snapshot_authority_at(s, i)->fingerprint, sizeof(part));
		digest += part;
	}
	return digest;
}

void authorities_give(struct worker *w)
{
	size_t count = snapshot_authority_count(w->snapshot);
	struct certificate_der *list = calloc(count + 1, sizeof(*list));

	if (!list) {
		log_error("no_memory", NULL, "for the registry's authorities; the former stay");
		return;
	}
	for (size_t i = 0; i < count; i++) {
		const struct authority *a = snapshot_authority_at(w->snapshot, i);

		list[i] = (struct certificate_der){a->certificate, a->certificate_len};
	}
	dtls_set_authorities(w->dtls, list, count, ignored, w);
	w->authorities = digest_of(w->snapshot);
	free(list);
}

void authorities_renew(struct worker *w)
{
	if (w->dtls && digest_of(w->snapshot) != w->authorities)
		authorities_give(w);
}
