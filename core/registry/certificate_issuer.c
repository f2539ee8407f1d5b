/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who signed a certificate, up to one that is trusted. Where a verifier says "unable to get local
 * issuer certificate", this says whether nobody of that name is known, or somebody of that name is
 * and it was another key that signed.
 */
#include "core/registry/certificate_fault_internal.h"

#include <openssl/x509v3.h>

#define DEPTH_MAX   8 /* certificates above it */
#define TRUSTED_MAX 64
#define OTHERS_MAX  8 /* what a peer sends must not cost much */

struct known {
	X509 *ca[TRUSTED_MAX + OTHERS_MAX];
	size_t count, trusted; /* the first so many are trusted */
};

static void read_known(struct known *k, const struct certificate_der *list, size_t count,
		       size_t max)
{
	for (size_t i = 0; i < count && i < max; i++) {
		X509 *x = certificate_parse(list[i].der, list[i].len);

		if (!x)
			continue;
		X509_check_purpose(x, -1, 0);
		k->ca[k->count++] = x;
	}
}

static bool is_trusted(const struct known *k, const X509 *x)
{
	for (size_t i = 0; i < k->trusted; i++)
		if (X509_cmp(k->ca[i], x) == 0)
			return true;
	return false;
}

static bool is_its_own_issuer(X509 *x)
{
	return X509_NAME_cmp(X509_get_subject_name(x), X509_get_issuer_name(x)) == 0 &&
	       X509_verify(x, X509_get0_pubkey(x)) == 1;
}

/* Of several with the name, as after a rollover, the one whose key it was. NULL with *named: there
 * is one of that name. */
static X509 *find_issuer(const struct known *k, X509 *x, bool *named)
{
	*named = false;
	for (size_t i = 0; i < k->count; i++) {
		X509 *ca = k->ca[i];

		if (X509_NAME_cmp(X509_get_subject_name(ca), X509_get_issuer_name(x)) != 0)
			continue;
		*named = true;
		if (X509_verify(x, X509_get0_pubkey(ca)) == 1)
			return ca;
	}
	return NULL;
}

/* "its issuer CN=a" of the certificate itself, "CN=a, the issuer of CN=b," further up: what the
 * operator has to look for. */
static void say_no_issuer(struct judgement *j, X509 *x, bool named, int depth)
{
	char issuer[CERTIFICATE_NAME_MAX], subject[CERTIFICATE_NAME_MAX];

	certificate_name_text(issuer, X509_get_issuer_name(x));
	certificate_name_text(subject, X509_get_subject_name(x));
	if (named)
		judgement_add(
			j, CERTIFICATE_BAD_SIGNATURE,
			"%s%s was not signed by the key of the trusted %s: it is of another CA "
			"of the same name, or damaged; issue it by the fleet's own CA",
			depth ? "its issuer " : "it", depth ? subject : "", issuer);
	else if (depth == 0 && is_its_own_issuer(x))
		judgement_add(
			j, CERTIFICATE_SELF_SIGNED,
			"it is self-signed (%s): no CA of this fleet has signed it; issue one "
			"with `pki/fleet add %s`",
			subject, j->id);
	else
		judgement_add(
			j, CERTIFICATE_UNKNOWN_ISSUER,
			"it is signed by no CA of this fleet%s: the issuer is %s; if that is a "
			"CA of yours, add it to the trusted ones (the broker's cafile, "
			"coap.client_ca_file)",
			depth ? " that is known up to its root" : "", issuer);
}

static bool judge_ca(struct judgement *j, X509 *ca, int depth)
{
	/* A CA that is judged will have something below itself. */
	const int below = depth + (j->purpose == CERTIFICATE_AUTHORITY);
	const bool constraints = X509_get_extension_flags(ca) & EXFLAG_CA;
	const long pathlen = X509_get_pathlen(ca);
	char name[CERTIFICATE_NAME_MAX], at[CERTIFICATE_DATE_MAX];
	const ASN1_TIME *until = X509_get0_notAfter(ca), *from = X509_get0_notBefore(ca);

	certificate_name_text(name, X509_get_subject_name(ca));
	if (!constraints || !(X509_get_key_usage(ca) & X509v3_KU_KEY_CERT_SIGN))
		judgement_add(
			j, CERTIFICATE_BAD_ISSUER,
			"it is signed by %s, which is not a CA; issue it by the fleet's own CA",
			name);
	else if (!certificate_usage_allows(ca, j->purpose))
		judgement_add(
			j, CERTIFICATE_BAD_ISSUER,
			"it is signed by %s, whose extended key usage does not let it sign %s; "
			"issue it by the %s CA",
			name, j->purpose == CERTIFICATE_DEVICE ? "devices" : "servers",
			j->purpose == CERTIFICATE_DEVICE ? "device" : "server");
	else if (pathlen >= 0 && below > pathlen)
		judgement_add(j, CERTIFICATE_BAD_ISSUER,
			      "%s, above it, allows %ld CAs below itself and there are more "
			      "(pathlen); issue it by a CA that may",
			      name, pathlen);
	else if (j->now_s > certificate_time(until))
		judgement_add(j, CERTIFICATE_ISSUER_EXPIRED,
			      "%s, which signed it, expired on %s; make a new CA and issue what it "
			      "has signed anew",
			      name, certificate_date_text(at, until));
	else if (j->now_s < certificate_time(from))
		judgement_add(j, CERTIFICATE_ISSUER_EXPIRED,
			      "%s, which signed it, is not valid before %s; set the clock of this "
			      "machine",
			      name, certificate_date_text(at, from));
	else
		return true;
	return false;
}

/* A chain may end at any that is trusted, but goes on to its root if that is known: a verifier
 * does. */
static void climb(struct judgement *j, const struct known *k, X509 *x)
{
	for (int depth = 0; depth < DEPTH_MAX; depth++) {
		bool named;
		X509 *issuer;

		if (is_trusted(k, x) && is_its_own_issuer(x))
			return;
		issuer = find_issuer(k, x, &named);
		if (!issuer) {
			if (!is_trusted(k, x))
				say_no_issuer(j, x, named, depth);
			return;
		}
		/* The one that is judged may be its own issuer and not trusted. */
		if (issuer == x || X509_cmp(issuer, x) == 0) {
			say_no_issuer(j, x, false, depth);
			return;
		}
		if (!judge_ca(j, issuer, depth))
			return;
		x = issuer;
	}
	judgement_add(
		j, CERTIFICATE_UNKNOWN_ISSUER,
		"more than %d CAs stand above it, or they have signed each other; issue it by "
		"the fleet's own CA",
		DEPTH_MAX);
}

void certificate_judge_issuers(struct judgement *j, X509 *x,
			       const struct certificate_issuers *issuers)
{
	struct known k = {.count = 0};

	read_known(&k, issuers->trusted, issuers->trusted_count, TRUSTED_MAX);
	k.trusted = k.count;
	read_known(&k, issuers->others, issuers->other_count, OTHERS_MAX);
	climb(j, &k, x);
	for (size_t i = 0; i < k.count; i++)
		X509_free(k.ca[i]);
}
