/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/ports/posix/credentials.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "device-fw/core/config.h"

#define PSK_MAX	  64 /* bytes, RFC 4279 section 5.3 */
#define LINE_SIZE 4096

struct list {
	struct credentials *items;
	size_t count, room;
	char *error;
	size_t error_size;
};

/* A zeroed one at the end; NULL without memory. */
static struct credentials *add(struct list *l, const char *id)
{
	struct credentials *c;

	if (l->count == l->room) {
		l->room = l->room ? 2 * l->room : 16;
		c = reallocarray(l->items, l->room, sizeof(*c));
		if (!c)
			return NULL;
		l->items = c;
	}
	c = &l->items[l->count++];
	*c = (struct credentials){.id = strdup(id)};
	return c->id ? c : NULL;
}

static int fail(struct list *l, const char *where, const char *what)
{
	snprintf(l->error, l->error_size, "%s: %s", where, what);
	return -1;
}

/* Of hex digits: bytes, or -1. */
static int from_hex(const char *hex, uint8_t *out, size_t size)
{
	size_t length = strlen(hex);

	if (length == 0 || length % 2 || length / 2 > size ||
	    strspn(hex, "0123456789abcdefABCDEF") != length)
		return -1;
	for (size_t i = 0; i < length / 2; i++) {
		char digits[3] = {hex[2 * i], hex[2 * i + 1], '\0'};

		out[i] = (uint8_t)strtoul(digits, NULL, 16);
	}
	return (int)(length / 2);
}

static void warn_if_open(const char *file)
{
	struct stat status;

	if (stat(file, &status) == 0 && status.st_mode & S_IROTH)
		fprintf(stderr, "fieldgate-device: everybody on this machine can read %s\n", file);
}

/* ---- each kind */

static int take_certificate(struct list *l, struct credentials *c, const char *cert,
			    const char *key)
{
	warn_if_open(key);
	c->kind = FG_CREDENTIAL_CERTIFICATE;
	c->identity = link_identity_certificate(cert, key, l->error, l->error_size);
	return c->identity ? 0 : -1;
}

static int take_psk(struct list *l, struct credentials *c, const char *identity, const char *hex)
{
	uint8_t key[PSK_MAX];
	int length = from_hex(hex, key, sizeof(key));

	if (length < 0)
		return fail(l, c->id, "a pre-shared key is 2 to 128 hex digits");
	c->kind = FG_CREDENTIAL_PSK;
	c->identity = link_identity_psk(identity, strlen(identity), key, (size_t)length, l->error,
					l->error_size);
	memset(key, 0, sizeof(key));
	return c->identity ? 0 : -1;
}

static int take_jwt(struct list *l, struct credentials *c, const char *file)
{
	warn_if_open(file);
	c->kind = FG_CREDENTIAL_JWT;
	c->jwt = jwt_key_read(file, l->error, l->error_size);
	return c->jwt ? 0 : -1;
}

/* ---- one device */

/* "KEY-IN-HEX", or the lines "identity: TEXT" and "key: HEX". */
static int take_psk_file(struct list *l, struct credentials *c, const struct options *o)
{
	char line[LINE_SIZE], identity[LINE_SIZE] = "", key[LINE_SIZE] = "";
	FILE *in = fopen(o->psk_file, "re");

	if (!in)
		return fail(l, o->psk_file, strerror(errno));
	warn_if_open(o->psk_file);
	while (fgets(line, sizeof(line), in)) {
		line[strcspn(line, "\r\n")] = '\0';
		if (strncmp(line, "identity: ", 10) == 0)
			snprintf(identity, sizeof(identity), "%s", line + 10);
		else if (line[0])
			snprintf(key, sizeof(key), "%s",
				 strncmp(line, "key: ", 5) == 0 ? line + 5 : line);
	}
	fclose(in);
	if (!o->psk_identity && !identity[0])
		return fail(l, o->psk_file, "has no line `identity: ...`; give --psk-identity");
	return take_psk(l, c, o->psk_identity ? o->psk_identity : identity, key);
}

static int read_one(struct list *l, const struct options *o)
{
	struct credentials *c = add(l, o->id);

	if (!c)
		return fail(l, o->id, "out of memory");
	if (o->cert)
		return take_certificate(l, c, o->cert, o->key);
	return o->psk_file ? take_psk_file(l, c, o) : take_jwt(l, c, o->jwt_key);
}

/* ---- a fleet */

static int take_line(struct list *l, char *line, const struct options *o)
{
	const char *fields[4] = {"", "", "", ""};
	struct credentials *c;

	for (int i = 0; i < 4 && line; i++)
		fields[i] = strsep(&line, ",");
	c = add(l, fields[0]);
	if (!c)
		return fail(l, fields[0], "out of memory");
	if (strlen(c->id) > FG_DEVICE_ID_MAX || !*c->id || *c->id == '.' || strchr(c->id, '/'))
		return fail(l, c->id, "is no id of a device");
	if (strcmp(fields[1], "psk") == 0)
		return take_psk(l, c, fields[2], fields[3]);
	if (strcmp(fields[1], "cert") == 0)
		return take_certificate(l, c, fields[2], fields[3]);
	if (strcmp(fields[1], "jwt") == 0 && o->transport == FG_TRANSPORT_COAP)
		return take_jwt(l, c, fields[2]);
	return fail(l, c->id, "expected psk, cert, or (CoAP) jwt behind the id");
}

static bool enough(const struct list *l, const struct options *o)
{
	return o->devices && l->count >= (size_t)o->devices;
}

static int read_file(struct list *l, const struct options *o)
{
	FILE *in = fopen(o->credentials, "re");
	char line[LINE_SIZE];
	int rc = 0;

	if (!in)
		return fail(l, o->credentials, strerror(errno));
	warn_if_open(o->credentials);
	while (rc == 0 && !enough(l, o) && fgets(line, sizeof(line), in)) {
		line[strcspn(line, "\r\n")] = '\0';
		if (line[0] && line[0] != '#')
			rc = take_line(l, line, o);
	}
	fclose(in);
	return rc;
}

/* Every device there that has its key there. */
static int read_pki(struct list *l, const struct options *o)
{
	char pattern[PATH_MAX], cert[PATH_MAX];
	glob_t found;
	int rc = 0;

	snprintf(pattern, sizeof(pattern), "%s/devices/*/key.pem", o->pki);
	if (glob(pattern, 0, NULL, &found) != 0)
		return fail(l, o->pki, "has no devices/*/key.pem");
	for (size_t i = 0; rc == 0 && i < found.gl_pathc && !enough(l, o); i++) {
		char *key = found.gl_pathv[i], *slash = strrchr(key, '/'), *id;
		struct credentials *c;

		*slash = '\0';
		id = strrchr(key, '/') + 1;
		snprintf(cert, sizeof(cert), "%s/cert.pem", key);
		c = add(l, id);
		*slash = '/';
		rc = c ? take_certificate(l, c, cert, key) : fail(l, key, "out of memory");
	}
	globfree(&found);
	return rc;
}

size_t credentials_read(const struct options *o, struct credentials **out, char *error, size_t size)
{
	struct list l = {.error = error, .error_size = size};
	int rc;

	if (!o->fleet)
		rc = read_one(&l, o);
	else
		rc = o->credentials ? read_file(&l, o) : read_pki(&l, o);
	if (rc == 0 && (l.count == 0 || (o->devices && l.count < (size_t)o->devices))) {
		snprintf(error, size, "%s: there are %zu devices",
			 o->credentials ? o->credentials : o->pki, l.count);
		rc = -1;
	}
	if (rc != 0) {
		credentials_free(l.items, l.count);
		return 0;
	}
	*out = l.items;
	return l.count;
}

void credentials_free(struct credentials *c, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		link_identity_free(c[i].identity);
		jwt_key_free(c[i].jwt);
		free(c[i].id);
	}
	free(c);
}
