/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What time it is: the modem's clock, which the network sets when it registers, or, in networks
 * that say nothing, what the server has said. Agent's thread only.
 */
#ifndef FIELDGATE_CLOCK_H
#define FIELDGATE_CLOCK_H

#include <stdint.h>

/* Milliseconds since 1970, 0: not known. Asks the modem now and then, so it is right within a
 * second over months. */
int64_t clock_wall_ms(void);
/* From the server. Sets the modem's clock, too, which dates its JWTs. */
void clock_set_wall_ms(int64_t wall_ms);
/* The network may have set the modem's clock. */
void clock_check(void);

#endif
