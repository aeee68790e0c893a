"""History under records that the database will not have, streams that are too full, and a Postgres that is frozen."""

import json
import random
import string
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from settings import Settings
from tests.postgres import OwnPostgres, own_postgres
from tests.support import Kit, eventually, logged
from worker import Client, Registry
from worker.broker import scripts
from worker.broker.opening import blocking_connection
from worker.cli.doctor import examine
from worker.core import keys
from worker.database import make_engine
from worker.database.connections import Patience
from worker.database.migrate import migrate
from worker.dev import private_redis
from worker.history.reader import History
from worker.history.stream import GROUP, backlog
from worker.history.tables import jobs_table
from worker.history.writer import HistoryWriter


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """On a Redis of its own, since its stream is filled and measured."""
    with private_redis(tmp_path / "redis") as url:
        async with Client.open(url) as opened:
            yield opened


@asynccontextmanager
async def writing(client: Client, engine: AsyncEngine) -> AsyncIterator[tuple[HistoryWriter, Redis]]:
    """A writer that writes when it is told to."""
    async with blocking_connection(client.connections) as blocking:
        yield HistoryWriter(engine, client.connections, "w1", 30), blocking


async def write_all(client: Client, engine: AsyncEngine) -> None:
    async with writing(client, engine) as (writer, blocking):
        while await client.redis.xlen(keys.RECORDS):
            await writer.write_once(blocking)


def record(job_id: str, **result: Any) -> str:
    """What the script that ends a job writes of it."""
    own = {
        "t": 1,
        "f": "work",
        "a": [],
        "k": {},
        "et": 1000,
        "s": True,
        "r": None,
        "st": 2000,
        "ft": 3000,
        "id": job_id,
    }
    return json.dumps({"r": own | {"q": "arq:queue", "o": {}, "w": "w1"} | result, "h": []})


async def append(client: Client, *records: str) -> None:
    entry = f"[{','.join(records)}]"
    await client.redis.xadd(keys.RECORDS, {"e": entry})
    await client.redis.incrby(keys.RECORDS_BYTES, len(entry.encode()))


async def rows(engine: AsyncEngine) -> set[str]:
    async with engine.connect() as connection:
        return set((await connection.execute(select(jobs_table.c.id))).scalars())


async def test_more_than_a_statement_may_hold_is_written_in_parts(client: Client, migrated: AsyncEngine) -> None:
    result = "x" * 300_000
    for n in range(100):
        await append(client, *(record(f"job-{n}-{m}", r=result) for m in range(9)))
    await write_all(client, migrated)
    async with migrated.connect() as connection:
        assert (await connection.execute(select(func.count()).select_from(jobs_table))).scalar_one() == 900
    assert (await backlog(client.redis)).left_out == 0


LONG = "".join(random.Random(1).choices(string.ascii_letters, k=9000))  # which no compression makes short
BAD = {
    "an id as long as no index has it": record(LONG),
    "a name as long as no index has it": record("long-name", f=LONG),
    "nested deeper than anybody reads it again": record("deep").replace('"a": []', f'"a": {"[" * 9000}{"]" * 9000}'),
    "a time that is none": record("no-time", ft="yesterday"),
    "a time after all": record("late", ft=1e300),
    "a number that is none": record("no-number", t="many"),
    "half a character": record("half", k={"text": "\ud800"}),
    "no name": record("nameless", f=None),
    "arguments that are no list": record("no-list", a="abc"),
    "no keys": "{}",
    "no object": "7",
    "no result": json.dumps({"h": []}),
    "an error for tries": record("no-tries").replace('"h": []', '"h": {"n": 1}'),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_record_that_is_refused_takes_none_of_its_entry_with_it(
    client: Client, migrated: AsyncEngine, bad: str
) -> None:
    await append(client, record("before"), bad, record("after"))
    await write_all(client, migrated)
    assert await rows(migrated) == {"before", "after"}
    assert (await backlog(client.redis)).left_out == 1


async def test_record_that_the_database_refuses_is_left_out_alone(client: Client, migrated: AsyncEngine) -> None:
    good = [f"good-{n}" for n in range(60)]
    await append(client, *(record(each) for each in good[:20]), *BAD.values(), *(record(each) for each in good[20:40]))
    for damaged in ("no JSON", "[", '{"r": 1}', b"\xff\xfe", "[" + record("cut")[:50]):
        await client.redis.xadd(keys.RECORDS, {"e": damaged})
    await client.redis.xadd(keys.RECORDS, {"another": "field"})
    await append(client, *(record(each) for each in good[40:]))
    with logged("embarq.history") as lines:
        await write_all(client, migrated)
    assert await rows(migrated) == set(good)
    assert await backlog(client.redis) == type(await backlog(client.redis))(entries=0, dropped=0, left_out=len(BAD) + 6)
    told = [line for line in lines if line["event"] == "left out of the history"]
    assert len(told) == len(BAD) + 6
    assert all(len(str(line)) < 1000 for line in told)
    assert "long-name" in [line["job_id"] for line in told]
    assert await client.redis.get(keys.RECORDS_BYTES) == b"0"


async def test_huge_parts_are_replaced_by_notes_of_their_size(client: Client, migrated: AsyncEngine) -> None:
    huge = "y" * 3_000_000
    await append(client, record("result", r=huge), record("arguments", k={"text": huge}, r=7))
    error = {"type": "ValueError", "message": huge, "traceback": huge}
    await append(client, record("error", r=error, s=False), record("tags", o={"tg": [huge] * 3}), record("small"))
    await write_all(client, migrated)
    history = History(migrated)
    assert (await history.find("result")).result == {"left_out": f"result of {len(huge) + 2} bytes"}
    kept = await history.find("arguments")
    assert kept.result == 7
    assert kept.args["left_out"].startswith("arguments of 30000")
    problem = (await history.find("error")).error
    assert problem is not None
    assert problem.type == "ValueError"
    assert problem.message.startswith("yyy")
    assert len(problem.message) < 1100
    assert await rows(migrated) == {"result", "arguments", "error", "small"}
    assert (await backlog(client.redis)).left_out == 1


async def test_entries_that_fell_off_while_in_hand_hold_up_nothing(client: Client, migrated: AsyncEngine) -> None:
    async with writing(client, migrated) as (writer, blocking):
        await writer.write_once(blocking)  # makes the group
        for n in range(5):
            await append(client, record(f"job-{n}"))
        await client.redis.xreadgroup(GROUP, "w1", {keys.RECORDS: ">"}, count=3)
        await client.redis.xreadgroup(GROUP, "gone", {keys.RECORDS: ">"}, count=1)
        await client.redis.xtrim(keys.RECORDS, maxlen=1, approximate=False)
        await writer.write_once(blocking)
        assert await rows(migrated) == {"job-4"}
        assert await client.redis.xlen(keys.RECORDS) == 0
        assert (await client.redis.xpending_range(keys.RECORDS, GROUP, "-", "+", 10, consumername="w1")) == []


async def test_bytes_of_the_stream_are_counted_down_and_losses_are_told(client: Client, migrated: AsyncEngine) -> None:
    async with writing(client, migrated) as (writer, blocking):
        await writer.write_once(blocking)
        assert await client.redis.get(keys.RECORDING) == b"268435456"
        assert await client.redis.ttl(keys.RECORDING) > 80_000
        for n in range(150):
            await append(client, record(f"job-{n}"))
        before = int(await client.redis.get(keys.RECORDS_BYTES))
        await writer.write_once(blocking)
        assert await client.redis.xlen(keys.RECORDS) == 50
        assert int(await client.redis.get(keys.RECORDS_BYTES)) == pytest.approx(before / 3, rel=0.05)
        await client.redis.incrby(keys.RECORDS_DROPPED, 12)
        with logged("embarq.history") as lines:
            await writer.write_once(blocking)
            await append(client, record("another"))
            await writer.write_once(blocking)
        assert [line["jobs"] for line in lines if "was full" in line["event"]] == [12]
        assert await client.redis.get(keys.RECORDS_BYTES) == b"0"


async def test_what_falls_off_a_full_stream_is_counted_and_its_bytes_are_not(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(keys.LUA_CONSTANTS, "RECORDS_KEPT", 20)
    monkeypatch.setattr(scripts, "FINISH", scripts.Script("finish"))
    registry = Registry()

    @registry.job()
    async def work(n: int) -> int:
        return n

    registry.bind(client)
    kit = Kit(client, registry, "default")
    await client.redis.set(keys.RECORDING, 256 * 1_048_576)
    for n in range(200):
        await kit.enqueue(work, {"n": n})
    await kit.drain(concurrency=3)
    registry.bind(None)
    entries = [fields for _, fields in await client.redis.xrange(keys.RECORDS)]
    assert len(entries) == 20
    waiting = sum(len(json.loads(fields[b"e"])) for fields in entries)
    assert int(await client.redis.get(keys.RECORDS_DROPPED)) == 200 - waiting
    assert int(await client.redis.get(keys.RECORDS_BYTES)) == sum(len(fields[b"e"]) for fields in entries)


@pytest.fixture(scope="module")
def postgres() -> Iterator[OwnPostgres]:
    with own_postgres() as server:
        migrate(server.url)
        yield server


async def test_history_gets_over_a_frozen_postgres(client: Client, postgres: OwnPostgres) -> None:
    engine = make_engine(postgres.url, patience=Patience(pool=1, connect=1, look=1, answer=1))
    async with writing(client, engine) as (writer, blocking):
        await append(client, record("before"))
        await writer.write_once(blocking)
        await append(client, record("amid"))
        with postgres.frozen():
            with pytest.raises(Exception):  # noqa: B017, PT011  # whichever way it ends, it ends
                await writer.write_once(blocking)
            assert await client.redis.xlen(keys.RECORDS) == 1

        async def written() -> bool:
            await writer.write_once(blocking)
            return await rows(engine) == {"before", "amid"}

        await eventually(written, 5)
    await engine.dispose()


async def test_doctor_tells_what_is_missing(client: Client, tmp_path: Path) -> None:
    await client.redis.mset({keys.RECORDS_DROPPED: 12, keys.RECORDS_LEFT_OUT: 3})
    for _ in range(1001):
        await client.redis.xadd(keys.RECORDS, {"e": "[]"})
    path = client.redis.connection_pool.connection_kwargs["path"]
    checks = await examine(Settings(data_dir=tmp_path, REDIS_URL=f"unix://{path}"))
    warnings = [check.finding for check in checks if check.warning]
    assert "12 jobs are missing in the history: its stream was full" in warnings
    assert "3 jobs are missing in the history: the database refused them" in warnings
    assert "1001 entries of the history wait for a writer" in warnings
