#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How much a stored value takes on disk, and how fast the two questions are that everybody asks.

A cluster of its own is filled with messages of 8 values from 1,000 devices (QUICK=1: 100), one a minute,
as they come: minute by minute, in each minute the devices in another order, 2,000 messages a transaction,
by the statement that the writer uses (insert ... select from unnest of arrays, on conflict do nothing).
ROWS=n sets how many. Then, over one connection:

  latest  newest reading of a device: select ... where device = $1 order by ts desc limit 1
  day     all readings of one device on one day: select ... where device = $1 and ts >= ... and ts < ...

Each is asked for many devices, all of it twice, and the second time counts (warm); the time is that
until all rows are at the client. Space is that of all partitions with their indexes and toast, as they
were filled; and once more after `reindex table concurrently`, as an operator may do with a partition that
nothing is written to any more: a device's rows end in the middle of the key, where PostgreSQL splits pages
in halves and leaves them half full.

A device's id is in each row and each key: DEVICE_PREFIX (default dev-, six digits follow) tries longer ones.
"""

import contextlib
import os
import pathlib
import random
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.postgres import INGEST, READER, Postgres, query  # noqa: E402

QUICK = os.environ.get("QUICK", "") not in ("", "0")
ROWS = int(os.environ.get("ROWS", 1_000_000 if QUICK else 10_000_000))
DEVICES = 100 if QUICK else 1_000
PREFIX = os.environ.get("DEVICE_PREFIX", "dev-")
BATCH = 2_000
VALUES = 8
FIRST_DAY = "2026-01-05 00:00:00+00"

METRICS = "temperature humidity pressure air_quality light battery rsrp altitude".split()

# The arrays are made in the server, so that filling does not measure Python. Device numbers are multiplied
# by a unit modulo the number of devices, another one each minute: a cheap shuffle.
FILL = f"""
with message as (
	select '{PREFIX}' || lpad(mod(mod(n, %(devices)s) * (n / %(devices)s * 10 + 1), %(devices)s)::text, 6, '0')
			as device,
		timestamptz '{FIRST_DAY}' + (n / %(devices)s * 60000 + (random() * 50000)::int) * interval '1 ms'
			as ts,
		n
	from generate_series(%(first)s::bigint, %(last)s) n
), arrays as (
	select array_agg(device) as device, array_agg(ts) as ts,
		array_agg(hashint8extended(n, 0)) as seq,
		array_agg(ts + interval '0.8 s') as received_at, array_agg('device'::ts_source) as ts_source,
		{", ".join(f"array_agg((random() * 100)::float4) as {m}" for m in METRICS)}
	from message
)
insert into telemetry (device, ts, seq, received_at, ts_source, {", ".join(METRICS)})
select row.* from arrays,
	unnest(device, ts, seq, received_at, ts_source, {", ".join(METRICS)}) as row
on conflict do nothing
"""

LATEST = "select ts, temperature from telemetry where device = %s order by ts desc limit 1"
DAY = f"""select ts, {", ".join(METRICS)} from telemetry
where device = %s and ts >= %s::timestamptz and ts < %s::timestamptz + interval '1 day' order by ts"""


def fill(connection):
    query(
        connection,
        "select ensure_partitions(%s, %s::timestamptz + %s * interval '1 minute')",
        (FIRST_DAY, FIRST_DAY, ROWS // DEVICES + 1),
    )
    started = time.monotonic()
    for first in range(0, ROWS, BATCH):
        last = min(first + BATCH, ROWS) - 1
        query(connection, FILL, {"devices": DEVICES, "first": first, "last": last})
    return time.monotonic() - started


def space(connection, rows):
    """Bytes of all partitions, and a sentence about them."""
    ((total, heap),) = query(
        connection,
        """select sum(pg_total_relation_size(relid))::float8, sum(pg_relation_size(relid))::float8
        from pg_partition_tree('telemetry') where isleaf""",
    )
    return total, (
        f"{total / rows / VALUES:.2f} bytes a value, {total / rows:.1f} a row:"
        f" tables {heap / rows:.1f}, indexes and the rest {(total - heap) / rows:.1f}"
    )


def median_ms(connection, sql, parameters):
    """All asked twice, of the second time: median and worst milliseconds, median number of rows."""
    with connection.cursor() as cursor:
        for _ in range(2):
            times, rows = [], []
            for p in parameters:
                started = time.monotonic()
                cursor.execute(sql, p)
                times.append((time.monotonic() - started) * 1000)
                rows.append(cursor.rowcount)
    return statistics.median(times), max(times), statistics.median(rows)


def main():
    random.seed(1)
    with tempfile.TemporaryDirectory(prefix="store_bench_") as directory:
        os.chmod(directory, 0o711)
        with Postgres(pathlib.Path(directory) / "pg") as postgres:
            with contextlib.closing(postgres.connect(INGEST)) as writer:
                took = fill(writer)
            connection = postgres.connect(READER)
            ((rows,),) = query(connection, "select count(*) from telemetry")
            assert rows == ROWS, f"{rows} rows stored of {ROWS}"
            ((version,),) = query(connection, "show server_version")
            print(f"PostgreSQL {version}: {rows} rows of {DEVICES} devices, filled in {took:.0f} s")

            total, text = space(connection, rows)
            print(f"space: {text}")

            devices = [d for (d,) in query(connection, "select distinct device from telemetry limit 1000")]
            days = [
                day
                for (day,) in query(
                    connection,
                    "select generate_series(%s::timestamptz, %s::timestamptz + %s * interval '1 minute'"
                    " - interval '1 day', interval '1 day')",
                    (FIRST_DAY, FIRST_DAY, ROWS // DEVICES),
                )
            ]
            latest, worst, _ = median_ms(connection, LATEST, [(random.choice(devices),) for _ in range(500)])
            print(f"latest reading of a device: median {latest:.2f} ms, worst {worst:.2f} ms of 500")
            asked = [(random.choice(devices), day, day) for day in random.choices(days, k=100)]
            day, worst, count = median_ms(connection, DAY, asked)
            print(f"a day of a device ({count:.0f} rows): median {day:.2f} ms, worst {worst:.2f} ms of 100")
            connection.close()

            with contextlib.closing(postgres.connect()) as owner:
                query(owner, "reindex table concurrently telemetry")
                print(f"space after reindex: {space(owner, rows)[1]}")

    print(f"metric store.bytes_per_value {total / rows / VALUES:.2f} bytes")
    print(f"metric store.latest_ms {latest:.3f} ms")
    print(f"metric store.day_ms {day:.3f} ms")


if __name__ == "__main__":
    main()
