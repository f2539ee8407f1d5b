/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A TCP proxy before PostgreSQL that can cut connections at the worst moment: after the server has
 * committed, and before the client knows. Everything here asserts.
 */
#ifndef FG_TESTS_CUT_PROXY_H
#define FG_TESTS_CUT_PROXY_H

#include <stddef.h>

#include "tests/unit/pg_cluster.h"

struct cut_proxy;

/* url: of the same database through the proxy; its passfile is made in dir. */
struct cut_proxy *cut_proxy_start(const struct pg_cluster *c, const char *dir, char *url,
				  size_t url_len);

/* Swallow the next answers to COMMIT, one for each of n connections, and cut each of these. */
void cut_proxy_cut_commits(struct cut_proxy *p, int n);

/* The same for another command tag, such as "SELECT 1". None may be left. */
void cut_proxy_cut_tags(struct cut_proxy *p, const char *tag, int n);

/* Cut all connections that there are, now or within 20 ms. */
void cut_proxy_cut_now(struct cut_proxy *p);

/* How many of them are still to come. */
int cut_proxy_left(struct cut_proxy *p);

/* From now on ReadyForQuery comes so much later than what the server sent with it. */
void cut_proxy_delay_ready(struct cut_proxy *p, unsigned ms);

void cut_proxy_stop(struct cut_proxy *p);

#endif
