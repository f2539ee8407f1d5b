/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that come with a certificate of the fleet before anybody has registered them: depending
 * on the CA that signed it, such a device becomes pending, or active and let in at once. Registered
 * is what the database says: here nothing waits for it (see enrolment_queue.h).
 */
#ifndef FG_REGISTRY_ENROLMENT_H
#define FG_REGISTRY_ENROLMENT_H

#include <stddef.h>
#include <stdint.h>

#include "core/registry/certificate.h"
#include "core/registry/identify.h"
#include "core/registry/registry.h"

struct enrolment_peer {
	const struct certificate *certificate;
	const void *der; /* what it was read from: TLS has accepted it */
	size_t len;
	const char *from; /* address, for the log and the database */
};

/*
 * As identify_certificate, and whom s does not know is enrolled if its certificate is good for
 * that: then he is found in s from now on, or refused as REFUSAL_PENDING. REFUSAL_NOT_NOW: to be
 * told to try again. Any thread; costs one verification of a signature, for unknown certificates
 * only.
 */
void enrolment_identify(struct identity *out, struct registry *r, const struct snapshot *s,
			const struct enrolment_peer *peer);

/*
 * The part of that which needs no registry: is it a good device certificate, signed by an authority
 * of s that enrols? REFUSAL_NONE, and *e is filled; else REFUSAL_UNKNOWN and why in out.
 * may_verify: asked before a signature is verified, with the authority's fingerprint;
 * REFUSAL_NOT_NOW when it says no.
 */
void enrolment_judge(struct identity *out, const struct snapshot *s,
		     const struct enrolment_peer *peer, struct enrolment *e,
		     bool (*may_verify)(void *arg, const uint8_t *authority), void *arg);

#endif
