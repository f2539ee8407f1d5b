/* SPDX-License-Identifier: Apache-2.0 */
#include "jws.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "encode.h"

#define CLAIMS_SIZE 128

static int append(char *out, size_t size, size_t at, const void *bytes, size_t length)
{
	int n = encode_base64(out + at, size - at, ENCODE_BASE64URL, bytes, length);

	return n < 0 ? n : (int)at + n;
}

static int append_after_dot(char *out, size_t size, size_t at, const void *bytes, size_t length)
{
	if (at >= size)
		return -EMSGSIZE;
	out[at] = '.';
	return append(out, size, at + 1, bytes, length);
}

int jws_begin(char *out, size_t size, const char *device, uint32_t now_s, uint32_t life_s)
{
	static const char header[] = "{\"alg\":\"ES256\",\"typ\":\"JWT\"}";
	char claims[CLAIMS_SIZE];
	int at, n = snprintf(claims, sizeof(claims), "{\"sub\":\"%s\",\"iat\":%u,\"exp\":%u}",
			     device, (unsigned)now_s, (unsigned)(now_s + life_s));

	if (n < 0 || n >= (int)sizeof(claims))
		return -EMSGSIZE;
	at = append(out, size, 0, header, sizeof(header) - 1);
	return at < 0 ? at : append_after_dot(out, size, (size_t)at, claims, (size_t)n);
}

int jws_end(char *out, size_t size, size_t at, const uint8_t signature[JWS_SIGNATURE_LENGTH])
{
	return append_after_dot(out, size, at, signature, JWS_SIGNATURE_LENGTH);
}
