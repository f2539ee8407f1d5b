/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shell over UART for the bench: lines that begin with AT go to the modem as they are and its
 * answers come back as they are (`fleet modem` speaks to that), and commands that read and change
 * what profile.h keeps. Only in builds with CONFIG_FIELDGATE_PROVISION; a UART that is on costs
 * more than everything else in a sleeping device.
 */
#ifndef FIELDGATE_PROVISION_H
#define FIELDGATE_PROVISION_H

/*
 * Starts the shell in a thread of its own and returns. Called once from main, when the modem
 * library, storage and profile work and before the radio is switched on. It uses app.h to hold the
 * application (from the first AT command until `start` or a reset), to ask for a reading and to
 * reboot, nrf_modem_at for AT, profile.h for the settings and key.h for the public key.
 * 0, or a negative errno of the UART.
 */
int provision_start(void);

#endif
