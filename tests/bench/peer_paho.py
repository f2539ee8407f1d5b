#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The peer of the bench: MQTT into PostgreSQL as a competent user writes it in Python.

paho-mqtt subscribes with a persistent session at QoS 1, psycopg2's execute_values inserts 500 rows or
what came in 100 ms, whichever is first, into a table of the same shape as telemetry's columns.
"""

import json
import sys
import threading
import time

import paho.mqtt.client as mqtt
import psycopg2
from psycopg2.extras import execute_values

BATCH_ROWS = 500
BATCH_SECONDS = 0.1
METRICS = ("temperature", "humidity", "pressure", "battery", "rsrp", "light", "altitude", "air_quality")

CREATE = """
create table if not exists peer_telemetry (
    device text not null, ts timestamptz not null, seq bigint not null,
    received_at timestamptz not null,
    temperature real, humidity real, pressure real, battery real,
    rsrp real, light real, altitude real, air_quality real,
    primary key (device, ts, seq))"""
INSERT = ("insert into peer_telemetry (device, ts, seq, received_at, " + ", ".join(METRICS) + ") "
          "values %s on conflict do nothing")
TEMPLATE = "(%s, to_timestamp(%s / 1000.0), %s, now()" + ", %s" * len(METRICS) + ")"


class Inserter:
    """Collects rows under a lock; a thread writes them."""

    def __init__(self, url):
        self.connection = psycopg2.connect(url)
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute(CREATE)
        self.rows = []
        self.wake = threading.Condition()
        threading.Thread(target=self.run, daemon=True).start()

    def add(self, row):
        with self.wake:
            self.rows.append(row)
            if len(self.rows) >= BATCH_ROWS:
                self.wake.notify()

    def take(self):
        deadline = time.monotonic() + BATCH_SECONDS
        with self.wake:
            while len(self.rows) < BATCH_ROWS:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self.wake.wait(left)
            rows, self.rows = self.rows[:BATCH_ROWS], self.rows[BATCH_ROWS:]
        return rows

    def run(self):
        while True:
            rows = self.take()
            if rows:
                with self.connection, self.connection.cursor() as cursor:
                    execute_values(cursor, INSERT, rows, template=TEMPLATE, page_size=BATCH_ROWS)


def main():
    port, url = int(sys.argv[1]), sys.argv[2]
    inserter = Inserter(url)

    def on_message(_client, _userdata, message):
        data = json.loads(message.payload)
        device = message.topic.split("/")[2]
        inserter.add((device, data["ts"], data["seq"], *(data[m] for m in METRICS)))

    def on_connect(client, _userdata, _flags, _rc):
        client.subscribe("m/d/+/d2c", qos=1)

    def on_subscribe(*_):
        print("ready", flush=True)

    client = mqtt.Client(client_id="peer", clean_session=False)
    client.on_connect, client.on_message, client.on_subscribe = on_connect, on_message, on_subscribe
    client.connect("127.0.0.1", port, keepalive=300)
    client.loop_forever()


if __name__ == "__main__":
    main()
