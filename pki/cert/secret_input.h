/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Secrets that a person or his configuration gives this program: the passphrase of key files, and
 * the PIN of a token. They come from the environment, from a file, or from the terminal, never from
 * an argument, and are asked for once in a process.
 */
#ifndef FG_PKI_CERT_SECRET_INPUT_H
#define FG_PKI_CERT_SECRET_INPUT_H

#define SECRET_INPUT_MAX 256 /* with its NUL */

enum secret_input {
	SECRET_PASSPHRASE, /* FLEET_PASSPHRASE, FLEET_PASSPHRASE_FILE */
	SECRET_PIN,	   /* FLEET_PIN, FLEET_PIN_FILE */
};

/*
 * The secret that opens `what` (words for the prompt); it belongs to this module. NULL after a
 * complaint, which says where it could have come from.
 */
const char *secret_input(enum secret_input kind, const char *what);

/* The same for a secret that is being set: asked for twice, and not too short. */
const char *secret_input_new(enum secret_input kind, const char *what);

/* Where the last one came from, as words for a complaint that it is wrong. */
const char *secret_input_source(enum secret_input kind);

/* The first line of a file that only its owner can read. 0, or EXIT_FAILED after a complaint. */
int secret_input_file(char out[SECRET_INPUT_MAX], const char *path);

#endif
