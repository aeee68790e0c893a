"""The history with 1,000,000 jobs: each filter of the list, and how fast the writer is beside a working engine."""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.growth import fill, left, worker
from benchmarks.systems import REDIS_PORT
from worker import Client, State
from worker.core import keys
from worker.database import make_engine
from worker.database.migrate import migrate
from worker.dev import private_postgres, private_redis
from worker.history.reader import History, Query, statement

JOBS = 1_000_000
DRAINED = 100_000
ASKED = 40
FILL = """
INSERT INTO embarq_jobs
SELECT md5(n::text), t, 'job_' || n % 50, 'queue_' || n % 10, 'normal',
       CASE WHEN n % 100 = 0 THEN 'failed' ELSE 'succeeded' END, 1, NULL, '{}', NULL, NULL,
       ARRAY['tag_' || n % 1000], 'w', NULL, NULL, t, t + interval '1 second',
       'job_' || n % 50 || ' word' || n % 20000 || ' customer' || n
FROM (SELECT n, now() - n * interval '1 second' AS t FROM generate_series(1, :count) n) s
"""
QUERIES = {
    "newest": Query(),
    "state": Query(state=State.FAILED),
    "job": Query(job="job_7"),
    "queue": Query(queue="queue_3"),
    "tag": Query(tag="tag_77"),
    "text, a rare word": Query(words="customer4711"),
    "text, a word of 50": Query(words="word777"),
    "state and job": Query(state=State.FAILED, job="job_0"),
    "job and tag": Query(job="job_7", tag="tag_7"),
}


async def filters(url: str) -> list[str]:
    """Times of each filter, and its plan."""
    engine = make_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text(FILL), {"count": JOBS})
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("VACUUM ANALYZE embarq_jobs"))
    history = History(engine)
    rows = ["| filter | p50, ms | p95, ms | plan |", "|---|---:|---:|---|"]
    for name, query in QUERIES.items():
        took = []
        for _ in range(ASKED):
            began = time.perf_counter()
            await history.list(query)
            took.append(1000 * (time.perf_counter() - began))
        times = f"{statistics.median(took):.1f} | {statistics.quantiles(took, n=20)[18]:.1f}"
        rows.append(f"| {name} | {times} | {await plan(engine, query)} |")
        sys.stderr.write(rows[-1] + "\n")
    await engine.dispose()
    return rows


async def plan(engine: AsyncEngine, query: Query) -> str:
    """The scans of a query's plan, as EXPLAIN tells them."""
    asked = statement(query, query.limit + 1).compile(engine.sync_engine, compile_kwargs={"literal_binds": True})
    async with engine.connect() as connection:
        lines = (await connection.execute(text("EXPLAIN " + str(asked).replace(":", "\\:")))).scalars().all()
    scans = [line.strip(" ->").partition("  (")[0] for line in lines if "Scan" in line]
    return "; ".join(scan.replace(" on embarq_jobs", "").replace(" using embarq_jobs_", " ") for scan in scans)


async def throughput(redis_url: str, database_url: str, folder: Path) -> str:
    """Drain jobs with a worker that also writes the history."""
    engine = make_engine(database_url)
    async with Client.open(redis_url) as client:
        await client.redis.set(keys.RECORDING, "1")
        await fill(client, DRAINED, ["default"])
        began = time.monotonic()
        with worker(redis_url, folder, DATABASE_URL=database_url):
            while await left(client, ["default"]):
                await asyncio.sleep(0.02)
            drained = time.monotonic() - began
            while await client.redis.xlen(keys.RECORDS):
                await asyncio.sleep(0.02)
            wrote = time.monotonic() - began
    async with engine.connect() as connection:
        counted = (await connection.execute(text("SELECT count(*) FROM embarq_jobs"))).scalar_one()
    await engine.dispose()
    return (
        f"{DRAINED:,} no-op jobs ended after {drained:.1f} s ({DRAINED / drained:,.0f}/s, the start of the worker "
        f"included); {counted:,} rows were written after {wrote:.1f} s ({counted / wrote:,.0f}/s)."
    )


def report() -> str:
    """All of it."""
    with tempfile.TemporaryDirectory(prefix="embarq-") as name, private_postgres(Path(name) / "postgres") as database:
        folder = Path(name)
        migrate(database)
        with private_redis(folder / "redis", port=REDIS_PORT) as url:
            wrote = asyncio.run(throughput(url, database, folder))
        sys.stderr.write(wrote + "\n")
        return "\n".join([*asyncio.run(filters(database)), "", wrote])
