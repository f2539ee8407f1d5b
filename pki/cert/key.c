/* SPDX-License-Identifier: Apache-2.0 */
/* fieldgate-cert key: keys that have no certificate yet. */
#include <getopt.h>
#include <stdbool.h>

#include "pki/cert/cert.h"
#include "pki/cert/private_key.h"

int key_main(int argc, char **argv)
{
	static const struct option known[] = {{"encrypt-keys", no_argument, NULL, 'e'}, {0}};
	bool encrypt = false;
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (c != 'e')
			return EXIT_USAGE;
		encrypt = true;
	}
	if (optind == argc)
		return usage();
	for (int i = optind; i < argc; i++) {
		EVP_PKEY *key = private_key_new(argv[i], encrypt);

		if (!key)
			return EXIT_FAILED;
		EVP_PKEY_free(key);
	}
	return 0;
}
