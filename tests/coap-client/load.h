/* SPDX-License-Identifier: Apache-2.0 */
/* `coap-client load`: many devices at once. */
#ifndef FG_TESTS_LOAD_H
#define FG_TESTS_LOAD_H

int load_main(int argc, char **argv);

#endif
