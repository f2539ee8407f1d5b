/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/ports/qemu_m33/uart.h"

#include <stdbool.h>

#include "device-fw/ports/qemu_m33/cpu.h"

#define UART_DATA    REGISTER(0x50200000u) /* CMSDK APB UART 0 */
#define UART_STATE   REGISTER(0x50200004u)
#define UART_CONTROL REGISTER(0x50200008u)
#define UART_CLEAR   REGISTER(0x5020000cu)
#define UART_DIVIDER REGISTER(0x50200010u)

#define STATE_TX_FULL	1u
#define STATE_RX_FULL	2u
#define CONTROL_RUNNING 7u /* TX and RX enabled, interrupt when a byte was received */
#define CLEAR_RX	2u
#define DIVIDER		174 /* 115,200 baud of 20 MHz */
#define RX_INTERRUPT	32

enum { END = 0xc0, ESC = 0xdb, ESC_END = 0xdc, ESC_ESC = 0xdd };

uint8_t uart_frame[UART_FRAME_MAX];

static size_t received;
static bool escaped, too_long;

void uart_start(void)
{
	UART_DIVIDER = DIVIDER;
	UART_CONTROL = CONTROL_RUNNING;
	NVIC_ENABLE(RX_INTERRUPT) = 1u << RX_INTERRUPT % 32;
}

static void put(uint8_t byte)
{
	if (received < sizeof(uart_frame))
		uart_frame[received++] = byte;
	else
		too_long = true;
}

/* True: that was the end of a frame. */
static bool take(uint8_t byte)
{
	if (byte == END)
		return true;
	if (byte == ESC) {
		escaped = true;
		return false;
	}
	if (escaped)
		byte = byte == ESC_END ? END : byte == ESC_ESC ? ESC : byte;
	escaped = false;
	put(byte);
	return false;
}

size_t uart_poll(void)
{
	while (UART_STATE & STATE_RX_FULL) {
		size_t length;

		UART_CLEAR = CLEAR_RX;
		NVIC_CLEAR(RX_INTERRUPT) = 1u << RX_INTERRUPT % 32;
		if (!take((uint8_t)UART_DATA))
			continue;
		length = too_long ? 0 : received;
		received = 0;
		escaped = too_long = false;
		if (length > 0)
			return length;
	}
	return 0;
}

static void send_byte(uint8_t byte)
{
	while (UART_STATE & STATE_TX_FULL)
		;
	UART_DATA = byte;
}

static void send_escaped(uint8_t byte)
{
	if (byte == END || byte == ESC) {
		send_byte(ESC);
		byte = byte == END ? ESC_END : ESC_ESC;
	}
	send_byte(byte);
}

void uart_send(const void *bytes, size_t length)
{
	for (const uint8_t *at = bytes; length > 0; at++, length--)
		send_escaped(*at);
	send_byte(END);
}
