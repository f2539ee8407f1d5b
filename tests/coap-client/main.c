/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coap-client: the devices of tests and benches. Without arguments it obeys commands from stdin, so
 * that a test decides about every datagram; `coap-client load` makes load. README.md beside this
 * file describes both. It talks to what a test has started, never to a stranger.
 */
#include <psa/crypto.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/coap-client/commands.h"
#include "tests/coap-client/die.h"
#include "tests/coap-client/load.h"

void die(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fputs("coap-client: ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (psa_crypto_init() != PSA_SUCCESS)
		die("the random number generator cannot be started");
	if (argc > 1 && strcmp(argv[1], "load") == 0)
		return load_main(argc - 1, argv + 1);
	if (argc > 1)
		die("usage: coap-client [load --help]");
	return commands_run();
}
