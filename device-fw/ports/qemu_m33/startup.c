/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From reset to main. Interrupts stay masked for ever: what is pending ends a WFI without being
 * taken, and the one loop of main.c looks what it was. So nothing is ever interrupted, and the
 * table of vectors ends with the fault.
 */
#include <stdint.h>
#include <string.h>

#include "device-fw/ports/qemu_m33/cpu.h"

extern uint32_t stack_limit[], stack_top[];
extern uint8_t data_begin[], data_end[], data_stored[], bss_begin[], bss_end[];

int main(void);
void reset(void);

struct vectors {
	void *stack;
	void (*handlers[3])(void);
};

__attribute__((section(".vectors"), used)) static const struct vectors vectors = {
	stack_top, {reset, fault, fault}}; /* reset, NMI, HardFault */

/* What the stack has never reached stays as it is now. */
static inline void paint_stack(void)
{
	volatile uint32_t *top = __builtin_frame_address(0);

	for (volatile uint32_t *at = stack_limit; at < top - 16; at++)
		*at = STACK_PAINT;
}

void reset(void)
{
	cpu_mask_interrupts();
	cpu_limit_stack(stack_limit);
	paint_stack();
	memcpy(data_begin, data_stored, (uintptr_t)data_end - (uintptr_t)data_begin);
	memset(bss_begin, 0, (uintptr_t)bss_end - (uintptr_t)bss_begin);
	main();
	cpu_reboot();
}

/* A device in the field starts again. */
__attribute__((weak)) void fault(void)
{
	cpu_reboot();
}
