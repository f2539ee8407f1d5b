/* SPDX-License-Identifier: Apache-2.0 */
#include "lte.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>
#include <modem/lte_lc.h>
#include <nrf_modem_at.h>

#include "app.h"
#include "compat.h"

LOG_MODULE_DECLARE(fieldgate, CONFIG_FIELDGATE_LOG_LEVEL);

#define RSRP_UNKNOWN 255 /* of AT%CESQ */
#define RSRP_OFFSET  140 /* index 0 is -140 dBm */

/* The system's work queue. */
static void on_event(const struct lte_lc_evt *const event)
{
	switch (event->type) {
	case LTE_LC_EVT_NW_REG_STATUS:
		LOG_DBG("Registration: %d", event->nw_reg_status);
		if (event->nw_reg_status == LTE_LC_NW_REG_UICC_FAIL)
			LOG_ERR("No SIM card, or one that does not answer");
		if (event->nw_reg_status == LTE_LC_NW_REG_REGISTRATION_DENIED)
			LOG_ERR("The network refuses this SIM card");
		app_post(APP_NETWORK,
			 event->nw_reg_status == LTE_LC_NW_REG_REGISTERED_HOME ||
				 event->nw_reg_status == LTE_LC_NW_REG_REGISTERED_ROAMING);
		break;
	case LTE_LC_EVT_PSM_UPDATE:
		LOG_INF("PSM: update each %d s, active for %d s%s", event->psm_cfg.tau,
			event->psm_cfg.active_time,
			event->psm_cfg.active_time < 0 ? ": not granted" : "");
		break;
	case LTE_LC_EVT_RRC_UPDATE:
		LOG_DBG("Radio %s",
			event->rrc_mode == LTE_LC_RRC_MODE_CONNECTED ? "connected" : "idle");
		break;
	default:
		break;
	}
}

static void ask(int rc, const char *what)
{
	if (rc != 0)
		LOG_WRN("The modem does not take the request for %s: %d", what, rc);
}

int lte_init(void)
{
	int rc = compat_lte_init();

	if (rc != 0)
		return rc;
	lte_lc_register_handler(on_event);
	if (sizeof(CONFIG_FIELDGATE_APN) > 1)
		ask(nrf_modem_at_printf("AT+CGDCONT=0,\"IPV4V6\",\"" CONFIG_FIELDGATE_APN "\""),
		    "the access point");
	if (IS_ENABLED(CONFIG_FIELDGATE_OBSERVE)) {
		lte_lc_edrx_param_set(LTE_LC_LTE_MODE_LTEM, CONFIG_FIELDGATE_EDRX);
		lte_lc_edrx_param_set(LTE_LC_LTE_MODE_NBIOT, CONFIG_FIELDGATE_EDRX);
		ask(lte_lc_edrx_req(true), "eDRX");
	} else {
		lte_lc_psm_param_set(CONFIG_FIELDGATE_PSM_TAU, CONFIG_FIELDGATE_PSM_ACTIVE);
		ask(lte_lc_psm_req(true), "PSM");
	}
	/* Older modem firmware has only AT%XRAI, which is NB-IoT's. */
	ask(nrf_modem_at_printf("AT%%RAI=1"), "release assistance");
	return 0;
}

int lte_attach(void)
{
	enum lte_lc_nw_reg_status status;
	int rc = lte_lc_connect_async(NULL);

	/* Nothing is: it has once failed to ask for the registration, and says so ever since. */
	if (rc == -EINPROGRESS)
		rc = lte_lc_normal();
	if (rc != 0) {
		LOG_ERR("The radio cannot be switched on: %d", rc);
		return rc;
	}
	/* Already registered: no notification will come. */
	if (lte_lc_nw_reg_status_get(&status) == 0 &&
	    (status == LTE_LC_NW_REG_REGISTERED_HOME || status == LTE_LC_NW_REG_REGISTERED_ROAMING))
		app_post(APP_NETWORK, true);
	return 0;
}

void lte_offline(void)
{
	lte_lc_offline();
}

void lte_power_off(void)
{
	lte_lc_power_off();
}

int lte_imei(char out[LTE_IMEI_LENGTH + 1])
{
	return nrf_modem_at_scanf("AT+CGSN", "%15[0-9]", out) == 1 && strlen(out) == LTE_IMEI_LENGTH
		       ? 0
		       : -EIO;
}

size_t lte_read(struct fg_reading *out, size_t max)
{
	int millivolts, rsrp;
	unsigned cell;
	size_t n = 0;

	if (n < max && nrf_modem_at_scanf("AT%XVBAT", "%%XVBAT: %d", &millivolts) == 1)
		out[n++] = (struct fg_reading){
			.name = "battery", .unit = "V", .decimals = 3, .mantissa = millivolts};
	if (n < max && nrf_modem_at_scanf("AT+CESQ", "+CESQ: %*d,%*d,%*d,%*d,%*d,%d", &rsrp) == 1 &&
	    rsrp != RSRP_UNKNOWN)
		out[n++] = (struct fg_reading){.name = "rsrp", .mantissa = rsrp - RSRP_OFFSET};
	/* 28 bits (3GPP TS 36.331, CellIdentity) */
	if (n < max &&
	    nrf_modem_at_scanf("AT+CEREG?", "+CEREG: %*d,%*d,\"%*[^\"]\",\"%8x\"", &cell) == 1)
		out[n++] = (struct fg_reading){.name = "cell", .mantissa = (int32_t)cell};
	return n;
}

/* +CGPADDR: 0,"10.0.0.1","2001:DB8::1": either, both, or neither. */
void lte_address_families(bool *ipv4, bool *ipv6)
{
	char answer[128];
	const char *quote;

	*ipv4 = *ipv6 = false;
	if (nrf_modem_at_cmd(answer, sizeof(answer), "AT+CGPADDR=0") != 0)
		return;
	for (quote = strchr(answer, '"'); quote; quote = strchr(quote + 1, '"')) {
		size_t length = strcspn(quote + 1, "\"");

		if (memchr(quote + 1, ':', length))
			*ipv6 = true;
		else if (memchr(quote + 1, '.', length))
			*ipv4 = true;
		quote += length + 1;
		if (*quote == '\0')
			break;
	}
}
