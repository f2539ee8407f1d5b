/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap-client/load.h"

#include "tests/coap-client/die.h"

int load_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	die("load: not here yet");
}
