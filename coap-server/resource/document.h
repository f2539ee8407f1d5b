/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What state.c, store.c and downlink.c share: a request becomes a question to core/document, and
 * its answer, when it has come, the reply of the exchange. Nothing is kept here meanwhile: what the
 * reply needs goes with the question and comes back with the answer.
 */
#ifndef FG_RESOURCE_DOCUMENT_H
#define FG_RESOURCE_DOCUMENT_H

#include "coap-server/resource/resource.h"

struct document_note { /* in document_request.note */
	uint8_t etag[FG_COAP_ETAG_MAX];
	int32_t accept;
	uint8_t etag_len;
	bool observe, notification;
	bool envelope; /* of a message */
};

/*
 * Ask; q has operation, name, format and payload, the rest is taken from the call: whose it is,
 * If-Match and If-None-Match. COAP_LATER, or COAP_DONE with 4.12 or 5.03.
 */
enum coap_done document_ask(struct resources *r, const struct coap_call *call,
			    struct document_request *q, struct coap_reply *reply,
			    struct coap_exchange *e);

/* Likewise, of a message: q is complete but for whose it is. */
enum coap_done document_ask_message(struct resources *r, const struct coap_call *call,
				    struct document_request *q, bool envelope,
				    struct coap_reply *reply, struct coap_exchange *e);

/* Does the query have this among its parts? */
bool document_has_query(const char *query, const char *wanted);

/* 4.04, 4.00, ... or 5.03: what did not go well. */
void document_refuse(const struct document_answer *a, struct coap_reply *reply);

/* May it be given, as it is, to whoever accepts this? */
bool document_acceptable(const struct document_note *note, int format);

/* ETags. Of a value it is the version; of a state there are two for each version, one of the JSON
 * and one of the CBOR, and If-Match takes either. */
void document_etag(struct coap_reply *reply, const struct document_answer *a);

/* Is this the request of something that can be observed: a state, a value? */
bool document_is_state(enum document_operation op);

/* state.c and store.c: the reply to a question of theirs that went well; downlink.c: to any. */
void state_answered(struct resources *r, const struct document_answer *a,
		    const struct document_note *note, struct coap_reply *reply);
void store_answered(const struct document_answer *a, const struct document_note *note,
		    struct coap_reply *reply);
void downlink_answered(struct resources *r, const struct document_answer *a,
		       const struct document_note *note, struct coap_reply *reply);

#endif
