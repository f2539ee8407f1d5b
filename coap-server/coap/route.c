/* SPDX-License-Identifier: Apache-2.0 */
/* Which resource a path means, and .well-known/core, which lists them (RFC 6690). */
#include "coap-server/coap/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- Paths --- */

static bool route_matches(const struct coap_route *r, const char *path, size_t len,
			  const char **rest)
{
	size_t n = strlen(r->path);

	if (!r->subtree) {
		*rest = "";
		return n == len && memcmp(r->path, path, len) == 0;
	}
	if (len <= n + 1 || memcmp(r->path, path, n) != 0 || path[n] != '/')
		return false;
	*rest = path + n + 1;
	return true;
}

/* A path of its own goes before a subtree, the longer subtree before the shorter. */
const struct coap_route *route_find(const struct coap_server *s, const char *path,
				    const char **rest)
{
	const struct coap_route *best = NULL;
	size_t len = strlen(path);

	*rest = "";
	for (size_t i = 0; i <= s->o.route_count; i++) {
		const struct coap_route *r =
			i < s->o.route_count ? &s->o.routes[i] : &s->well_known;
		const char *below;

		if (!route_matches(r, path, len, &below))
			continue;
		if (best != NULL &&
		    (!best->subtree || (r->subtree && strlen(r->path) <= strlen(best->path))))
			continue;
		best = r;
		*rest = below;
	}
	return best;
}

/* --- Links --- */

struct text {
	char *at;
	size_t left;
};

static void put(struct text *t, const char *s, size_t len)
{
	if (len > t->left) /* never: see link_room */
		return;
	memcpy(t->at, s, len);
	t->at += len;
	t->left -= len;
}

static size_t link_room(const struct coap_route *r)
{
	return strlen(r->path) + (r->attributes == NULL ? 0 : strlen(r->attributes)) +
	       sizeof(",</>;;obs");
}

static void put_link(struct text *t, const struct coap_route *r, bool first)
{
	if (!first)
		put(t, ",", 1);
	put(t, "</", 2);
	put(t, r->path, strlen(r->path));
	put(t, ">", 1);
	if (r->attributes != NULL && *r->attributes != '\0') {
		put(t, ";", 1);
		put(t, r->attributes, strlen(r->attributes));
	}
	if (r->observable)
		put(t, ";obs", 4);
}

struct slice {
	const char *s;
	size_t len;
};

/* RFC 6690 section 4.1: the value is a prefix if it ends in '*'. */
static bool value_matches(struct slice value, struct slice want)
{
	if (want.len > 0 && want.s[want.len - 1] == '*') {
		want.len--;
		return value.len >= want.len && memcmp(value.s, want.s, want.len) == 0;
	}
	return value.len == want.len && memcmp(value.s, want.s, want.len) == 0;
}

/* rt, if, ct and the like hold several values, separated by spaces. */
static bool any_matches(struct slice values, struct slice want)
{
	while (values.len > 0) {
		const char *space = memchr(values.s, ' ', values.len);
		size_t len = space == NULL ? values.len : (size_t)(space - values.s);

		if (value_matches((struct slice){values.s, len}, want))
			return true;
		if (space == NULL)
			return false;
		values.s += len + 1;
		values.len -= len + 1;
	}
	return want.len == 0 || (want.len == 1 && *want.s == '*');
}

/* The next `name`, `name=value` or `name="value"` of attributes. */
static bool next_attribute(const char **at, struct slice *name, struct slice *value)
{
	const char *p = *at;

	if (*p == '\0')
		return false;
	name->s = p;
	name->len = strcspn(p, "=;");
	p += name->len;
	*value = (struct slice){"", 0};
	if (*p == '=') {
		p++;
		if (*p == '"') {
			value->s = ++p;
			value->len = strcspn(p, "\"");
			p += value->len;
			if (*p == '"')
				p++;
		} else {
			value->s = p;
			value->len = strcspn(p, ";");
			p += value->len;
		}
	}
	p += strcspn(p, ";");
	*at = *p == ';' ? p + 1 : p;
	return true;
}

static bool slice_is(struct slice a, const char *b)
{
	return a.len == strlen(b) && memcmp(a.s, b, a.len) == 0;
}

static bool link_matches(const struct coap_route *r, struct slice name, struct slice want)
{
	const char *at = r->attributes == NULL ? "" : r->attributes;
	struct slice n, v;

	if (slice_is(name, "href")) {
		if (want.len > 0 && *want.s == '/') {
			want.s++;
			want.len--;
		}
		return value_matches((struct slice){r->path, strlen(r->path)}, want);
	}
	if (slice_is(name, "obs"))
		return r->observable;
	while (next_attribute(&at, &n, &v))
		if (n.len == name.len && memcmp(n.s, name.s, n.len) == 0)
			return any_matches(v, want);
	return false;
}

enum coap_done well_known_get(void *arg, const struct coap_call *call, struct coap_reply *reply,
			      struct coap_exchange *e)
{
	const struct coap_server *s = e->server;
	struct text t = {s->links, s->links_room};
	struct slice name = {call->query, strcspn(call->query, "=&")};
	const char *equals = call->query + name.len;
	struct slice want = {"", 0};

	(void)arg;
	if (*equals == '=') {
		want.s = equals + 1;
		want.len = strcspn(want.s, "&");
	}
	for (size_t i = 0; i < s->o.route_count; i++) {
		const struct coap_route *r = &s->o.routes[i];

		/* With what is below it, it is one link. */
		if (i > 0 && strcmp(r[-1].path, r->path) == 0)
			continue;
		if (name.len == 0 || link_matches(r, name, want))
			put_link(&t, r, t.at == s->links);
	}
	reply->code = FG_COAP_CODE(2, 5);
	reply->format = FG_COAP_LINK_FORMAT;
	reply->payload = s->links;
	reply->payload_len = (size_t)(t.at - s->links);
	return COAP_DONE;
}

int well_known_init(struct coap_server *s)
{
	s->well_known = (struct coap_route){.path = ".well-known/core",
					    .methods = FG_COAP_METHOD(FG_COAP_GET),
					    .handler = well_known_get};
	s->links_room = 1;
	for (size_t i = 0; i < s->o.route_count; i++)
		s->links_room += link_room(&s->o.routes[i]);
	s->links = malloc(s->links_room);
	return s->links == NULL ? -ENOMEM : 0;
}
