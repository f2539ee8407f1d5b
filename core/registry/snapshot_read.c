/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the copy of a snapshot on disk, which snapshot_write.c describes. It trusts nothing: each
 * length is held against the bytes that are left, and every entry goes through the same checks as a
 * row of the database.
 *
 * Format 2, which had neither dates nor authorities, is still read: after an upgrade that meets a
 * database that is down, devices come in by the copy that the former release has written, as they
 * did before the upgrade.
 */
#include "core/registry/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/crc32c.h"
#include "core/registry/snapshot_internal.h"

/* Magic, format, version and the four counts that every format has. */
#define HEADER_LEN (SNAPSHOT_MAGIC_LEN + 4 + 8 + 4 * 4)

struct reader {
	const uint8_t *at, *end;
	uint64_t format;
	struct snapshot_builder *builder;
	const char *path;
	char *err;
	size_t err_len;
};

static int refuse(const struct reader *r, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(const struct reader *r, int code, const char *fmt, ...)
{
	char what[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	snprintf(r->err, r->err_len, "%s: %s", r->path, what);
	return code;
}

static int damaged(const struct reader *r, const char *what)
{
	return refuse(r, -EBADMSG, "damaged: %s", what);
}

static const uint8_t *get_bytes(struct reader *r, size_t len)
{
	const uint8_t *p = r->at;

	if (len > (size_t)(r->end - r->at))
		return NULL;
	r->at += len;
	return p;
}

static bool get_number(struct reader *r, uint64_t *out, size_t len)
{
	const uint8_t *p = get_bytes(r, len);

	*out = 0;
	for (size_t i = 0; p && i < len; i++)
		*out |= (uint64_t)p[i] << 8 * i;
	return p != NULL;
}

/* A number of one byte, from 0 to max. */
static bool get_small(struct reader *r, unsigned max, unsigned *out)
{
	uint64_t n;

	if (!get_number(r, &n, 1) || n > max)
		return false;
	*out = (unsigned)n;
	return true;
}

static const char *get_text(struct reader *r)
{
	uint64_t len;
	const char *text;

	if (!get_number(r, &len, 2))
		return NULL;
	text = (const char *)get_bytes(r, (size_t)len + 1);
	return text && strnlen(text, (size_t)len + 1) == len ? text : NULL;
}

/* What the builder says of an entry. Whatever it refuses, we did not write. */
static int added(const struct reader *r, int rc, const char *why)
{
	if (rc == 0 || rc == -ENOMEM)
		return rc;
	return refuse(r, -EBADMSG, "damaged: %s", why);
}

static int get_right(struct reader *r, const char *policy)
{
	unsigned deny, action;
	const char *filter;
	char why[256];

	if (!get_small(r, 1, &deny) || !get_small(r, POLICY_RELAY, &action) ||
	    !(filter = get_text(r)))
		return damaged(r, "a right cannot be read");
	return added(r,
		     snapshot_add_policy_rule(r->builder, policy, deny, (enum policy_action)action,
					      filter, why, sizeof(why)),
		     why);
}

static int get_policy(struct reader *r)
{
	const char *name = get_text(r);
	uint64_t rights;
	char why[256];
	int rc;

	if (!name || !get_number(r, &rights, 4))
		return damaged(r, "a policy cannot be read");
	rc = added(r, snapshot_add_policy(r->builder, name, why, sizeof(why)), why);
	for (uint64_t i = 0; i < rights && rc == 0; i++)
		rc = get_right(r, name);
	return rc;
}

static int get_principal(struct reader *r)
{
	const char *id, *policy;
	unsigned kind, state;
	char why[256];

	if (!(id = get_text(r)) || !get_small(r, PRINCIPAL_SERVICE, &kind) ||
	    !get_small(r, PRINCIPAL_REVOKED, &state) || !(policy = get_text(r)))
		return damaged(r, "a principal cannot be read");
	return added(r,
		     snapshot_add_principal(r->builder, id, (enum principal_kind)kind,
					    (enum principal_state)state, policy, why, sizeof(why)),
		     why);
}

static bool get_dates(struct reader *r, uint64_t *not_before, uint64_t *not_after,
		      uint64_t *edition)
{
	*not_before = (uint64_t)INT64_MIN;
	*not_after = INT64_MAX;
	*edition = 0;
	return r->format < SNAPSHOT_FORMAT_AUTHORITIES ||
	       (get_number(r, not_before, 8) && get_number(r, not_after, 8) &&
		get_number(r, edition, 4));
}

static int get_credential(struct reader *r)
{
	const uint8_t *fingerprint, *material;
	unsigned kind, revoked, has_material;
	const char *principal;
	uint64_t len, not_before, not_after, edition;
	char why[256];
	int rc;

	if (!get_small(r, CREDENTIAL_TOKEN, &kind) || !get_small(r, 1, &revoked) ||
	    !get_dates(r, &not_before, &not_after, &edition) ||
	    !(fingerprint = get_bytes(r, FINGERPRINT_LEN)) || !(principal = get_text(r)) ||
	    !get_small(r, 1, &has_material) || !get_number(r, &len, 4) ||
	    !(material = get_bytes(r, (size_t)len)) || (len > 0 && !has_material))
		return damaged(r, "a credential cannot be read");
	rc = snapshot_add_credential(r->builder, (enum credential_kind)kind, fingerprint, principal,
				     revoked, has_material ? material : NULL, (size_t)len, why,
				     sizeof(why));
	if (rc == 0)
		rc = snapshot_limit_credential(r->builder, (enum credential_kind)kind, fingerprint,
					       (int64_t)not_before, (int64_t)not_after, why,
					       sizeof(why));
	if (rc == 0)
		rc = snapshot_mark_credential(r->builder, (enum credential_kind)kind, fingerprint,
					      (uint32_t)edition, why, sizeof(why));
	return added(r, rc, why);
}

static int get_rule(struct reader *r)
{
	struct snapshot_rule rule;
	uint64_t revision;
	unsigned has_error_action;
	char why[256];

	if (!(rule.name = get_text(r)) || !get_number(r, &revision, 8) ||
	    !(rule.sql = get_text(r)) || !(rule.actions = get_text(r)) ||
	    !get_small(r, 1, &has_error_action) || !(rule.error_action = get_text(r)))
		return damaged(r, "a rule cannot be read");
	rule.revision = (int64_t)revision;
	if (!has_error_action)
		rule.error_action = NULL;
	return added(r, snapshot_add_rule(r->builder, &rule, why, sizeof(why)), why);
}

static int get_authority(struct reader *r)
{
	const uint8_t *fingerprint, *certificate;
	const char *name, *policy;
	unsigned enrolment;
	uint64_t len;
	char why[256];

	if (!(name = get_text(r)) || !(fingerprint = get_bytes(r, FINGERPRINT_LEN)) ||
	    !get_small(r, ENROLMENT_ACTIVE, &enrolment) || !(policy = get_text(r)) ||
	    !get_number(r, &len, 4) || !(certificate = get_bytes(r, (size_t)len)))
		return damaged(r, "an authority cannot be read");
	return added(r,
		     snapshot_add_authority(r->builder, name, fingerprint, certificate, (size_t)len,
					    (enum enrolment_mode)enrolment, policy, why,
					    sizeof(why)),
		     why);
}

static int get_revoked(struct reader *r)
{
	const uint8_t *fingerprint;
	unsigned kind;
	char why[256];

	if (!get_small(r, CREDENTIAL_X509_KEY, &kind) ||
	    !(fingerprint = get_bytes(r, FINGERPRINT_LEN)))
		return damaged(r, "a revoked certificate cannot be read");
	return added(r,
		     snapshot_add_revoked(r->builder, (enum credential_kind)kind, fingerprint, NULL,
					  NULL, why, sizeof(why)),
		     why);
}

static int get_all(struct reader *r, uint64_t count, int (*get)(struct reader *r))
{
	int rc = 0;

	for (uint64_t i = 0; i < count && rc == 0; i++)
		rc = get(r);
	return rc;
}

/* The file is whole and ours when this returns 0; r->end is then before the checksum. */
static int check_envelope(struct reader *r)
{
	struct reader tail = *r;
	const uint8_t *magic;
	uint64_t crc;

	if ((size_t)(r->end - r->at) < HEADER_LEN + SNAPSHOT_CRC_LEN)
		return damaged(r, "too short");
	r->end -= SNAPSHOT_CRC_LEN;
	tail.at = r->end;
	get_number(&tail, &crc, SNAPSHOT_CRC_LEN);
	magic = get_bytes(r, SNAPSHOT_MAGIC_LEN);
	get_number(r, &r->format, 4);
	if (memcmp(magic, SNAPSHOT_MAGIC, SNAPSHOT_MAGIC_LEN) != 0)
		return refuse(r, -EBADMSG, "not a copy of the registry");
	if (crc32c(0, magic, (size_t)(r->end - magic)) != crc)
		return damaged(r, "the checksum is wrong");
	if (r->format < SNAPSHOT_FORMAT_OLDEST || r->format > SNAPSHOT_FORMAT)
		return refuse(r, -EBADMSG, "has format %llu, this release reads %d to %d",
			      (unsigned long long)r->format, SNAPSHOT_FORMAT_OLDEST,
			      SNAPSHOT_FORMAT);
	return 0;
}

static int parse(struct reader *r, const struct snapshot **out)
{
	uint64_t version, policies, principals, credentials, rules, authorities = 0, revoked = 0;
	int rc = check_envelope(r);

	if (rc != 0)
		return rc;
	get_number(r, &version, 8);
	get_number(r, &policies, 4);
	get_number(r, &principals, 4);
	get_number(r, &credentials, 4);
	get_number(r, &rules, 4);
	if (r->format >= SNAPSHOT_FORMAT_AUTHORITIES &&
	    (!get_number(r, &authorities, 4) || !get_number(r, &revoked, 4)))
		return damaged(r, "too short");
	rc = get_all(r, policies, get_policy);
	if (rc == 0)
		rc = get_all(r, principals, get_principal);
	if (rc == 0)
		rc = get_all(r, credentials, get_credential);
	if (rc == 0)
		rc = get_all(r, rules, get_rule);
	if (rc == 0)
		rc = get_all(r, authorities, get_authority);
	if (rc == 0)
		rc = get_all(r, revoked, get_revoked);
	if (rc == 0 && r->at != r->end)
		rc = damaged(r, "bytes behind the end");
	if (rc != 0)
		return rc;
	*out = snapshot_build(r->builder, (int64_t)version);
	r->builder = NULL;
	return *out ? 0 : -ENOMEM;
}

/* All of the file, which is allocated as large as it is and no larger. */
static int read_file(const struct reader *r, int fd, uint8_t **data, size_t *len)
{
	struct stat st;
	size_t done = 0;

	*data = NULL;
	*len = 0;
	if (fstat(fd, &st) != 0)
		return refuse(r, -errno, "%s", strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 || (uint64_t)st.st_size > SNAPSHOT_FILE_MAX)
		return refuse(r, -EBADMSG,
			      "not a copy of the registry: no file, empty or too large");
	*len = (size_t)st.st_size;
	*data = malloc(*len);
	if (!*data)
		return refuse(r, -ENOMEM, "out of memory");
	while (done < *len) {
		ssize_t n = read(fd, *data + done, *len - done);

		if (n == 0)
			return damaged(r, "it became shorter");
		if (n < 0 && errno != EINTR)
			return refuse(r, -errno, "%s", strerror(errno));
		if (n > 0)
			done += (size_t)n;
	}
	return 0;
}

int snapshot_load(const struct snapshot **out, const char *path, char *err, size_t err_len)
{
	struct reader r = {.path = path, .err = err, .err_len = err_len};
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	uint8_t *data;
	size_t len = 0;
	int rc;

	*out = NULL;
	if (fd < 0)
		return refuse(&r, -errno, "%s", strerror(errno));
	rc = read_file(&r, fd, &data, &len);
	close(fd);
	if (rc != 0)
		goto out;
	r.at = data;
	r.end = data + len;
	r.builder = snapshot_builder_new();
	rc = r.builder ? parse(&r, out) : -ENOMEM;
	if (rc == -ENOMEM)
		refuse(&r, rc, "out of memory");
	snapshot_builder_free(r.builder);
out:
	free(data);
	return rc;
}
