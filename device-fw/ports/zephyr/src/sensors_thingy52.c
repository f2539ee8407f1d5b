/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Thingy:52 over Bluetooth LE. The controller is the board's nRF52840 with Nordic's sample
 * hci_lpuart; the host runs here: scan, connect, find the environment service, subscribe. What goes
 * wrong in any of these ends the connection, and after a while it is scanned for again.
 */
#include "sensors.h"

#include <errno.h>

#include <zephyr/bluetooth/bluetooth.h>
#include <zephyr/bluetooth/conn.h>
#include <zephyr/bluetooth/gatt.h>
#include <zephyr/bluetooth/uuid.h>
#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>
#include <bluetooth/gatt_dm.h>
#include <bluetooth/scan.h>

#include "thingy52.h"

LOG_MODULE_DECLARE(fieldgate, CONFIG_FIELDGATE_LOG_LEVEL);

#define UUID(number)                                                                               \
	BT_UUID_DECLARE_128(                                                                       \
		BT_UUID_128_ENCODE(0xef680000 | (number), 0x9b35, 0x4933, 0x9b10, 0x52ffa9740042))

#define SCAN_AGAIN K_SECONDS(5)
#define STARTING   0x52840b1eu

static struct thingy52 values;
static K_MUTEX_DEFINE(lock);

static struct bt_conn *connection; /* Bluetooth's receiving thread only */
static struct bt_gatt_subscribe_params subscriptions[THINGY52_CHARACTERISTICS];

/*
 * Not cleared by a reset. The host panics when the controller is silent: a board whose nRF52840 has
 * no hci_lpuart would do nothing else. The start after such a reset does without Bluetooth.
 */
static __noinit uint32_t starting;

static void scan(struct k_work *work)
{
	int rc = bt_scan_start(BT_SCAN_TYPE_SCAN_ACTIVE);

	ARG_UNUSED(work);
	if (rc != 0 && rc != -EALREADY)
		LOG_ERR("No scan for a Thingy:52: %d", rc);
}

static K_WORK_DELAYABLE_DEFINE(scan_work, scan);

static void give_up(const char *why)
{
	LOG_WRN("Thingy:52: %s", why);
	if (connection) /* it may be gone, and this be about what was under way in it */
		bt_conn_disconnect(connection, BT_HCI_ERR_REMOTE_USER_TERM_CONN);
}

/* ---- values */

static uint8_t notified(struct bt_conn *conn, struct bt_gatt_subscribe_params *params,
			const void *bytes, uint16_t length)
{
	enum thingy52_characteristic characteristic = params - subscriptions;

	ARG_UNUSED(conn);
	if (bytes == NULL)
		return BT_GATT_ITER_STOP; /* the subscription is over */
	k_mutex_lock(&lock, K_FOREVER);
	thingy52_take(&values, characteristic, bytes, length, k_uptime_get());
	k_mutex_unlock(&lock);
	return BT_GATT_ITER_CONTINUE;
}

/* One after the other: there are buffers for a few requests only. */
static void subscribe(enum thingy52_characteristic characteristic);

static void subscribed(struct bt_conn *conn, uint8_t error, struct bt_gatt_subscribe_params *params)
{
	enum thingy52_characteristic next = params - subscriptions + 1;

	ARG_UNUSED(conn);
	if (error != 0)
		give_up("it refuses a subscription");
	else if (params->value != 0 && next < THINGY52_CHARACTERISTICS)
		subscribe(next);
}

static void subscribe(enum thingy52_characteristic characteristic)
{
	if (bt_gatt_subscribe(connection, &subscriptions[characteristic]) != 0)
		give_up("no subscription");
}

static int find(struct bt_gatt_dm *found, enum thingy52_characteristic characteristic)
{
	const struct bt_uuid *uuid = UUID(THINGY52_UUID(characteristic));
	const struct bt_gatt_dm_attr *attribute = bt_gatt_dm_char_by_uuid(found, uuid);
	const struct bt_gatt_dm_attr *value, *ccc;

	if (attribute == NULL)
		return -ENOENT;
	value = bt_gatt_dm_desc_by_uuid(found, attribute, uuid);
	ccc = bt_gatt_dm_desc_by_uuid(found, attribute, BT_UUID_GATT_CCC);
	if (value == NULL || ccc == NULL)
		return -ENOENT;
	subscriptions[characteristic] = (struct bt_gatt_subscribe_params){
		.notify = notified,
		.subscribe = subscribed,
		.value = BT_GATT_CCC_NOTIFY,
		.value_handle = value->handle,
		.ccc_handle = ccc->handle,
	};
	atomic_set_bit(subscriptions[characteristic].flags, BT_GATT_SUBSCRIBE_FLAG_VOLATILE);
	return 0;
}

/* ---- the service */

static void service_found(struct bt_gatt_dm *found, void *context)
{
	int rc = 0;

	ARG_UNUSED(context);
	for (int i = 0; i < THINGY52_CHARACTERISTICS && rc == 0; i++)
		rc = find(found, i);
	bt_gatt_dm_data_release(found);
	if (rc == 0)
		subscribe(0);
	else
		give_up("its environment service is not the one that is known");
}

static void service_missing(struct bt_conn *conn, void *context)
{
	ARG_UNUSED(conn);
	ARG_UNUSED(context);
	give_up("it has no environment service");
}

static void service_error(struct bt_conn *conn, int error, void *context)
{
	ARG_UNUSED(conn);
	ARG_UNUSED(error);
	ARG_UNUSED(context);
	give_up("its services cannot be read");
}

static const struct bt_gatt_dm_cb discovery = {
	.completed = service_found,
	.service_not_found = service_missing,
	.error_found = service_error,
};

/* ---- the connection */

static void connected(struct bt_conn *conn, uint8_t error)
{
	if (error != 0) {
		k_work_schedule(&scan_work, SCAN_AGAIN);
		return;
	}
	connection = bt_conn_ref(conn);
	LOG_INF("Thingy:52: connected");
	if (bt_gatt_dm_start(conn, UUID(THINGY52_ENVIRONMENT), &discovery, NULL) != 0)
		give_up("its services cannot be asked for");
}

static void disconnected(struct bt_conn *conn, uint8_t reason)
{
	LOG_INF("Thingy:52: disconnected (0x%02x)", reason);
	if (conn == connection) {
		bt_conn_unref(connection);
		connection = NULL;
	}
	k_work_schedule(&scan_work, SCAN_AGAIN);
}

BT_CONN_CB_DEFINE(connection_callbacks) = {
	.connected = connected,
	.disconnected = disconnected,
};

static void connecting_failed(struct bt_scan_device_info *info)
{
	ARG_UNUSED(info);
	k_work_schedule(&scan_work, SCAN_AGAIN);
}

BT_SCAN_CB_INIT(scan_callbacks, NULL, NULL, connecting_failed, NULL);

/* ---- start */

/* Its address is a random static one. Both filters must match. */
static int add_filters(void)
{
	bt_addr_le_t address;
	uint8_t filters = BT_SCAN_UUID_FILTER;
	int rc = bt_scan_filter_add(BT_SCAN_FILTER_TYPE_UUID, UUID(THINGY52_ADVERTISED));

	if (rc == 0 && sizeof(CONFIG_FIELDGATE_THINGY52_ADDRESS) > 1) {
		filters |= BT_SCAN_ADDR_FILTER;
		rc = bt_addr_le_from_str(CONFIG_FIELDGATE_THINGY52_ADDRESS, "random", &address);
		if (rc == 0)
			rc = bt_scan_filter_add(BT_SCAN_FILTER_TYPE_ADDR, &address);
	}
	return rc != 0 ? rc : bt_scan_filter_enable(filters, true);
}

static void ready(int error)
{
	/* For months, perhaps: 11 ms of 1.28 s, with which it takes some seconds to be found. */
	static const struct bt_le_scan_param slow = {
		.options = BT_LE_SCAN_OPT_FILTER_DUPLICATE,
		.interval = BT_GAP_SCAN_SLOW_INTERVAL_1,
		.window = BT_GAP_SCAN_SLOW_WINDOW_1,
	};
	static const struct bt_scan_init_param init = {.connect_if_match = true,
						       .scan_param = &slow};
	int rc = error;

	starting = 0;
	if (rc == 0) {
		bt_scan_init(&init);
		bt_scan_cb_register(&scan_callbacks);
		rc = add_filters();
	}
	if (rc != 0)
		LOG_ERR("Bluetooth does not start: %d", rc);
	else
		scan(NULL);
}

int sensors_init(void)
{
	if (starting == STARTING) {
		starting = 0;
		LOG_ERR("The nRF52840 does not answer: is hci_lpuart on it? No Thingy:52 until the "
			"next reset");
		return -EIO;
	}
	starting = STARTING;
	return bt_enable(ready);
}

size_t sensors_read(struct fg_reading *out, size_t max)
{
	size_t n;

	k_mutex_lock(&lock, K_FOREVER);
	n = thingy52_read(&values, k_uptime_get(),
			  (int64_t)CONFIG_FIELDGATE_THINGY52_AGE_S * MSEC_PER_SEC, out, max);
	k_mutex_unlock(&lock);
	return n;
}
