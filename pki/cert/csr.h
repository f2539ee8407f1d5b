/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificate requests (PKCS #10, RFC 2986), as a person or a modem has them: PEM, DER, or the
 * answer of an nRF91 modem to AT%KEYGEN, base64url(request).base64url(COSE_Sign1), alone or as the
 * modem prints it, in %KEYGEN: "..." between an echo and OK.
 *
 * Of a request only the key counts. Its subject and extensions say what somebody would like to be,
 * and are not looked at; its signature shows that he has the key.
 */
#ifndef FG_PKI_CERT_CSR_H
#define FG_PKI_CERT_CSR_H

#include <stddef.h>

#include <openssl/evp.h>

#define CSR_MAX 16384 /* bytes, of what is read and of what is decoded */

/*
 * The public key to *out, for EVP_PKEY_free. 0; -EBADMSG: it is no request; -EINVAL: it is one, but
 * the key is not P-256, the signature is bad, or the modem's attestation is of another request;
 * -ENOMEM. err then says what is wrong and what to do. Any thread.
 */
int csr_read(EVP_PKEY **out, const char *data, size_t len, char *err, size_t err_len);

#endif
