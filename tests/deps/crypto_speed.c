/* SPDX-License-Identifier: Apache-2.0 */
/* How fast the P-256 operations and SHA-256 are, as Mbed TLS calls them, on one core: `make
 * crypto-speed`. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tests/deps/p256_calls.h"

static const struct p256_calls *const calls = &p256_calls;

static unsigned char d[32], point[65] = {4}, hash[32] = {1}, sig[64], out[64], message[256];

static int generate(void)
{
	unsigned char scalar[32];

	return calls->generate(scalar, out);
}

static int shared(void)
{
	return calls->shared(d, point, sizeof(point), out);
}

static int sign(void)
{
	return calls->sign(d, hash, sizeof(hash), out);
}

static int verify(void)
{
	return calls->verify(point + 1, hash, sizeof(hash), sig, sizeof(sig));
}

static int sha256(void)
{
	return calls->sha256(message, sizeof(message), out);
}

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int measure(const char *name, int (*call)(void))
{
	double start, elapsed;
	long n = 0;

	if (call() != 0)
		return 1;
	start = cpu_seconds();
	do {
		for (int i = 0; i < 100; i++, n++)
			if (call() != 0)
				return 1;
		elapsed = cpu_seconds() - start;
	} while (elapsed < 1.0);
	printf("  %-24s %8.0f per second of CPU\n", name, (double)n / elapsed);
	return 0;
}

int main(void)
{
	if (calls->generate(d, point + 1) != 0 || calls->sign(d, hash, sizeof(hash), sig) != 0)
		return 1;
	return measure("ECDSA sign", sign) || measure("ECDSA verify", verify) ||
	       measure("ECDH new key", generate) || measure("ECDH shared secret", shared) ||
	       measure("SHA-256 of 256 bytes", sha256);
}
