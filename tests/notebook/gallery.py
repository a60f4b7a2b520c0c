"""Every display there is, as cells: for a notebook of Jupyter, and for one of marimo."""

from __future__ import annotations

BEGIN = """
import asyncio, datetime as dt, decimal, tempfile
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa
import dataloader as dl

LONG = "a_column_with_a_name_of_sixty_three_characters_as_in_postgresql"
STATUS = ["open", "shipped", "returned"]
orders = pd.DataFrame({
    "id": range(30_000),
    "customer_reference": [f"C-{number % 977:06}" for number in range(30_000)],
    "amount": [decimal.Decimal(number * 7919 % 1_000_000) / 100 for number in range(30_000)],
    "created_at": pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(range(30_000), unit="s"),
    "status": [STATUS[number % 3] for number in range(30_000)],
})
messy = pd.DataFrame({
    "id": ["1", "2", "x", "4", "99999999999"],
    "amount": ["1.50", "a price that somebody wrote in words, at length", "3", "4.00", "5"],
    LONG: ["2026-02-30", "2026-03-01", "2026-03-02", "yesterday", "2026-03-04"],
})
kinds = {"id": sa.Integer(), "amount": sa.Numeric(10, 2), LONG: sa.Date()}
frame = pd.DataFrame({"id": range(3), "name": ["Ada", "Grace", "Edsger"], "a": [1.5, None, -3.25]})

async def broken(after=3):
    for number in range(after):
        await asyncio.sleep(0.05)
        yield pa.record_batch({"id": range(number * 1_000, (number + 1) * 1_000)})
    raise OSError("the disk is gone")

async def slow(seconds=0.05, batches=1_000):
    for number in range(batches):
        await asyncio.sleep(seconds)
        yield pa.record_batch({"id": range(number * 1_000, (number + 1) * 1_000)})
"""

CELLS = {
    "connect": "engine = dl.connect()\nengine",
    "check": "await dl.check(table=None)",
    "plan": "await dl.plan_load(orders, 'orders')",
    "plan_into_a_table": (
        "await dl.load_dataframe(frame, 'people', dtype={'id': sa.Integer(), 'a': sa.Numeric(12, 4)}, "
        "progress='none')\nawait dl.plan_load(frame, 'people')"
    ),
    "report": "report = await dl.load_dataframe(orders, 'orders')\nreport",
    "named": "await dl.load_dataframe(orders, 'orders_by_chunks', commit='chunk', chunk_rows=2_000, load_id='May')",
    "rerun": "await dl.load_dataframe(orders, 'orders')",
    "dry_run": "await dl.load_dataframe(orders, 'orders', dry_run=True)",
    "rejects": "bad = await dl.load_dataframe(messy, 'messy', dtype=kinds, on_invalid='reject')\nbad",
    "long_name": "await dl.load_dataframe(frame, LONG)",
    "rejects_frame": "bad.rejects",
    "merge": (
        "async with engine.begin() as connection:\n"
        "    await connection.execute(sa.text('CREATE TABLE keyed (id integer PRIMARY KEY, name text, a float8)'))\n"
        "await dl.load_dataframe(frame[:2], 'keyed', progress='none')\n"
        "await dl.load_dataframe(frame.assign(a=7.0), 'keyed', on_conflict='update')"
    ),
    "merge_dry_run": (
        "await dl.load_dataframe(frame.assign(name='somebody'), 'keyed', on_conflict='update', dry_run=True)"
    ),
    "failed_plan": "await dl.load_dataframe(orders, 'people')",
    "wrong_option": "await dl.load_dataframe(orders, 'people', if_exist='replace')",
    "failed_values": "await dl.load_dataframe(messy, 'messy', progress='auto')",
    "failed_load": "await dl.load_batches(broken(), 'broken')",
    "failed_by_chunks": "await dl.load_batches(broken(), 'broken', commit='chunk', chunk_rows=1_000)",
    "cancelled": (
        "task = asyncio.ensure_future(dl.load_batches(slow(), 'stopped', commit='chunk', chunk_rows=1_000))\n"
        "await asyncio.sleep(0.6)\ntask.cancel()\nawait task"
    ),
    "cancelled_job": (
        "job = dl.start_load(orders, 'job', chunk_rows=1_000, max_rows_per_second=1_000)\n"
        "await asyncio.sleep(0.5)\njob.cancel()\nawait job"
    ),
    "valid": "await dl.validate(orders, 'orders')",
    "invalid": "await dl.validate(messy, 'messy')",
    "read": "await dl.read_dataframe('SELECT * FROM orders ORDER BY id LIMIT 5')",
    "start_read": "reading = dl.start_read('SELECT * FROM orders')\nfound = await reading\nlen(found)",
    "failed_read": "await dl.read_dataframe('SELECT * FROM nowhere')",
    "export": "await dl.export('orders', tempfile.mkdtemp() + '/orders.parquet')",
    "copy": "await dl.copy_table('orders', 'orders_copied', source=engine, engine=engine)",
    "explain": (
        "try:\n    async with engine.connect() as connection:\n"
        "        await connection.execute(sa.text('SELECT * FROM orders WHERE ammount > 3'))\n"
        "except Exception as error:\n    told = dl.explain(error)\ntold"
    ),
    "equal": "await dl.compare(orders, 'orders_by_chunks', key='id')",
    "different": "await dl.compare(frame.assign(id=frame.id + 1, name='Nobody'), 'people', key='id')",
    "compare_methods": "await dl.compare_methods(orders[:2_000], 'orders')",
    "wire": (
        "async with dl.wire(engine) as wire:\n"
        "    await dl.load_dataframe(orders, 'orders_on_the_wire', engine=wire.engine, progress='none')\nwire"
    ),
    "load_history": "await dl.load_history()",
    "printed": "print(report)\nprint(bad)\nprint(await dl.plan_load(orders, 'orders'))\nprint(wire)",
}
"""By name; each was written for a kernel whose ``DATALOADER_URL`` is an empty database of PostgreSQL."""

RAISING = {"failed_plan", "wrong_option", "failed_values", "failed_load", "failed_by_chunks", "cancelled"}
RAISING |= {"cancelled_job", "failed_read"}
"""The cells that end in an error."""
OF_PANDAS = {"rejects_frame", "load_history"}
"""Those that show a frame, whose picture is that of pandas."""
