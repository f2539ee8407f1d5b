/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datagrams over a serial line, framed as SLIP (RFC 1055): the network of this board. It may lose
 * them, as a network does. Received bytes are taken in uart_poll only.
 */
#ifndef FG_QEMU_M33_UART_H
#define FG_QEMU_M33_UART_H

#include <stddef.h>
#include <stdint.h>

#define UART_FRAME_MAX 384 /* longer ones are lost */

extern uint8_t uart_frame[UART_FRAME_MAX];

void uart_start(void);
/* The length of the frame that is now in uart_frame, or 0. It stays there, and nothing else is
 * received, until the next call. */
size_t uart_poll(void);
void uart_send(const void *bytes, size_t length);

#endif
