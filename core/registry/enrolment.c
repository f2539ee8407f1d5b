/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What costs nothing is looked at first: whether it was revoked, who claims to have signed it, and
 * whether it is a certificate as this fleet's devices have them. Only then a signature is verified,
 * so that who is refused cannot use up the turns of an authority.
 *
 * TLS has verified it too, against the file of CAs that the server trusts. That is not enough here:
 * what TLS trusts may be a root above several CAs, and each of them enrols as its own row says.
 */
#include "core/registry/enrolment.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "core/base/clock.h"
#include "core/base/hex.h"
#include "core/registry/certificate_fault.h"
#include "core/registry/certificate_fault_internal.h"
#include "core/registry/snapshot_internal.h"

struct judging {
	struct identity *out;
	const struct snapshot *snapshot;
	const struct enrolment_peer *peer;
	X509 *x509;
	struct enrolment *enrolment;
	bool (*may_verify)(void *arg, const uint8_t *authority);
	void *arg;
};

/* What identify_certificate said comes first: nobody has registered it. */
#define refuse(j, refusal, ...) identify_refuse((j)->out, NULL, refusal, __VA_ARGS__)

static int64_t now_s(void)
{
	return clock_realtime_us() / US_PER_S;
}

/* --- Of the certificate itself --- */

/* *e says of whom; not by whom it is signed, as long as that is not known. */
static bool revoked_before(const struct judging *j)
{
	const char *name = j->peer->certificate->name;

	if (!enrolment_revoked(j->snapshot, j->enrolment))
		return false;
	refuse(j, REFUSAL_CREDENTIAL_REVOKED,
	       "not registered, and not enrolled: its certificate was revoked before %s was "
	       "deleted; issue a new one with `pki/fleet add %s`",
	       name, name);
	return true;
}

static bool take_serial(const struct judging *j)
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(j->x509);
	const int len = ASN1_STRING_length(serial);
	const uint8_t *bytes = ASN1_STRING_get0_data(serial);
	char *out = j->enrolment->serial;

	if (len < 1 || 2 * len >= SERIAL_TEXT_MAX || (len == 1 && bytes[0] == 0) ||
	    ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER) {
		refuse(j, REFUSAL_UNKNOWN,
		       "not registered, and not enrolled: its serial number is not a positive one "
		       "of 1 to 20 bytes; issue a new one with `pki/fleet add %s`",
		       j->peer->certificate->name);
		return false;
	}
	hex_print(out, bytes, (size_t)len);
	return true;
}

static bool is_faultless(const struct judging *j, const struct certificate_issuers *issuers)
{
	struct certificate_finding finding;

	certificate_fault(&finding, j->peer->der, j->peer->len, CERTIFICATE_DEVICE, now_s(),
			  issuers);
	if (finding.fault == CERTIFICATE_GOOD)
		return true;
	refuse(j, REFUSAL_UNKNOWN, "not registered, and not enrolled: %s", finding.text);
	return false;
}

/* --- Of who signed it --- */

static bool claims(const struct judging *j, size_t i)
{
	const struct authority_entry *e = j->snapshot->authorities.items[i];

	return X509_check_issued(e->x509, j->x509) == X509_V_OK;
}

/* The one that has signed it, of those with its issuer's name and key identifier; NULL: refused. */
static const struct authority *find_signer(const struct judging *j)
{
	bool found = false;

	for (size_t i = 0; i < snapshot_authority_count(j->snapshot); i++) {
		const struct authority *a = snapshot_authority_at(j->snapshot, i);
		const struct certificate_der der = {a->certificate, a->certificate_len};
		const struct certificate_issuers issuers = {.trusted = &der, .trusted_count = 1};

		if (!claims(j, i))
			continue;
		found = true;
		memcpy(j->enrolment->authority, a->fingerprint, FINGERPRINT_LEN);
		if (revoked_before(j))
			return NULL;
		if (a->enrolment == ENROLMENT_OFF) {
			refuse(j, REFUSAL_UNKNOWN,
			       "not registered, and not enrolled: enrolment by its CA %.64s is "
			       "off; register it, or `pki/fleet ca enrol %.64s pending`",
			       a->name, a->name);
			continue;
		}
		if (!j->may_verify(j->arg, a->fingerprint)) {
			refuse(j, REFUSAL_NOT_NOW,
			       "more unknown certificates of %.64s than "
			       "registry.enrolments_per_minute allows",
			       a->name);
			return NULL;
		}
		if (is_faultless(j, &issuers))
			return a;
	}
	if (!found) {
		char name[CERTIFICATE_NAME_MAX];

		refuse(j, REFUSAL_UNKNOWN,
		       "not registered, and not enrolled: its CA (%s) is not in "
		       "fieldgate.authority, "
		       "or is retired; if %s is yours, issue a certificate with `pki/fleet add %s`",
		       certificate_name_text(name, X509_get_issuer_name(j->x509)),
		       j->peer->certificate->name, j->peer->certificate->name);
	}
	return NULL;
}

static void take(const struct judging *j, const struct authority *a)
{
	const struct certificate *c = j->peer->certificate;
	struct enrolment *e = j->enrolment;

	memcpy(e->id, c->name, sizeof(e->id));
	snprintf(e->authority_name, sizeof(e->authority_name), "%s", a->name);
	e->mode = a->enrolment;
	e->not_before = certificate_time(X509_get0_notBefore(j->x509));
	e->not_after = certificate_time(X509_get0_notAfter(j->x509));
	snprintf(e->from, sizeof(e->from), "%s", j->peer->from);
}

static void judge(const struct judging *j)
{
	const struct authority *signer;

	memcpy(j->enrolment->fingerprint, j->peer->certificate->fingerprint, FINGERPRINT_LEN);
	memcpy(j->enrolment->key_fingerprint, j->peer->certificate->key_fingerprint,
	       FINGERPRINT_LEN);
	if (revoked_before(j) || !is_faultless(j, NULL) || !take_serial(j))
		return;
	signer = find_signer(j);
	if (!signer)
		return;
	take(j, signer);
	memset(j->out, 0, sizeof(*j->out));
	j->out->valid_for_s = INT64_MAX;
}

void enrolment_judge(struct identity *out, const struct snapshot *s,
		     const struct enrolment_peer *peer, struct enrolment *e,
		     bool (*may_verify)(void *arg, const uint8_t *authority), void *arg)
{
	struct judging j = {.out = out,
			    .snapshot = s,
			    .peer = peer,
			    .enrolment = e,
			    .may_verify = may_verify,
			    .arg = arg};

	memset(e, 0, sizeof(*e));
	/* The caller may be in the middle of TLS, which looks at the same queue of errors. */
	ERR_set_mark();
	j.x509 = certificate_parse(peer->der, peer->len);
	if (j.x509)
		judge(&j);
	else
		refuse(&j, REFUSAL_UNKNOWN, "its certificate cannot be read");
	X509_free(j.x509);
	ERR_pop_to_mark();
}

/* --- With the registry --- */

static bool takes_turn(void *arg, const uint8_t *authority)
{
	return enrolment_queue_turn(arg, authority);
}

static void refuse_pending(struct identity *out, const char *id)
{
	identify_refuse(out, NULL, REFUSAL_PENDING,
			"pending: its certificate is good and it was registered just now, but it "
			"is not let in yet; to let it in: `pki/fleet approve %s`",
			id);
}

static void refuse_queue(struct identity *out, const struct enrolment *e, int rc)
{
	switch (rc) {
	case -EEXIST:
		identify_refuse(out, NULL, REFUSAL_UNKNOWN,
				"%s is registered with another certificate, which has come just "
				"before: two devices have the same name",
				e->id);
		return;
	case -ENOSPC:
		identify_refuse(out, NULL, REFUSAL_NOT_NOW,
				"as many devices as registry.max_enrolments allows wait to be "
				"registered: is the database reachable?");
		return;
	case -EAGAIN:
		identify_refuse(
			out, NULL, REFUSAL_NOT_NOW,
			"it is not in the registry, as far as that is known: the database "
			"has not been read yet, or has changed this moment; is it reachable?");
		return;
	default:
		identify_refuse(out, NULL, REFUSAL_NOT_NOW, "out of memory");
	}
}

static void enrol(struct identity *out, struct registry *r, const struct snapshot *s,
		  const struct enrolment_peer *peer)
{
	struct enrolment e;
	int rc;

	enrolment_judge(out, s, peer, &e, takes_turn, registry_enrolments(r));
	if (out->refusal != REFUSAL_NONE)
		return;
	rc = registry_enrol(r, s, &e);
	if (rc != 0)
		refuse_queue(out, &e, rc);
	else if (e.mode == ENROLMENT_PENDING)
		refuse_pending(out, e.id);
	else
		identify_certificate(out, s, peer->certificate);
}

void enrolment_identify(struct identity *out, struct registry *r, const struct snapshot *s,
			const struct enrolment_peer *peer)
{
	identify_certificate(out, s, peer->certificate);
	if (out->refusal != REFUSAL_UNKNOWN || out->principal || snapshot_authority_count(s) == 0)
		return;
	/* Verified before, and not answered yet: no second time. */
	if (enrolment_queue_find(registry_enrolments(r), peer->certificate->fingerprint) ==
	    ENROLMENT_PENDING)
		refuse_pending(out, peer->certificate->name);
	else
		enrol(out, r, s, peer);
}
