/* SPDX-License-Identifier: Apache-2.0 */
#include "jwt.h"

#include <errno.h>
#include <stdio.h>
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

#include "key.h"

/* base64url without padding (RFC 7515 section 2). The number of characters, or -EMSGSIZE. */
static int write_base64url(char *out, size_t size, const uint8_t *bytes, size_t length)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	uint32_t bits = 0;
	int held = 0;
	size_t n = 0;

	if (size < (length * 4 + 2) / 3)
		return -EMSGSIZE;
	for (size_t i = 0; i < length; i++) {
		bits = bits << 8 | bytes[i];
		for (held += 8; held >= 6; held -= 6)
			out[n++] = digits[bits >> (held - 6) & 63];
	}
	if (held > 0)
		out[n++] = digits[bits << (6 - held) & 63];
	return (int)n;
}

int jwt_make(const char *device, uint32_t security_tag, int64_t wall_ms, char *out, size_t size)
{
	static const char header[] = "{\"alg\":\"ES256\",\"typ\":\"JWT\"}";
	char claims[128];
	uint8_t signature[KEY_SIGNATURE_LENGTH];
	uint32_t now_s = (uint32_t)(wall_ms / MSEC_PER_SEC);
	size_t at;
	int n;

	ARG_UNUSED(security_tag);
	if (wall_ms == 0)
		return -EAGAIN;
	n = snprintf(claims, sizeof(claims), "{\"sub\":\"%s\",\"iat\":%u,\"exp\":%u}", device,
		     now_s, now_s + LIFE_S);
	if (n >= (int)sizeof(claims))
		return -EMSGSIZE;
	n = write_base64url(out, size, (const uint8_t *)header, sizeof(header) - 1);
	if (n < 0 || (size_t)n + 1 >= size)
		return -EMSGSIZE;
	at = (size_t)n;
	out[at++] = '.';
	n = write_base64url(out + at, size - at, (const uint8_t *)claims, strlen(claims));
	if (n < 0 || at + (size_t)n + 1 >= size)
		return -EMSGSIZE;
	at += (size_t)n;
	n = key_init();
	if (n == 0)
		n = key_sign(out, at, signature);
	if (n != 0)
		return n;
	out[at++] = '.';
	n = write_base64url(out + at, size - at, signature, sizeof(signature));
	return n < 0 ? n : (int)at + n;
}

#endif
