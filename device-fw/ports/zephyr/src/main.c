/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's thread: events come through one queue, the agent is polled when it has said so, the
 * watchdog is fed each time round. All that the application knows is here; other threads and
 * interrupts only post (app.h).
 */
#include "app.h"

#include <errno.h>
#include <stdio.h>

#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>
#include <zephyr/sys/reboot.h>
#include <modem/nrf_modem_lib.h>

#include "buttons.h"
#include "clock.h"
#include "credentials.h"
#include "image.h"
#include "link.h"
#include "lte.h"
#include "note.h"
#include "port.h"
#include "profile.h"
#include "provision.h"
#include "sensors.h"
#include "storage.h"
#include "watchdog.h"

LOG_MODULE_REGISTER(fieldgate, CONFIG_FIELDGATE_LOG_LEVEL);

#define QUEUE_LENGTH 16
#define MS_PER_HOUR  (3600 * MSEC_PER_SEC)
/* A person's GET has an answer with a payload always, 2.05; his PUT is a reading, 2.04
 * (docs/messages.md). */
#define BUTTON_GET "time"
#define BUTTON_PUT "msg/d2c"

struct event {
	int32_t value;
	uint8_t kind;
};

K_MSGQ_DEFINE(events, sizeof(struct event), QUEUE_LENGTH, 4);

static struct profile profile;
static struct fg_config config;
static struct fg_agent agent;
static struct port_context port_context = {.agent = &agent};
static bool valid;  /* the settings are: there is an agent */
static bool held;   /* it is stopped until APP_GO, or until what is missing is there */
static bool unsure; /* the modem has not said what is there: it is asked again */
static atomic_t lost_events;
static atomic_t modem_crashed; /* must not be lost in a full queue */

int app_post(enum app_event_kind kind, int32_t value)
{
	struct event event = {.kind = (uint8_t)kind, .value = value};
	int rc = k_msgq_put(&events, &event, K_NO_WAIT);

	if (rc != 0)
		atomic_inc(&lost_events);
	return rc;
}

/* ---- events */

static void on_button_press(enum button_press press)
{
	app_post(APP_BUTTON, press);
}

/* {"button": how often}. Two of them: the bytes of one under way must stay as they are. */
static int put_button(void)
{
	static uint8_t readings[2][16];
	static uint32_t pressed;
	struct fg_cbor_writer w;
	int rc;

	fg_cbor_begin(&w, readings[pressed % 2], sizeof(readings[0]));
	fg_cbor_map(&w, 1);
	fg_cbor_string(&w, "button");
	fg_cbor_uint(&w, pressed + 1);
	rc = fg_agent_put(&agent, BUTTON_PUT, FG_COAP_FORMAT_CBOR, w.buffer, w.length);
	pressed += rc == 0;
	return rc;
}

/* There is no GET or PUT in MQTT: there, each is a reading, too. */
static void on_button(enum button_press press)
{
	int rc = -ENOTSUP;

	if (press == BUTTON_PRESS_GET)
		rc = fg_agent_get(&agent, BUTTON_GET);
	else if (press == BUTTON_PRESS_PUT)
		rc = put_button();
	if (rc == -ENOTSUP)
		fg_agent_measure(&agent);
	else if (rc != 0)
		LOG_WRN("The button does nothing: %s",
			rc == -EBUSY ? "the last one is under way" : "it is not the time for it");
}

/* With a farewell to the server and to the network: else the modem counts it as a fault. */
static void leave(void)
{
	if (valid)
		fg_agent_stop(&agent);
	lte_power_off();
}

static void restart(void)
{
	LOG_INF("Starting anew");
	leave();
	sys_reboot(SYS_REBOOT_COLD);
}

static void hold(void)
{
	if (held)
		return;
	held = true;
	unsure = false;
	LOG_INF("Held: the radio is off until it is told to go on");
	fg_agent_stop(&agent);
	lte_offline();
}

static bool may_connect(void)
{
	uint32_t tags[LINK_TAGS_MAX];
	int count = credentials_check(&profile, tags);

	unsure = count == -EIO;
	if (unsure)
		LOG_ERR("The modem does not say which credentials it has");
	if (count > 0)
		link_set_tags(tags, (size_t)count);
	return count > 0;
}

static void go(void)
{
	if (!held || !may_connect())
		return;
	held = false;
	fg_agent_start(&agent);
}

static void handle(const struct event *event)
{
	if (!valid && event->kind != APP_REBOOT && event->kind != APP_MODEM_FAULT)
		return;
	switch ((enum app_event_kind)event->kind) {
	case APP_NETWORK:
		if (event->value)
			clock_check();
		fg_agent_network(&agent, event->value != 0);
		break;
	case APP_OPENED:
		link_opened(&agent, event->value);
		break;
	case APP_READABLE:
		break; /* it was to wake us up */
	case APP_BUTTON:
		on_button((enum button_press)event->value);
		break;
	case APP_MEASURE:
		fg_agent_measure(&agent);
		break;
	case APP_HOLD:
		hold();
		break;
	case APP_GO:
		go();
		break;
	case APP_REBOOT:
		restart();
		break;
	case APP_MODEM_FAULT:
		break; /* it was to wake us up */
	}
}

/* Readings wait and nothing has been acknowledged for so long: whatever it is, a start from the
 * beginning is the last thing that can be tried. */
static void restart_when_unheard(void)
{
	static uint32_t acknowledged;
	static int64_t since_ms;
	int64_t now_ms = k_uptime_get();

	if (agent.acknowledged != acknowledged || agent.backlog.waiting == 0 || held) {
		if (agent.acknowledged != acknowledged && IS_ENABLED(CONFIG_FIELDGATE_MCUBOOT))
			image_confirm();
		acknowledged = agent.acknowledged;
		since_ms = now_ms;
	} else if (CONFIG_FIELDGATE_SILENCE_H > 0 &&
		   now_ms - since_ms > (int64_t)CONFIG_FIELDGATE_SILENCE_H * MS_PER_HOUR) {
		restart();
	}
}

static void run(void)
{
	for (;;) {
		int64_t due_ms = valid ? fg_agent_poll(&agent) : INT64_MAX;
		int64_t wait_ms = CLAMP(due_ms - k_uptime_get(), 0, WATCHDOG_WAIT_MS);
		struct event event;

		if (k_msgq_get(&events, &event, K_MSEC(wait_ms)) == 0)
			handle(&event);
		else if (held && unsure)
			go();
		if (atomic_get(&modem_crashed))
			sys_reboot(SYS_REBOOT_COLD);
		link_read(&agent);
		restart_when_unheard();
		if (atomic_get(&lost_events) != 0)
			LOG_ERR("%ld events were lost", atomic_clear(&lost_events));
		watchdog_feed();
	}
}

/* ---- start */

/* An interrupt, from which TF-M takes no request for a reset. */
void nrf_modem_fault_handler(struct nrf_modem_fault_info *fault)
{
	LOG_ERR("The modem has crashed: 0x%x at 0x%x", fault->reason, fault->program_counter);
	atomic_set(&modem_crashed, 1);
	app_post(APP_MODEM_FAULT, 0);
}

static int name_device(void)
{
	char imei[LTE_IMEI_LENGTH + 1];

	if (profile.device[0] != '\0')
		return 0;
	if (lte_imei(imei) != 0) {
		LOG_ERR("The modem does not say its IMEI");
		return -EIO;
	}
	snprintf(profile.device, sizeof(profile.device), "nrf-%s", imei);
	return 0;
}

static void configure(void)
{
	fg_config_defaults(&config, profile.transport, profile.credential);
	config.device = profile.device;
	config.target.host = profile.host;
	config.target.port = profile.port;
	config.target.security_tag = profile.security_tag;
	config.interval_s = profile.interval_s;
	config.observe = IS_ENABLED(CONFIG_FIELDGATE_OBSERVE);
	if (config.observe)
		config.session.sleeps = false;
	port_context.device = profile.device;
	port_context.security_tag = profile.security_tag;
}

static void warn(int rc, const char *what)
{
	if (rc != 0)
		LOG_ERR("%s: %d", what, rc);
}

/* Without these nothing can be done but to say so and to begin again. */
static int start_modem(void)
{
	int rc = nrf_modem_lib_init();

	if (rc != 0) {
		LOG_ERR("The modem does not start: %d", rc);
		return -EIO;
	}
	rc = lte_init();
	if (rc != 0)
		LOG_ERR("The modem is not configured: %d", rc);
	return rc;
}

int main(void)
{
	int rc;

	LOG_INF("Fieldgate");
	/* First: the modem, a sensor or Bluetooth may never come back from being started. */
	warn(watchdog_start(), "No watchdog");
	warn(storage_init(), "The flash does not work; readings are kept in no memory");
	warn(profile_load(&profile), "Settings are not readable; those of the image are used");
	if (start_modem() != 0 || name_device() != 0) {
		k_sleep(K_MINUTES(1));
		sys_reboot(SYS_REBOOT_COLD);
	}
	configure();
	rc = fg_agent_init(&agent, port_init(), &port_context, &config);
	warn(rc, "Device id, host or another setting is not valid");
	valid = rc == 0;
	warn(sensors_init(), "A sensor does not answer");
	if (IS_ENABLED(CONFIG_FIELDGATE_BUTTONS))
		warn(buttons_init(on_button_press), "No buttons");
	if (IS_ENABLED(CONFIG_FIELDGATE_PROVISION))
		warn(provision_start(), "No provisioning");
	LOG_INF("%s: %s:%u", profile.device, profile.host, profile.port);
	held = true;
	if (valid)
		go();
	run();
}
