-- SPDX-License-Identifier: Apache-2.0
-- What a pre-shared key looks like in the database (core/registry/secret.h).

comment on column credential.material is 'jwt: the public key, P-256, DER SubjectPublicKeyInfo of 91 bytes with a named curve and an uncompressed point. psk: the key, sealed by AES-256-GCM with a master key that is not in the database: version 1 (1 byte), the first 8 bytes of the SHA-256 of the master key, nonce (12), ciphertext (as long as the key, 16 to 64), tag (16); associated data: "psk", a zero byte, the 32 bytes of fingerprint, principal. So it opens in this row only, and a principal that is renamed needs a new one (pki/fleet psk). Otherwise null';
