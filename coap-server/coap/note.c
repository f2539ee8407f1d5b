/* SPDX-License-Identifier: Apache-2.0 */
/* What survives the death of the process with a session: its last answer. */
#include "coap-server/coap/internal.h"

#include <string.h>

#define NOTE_VERSION 1u

struct note {
	uint8_t version;
	uint8_t mid[2];
	uint8_t answered_s[4]; /* wall clock: the other one begins anew with the machine */
	uint8_t answer[];
};

static void put_be32(uint8_t *out, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		out[i] = (uint8_t)(v >> (24 - 8 * i));
}

static uint32_t get_be32(const uint8_t *in)
{
	return (uint32_t)in[0] << 24 | (uint32_t)in[1] << 16 | (uint32_t)in[2] << 8 | in[3];
}

size_t coap_peer_save(const struct coap_server *s, uint64_t session_id, uint8_t *note,
		      size_t note_max)
{
	struct note n = {.version = NOTE_VERSION};
	const uint8_t *answer;
	size_t len;
	uint16_t mid;
	int64_t age_us;

	if (dedup_last(s->dedup, session_id, clock_monotonic_us(), &mid, &age_us, &answer, &len) ==
		    DEDUP_NONE ||
	    sizeof(n) + len > note_max)
		return 0;
	n.mid[0] = (uint8_t)(mid >> 8);
	n.mid[1] = (uint8_t)mid;
	put_be32(n.answered_s, (uint32_t)((clock_realtime_us() - age_us) / US_PER_S));
	memcpy(note, &n, sizeof(n));
	memcpy(note + sizeof(n), answer, len);
	return sizeof(n) + len;
}

void coap_peer_load(struct coap_server *s, uint64_t session_id, const uint8_t *note,
		    size_t note_len)
{
	struct note n;
	int64_t age_us;

	if (note_len < sizeof(n) + MESSAGE_HEADER || note_len > sizeof(n) + MESSAGE_MAX)
		return;
	memcpy(&n, note, sizeof(n));
	age_us = clock_realtime_us() - (int64_t)get_be32(n.answered_s) * US_PER_S;
	if (n.version != NOTE_VERSION || age_us > EXCHANGE_LIFETIME_US)
		return;
	if (age_us < 0) /* the clock was set back */
		age_us = 0;
	dedup_put(s->dedup, session_id, (uint16_t)(n.mid[0] << 8 | n.mid[1]), true,
		  clock_monotonic_us() - age_us, note + sizeof(n), note_len - sizeof(n));
}
