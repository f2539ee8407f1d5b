/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Callbacks of the DTLS endpoint: who proves himself in this handshake? The answer to a peer that
 * is refused is the same whatever the reason; the reason is in the log, at most now and then.
 */
#include "coap-server/worker/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/registry/certificate.h"
#include "core/registry/enrolment.h"
#include "core/registry/psk.h"

#define REFUSAL_INTERVAL_US (10 * US_PER_S)
#define STRANGERS_BURST	    50

static void refuse(struct worker *w, const struct address *from, const char *device,
		   const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static void refuse(struct worker *w, const struct address *from, const char *device,
		   const char *fmt, ...)
{
	char address[ADDRESS_TEXT_MAX], source[32], why[640], note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed;
	va_list ap;

	snprintf(source, sizeof(source), "%016llx", (unsigned long long)address_source(from));
	if (!rate_limit_pass(refusal_limit(&w->refused_handshakes, device ? device : source),
			     REFUSAL_INTERVAL_US, &suppressed))
		return;
	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	log_warn("handshake_refused", device, "from %s: %s%s", address_text(from, address), why,
		 rate_limit_note(note, suppressed));
}

/*
 * Nobody has proven to be whom this names: one limit for each name at each address, so that a
 * stranger who names a device cannot keep that device's own refusals out of the log, and one for
 * all, so that one who names many cannot fill it.
 */
void handshake_refused(void *arg, const struct address *from, const struct dtls_refusal *r)
{
	struct worker *w = arg;
	struct certificate cert;
	const char *device = r->device;
	char address[ADDRESS_TEXT_MAX], note[RATE_LIMIT_NOTE_MAX], err[256];
	char who[PRINCIPAL_ID_MAX + sizeof(" 0123456789abcdef")];
	uint64_t others, suppressed;

	if (r->certificate &&
	    certificate_read(&cert, r->certificate, r->certificate_len, err, sizeof(err)) == 0)
		device = cert.name;
	snprintf(who, sizeof(who), "%s %016llx", device ? device : "",
		 (unsigned long long)address_source(from));
	if (!rate_limit_pass(refusal_limit(&w->refused_handshakes, who), REFUSAL_INTERVAL_US,
			     &suppressed) ||
	    !rate_limit_pass_burst(&w->refused_strangers, REFUSAL_INTERVAL_US, STRANGERS_BURST,
				   &others))
		return;
	log_warn("handshake_refused", device, "from %s: %s%s", address_text(from, address), r->why,
		 rate_limit_note(note, suppressed + others));
}

static bool ready(struct worker *w, const struct address *from)
{
	if (registry_ready(w->registry))
		return true;
	refuse(w, from, NULL, "the registry is not loaded yet; is the database reachable?");
	return false;
}

/* Take over what identify found, or refuse. */
static int accept_identity(struct worker *w, const struct address *from,
			   const struct identity *found, struct dtls_identity *who)
{
	const struct principal *p = found->principal;

	if (found->refusal != REFUSAL_NONE || !p) {
		refuse(w, from, p ? p->id : NULL, "%s", found->why);
		return -1;
	}
	dtls_identity_set(who, found);
	return 0;
}

int handshake_psk(void *arg, const struct address *from, const uint8_t *identity, size_t len,
		  struct dtls_identity *who, uint8_t key[DTLS_PSK_MAX], size_t *key_len)
{
	struct worker *w = arg;
	struct identity found;

	if (!ready(w, from))
		return -1;
	psk_find(&found, w->snapshot, w->keys, identity, len, key, key_len);
	return accept_identity(w, from, &found, who);
}

int handshake_certificate(void *arg, const struct address *from, const uint8_t *der, size_t len,
			  struct dtls_identity *who)
{
	struct worker *w = arg;
	struct certificate cert;
	struct identity found;
	char err[256], address[ADDRESS_TEXT_MAX];

	if (!ready(w, from))
		return -1;
	if (certificate_read(&cert, der, len, err, sizeof(err)) != 0) {
		refuse(w, from, NULL, "its certificate is of no use: %s", err);
		return -1;
	}
	enrolment_identify(&found, w->registry, w->snapshot,
			   &(struct enrolment_peer){&cert, der, len, address_text(from, address)});
	return accept_identity(w, from, &found, who);
}

bool handshake_resumed(void *arg, struct dtls_identity *who)
{
	struct worker *w = arg;
	struct identity now;

	if (!registry_ready(w->registry))
		return false;
	identify_resumed(&now, w->snapshot, who->id, (enum credential_kind)who->kind,
			 who->fingerprint, who->edition);
	if (now.refusal != REFUSAL_NONE) {
		log_debug("resumption_refused", who->id, "%s", now.why);
		return false;
	}
	dtls_identity_limit(who, now.valid_for_s);
	return true;
}
