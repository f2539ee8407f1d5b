/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/ports/qemu_m33/dtls.h"

#include <errno.h>
#include <string.h>

#include <mbedtls/hmac_drbg.h>
#include <mbedtls/ssl.h>

#include "device-fw/ports/qemu_m33/clock.h"
#include "device-fw/ports/qemu_m33/uart.h"

enum state { CLOSED, HANDSHAKE, OPEN };

static struct {
	mbedtls_ssl_context ssl;
	mbedtls_ssl_config config;
	mbedtls_hmac_drbg_context random;
	int64_t intermediate_ms, final_ms; /* of the handshake's timer; 0: it does not run */
	size_t datagram;		   /* bytes in uart_frame that Mbed TLS has not taken yet */
	enum state state;
} dtls;

static int send_datagram(void *ctx, const unsigned char *bytes, size_t length)
{
	(void)ctx;
	uart_send(bytes, length);
	return (int)length;
}

static int receive_datagram(void *ctx, unsigned char *out, size_t size)
{
	size_t length = dtls.datagram;

	(void)ctx;
	dtls.datagram = 0;
	if (length == 0 || length > size)
		return MBEDTLS_ERR_SSL_WANT_READ;
	memcpy(out, uart_frame, length);
	return (int)length;
}

static void set_timer(void *ctx, uint32_t intermediate_ms, uint32_t final_ms)
{
	int64_t now_ms = clock_ms();

	(void)ctx;
	dtls.intermediate_ms = now_ms + intermediate_ms;
	dtls.final_ms = final_ms != 0 ? now_ms + final_ms : 0;
}

static int get_timer(void *ctx)
{
	int64_t now_ms = clock_ms();

	(void)ctx;
	if (dtls.final_ms == 0)
		return -1;
	return (now_ms >= dtls.final_ms) + (now_ms >= dtls.intermediate_ms);
}

void dtls_random(void *ctx, void *out, size_t length)
{
	(void)ctx;
	mbedtls_hmac_drbg_random(&dtls.random, out, length);
}

int dtls_start(const struct dtls_credentials *c)
{
	mbedtls_ssl_config *config = &dtls.config;

	mbedtls_hmac_drbg_init(&dtls.random);
	if (mbedtls_hmac_drbg_seed_buf(&dtls.random, mbedtls_md_info_from_type(MBEDTLS_MD_SHA256),
				       c->seed, c->seed_length) != 0 ||
	    mbedtls_ssl_config_defaults(config, MBEDTLS_SSL_IS_CLIENT,
					MBEDTLS_SSL_TRANSPORT_DATAGRAM,
					MBEDTLS_SSL_PRESET_DEFAULT) != 0)
		return -ENOMEM;
	mbedtls_ssl_conf_rng(config, mbedtls_hmac_drbg_random, &dtls.random);
	if (mbedtls_ssl_conf_psk(config, c->key, c->key_length, c->identity, c->identity_length) !=
		    0 ||
	    mbedtls_ssl_conf_cid(config, 0, MBEDTLS_SSL_UNEXPECTED_CID_IGNORE) != 0 ||
	    mbedtls_ssl_setup(&dtls.ssl, config) != 0)
		return -ENOMEM;
	mbedtls_ssl_set_bio(&dtls.ssl, NULL, send_datagram, receive_datagram, NULL);
	mbedtls_ssl_set_timer_cb(&dtls.ssl, NULL, set_timer, get_timer);
	return 0;
}

int dtls_open(void)
{
	if (mbedtls_ssl_session_reset(&dtls.ssl) != 0 ||
	    mbedtls_ssl_set_cid(&dtls.ssl, MBEDTLS_SSL_CID_ENABLED, NULL, 0) != 0)
		return -ENOMEM;
	dtls.state = HANDSHAKE;
	return 0;
}

bool dtls_has_connection_id(void)
{
	int enabled;

	return dtls.state == OPEN &&
	       mbedtls_ssl_get_peer_cid(&dtls.ssl, &enabled, NULL, NULL) == 0 &&
	       enabled == MBEDTLS_SSL_CID_ENABLED;
}

int dtls_send(const void *bytes, size_t length)
{
	return mbedtls_ssl_write(&dtls.ssl, bytes, length) == (int)length ? 0 : -EIO;
}

void dtls_close(void)
{
	if (dtls.state == OPEN)
		mbedtls_ssl_close_notify(&dtls.ssl);
	dtls.state = CLOSED;
}

static enum dtls_event failed(int error)
{
	if (error == MBEDTLS_ERR_SSL_WANT_READ)
		return DTLS_NOTHING;
	dtls.state = CLOSED;
	return error == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE ? DTLS_REFUSED : DTLS_FAILED;
}

enum dtls_event dtls_poll(size_t *length)
{
	int rc;

	dtls.datagram = *length;
	*length = 0;
	switch (dtls.state) {
	case HANDSHAKE:
		rc = mbedtls_ssl_handshake(&dtls.ssl);
		if (rc != 0)
			return failed(rc);
		dtls.state = OPEN;
		return DTLS_CONNECTED;
	case OPEN:
		rc = mbedtls_ssl_read(&dtls.ssl, uart_frame, sizeof(uart_frame));
		if (rc < 0)
			return failed(rc);
		*length = (size_t)rc;
		return DTLS_RECEIVED;
	default:
		return DTLS_NOTHING;
	}
}
