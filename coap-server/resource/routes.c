/* SPDX-License-Identifier: Apache-2.0 */
/* The table of all resources. What is behind a path is as .well-known/core shows it (RFC 6690), so
 * each line says its content formats. */
#include "coap-server/resource/resource.h"

#define GET    FG_COAP_METHOD(FG_COAP_GET)
#define POST   FG_COAP_METHOD(FG_COAP_POST)
#define PUT    FG_COAP_METHOD(FG_COAP_PUT)
#define DELETE FG_COAP_METHOD(FG_COAP_DELETE)
#define PATCH  (FG_COAP_METHOD(FG_COAP_PATCH) | FG_COAP_METHOD(FG_COAP_IPATCH)) /* RFC 8132 */

/* clang-format off */
const struct coap_route resource_routes[] = {
	{"auth/jwt", false, POST, login_post, "rt=\"fg.login\";ct=0", false},
	{"time", false, GET, time_get, "rt=\"fg.time\";ct=\"0 50 60\"", false},
	{"msg/d2c", false, POST | PUT, telemetry_post, "rt=\"fg.telemetry\";ct=\"50 60 110 112\"", false},
	{"msg/d2c/bulk", false, POST | PUT, telemetry_post, "rt=\"fg.telemetry\";ct=\"50 60\"", false},
	{"msg/d2c/raw", false, POST | PUT, telemetry_post, "rt=\"fg.telemetry\";ct=\"0 42 50 60 110 112\"", false},
	{"msg/d2c/bin", false, POST | PUT, telemetry_post, "rt=\"fg.telemetry\";ct=42", false},
	{"msg/c2d", false, GET | DELETE, downlink_call, "rt=\"fg.downlink\"", true},
	{"msg/c2d", true, GET | DELETE, downlink_call, "rt=\"fg.downlink\"", true},
	{"state", false, GET, state_get, "rt=\"fg.state\";ct=\"50 60\"", true},
	{"state/reported", false, PATCH | PUT, state_change, "rt=\"fg.state\";ct=\"50 52 60\"", false},
	{"state/desired", false, PATCH | PUT, state_change, "rt=\"fg.state\";ct=\"50 52 60\"", false},
	{"store", true, GET | PUT | DELETE, store_call, "rt=\"fg.store\"", true},
	{"fota/exec/current", false, GET, fota_get, "rt=\"fg.update\";ct=50", false},
};
/* clang-format on */

const size_t resource_route_count = sizeof(resource_routes) / sizeof(*resource_routes);
