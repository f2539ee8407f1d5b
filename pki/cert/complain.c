/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>

#include <openssl/err.h>

#include "pki/cert/cert.h"

static void say(const char *kind, const char *fmt, va_list ap, const char *reason)
{
	/* Who reads both in one pipe is to get them in their order. */
	fflush(stdout);
	fprintf(stderr, "fieldgate-cert: %s", kind);
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, "%s%s\n", reason ? ": " : "", reason ? reason : "");
}

int complain(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("", fmt, ap, NULL);
	va_end(ap);
	return EXIT_FAILED;
}

int complain_openssl(const char *fmt, ...)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());
	va_list ap;

	va_start(ap, fmt);
	say("", fmt, ap, reason ? reason : "OpenSSL gives no reason");
	va_end(ap);
	ERR_clear_error();
	return EXIT_FAILED;
}

void warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("warning: ", fmt, ap, NULL);
	va_end(ap);
}
