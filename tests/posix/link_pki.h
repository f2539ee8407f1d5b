/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and certificates as files, made when the first is asked for, removed when the process ends:
 * "ca", "server" (localhost and 127.0.0.1), "named" (server.test), "expired", "device",
 * "stranger" (a device of another CA), "strangers" (that CA), each as .pem and .key; "long.pem" is
 * a server's chain of almost 4 kB, with the key of "server". */
#ifndef FG_TESTS_LINK_PKI_H
#define FG_TESTS_LINK_PKI_H

const char *link_pki(const char *file);

#endif
