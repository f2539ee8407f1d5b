/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An interrupt puts what the UART receives into a queue, a thread makes lines of it. All answers
 * end with OK or ERROR, also those of the shell's own commands, so that a program can tell. Nothing
 * here logs a line: a credential may be in it.
 */
#include "provision.h"

#include <errno.h>
#include <string.h>

#include <zephyr/device.h>
#include <zephyr/drivers/uart.h>
#include <zephyr/kernel.h>
#include <zephyr/sys/ring_buffer.h>
#include <nrf_modem_at.h>

#include "app.h"
#include "console.h"
#include "encode.h"
#include "key.h"
#include "profile.h"

#define STACK_SIZE 2560
#define PRIORITY   K_PRIO_PREEMPT(7)
#define RECEIVED   1024 /* bytes: 90 ms at 115200 baud */
#define ANSWER_MAX 8192 /* AT%CMNG=1 lists all tags, 90 bytes for each credential */

static const struct device *const uart = DEVICE_DT_GET(DT_CHOSEN(zephyr_shell_uart));

RING_BUF_DECLARE(received, RECEIVED);
static K_SEM_DEFINE(receipt, 0, 1);
static struct console console;
static char answer[ANSWER_MAX];

/* ---- the UART */

/* Bytes for which there is no room become one NUL, which spoils the line that they belong to. */
static void receive(const uint8_t *bytes, uint32_t length)
{
	static bool lost;
	static const uint8_t nul;

	if (lost && ring_buf_put(&received, &nul, 1) == 0)
		return;
	lost = ring_buf_put(&received, bytes, length) != length;
	k_sem_give(&receipt);
}

static void on_uart(const struct device *dev, void *arg)
{
	uint8_t bytes[32];
	int n;

	ARG_UNUSED(arg);
	while (uart_irq_update(dev) && uart_irq_rx_ready(dev)) {
		n = uart_fifo_read(dev, bytes, sizeof(bytes));
		if (n <= 0)
			break;
		receive(bytes, (uint32_t)n);
	}
}

static void print(const char *text)
{
	while (*text != '\0')
		uart_poll_out(uart, *text++);
}

/* Texts here have LF alone. */
static void print_line(const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '\n')
			uart_poll_out(uart, '\r');
		uart_poll_out(uart, *text);
	}
	print("\r\n");
}

/* ---- the modem's commands */

/* From the first one on the application leaves the modem alone. */
static void ask_modem(void)
{
	int rc;

	if (console_set_echo(&console)) {
		print("OK\r\n");
		return;
	}
	app_post(APP_HOLD, 0);
	rc = nrf_modem_at_cmd(answer, sizeof(answer), "%s", console.line);
	print(rc < 0 ? "ERROR\r\n" : answer);
	memset(answer, 0, sizeof(answer));
}

/* ---- its own */

static void show_value(void *arg, const char *name, const char *value)
{
	ARG_UNUSED(arg);
	print(name);
	print("\t");
	print_line(value);
}

static int show(char *const *arguments)
{
	static struct profile profile;
	int rc = profile_load(&profile);

	ARG_UNUSED(arguments);
	profile_each(&profile, show_value, NULL);
	return rc;
}

static int change(const char *name, const char *value)
{
	int rc = profile_set(name, value);

	if (rc == -ENOENT)
		print_line("There is no such setting: show lists them");
	else if (rc == -EINVAL)
		print_line("It takes no such value");
	else if (rc == 0)
		print_line("In force after reboot");
	return rc;
}

static int set(char *const *arguments)
{
	return arguments[0] && arguments[1] ? change(arguments[0], arguments[1]) : -EINVAL;
}

static int unset(char *const *arguments)
{
	return arguments[0] ? change(arguments[0], NULL) : -EINVAL;
}

#ifdef CONFIG_FIELDGATE_KEY_STORE
static int key(char *const *arguments)
{
	uint8_t point[KEY_PUBLIC_LENGTH];
	char pem[ENCODE_PEM_SIZE];
	int rc = key_public(point);

	ARG_UNUSED(arguments);
	if (rc != 0)
		return rc;
	encode_public_key(pem, point);
	print_line(pem);
	return 0;
}
#endif

static int post(enum app_event_kind kind)
{
	return app_post(kind, 0);
}

static int measure(char *const *arguments)
{
	ARG_UNUSED(arguments);
	return post(APP_MEASURE);
}

static int start(char *const *arguments)
{
	ARG_UNUSED(arguments);
	return post(APP_GO);
}

static int reboot(char *const *arguments)
{
	ARG_UNUSED(arguments);
	return post(APP_REBOOT);
}

static int help(char *const *arguments);

static const struct command {
	const char *name;
	int (*run)(char *const *arguments);
	const char *help;
} commands[] = {
	{"show", show, "show             the settings"},
	{"set", set, "set NAME VALUE   changes one"},
	{"unset", unset, "unset NAME       back to the image's"},
#ifdef CONFIG_FIELDGATE_KEY_STORE
	{"key", key, "key              the public key, for fleet add --jwt-key"},
#endif
	{"measure", measure, "measure          a reading now"},
	{"start", start, "start            radio on, after AT commands"},
	{"reboot", reboot, "reboot"},
	{"help", help,
	 "help             this; AT... goes to the modem, ATE0 and ATE1 switch the echo"},
};

static int help(char *const *arguments)
{
	ARG_UNUSED(arguments);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		print_line(commands[i].help);
	return 0;
}

static int run_command(void)
{
	char *words[CONSOLE_WORDS];

	console_split(console.line, words);
	if (words[0] == NULL)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (strcmp(commands[i].name, words[0]) == 0)
			return commands[i].run(words + 1);
	print_line("There is no such command: help lists them");
	return -ENOENT;
}

/* ---- the thread */

static void handle(enum console_event event)
{
	if (event == CONSOLE_MORE)
		return;
	if (event == CONSOLE_AT)
		ask_modem();
	else
		print(event == CONSOLE_COMMAND && run_command() == 0 ? "OK\r\n" : "ERROR\r\n");
	console_clear(&console);
}

static void run(void *a, void *b, void *c)
{
	uint8_t byte;

	ARG_UNUSED(a);
	ARG_UNUSED(b);
	ARG_UNUSED(c);
	for (;;) {
		k_sem_take(&receipt, K_FOREVER);
		while (ring_buf_get(&received, &byte, 1) == 1)
			handle(console_take(&console, (char)byte, print));
	}
}

int provision_start(void)
{
	static K_THREAD_STACK_DEFINE(stack, STACK_SIZE);
	static struct k_thread thread;
	int rc;

	if (!device_is_ready(uart))
		return -ENODEV;
	console_init(&console);
	rc = uart_irq_callback_set(uart, on_uart);
	if (rc != 0)
		return rc;
	k_thread_create(&thread, stack, STACK_SIZE, run, NULL, NULL, NULL, PRIORITY, 0, K_NO_WAIT);
	uart_irq_rx_enable(uart);
	print("Fieldgate\r\n");
	return 0;
}
