/* SPDX-License-Identifier: Apache-2.0 */
#include "encode.h"

#include <errno.h>
#include <string.h>

#define PEM_LINE_BYTES 48 /* 64 characters */

static char digit(unsigned value, enum encode_alphabet alphabet)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_";

	return digits[alphabet == ENCODE_BASE64URL && value > 61 ? value + 2 : value];
}

int encode_base64(char *out, size_t size, enum encode_alphabet alphabet, const void *bytes,
		  size_t length)
{
	const uint8_t *in = bytes;
	uint32_t bits = 0;
	int held = 0;
	size_t n = 0;

	if (size < (alphabet == ENCODE_BASE64 ? (length + 2) / 3 * 4 : (length * 4 + 2) / 3))
		return -EMSGSIZE;
	for (size_t i = 0; i < length; i++) {
		bits = bits << 8 | in[i];
		for (held += 8; held >= 6; held -= 6)
			out[n++] = digit(bits >> (held - 6) & 63, alphabet);
	}
	if (held > 0)
		out[n++] = digit(bits << (6 - held) & 63, alphabet);
	while (alphabet == ENCODE_BASE64 && n % 4 != 0)
		out[n++] = '=';
	return (int)n;
}

void encode_public_key(char out[ENCODE_PEM_SIZE], const uint8_t point[ENCODE_POINT_LENGTH])
{
	static const char begin[] = "-----BEGIN PUBLIC KEY-----\n";
	static const char end[] = "-----END PUBLIC KEY-----\n";
	/* SEQUENCE { SEQUENCE { id-ecPublicKey, secp256r1 }, BIT STRING */
	uint8_t der[26 + ENCODE_POINT_LENGTH] = {
		0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
		0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00};
	size_t at = sizeof(begin) - 1;

	memcpy(der + 26, point, ENCODE_POINT_LENGTH);
	memcpy(out, begin, at);
	for (size_t i = 0; i < sizeof(der); i += PEM_LINE_BYTES) {
		size_t left = sizeof(der) - i, n = left < PEM_LINE_BYTES ? left : PEM_LINE_BYTES;

		at += (size_t)encode_base64(out + at, ENCODE_PEM_SIZE - at, ENCODE_BASE64, der + i,
					    n);
		out[at++] = '\n';
	}
	memcpy(out + at, end, sizeof(end));
}
