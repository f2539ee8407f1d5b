/* SPDX-License-Identifier: Apache-2.0 */
/* Arm's semihosting, by which a program asks the emulator or the debugger to do something. Without
 * one it is a fault. */
#ifndef FG_QEMU_M33_SEMIHOSTING_H
#define FG_QEMU_M33_SEMIHOSTING_H

#include <stdint.h>

#define SEMIHOSTING_WRITE0	  0x04u
#define SEMIHOSTING_EXIT_EXTENDED 0x20u
#define APPLICATION_EXIT	  0x20026u

/* semihosting.S */
uint32_t semihosting_call(uint32_t operation, const void *argument);

static inline void semihosting_exit(uint32_t code)
{
	const uint32_t block[2] = {APPLICATION_EXIT, code};

	semihosting_call(SEMIHOSTING_EXIT_EXTENDED, block);
}

#endif
