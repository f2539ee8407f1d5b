/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap-client/lossy.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "tests/coap-client/die.h"
#include "tests/coap-client/wheel.h"

struct late {
	struct timer timer; /* first: expired is given this */
	lossy_deliver *deliver;
	size_t socket, len;
	uint8_t bytes[];
};

static struct impairment impairment;
static uint64_t chance = 1;

void lossy_setup(const struct impairment *i, uint64_t seed)
{
	impairment = *i;
	chance = impairment_seed(seed);
}

static void expired(struct timer *t)
{
	struct late *l = (struct late *)(void *)t;

	l->deliver(l->socket, l->bytes, l->len);
	free(l);
}

static void delay(size_t socket, const uint8_t *datagram, size_t len, lossy_deliver *deliver)
{
	struct late *l = calloc(1, sizeof(*l) + len);

	if (!l)
		die("out of memory");
	l->timer.expired = expired;
	l->deliver = deliver;
	l->socket = socket;
	l->len = len;
	memcpy(l->bytes, datagram, len);
	timer_set(&l->timer, clock_monotonic_us() + impairment_delay_us(&chance, &impairment));
}

static void pass_one(size_t socket, const uint8_t *datagram, size_t len, lossy_deliver *deliver)
{
	if (impairment_happens(&chance, impairment.drop))
		return;
	if (impairment_happens(&chance, impairment.reorder))
		delay(socket, datagram, len, deliver);
	else
		deliver(socket, datagram, len);
}

void lossy_pass(size_t socket, const uint8_t *datagram, size_t len, lossy_deliver *deliver)
{
	if (impairment_happens(&chance, impairment.duplicate))
		pass_one(socket, datagram, len, deliver);
	pass_one(socket, datagram, len, deliver);
}
