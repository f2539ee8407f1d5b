/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fieldgate-secret: master keys, and secrets sealed with them for the table credential
 * (core/registry/secret.h). A secret comes in through stdin and never leaves; arguments are no
 * secrets.
 */
#include <stdio.h>
#include <string.h>

#include "tools/secret/tool.h"

static int usage(void)
{
	fprintf(stderr,
		"usage: fieldgate-secret make-key FILE\n"
		"       fieldgate-secret add-key FILE\n"
		"       fieldgate-secret key-ids FILE\n"
		"       fieldgate-secret seal FILE KIND FINGERPRINT PRINCIPAL <HEX\n"
		"       fieldgate-secret reseal FILE KIND <ROWS\n"
		"\n"
		"make-key  a new file with a new master key, mode 0600 (secrets.key_file)\n"
		"add-key   a new master key in front of those of FILE, which is replaced at once\n"
		"key-ids   what rows call the keys of FILE, a line each; the first one seals\n"
		"seal      the secret on stdin, 1 to %d bytes in hexadecimal, sealed with the "
		"first\n"
		"          key of FILE for this row of fieldgate.credential, in hexadecimal\n"
		"reseal    rows (FINGERPRINT, PRINCIPAL, sealed secret between tabs) that another "
		"key of\n"
		"          FILE has sealed, with the secret sealed by the first behind them. "
		"Status 3:\n"
		"          some could not be opened, and are left out\n"
		"\n"
		"FILE may be -, but for make-key and add-key: the environment "
		"variable " SECRET_KEYS_VARIABLE "\n",
		SECRET_MAX);
	return 2;
}

int main(int argc, char **argv)
{
	const char *command = argc > 2 ? argv[1] : "";

	if (argc == 3 && strcmp(command, "make-key") == 0)
		return tool_make_key(argv[2]);
	if (argc == 3 && strcmp(command, "add-key") == 0)
		return tool_add_key(argv[2]);
	if (argc == 3 && strcmp(command, "key-ids") == 0)
		return tool_key_ids(argv[2]);
	if (argc == 6 && strcmp(command, "seal") == 0)
		return tool_seal(argv[2], argv + 3);
	if (argc == 4 && strcmp(command, "reseal") == 0)
		return tool_reseal(argv[2], argv[3]);
	return usage();
}
