/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <stdio.h>
#include <string.h>

#include "device-fw/ports/posix/link_tls.h"

#define TEXT_MAX 256

/* RFC 5246, section 7.2; those that say that the peer does not want us are refusals. */
static const struct alert {
	unsigned char code;
	int error;
	const char *text;
} alerts[] = {
	{MBEDTLS_SSL_ALERT_MSG_CLOSE_NOTIFY, -ECONNRESET, "close_notify"},
	{MBEDTLS_SSL_ALERT_MSG_UNEXPECTED_MESSAGE, -EPROTO, "unexpected_message"},
	{MBEDTLS_SSL_ALERT_MSG_BAD_RECORD_MAC, -EACCES,
	 "bad_record_mac: its key is not ours, if this is a pre-shared one"},
	{MBEDTLS_SSL_ALERT_MSG_RECORD_OVERFLOW, -EPROTO, "record_overflow"},
	{MBEDTLS_SSL_ALERT_MSG_HANDSHAKE_FAILURE, -EACCES,
	 "handshake_failure: no common cipher suite, or it wants a certificate"},
	{MBEDTLS_SSL_ALERT_MSG_BAD_CERT, -EACCES, "bad_certificate"},
	{MBEDTLS_SSL_ALERT_MSG_UNSUPPORTED_CERT, -EACCES, "unsupported_certificate"},
	{MBEDTLS_SSL_ALERT_MSG_CERT_REVOKED, -EACCES, "certificate_revoked"},
	{MBEDTLS_SSL_ALERT_MSG_CERT_EXPIRED, -EACCES, "certificate_expired"},
	{MBEDTLS_SSL_ALERT_MSG_CERT_UNKNOWN, -EACCES, "certificate_unknown"},
	{MBEDTLS_SSL_ALERT_MSG_ILLEGAL_PARAMETER, -EPROTO, "illegal_parameter"},
	{MBEDTLS_SSL_ALERT_MSG_UNKNOWN_CA, -EACCES, "unknown_ca"},
	{MBEDTLS_SSL_ALERT_MSG_ACCESS_DENIED, -EACCES, "access_denied"},
	{MBEDTLS_SSL_ALERT_MSG_DECODE_ERROR, -EPROTO, "decode_error"},
	{MBEDTLS_SSL_ALERT_MSG_DECRYPT_ERROR, -EACCES,
	 "decrypt_error: its key is not ours, if this is a pre-shared one"},
	{MBEDTLS_SSL_ALERT_MSG_PROTOCOL_VERSION, -EACCES, "protocol_version: it wants no TLS 1.2"},
	{MBEDTLS_SSL_ALERT_MSG_INSUFFICIENT_SECURITY, -EACCES, "insufficient_security"},
	{MBEDTLS_SSL_ALERT_MSG_INTERNAL_ERROR, -ECONNRESET, "internal_error"},
	{MBEDTLS_SSL_ALERT_MSG_USER_CANCELED, -ECONNRESET, "user_canceled"},
	{MBEDTLS_SSL_ALERT_MSG_UNSUPPORTED_EXT, -EPROTO, "unsupported_extension"},
	{MBEDTLS_SSL_ALERT_MSG_UNRECOGNIZED_NAME, -EACCES, "unrecognized_name"},
	{MBEDTLS_SSL_ALERT_MSG_UNKNOWN_PSK_IDENTITY, -EACCES, "unknown_psk_identity"},
	{MBEDTLS_SSL_ALERT_MSG_CERT_REQUIRED, -EACCES, "certificate_required"},
};

static int explain_alert(const struct link_tls *t, char *text, size_t size)
{
	unsigned char code = link_tls_context(t)->MBEDTLS_PRIVATE(in_msg)[1];

	for (size_t i = 0; i < sizeof(alerts) / sizeof(alerts[0]); i++)
		if (alerts[i].code == code) {
			snprintf(text, size, "the server refuses with alert %d, %s", code,
				 alerts[i].text);
			return alerts[i].error;
		}
	snprintf(text, size, "the server refuses with alert %d", code);
	return -EPROTO;
}

static int explain_certificate(const struct link_tls *t, char *text, size_t size)
{
	uint32_t flags = mbedtls_ssl_get_verify_result(link_tls_context(t));
	char info[TEXT_MAX] = "";
	size_t length;

	if (flags == 0 || flags == UINT32_MAX ||
	    mbedtls_x509_crt_verify_info(info, sizeof(info), "", flags) < 0)
		snprintf(info, sizeof(info), "it cannot be verified");
	length = strlen(info);
	if (length > 0 && info[length - 1] == '\n')
		info[length - 1] = '\0';
	for (char *newline; (newline = strchr(info, '\n'));)
		*newline = ' ';
	snprintf(text, size, "the server's certificate is refused: %s", info);
	return -EACCES;
}

static const struct known {
	int error, number;
	const char *text;
} known[] = {
	{MBEDTLS_ERR_SSL_TIMEOUT, -ETIMEDOUT, "the server does not answer the handshake"},
	{MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY, -ECONNRESET, "the server has closed the connection"},
	{MBEDTLS_ERR_SSL_CONN_EOF, -ECONNRESET,
	 "the server has closed the connection without a farewell"},
	{MBEDTLS_ERR_NET_CONN_RESET, -ECONNRESET, "the connection was reset"},
	{MBEDTLS_ERR_SSL_ALLOC_FAILED, -ENOMEM, "out of memory"},
	{MBEDTLS_ERR_SSL_NO_CLIENT_CERTIFICATE, -EACCES, "the server sends no certificate"},
	{MBEDTLS_ERR_SSL_INVALID_RECORD, -EPROTO, "a record is malformed, or longer than 4 kB"},
	{MBEDTLS_ERR_SSL_BAD_INPUT_DATA, -EINVAL,
	 "the host's name, or a saved session, is malformed"},
};

int link_tls_explain(const struct link_tls *t, int error, char *text, size_t size)
{
	char words[TEXT_MAX];

	if (t && error == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE)
		return explain_alert(t, text, size);
	if (t && (error == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED ||
		  error == MBEDTLS_ERR_SSL_BAD_CERTIFICATE))
		return explain_certificate(t, text, size);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].error == error) {
			snprintf(text, size, "%s", known[i].text);
			return known[i].number;
		}
	mbedtls_strerror(error, words, sizeof(words));
	snprintf(text, size, "%s", words);
	return -EPROTO;
}
