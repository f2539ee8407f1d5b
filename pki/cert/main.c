/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "pki/cert/cert.h"

int usage(void)
{
	fputs("usage: fieldgate-cert issue --profile device|server|device-ca|server-ca|root\n"
	      "                            --ca CA-DIR|--self --days N [--encrypt-keys] <JOBS\n"
	      "       fieldgate-cert key [--encrypt-keys] FILE...\n"
	      "       fieldgate-cert show [--issuer FILE]... FILE...\n"
	      "       fieldgate-cert pin FILE...\n"
	      "       fieldgate-cert names FILE...\n"
	      "       fieldgate-cert crl --ca CA-DIR --days N --number N --out FILE <REVOKED\n"
	      "       fieldgate-cert verify [--trust FILE]... [--crl FILE]...\n"
	      "                             [--purpose device|server|ca] [--name NAME] FILE...\n"
	      "       fieldgate-cert requests <LIST\n"
	      "\n"
	      "issue   a certificate for each line NAME<TAB>SAN<TAB>KEY<TAB>OUT. NAME is the\n"
	      "        common name, or of a CA the subject, /O=.../CN=..., where {serial} stands\n"
	      "        for the last 8 digits of its serial number. SAN is URI:..., DNS:...,IP:...\n"
	      "        or -. KEY is new:FILE (a P-256 key is made), key:FILE (one that is there,\n"
	      "        or a pkcs11: URI in a file) or csr:FILE. OUT is the certificate's file.\n"
	      "        Prints what show prints.\n"
	      "key     makes a P-256 key in each FILE, which must not be there yet\n"
	      "show    name, serial, fingerprint, start, end, fingerprint of the key and of the\n"
	      "        issuer (- when it is in none of the files), separated by tabs\n"
	      "pin     base64 of the SHA-256 of the public key of a certificate, key or request\n"
	      "names   the subject alternative names of a certificate, as issue takes them\n"
	      "crl     a list of the certificates of lines SERIAL<TAB>DATE<TAB>REASON, which says\n"
	      "        that another one follows within N days. What FILE held is replaced\n"
	      "verify  as a strict verifier who trusts the roots in these files and knows the\n"
	      "        other CAs in them: a line for each fault, or that there is none. Without\n"
	      "        --purpose a certificate is held to what it says that it is for\n"
	      "requests\n"
	      "        for each line csr:FILE or text:REQUEST the fingerprint of its key, as\n"
	      "        show prints it; or -, a tab, and why issue would refuse it\n"
	      "\n"
	      "A passphrase is taken from FLEET_PASSPHRASE or the file FLEET_PASSPHRASE_FILE, a\n"
	      "PIN from FLEET_PIN or FLEET_PIN_FILE, or asked for at the terminal.\n"
	      "It is a part of pki/fleet, whose help explains the rest.\n",
	      stderr);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*main)(int argc, char **argv);
	} commands[] = {
		{"issue", issue_main},	 {"key", key_main},	      {"show", show_main},
		{"pin", pin_main},	 {"names", names_main},	      {"crl", crl_main},
		{"verify", verify_main}, {"requests", requests_main},
	};

	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(*commands); i++) {
		int status;

		if (strcmp(argv[1], commands[i].name) != 0)
			continue;
		status = commands[i].main(argc - 1, argv + 1);
		if (fflush(stdout) != 0)
			return complain("stdout cannot be written");
		return status;
	}
	return usage();
}
