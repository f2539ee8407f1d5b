/* SPDX-License-Identifier: Apache-2.0 */
#include "watchdog.h"

#include <zephyr/device.h>
#include <zephyr/drivers/watchdog.h>
#include <zephyr/kernel.h>

static const struct device *const device = DEVICE_DT_GET(DT_NODELABEL(wdt0));
static int channel = -1;

int watchdog_start(void)
{
	const struct wdt_timeout_cfg timeout = {
		.window.max = CONFIG_FIELDGATE_WATCHDOG_S * MSEC_PER_SEC,
		.flags = WDT_FLAG_RESET_SOC,
	};
	int rc;

	if (!device_is_ready(device))
		return -ENODEV;
	rc = wdt_install_timeout(device, &timeout);
	if (rc < 0)
		return rc;
	channel = rc;
	return wdt_setup(device, WDT_OPT_PAUSE_HALTED_BY_DBG);
}

void watchdog_feed(void)
{
	if (channel >= 0)
		wdt_feed(device, channel);
}
