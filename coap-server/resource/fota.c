/* SPDX-License-Identifier: Apache-2.0 */
/* GET fota/exec/current: the update that a device is to make. There is none until updates are
 * served; 4.04 is what nRF Cloud's client takes for that. */
#include "coap-server/resource/resource.h"

enum coap_done fota_get(void *arg, const struct coap_call *call, struct coap_reply *reply,
			struct coap_exchange *e)
{
	(void)arg;
	(void)call;
	(void)e;
	return resource_reply(reply, FG_COAP_CODE(4, 4), "no update is waiting");
}
