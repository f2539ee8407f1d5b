/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and certificates for tests, made when the first is asked for, removed when the process ends:
 * see world_file in dtls_world.h for their names. */
#ifndef FG_TESTS_WORLD_PKI_H
#define FG_TESTS_WORLD_PKI_H

const char *world_pki_file(const char *name);

#endif
