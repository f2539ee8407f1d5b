/* SPDX-License-Identifier: Apache-2.0 */
/* GET time: for a device without network time, which needs the clock to judge our certificate and
 * to make its JWT. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include <cbor.h>

#include "coap-server/resource/resource.h"
#include "core/base/clock.h"

#define TEXT_MAX 32

/* 0: there is no such format. */
static size_t print(uint8_t text[TEXT_MAX], int format, int64_t seconds)
{
	const time_t t = (time_t)seconds;
	struct tm tm;

	switch (format) {
	case FG_COAP_TEXT:
		/* RFC 3339 section 5.6 */
		return strftime((char *)text, TEXT_MAX, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
	case FG_COAP_JSON:
		return (size_t)snprintf((char *)text, TEXT_MAX, "%" PRId64, seconds);
	case FG_COAP_CBOR:
		return cbor_encode_uint((uint64_t)seconds, text, TEXT_MAX);
	default:
		return 0;
	}
}

enum coap_done time_get(void *arg, const struct coap_call *call, struct coap_reply *reply,
			struct coap_exchange *e)
{
	struct resources *r = arg;
	int format = call->accept == FG_COAP_FORMAT_NONE ? FG_COAP_TEXT : call->accept;
	uint8_t *text;

	(void)e;
	arena_reset(&r->arena);
	text = arena_alloc(&r->arena, TEXT_MAX);
	if (!text)
		return resource_reply(reply, FG_COAP_CODE(5, 0), "out of memory");
	resource_reply(reply, FG_COAP_CODE(2, 5), NULL);
	reply->payload_len = print(text, format, clock_realtime_us() / US_PER_S);
	if (reply->payload_len == 0)
		return resource_reply(reply, FG_COAP_CODE(4, 6),
				      "Accept must be 0 (text/plain), 50 (JSON), 60 (CBOR), or "
				      "absent");
	reply->payload = text;
	reply->format = format;
	reply->max_age_s = 0; /* a second later it is another time */
	return COAP_DONE;
}
