/* SPDX-License-Identifier: Apache-2.0 */
#include "jwt.h"

#include <errno.h>
#include <string.h>

#include <zephyr/kernel.h>

#define LIFE_S 600 /* it is used at once; a wrong clock makes it longer */

#ifdef CONFIG_FIELDGATE_JWT_MODEM

#include <modem/modem_jwt.h>

/* iat and exp are in it only when the modem knows the time: clock.c tells it. */
int jwt_make(const char *device, uint32_t security_tag, int64_t wall_ms, char *out, size_t size)
{
	struct jwt_data jwt = {
		.sec_tag = (int)security_tag,
		.key = JWT_KEY_TYPE_CLIENT_PRIV,
		.alg = JWT_ALG_TYPE_ES256,
		.exp_delta_s = LIFE_S,
		.subject = device,
		.jwt_buf = out,
		.jwt_sz = size,
	};
	int rc;

	if (wall_ms == 0)
		return -EAGAIN;
	rc = modem_jwt_generate(&jwt);
	return rc == 0 ? (int)strlen(out) : rc;
}

#else

#include "jws.h"
#include "key.h"

int jwt_make(const char *device, uint32_t security_tag, int64_t wall_ms, char *out, size_t size)
{
	uint8_t signature[KEY_SIGNATURE_LENGTH];
	int at, rc;

	ARG_UNUSED(security_tag);
	if (wall_ms == 0)
		return -EAGAIN;
	at = jws_begin(out, size, device, (uint32_t)(wall_ms / MSEC_PER_SEC), LIFE_S);
	if (at < 0)
		return at;
	rc = key_sign(out, (size_t)at, signature);
	return rc != 0 ? rc : jws_end(out, size, (size_t)at, signature);
}

#endif
