/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mbed TLS for device-fw/ports/qemu_m33, in place of its own mbedtls_config.h: a client of DTLS 1.2
 * with a pre-shared key, TLS_PSK_WITH_AES_128_CCM_8 (RFC 6655) and Connection ID (RFC 9146), and
 * nothing else: no certificates, no public-key cryptography, no libc but memcpy and the like.
 */
#ifndef FIELDGATE_MBEDTLS_M33_H
#define FIELDGATE_MBEDTLS_M33_H

#include <stddef.h>

/* The program's: no part of the library keeps memory of its own. */
void *fg_heap_calloc(size_t count, size_t size);
void fg_heap_free(void *block);
#define MBEDTLS_PLATFORM_C
#define MBEDTLS_PLATFORM_MEMORY
#define MBEDTLS_PLATFORM_NO_STD_FUNCTIONS
#define MBEDTLS_PLATFORM_CALLOC_MACRO fg_heap_calloc
#define MBEDTLS_PLATFORM_FREE_MACRO   fg_heap_free

/* The block cipher itself is the program's, as it is on a chip with an accelerator. CCM only
 * encrypts. */
#define MBEDTLS_AES_C
#define MBEDTLS_AES_SETKEY_ENC_ALT
#define MBEDTLS_AES_ENCRYPT_ALT
#define MBEDTLS_AES_ROM_TABLES
#define MBEDTLS_AES_FEWER_TABLES
#define MBEDTLS_AES_ONLY_128_BIT_KEY_LENGTH
#define MBEDTLS_BLOCK_CIPHER_NO_DECRYPT
#define MBEDTLS_CCM_C
#define MBEDTLS_CIPHER_C
#define MBEDTLS_MD_C
#define MBEDTLS_SHA256_C
#define MBEDTLS_SHA256_SMALLER
#define MBEDTLS_HMAC_DRBG_C

#define MBEDTLS_SSL_TLS_C
#define MBEDTLS_SSL_CLI_C
#define MBEDTLS_SSL_PROTO_TLS1_2
#define MBEDTLS_SSL_PROTO_DTLS
#define MBEDTLS_SSL_DTLS_ANTI_REPLAY
#define MBEDTLS_SSL_EXTENDED_MASTER_SECRET
#define MBEDTLS_KEY_EXCHANGE_PSK_ENABLED
#define MBEDTLS_SSL_CIPHERSUITES MBEDTLS_TLS_PSK_WITH_AES_128_CCM_8
#define MBEDTLS_PSK_MAX_LEN	 32

/* The server needs a Connection ID to find us; we have one server and need none. */
#define MBEDTLS_SSL_DTLS_CONNECTION_ID
#define MBEDTLS_SSL_DTLS_CONNECTION_ID_COMPAT	   0
#define MBEDTLS_SSL_CID_IN_LEN_MAX		   0
#define MBEDTLS_SSL_CID_OUT_LEN_MAX		   16
#define MBEDTLS_SSL_CID_TLS1_3_PADDING_GRANULARITY 1

/*
 * Bytes of a record: requests have up to FG_COAP_REQUEST_MAX, 512; what the server sends is a block
 * of 256 (FG_COAP_BLOCK_SZX) with its options. Messages of a handshake that come out of order come
 * again: nothing is buffered.
 */
#define MBEDTLS_SSL_OUT_CONTENT_LEN    512
#define MBEDTLS_SSL_IN_CONTENT_LEN     320
#define MBEDTLS_SSL_DTLS_MAX_BUFFERING 0

#endif
