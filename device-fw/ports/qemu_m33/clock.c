/* SPDX-License-Identifier: Apache-2.0 */
/* The SSE-200's timer for low power counts, at 32 kHz; SysTick wakes the CPU up. */
#include "device-fw/ports/qemu_m33/clock.h"
#include "device-fw/ports/qemu_m33/cpu.h"

#define S32K_CONTROL REGISTER(0x5002f000u) /* CMSDK APB timer: counts down and begins again */
#define S32K_VALUE   REGISTER(0x5002f004u)
#define S32K_RELOAD  REGISTER(0x5002f008u)

#define COUNTS_PER_MS	32
#define SYSTICK_PER_MS	20000
#define TICK_MS		10
#define SYSTICK_RUNNING 7u /* ENABLE, TICKINT, the CPU's clock */

static uint32_t last;
static uint64_t counted;

void clock_start(void)
{
	S32K_RELOAD = UINT32_MAX;
	S32K_VALUE = UINT32_MAX;
	S32K_CONTROL = 1;
	last = UINT32_MAX;
	SYSTICK_RELOAD = TICK_MS * SYSTICK_PER_MS - 1;
	SYSTICK_VALUE = 0;
	SYSTICK_CONTROL = SYSTICK_RUNNING;
}

int64_t clock_ms(void)
{
	uint32_t value = S32K_VALUE;

	counted += last - value;
	last = value;
	return (int64_t)(counted / COUNTS_PER_MS);
}

void clock_wait(void)
{
	cpu_wait_for_interrupt();
	SCB_ICSR = ICSR_CLEAR_SYSTICK;
}
