/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The radio: registration in the network, sleep, and what the modem measures. Events arrive as
 * APP_NETWORK (app.h). Agent's thread only.
 */
#ifndef FIELDGATE_LTE_H
#define FIELDGATE_LTE_H

#include "device-fw/core/reading.h"

#define LTE_IMEI_LENGTH 15

/* The modem library works; the radio is off and stays off. 0 or a negative errno. */
int lte_init(void);
/* Begins to search. APP_NETWORK tells when it is registered. */
int lte_attach(void);
void lte_offline(void);
/*
 * Leaves the network and lets the modem store what it needs to come back quickly. Without it a
 * reset looks to the modem like a fault, and after some of those it refuses service for half an
 * hour.
 */
void lte_power_off(void);
/* battery (V), rsrp (dBm), cell: how many of at most `max`. Nothing is asked of the network. */
size_t lte_read(struct fg_reading *out, size_t max);
/* 0 and 15 digits and NUL, or a negative errno. */
int lte_imei(char out[LTE_IMEI_LENGTH + 1]);
/* Which IP versions the network has given us. */
void lte_address_families(bool *ipv4, bool *ipv6);

#endif
