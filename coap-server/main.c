/* SPDX-License-Identifier: Apache-2.0 */
/* fieldgate-coap FILE: the CoAP server. */
#include <stdio.h>

#include "core/base/config.h"

int main(int argc, char **argv)
{
	struct config c;
	char err[512];

	if (argc != 2) {
		fprintf(stderr, "usage: fieldgate-coap FILE\n");
		return 2;
	}
	if (config_load(&c, argv[1], err, sizeof(err)) != 0) {
		fprintf(stderr, "fieldgate-coap: %s\n", err);
		return 1;
	}
	config_free(&c);
	return 0;
}
