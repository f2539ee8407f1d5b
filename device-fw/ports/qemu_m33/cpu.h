/* SPDX-License-Identifier: Apache-2.0 */
/* The few things of a Cortex-M33 (Armv8-M) that C has no words for. */
#ifndef FG_QEMU_M33_CPU_H
#define FG_QEMU_M33_CPU_H

#include <stdint.h>

#define STACK_PAINT 0x5afe57acu

#define REGISTER(address) (*(volatile uint32_t *)(address))

#define SYSTICK_CONTROL REGISTER(0xe000e010u) /* Armv8-M, D1.2: ENABLE, TICKINT, CLKSOURCE */
#define SYSTICK_RELOAD	REGISTER(0xe000e014u)
#define SYSTICK_VALUE	REGISTER(0xe000e018u)
#define NVIC_ENABLE(n)	REGISTER(0xe000e100u + 4 * ((n) / 32))
#define NVIC_CLEAR(n)	REGISTER(0xe000e280u + 4 * ((n) / 32))
#define SCB_ICSR	REGISTER(0xe000ed04u)
#define SCB_AIRCR	REGISTER(0xe000ed0cu)

#define ICSR_CLEAR_SYSTICK (1u << 25)
#define AIRCR_SYSRESETREQ  0x05fa0004u

static inline void cpu_mask_interrupts(void)
{
	__asm volatile("cpsid i" ::: "memory");
}

/* Below it, the stack is a fault. */
static inline void cpu_limit_stack(const void *limit)
{
	__asm volatile("msr msplim, %0" ::"r"(limit));
}

static inline void cpu_wait_for_interrupt(void)
{
	__asm volatile("dsb\n\twfi" ::: "memory");
}

static inline _Noreturn void cpu_reboot(void)
{
	SCB_AIRCR = AIRCR_SYSRESETREQ;
	for (;;)
		;
}

/* What cannot go on comes here: reboots, unless the image has another one. */
void fault(void);

#endif
