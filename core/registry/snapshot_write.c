/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copy of a snapshot on disk:
 *
 *     magic (8 bytes), format u32, registry_version u64,
 *                    counts of policies, principals, credentials, rules, authorities,
 *                    revoked certificates u32 each
 *     a policy:      name, count of its rights u32; each right: deny u8, action u8, filter
 *     a principal:   id, kind u8, state u8, policy's name
 *     a credential:  kind u8, revoked u8, not_before u64, not_after u64 (two's complement),
 *                    edition u32,
 *                    fingerprint (32 bytes), principal's id,
 *                    has material u8, material's length u32, material
 *     a rule:        name, revision u64, sql, actions, has error action u8, error action
 *     an authority:  name, fingerprint (32 bytes), enrolment u8, policy's name,
 *                    certificate's length u32, certificate
 *     a revoked one: kind u8, fingerprint (32 bytes)
 *     CRC32C of all before, u32
 *
 * Numbers are little-endian; a text is its length as u16, its bytes and a NUL; kinds, states,
 * actions and enrolments are the numbers of the enums in snapshot.h and policy.h, so whoever
 * changes those counts the format up (snapshot_internal.h). snapshot_read.c reads it.
 */
#include "core/registry/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/crc32c.h"
#include "core/base/file.h"
#include "core/registry/snapshot_internal.h"

#define TEMPORARY     ".new"
#define PATH_LEN      4096
#define WRITER_BUFFER (64 * 1024)

/* After an error it only counts bytes; the error is asked for once, at the end. */
struct writer {
	int fd;
	int error;
	uint32_t crc;
	size_t used, written;
	uint8_t buffer[WRITER_BUFFER];
};

static void flush(struct writer *w)
{
	for (size_t done = 0; done < w->used && !w->error;) {
		ssize_t n = write(w->fd, w->buffer + done, w->used - done);

		if (n < 0 && errno != EINTR)
			w->error = -errno;
		else if (n > 0)
			done += (size_t)n;
	}
	w->written += w->used;
	if (w->written > SNAPSHOT_FILE_MAX && !w->error)
		w->error = -EFBIG;
	w->used = 0;
}

static void put_bytes(struct writer *w, const void *data, size_t len)
{
	const uint8_t *p = data;

	w->crc = crc32c(w->crc, data, len);
	while (len > 0) {
		size_t n = WRITER_BUFFER - w->used < len ? WRITER_BUFFER - w->used : len;

		memcpy(w->buffer + w->used, p, n);
		w->used += n;
		p += n;
		len -= n;
		if (w->used == WRITER_BUFFER)
			flush(w);
	}
}

static void put_number(struct writer *w, uint64_t n, size_t len)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(n >> 8 * i);
	put_bytes(w, bytes, len);
}

static void put_text(struct writer *w, const char *text)
{
	size_t len = strlen(text); /* names, topic filters, SNAPSHOT_TEXT_MAX: at most 65535 */

	put_number(w, len, 2);
	put_bytes(w, text, len + 1);
}

static void put_policy(struct writer *w, const struct policy *p)
{
	put_text(w, p->name);
	put_number(w, p->rule_count, 4);
	for (size_t i = 0; i < p->rule_count; i++) {
		put_number(w, p->rules[i].deny, 1);
		put_number(w, p->rules[i].action, 1);
		put_text(w, p->rules[i].filter);
	}
}

static void put_principal(struct writer *w, const struct principal *p)
{
	put_text(w, p->id);
	put_number(w, p->kind, 1);
	put_number(w, p->state, 1);
	put_text(w, p->policy->name);
}

static void put_credential(struct writer *w, const struct credential *c)
{
	put_number(w, c->kind, 1);
	put_number(w, c->revoked, 1);
	put_number(w, (uint64_t)c->not_before, 8);
	put_number(w, (uint64_t)c->not_after, 8);
	put_number(w, c->edition, 4);
	put_bytes(w, c->fingerprint, FINGERPRINT_LEN);
	put_text(w, c->principal->id);
	put_number(w, c->material != NULL, 1);
	put_number(w, c->material_len, 4);
	if (c->material)
		put_bytes(w, c->material, c->material_len);
}

static void put_rule(struct writer *w, const struct snapshot_rule *r)
{
	put_text(w, r->name);
	put_number(w, (uint64_t)r->revision, 8);
	put_text(w, r->sql);
	put_text(w, r->actions);
	put_number(w, r->error_action != NULL, 1);
	put_text(w, r->error_action ? r->error_action : "");
}

static void put_authority(struct writer *w, const struct authority *a)
{
	put_text(w, a->name);
	put_bytes(w, a->fingerprint, FINGERPRINT_LEN);
	put_number(w, a->enrolment, 1);
	put_text(w, a->policy->name);
	put_number(w, a->certificate_len, 4);
	put_bytes(w, a->certificate, a->certificate_len);
}

static void put_revoked(struct writer *w, const struct revoked_entry *e)
{
	put_number(w, e->kind, 1);
	put_bytes(w, e->fingerprint, FINGERPRINT_LEN);
}

static int write_snapshot(const struct snapshot *s, int fd)
{
	struct writer *w = malloc(sizeof(*w));
	int rc;

	if (!w)
		return -ENOMEM;
	*w = (struct writer){.fd = fd};
	put_bytes(w, SNAPSHOT_MAGIC, SNAPSHOT_MAGIC_LEN);
	put_number(w, SNAPSHOT_FORMAT, 4);
	put_number(w, (uint64_t)s->version, 8);
	put_number(w, s->policies.count, 4);
	put_number(w, s->principals.count, 4);
	put_number(w, s->credentials.count, 4);
	put_number(w, s->rules.count, 4);
	put_number(w, s->authorities.count, 4);
	put_number(w, s->revoked.count, 4);
	for (size_t i = 0; i < s->policies.count; i++)
		put_policy(w, &((const struct policy_entry *)s->policies.items[i])->policy);
	for (size_t i = 0; i < s->principals.count; i++)
		put_principal(w,
			      &((const struct principal_entry *)s->principals.items[i])->principal);
	for (size_t i = 0; i < s->credentials.count; i++)
		put_credential(w, s->credentials.items[i]);
	for (size_t i = 0; i < s->rules.count; i++)
		put_rule(w, s->rules.items[i]);
	for (size_t i = 0; i < s->authorities.count; i++)
		put_authority(w, s->authorities.items[i]);
	for (size_t i = 0; i < s->revoked.count; i++)
		put_revoked(w, s->revoked.items[i]);
	put_number(w, w->crc, SNAPSHOT_CRC_LEN);
	flush(w);
	rc = w->error;
	free(w);
	return rc;
}

int snapshot_save(const struct snapshot *s, const char *path)
{
	char temporary[PATH_LEN];
	int n = snprintf(temporary, sizeof(temporary), "%s" TEMPORARY, path);
	int fd, rc;

	if (n < 0 || (size_t)n >= sizeof(temporary))
		return -ENAMETOOLONG;
	/* One may be left of a process that was killed. */
	if (unlink(temporary) != 0 && errno != ENOENT)
		return -errno;
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	rc = write_snapshot(s, fd);
	if (rc == 0 && fsync(fd) != 0)
		rc = -errno;
	if (close(fd) != 0 && rc == 0)
		rc = -errno;
	if (rc == 0 && rename(temporary, path) != 0)
		rc = -errno;
	if (rc != 0) {
		unlink(temporary);
		return rc;
	}
	return file_sync_directory_of(path);
}
