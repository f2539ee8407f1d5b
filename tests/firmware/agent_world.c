/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/firmware/agent_world.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROUND_TRIP_MS 100

static const struct fg_flash_geometry geometry = {
	.sector_size = 4096, .sectors = WORLD_FLASH / 4096, .write_size = 4, .erased = 0xff};

static int64_t uptime_ms(void *ctx)
{
	return ((struct agent_world *)ctx)->now_ms;
}

static int64_t wall_ms(void *ctx)
{
	struct agent_world *w = ctx;

	return w->wall_known ? w->now_ms + w->wall_offset_ms : 0;
}

static void set_wall_ms(void *ctx, int64_t wall)
{
	struct agent_world *w = ctx;

	w->wall_known = true;
	w->wall_offset_ms = wall - w->now_ms;
}

static void random_bytes(void *ctx, void *out, size_t length)
{
	(void)ctx;
	for (size_t i = 0; i < length; i++)
		((uint8_t *)out)[i] = (uint8_t)rand();
}

static int attach(void *ctx)
{
	struct agent_world *w = ctx;

	w->network_news = 1;
	return 0;
}

static void detach(void *ctx)
{
	((struct agent_world *)ctx)->connected = false;
}

static int open_link(void *ctx, const struct fg_target *target, bool resume)
{
	struct agent_world *w = ctx;

	(void)target;
	if (resume && !w->kept)
		return -ENOTCONN;
	w->open_result = !w->network || (!resume && !w->server) ? 3 : resume ? 2 : 1;
	return 0;
}

static int send_datagram(void *ctx, const void *bytes, size_t length, bool expects_answer);

static void close_link(void *ctx, bool keep)
{
	struct agent_world *w = ctx;

	w->kept = keep && (w->connected || w->kept);
	w->connected = false;
	w->open_result = 0;
	w->reply_length = 0;
}

static int make_jwt(void *ctx, char *out, size_t size)
{
	(void)ctx;
	assert(size >= 900);
	memcpy(out, "a.b.c", 5);
	return 5;
}

static int load(void *ctx, const char *name, void *out, size_t size)
{
	struct agent_world *w = ctx;
	bool interval = strcmp(name, "interval") == 0;

	assert(size == 4);
	if (!(interval ? w->has_interval : w->has_command))
		return -ENOENT;
	memcpy(out, interval ? &w->saved_interval : &w->saved_command, 4);
	return 4;
}

static int save(void *ctx, const char *name, const void *value, size_t length)
{
	struct agent_world *w = ctx;
	bool interval = strcmp(name, "interval") == 0;

	assert(length == 4);
	memcpy(interval ? &w->saved_interval : &w->saved_command, value, 4);
	*(interval ? &w->has_interval : &w->has_command) = true;
	return 0;
}

static int flash_read(void *ctx, uint32_t offset, void *out, size_t length)
{
	assert(offset + length <= WORLD_FLASH);
	memcpy(out, ((struct agent_world *)ctx)->flash + offset, length);
	return 0;
}

static int flash_write(void *ctx, uint32_t offset, const void *bytes, size_t length)
{
	uint8_t *at = ((struct agent_world *)ctx)->flash + offset;

	assert(offset + length <= WORLD_FLASH && offset % 4 == 0 && length % 4 == 0);
	if (((struct agent_world *)ctx)->marks_fail && length == 4 && *(const uint8_t *)bytes == 0)
		return -EIO;
	for (size_t i = 0; i < length; i++)
		at[i] &= ((const uint8_t *)bytes)[i];
	return 0;
}

static int flash_erase(void *ctx, uint32_t offset)
{
	assert(offset % 4096 == 0 && offset < WORLD_FLASH);
	memset(((struct agent_world *)ctx)->flash + offset, 0xff, 4096);
	return 0;
}

static size_t measure(void *ctx, struct fg_reading *out, size_t max)
{
	struct agent_world *w = ctx;

	assert(max >= 2);
	out[0] = (struct fg_reading){
		.name = "temperature", .type = FG_READING_DECIMAL, .decimals = 1, .mantissa = 215};
	out[1] = (struct fg_reading){
		.name = "number", .type = FG_READING_DECIMAL, .mantissa = (int32_t)++w->measured};
	return 2;
}

static void restart(void *ctx)
{
	((struct agent_world *)ctx)->reboots++;
}

static void take_note(void *ctx, const struct fg_note *note)
{
	struct agent_world *w = ctx;

	w->notes[note->kind]++;
	if (note->kind == FG_NOTE_RESPONSE)
		w->last_code = note->response->code;
}

static const struct fg_port port = {
	.uptime_ms = uptime_ms,
	.wall_ms = wall_ms,
	.set_wall_ms = set_wall_ms,
	.random = random_bytes,
	.attach = attach,
	.detach = detach,
	.open = open_link,
	.send = send_datagram,
	.close = close_link,
	.jwt = make_jwt,
	.load = load,
	.save = save,
	.flash = &geometry,
	.flash_read = flash_read,
	.flash_write = flash_write,
	.flash_erase = flash_erase,
	.measure = measure,
	.reboot = restart,
	.note = take_note,
};

/* ---- the server */

static void write_down(struct agent_world *w, const struct fg_coap_message *m,
		       struct agent_world_request *r)
{
	struct fg_coap_option o = {0};

	memset(r, 0, sizeof(*r));
	r->at_ms = w->now_ms;
	r->code = m->code;
	while (fg_coap_next_option(m, &o)) {
		if (o.number == FG_COAP_OPTION_URI_PATH) {
			if (r->path[0])
				strcat(r->path, "/");
			strncat(r->path, (const char *)o.value, o.length);
		} else if (o.number == FG_COAP_OPTION_ETAG) {
			memcpy(r->etag, o.value, o.length);
			r->etag_length = (uint8_t)o.length;
		} else if (o.number == FG_COAP_OPTION_OBSERVE) {
			r->observe = true;
		}
	}
	r->length = m->payload_length;
	memcpy(r->payload, m->payload, m->payload_length);
}

static int send_datagram(void *ctx, const void *bytes, size_t length, bool expects_answer)
{
	struct agent_world *w = ctx;
	struct agent_world_request *r = &w->requests[w->request_count];
	struct fg_coap_message m;
	struct agent_world_answer answer;
	struct fg_coap_writer out;

	(void)expects_answer;
	assert(w->connected);
	if (w->config.target.transport == FG_TRANSPORT_MQTT) {
		w->broker(w, bytes, length);
		return 0;
	}
	assert(fg_coap_parse(&m, bytes, length) == 0);
	if (m.code == FG_COAP_EMPTY)
		return 0;
	assert(w->request_count < WORLD_REQUESTS);
	write_down(w, &m, r);
	w->request_count++;
	if (!w->server || !w->network)
		return 0;
	answer = w->answer(w, r);
	if (answer.code == 0)
		return 0;
	fg_coap_begin(&out, w->reply, sizeof(w->reply), FG_COAP_ACK, answer.code, m.id, m.token,
		      m.token_length);
	if (answer.etag)
		fg_coap_option(&out, FG_COAP_OPTION_ETAG, answer.etag, strlen(answer.etag));
	if (answer.observe)
		fg_coap_option_uint(&out, FG_COAP_OPTION_OBSERVE, answer.observe);
	if (answer.max_age_s || answer.max_age_0)
		fg_coap_option_uint(&out, FG_COAP_OPTION_MAX_AGE, answer.max_age_s);
	if (answer.block2)
		fg_coap_option_uint(&out, FG_COAP_OPTION_BLOCK2, answer.block2);
	fg_coap_payload(&out, answer.payload, answer.length);
	assert(!out.full);
	w->reply_length = out.length;
	return 0;
}

struct agent_world_answer agent_world_take(struct agent_world *w,
					   const struct agent_world_request *r)
{
	static const uint8_t nineteen_seventy_plus[] = {0x1a, 0x65, 0x53, 0xf1,
							0x00}; /* 1700000000 */

	(void)w;
	if (strcmp(r->path, "time") == 0)
		return (struct agent_world_answer){.code = FG_COAP_CODE(2, 5),
						   .payload = nineteen_seventy_plus,
						   .length = sizeof(nineteen_seventy_plus)};
	if (r->code == FG_COAP_GET)
		return (struct agent_world_answer){.code = FG_COAP_CODE(2, 5)};
	return (struct agent_world_answer){.code = r->code == FG_COAP_POST ? FG_COAP_CODE(2, 1)
									   : FG_COAP_CODE(2, 4)};
}

void agent_world_reply(struct agent_world *w, const void *bytes, size_t length)
{
	assert(length <= sizeof(w->reply) - w->reply_length);
	memcpy(w->reply + w->reply_length, bytes, length);
	w->reply_length += length;
}

/* ---- time goes on */

static void deliver(struct agent_world *w)
{
	struct fg_connection connection = {.connection_id = true};
	int result = w->open_result, news = w->network_news;

	w->open_result = w->network_news = 0;
	if (news && w->network)
		fg_agent_network(&w->agent, true);
	if (result == 3) {
		fg_agent_disconnected(&w->agent, -ETIMEDOUT);
	} else if (result != 0) {
		connection.resumed = result == 2;
		w->handshakes += result == 1;
		w->resumptions += result == 2;
		w->connected = true;
		w->kept = false;
		fg_agent_connected(&w->agent, &connection);
	} else if (w->reply_length > 0) {
		uint8_t reply[sizeof(w->reply)];
		size_t length = w->reply_length;

		memcpy(reply, w->reply, length);
		w->reply_length = 0;
		fg_agent_receive(&w->agent, reply, length);
	}
}

void agent_world_run(struct agent_world *w, int64_t until_ms)
{
	unsigned steps = 0;

	while (w->now_ms < until_ms) {
		int64_t due = fg_agent_poll(&w->agent);

		steps++;
		assert(steps < 2000000); /* it spins */
		if (w->open_result || w->network_news || w->reply_length > 0) {
			w->now_ms += w->round_trip_ms;
			deliver(w);
		} else {
			if (due <= w->now_ms)
				due = w->now_ms + 1;
			w->now_ms = due < until_ms ? due : until_ms;
		}
	}
}

void agent_world_use(struct agent_world *w, enum fg_transport transport,
		     enum fg_credential credential)
{
	fg_config_defaults(&w->config, transport, credential);
	w->config.device = "dev-1";
	w->config.target.host = "cloud.example";
	w->config.target.port = 5684;
	w->config.target.security_tag = 1;
	w->config.interval_s = 60;
}

void agent_world_init(struct agent_world *w)
{
	memset(w, 0, sizeof(*w));
	memset(w->flash, 0xff, sizeof(w->flash));
	w->network = w->server = w->wall_known = true;
	w->wall_offset_ms = INT64_C(1763695200000);
	w->now_ms = 1000;
	w->round_trip_ms = ROUND_TRIP_MS;
	w->answer = agent_world_take;
	agent_world_use(w, FG_TRANSPORT_COAP, FG_CREDENTIAL_PSK);
}

void agent_world_start(struct agent_world *w)
{
	assert(fg_agent_init(&w->agent, &port, w, &w->config) == 0);
	w->connected = w->kept = false;
	w->open_result = w->network_news = 0;
	w->reply_length = 0;
	fg_agent_start(&w->agent);
}

size_t agent_world_count(const struct agent_world *w, const char *path)
{
	size_t count = 0;

	for (size_t i = 0; i < w->request_count; i++)
		count += strcmp(w->requests[i].path, path) == 0;
	return count;
}

const struct agent_world_request *agent_world_last(const struct agent_world *w, const char *path)
{
	for (size_t i = w->request_count; i-- > 0;)
		if (strcmp(w->requests[i].path, path) == 0)
			return &w->requests[i];
	return NULL;
}

static void read_record(struct fg_cbor_reader *r, uint64_t pairs, uint32_t *seq, int64_t *time)
{
	struct fg_cbor_item key, value;

	*seq = 0;
	*time = 0;
	for (uint64_t i = 0; i < pairs; i++) {
		assert(fg_cbor_next(r, &key) == 0 && fg_cbor_next(r, &value) == 0);
		if (fg_cbor_is_text(&key, "seq"))
			*seq = (uint32_t)value.value;
		if (fg_cbor_is_text(&key, "ts"))
			*time = (int64_t)value.value;
	}
}

size_t agent_world_records(const struct agent_world_request *r, uint32_t *seqs, int64_t *times,
			   size_t max)
{
	struct fg_cbor_reader reader;
	struct fg_cbor_item item;
	uint64_t count = 1;

	fg_cbor_read(&reader, r->payload, r->length);
	assert(fg_cbor_next(&reader, &item) == 0);
	if (item.type == FG_CBOR_ARRAY) {
		count = item.value;
		assert(fg_cbor_next(&reader, &item) == 0);
	}
	for (uint64_t i = 0; i < count; i++) {
		assert(i < max && item.type == FG_CBOR_MAP);
		read_record(&reader, item.value, &seqs[i], &times[i]);
		if (i + 1 < count)
			assert(fg_cbor_next(&reader, &item) == 0);
	}
	assert(reader.at == reader.end);
	return (size_t)count;
}
