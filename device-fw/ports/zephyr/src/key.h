/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A P-256 key of the device's own, in the secure world: TF-M makes it with CryptoCell's random
 * numbers and keeps it (PSA, persistent, not exportable); the application can only ask it to sign.
 * It signs JWTs where the modem is not to, or cannot (modem firmware before 1.3). Nothing else of
 * the application is secret: the keys of the connection are in the modem.
 */
#ifndef FIELDGATE_KEY_H
#define FIELDGATE_KEY_H

#include <stddef.h>
#include <stdint.h>

#define KEY_PUBLIC_LENGTH    65 /* 04 || x || y */
#define KEY_SIGNATURE_LENGTH 64 /* r || s, as ES256 wants it (RFC 7518 section 3.4) */

/* Finds the key, or makes it. Any thread, more than once. 0, or a negative errno: -EIO when the
 * secure world refuses, the reason is logged. */
int key_init(void);
/* For `fleet add --jwt-key`: the provisioning shell prints it as PEM. */
int key_public(uint8_t out[KEY_PUBLIC_LENGTH]);
/* ECDSA with SHA-256 over the bytes. */
int key_sign(const void *bytes, size_t length, uint8_t signature[KEY_SIGNATURE_LENGTH]);

#endif
