/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <zephyr/dfu/mcuboot.h>
#include <zephyr/logging/log.h>

LOG_MODULE_DECLARE(fieldgate, CONFIG_FIELDGATE_LOG_LEVEL);

void image_confirm(void)
{
	int rc;

	if (boot_is_img_confirmed())
		return;
	rc = boot_write_img_confirmed();
	if (rc != 0)
		LOG_ERR("The image is not confirmed: %d", rc);
	else
		LOG_INF("The image is confirmed");
}
