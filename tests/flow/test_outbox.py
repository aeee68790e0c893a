"""Rows and jobs that are committed together or not at all, while relays and Redis come and go."""

import asyncio
import os
import random
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import column, select, text
from sqlalchemy import table as named
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from tests.flow.outbox_jobs import settle
from tests.support import Kit, eventually, logged, start_embarq
from worker import State
from worker.client import Client
from worker.core import keys
from worker.core.errors import InvalidOptions
from worker.database import Database
from worker.database.outbox import outbox_table
from worker.database.relay import BATCH, Relay
from worker.dev import private_redis

TRANSACTIONS = int(os.environ.get("CHAOS_TRANSACTIONS", "1500"))


@pytest.fixture
async def database(migrated: AsyncEngine) -> Database:
    async with migrated.begin() as connection:
        await connection.execute(text("CREATE TABLE orders_made (n int PRIMARY KEY)"))
        await connection.execute(text("CREATE TABLE settled (n int PRIMARY KEY)"))
    return Database(migrated)


async def numbers(database: Database, table: str) -> set[int]:
    async with database.session() as session:
        return set((await session.execute(select(column("n")).select_from(named(table)))).scalars())


async def left(database: Database) -> int:
    async with database.session() as session:
        return len((await session.execute(outbox_table.select())).all())


@asynccontextmanager
async def relaying(database: Database, client: Client) -> AsyncIterator[None]:
    task = asyncio.create_task(Relay(database.engine, client.queue_store).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_job_is_queued_if_and_when_the_transaction_commits(kit: Kit, database: Database) -> None:
    options = settle.options(queue=kit.queue)
    async with relaying(database, kit.client):
        async with database.session() as session:
            job_id = await options.enqueue_in(session, 1)
            await asyncio.sleep(0.2)
            assert await kit.client.redis.zcard(kit.queue_key) == 0
        await eventually(lambda: queued(kit, 1), 5)
        async with AsyncSession(database.engine) as session:
            await options.enqueue_in(session, 2)
            await session.rollback()
        await asyncio.sleep(0.2)
    assert await kit.client.redis.zcard(kit.queue_key) == 1
    assert (await kit.client.find(job_id)).state is State.QUEUED
    assert await left(database) == 0


async def queued(kit: Kit, count: int) -> bool:
    return bool(await kit.client.redis.zcard(kit.queue_key) == count)


async def test_row_that_is_handed_over_twice_is_one_job(kit: Kit, database: Database) -> None:
    async with database.session() as session:
        await settle.options(queue=kit.queue).enqueue_in(session, 1)
    relay = Relay(database.engine, kit.client.queue_store)
    async with database.engine.begin() as connection:
        rows = (await connection.execute(outbox_table.select())).mappings().all()
        copy = dict(rows[0])
    assert await relay.relay_once() == 1
    async with database.engine.begin() as connection:  # as if the relay had died before its commit
        await connection.execute(outbox_table.insert().values(copy))
    assert await relay.relay_once() == 1
    assert await kit.client.redis.zcard(kit.queue_key) == 1


async def test_several_relays_share_the_work(kit: Kit, database: Database) -> None:
    async with database.session() as session:
        for n in range(1200):
            await settle.options(queue=kit.queue).enqueue_in(session, n)
    relays = [Relay(database.engine, kit.client.queue_store) for _ in range(3)]
    counts = await asyncio.gather(*(relay.relay_once() for relay in relays))
    assert all(0 < count <= BATCH for count in counts)
    rest = await relays[0].relay_once()  # of a batch in which another relay was faster
    assert sum(counts) + rest == 1200
    assert await kit.client.redis.zcard(kit.queue_key) == 1200


async def test_large_rows_go_in_several_calls(kit: Kit, database: Database) -> None:
    """Together they may be more than Redis takes at once, and than a worker has memory for."""

    @kit.registry.job()
    async def read(text: str) -> None: ...

    async with database.session() as session:
        for _ in range(5):
            await read.options(queue=kit.queue).enqueue_in(session, "x" * 1_500_000)
        await read.options(queue=kit.queue).enqueue_in(session, "x" * 5_000_000)
    relay = Relay(database.engine, kit.client.queue_store)
    assert [await relay.relay_once() for _ in range(5)] == [2, 2, 1, 1, 0]
    assert await kit.client.redis.zcard(kit.queue_key) == 6


async def test_row_that_redis_refuses_is_kept_and_stops_no_other(kit: Kit, database: Database) -> None:
    async with database.session() as session:
        ids = [await settle.options(queue=kit.queue).enqueue_in(session, n) for n in range(5)]
    async with database.engine.begin() as connection:
        spoilt = outbox_table.update().where(outbox_table.c.id == ids[2])
        await connection.execute(spoilt.values(nonce="no request id", written_at=text("now() - interval '1 day'")))
    relay = Relay(database.engine, kit.client.queue_store)
    with logged("embarq.relay") as lines:
        assert await relay.relay_once() == 5
    assert [line["job_id"] for line in lines] == [ids[2]]
    assert await kit.client.redis.zcard(kit.queue_key) == 4
    assert (await relay.relay_once(), await relay.reconcile_once(), await left(database)) == (0, 0, 1)
    async with database.engine.begin() as connection:  # as docs/reliability.md says
        mended = "UPDATE embarq_outbox SET sent_at = NULL, nonce = 'mended' WHERE sent_at = 'infinity'"
        await connection.execute(text(mended))
    assert (await relay.relay_once(), await left(database)) == (1, 0)


async def test_row_that_cannot_be_queued_now_lets_others_pass(kit: Kit, database: Database, redis_url: str) -> None:
    """It says nothing of the call, as here, where the user of Redis may not write the queue: it is tried again."""
    barred = f"barred-{kit.queue}"
    async with database.session() as session:
        for queue in (barred, kit.queue, kit.queue):
            await settle.options(queue=queue).enqueue_in(session, 1)
    ours = ("embarq:*", "arq:job:*", "arq:re*", "arq:in-progress:*", "arq:abort", kit.queue_key)
    await kit.client.redis.execute_command(
        "ACL", "SETUSER", kit.queue, "on", ">secret", "+@all", *(f"~{pattern}" for pattern in ours)
    )
    async with Client.open(redis_url.replace("://", f"://{kit.queue}:secret@")) as limited:
        relay = Relay(database.engine, limited.queue_store)
        assert await relay.relay_once() == 2
        assert (await relay.relay_once(), await left(database)) == (0, 1)
    assert await Relay(database.engine, kit.client.queue_store).relay_once() == 1
    assert await kit.client.redis.zcard(keys.queue_key(barred)) == 1
    await kit.client.redis.execute_command("ACL", "DELUSER", kit.queue)


async def test_patrol_has_lost_jobs_handed_over_again(kit: Kit, database: Database) -> None:
    async with database.session() as session:
        job_id = await settle.options(queue=kit.queue, durable=True).enqueue_in(session, 1)
    relay = Relay(database.engine, kit.client.queue_store)
    assert await relay.relay_once() == 1
    await kit.client.redis.delete(keys.JOB + job_id, kit.queue_key)
    async with database.engine.begin() as connection:
        await connection.execute(outbox_table.update().values(sent_at=text("now() - interval '1 hour'")))
    assert (await relay.reconcile_once(), await relay.relay_once(), await relay.relay_once()) == (1, 1, 0)
    assert await queued(kit, 1)
    assert await left(database) == 1


async def test_callbacks_do_not_go_through_the_outbox(kit: Kit, database: Database) -> None:
    async with database.session() as session:
        with pytest.raises(InvalidOptions, match="on_success"):
            await settle.options(on_success=settle.s()).enqueue_in(session, 1)
    with pytest.raises(InvalidOptions, match="durable"):
        await kit.client.enqueue(settle.options(durable=True).call(1))


async def test_durable_job_that_ended_long_before_the_relay_looks_does_not_run_again(
    kit: Kit, database: Database
) -> None:
    ran: list[int] = []

    @kit.registry.job()
    async def count(n: int) -> None:
        ran.append(n)
        if n == 2:
            raise ValueError("it fails, and that is an end too")

    async with database.session() as session:
        ids = [
            await count.options(durable=True, result_ttl=0, queue=kit.queue).enqueue_in(session, n) for n in range(4)
        ]
    relay = Relay(database.engine, kit.client.queue_store)
    assert await relay.relay_once() == 4
    await kit.client.cancel(ids[3])
    await kit.drain()
    await kit.client.redis.delete(
        keys.RESULT + ids[3]
    )  # a cancelled one is kept, but not for as long as Postgres may be away
    assert await kit.client.redis.exists(*(keys.RESULT + job_id for job_id in ids)) == 0
    async with database.engine.begin() as connection:
        await connection.execute(outbox_table.update().values(sent_at=text("now() - interval '1 hour'")))
    assert await relay.reconcile_once() == 4
    assert await left(database) == 0
    assert await kit.client.redis.exists(*(keys.ENDED + job_id for job_id in ids)) == 0
    await kit.drain()
    assert sorted(ran) == [0, 1, 2]


class Service:
    """A Redis of its own and worker processes that relay, run, and die."""

    def __init__(self, redis_url: str, database_url: str, folder: Path) -> None:
        self._log = folder / "workers.log"
        self._environment = {
            "REDIS_URL": redis_url,
            "DATABASE_URL": database_url,
            "EMBARQ_JOBS": "tests.flow.outbox_jobs",
            "EMBARQ_LEASE": "1",
            "EMBARQ_LEASES_LOST_LIMIT": "1000",
            "EMBARQ_LOG_LEVEL": "WARNING",
        }
        self.workers: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self.workers.append(start_embarq("worker", log=self._log, **self._environment))

    def kill_one(self) -> None:
        worker = self.workers.pop(random.randrange(len(self.workers)))
        worker.kill()
        worker.wait(10)
        self.start()

    def close(self) -> None:
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            worker.wait(40)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[str]:
    with private_redis(tmp_path / "redis") as url:
        yield url


@pytest.fixture
def service(own_redis: str, tmp_path: Path) -> Iterator[Callable[[AsyncEngine], Service]]:
    made: list[Service] = []

    def make(engine: AsyncEngine) -> Service:
        made.append(Service(own_redis, engine.url.render_as_string(hide_password=False), tmp_path))
        for _ in range(2):
            made[0].start()
        return made[0]

    yield make
    for each in made:
        each.close()


@pytest.mark.timeout(300)
async def test_jobs_run_exactly_for_what_was_committed_while_relays_are_killed(
    database: Database, service: Callable[[AsyncEngine], Service]
) -> None:
    running = service(database.engine)

    async def business(first: int) -> None:
        for n in range(first, TRANSACTIONS, 4):
            try:
                async with database.session() as session:
                    await session.execute(text("INSERT INTO orders_made VALUES (:n)"), {"n": n})
                    await settle.enqueue_in(session, n)
                    if random.random() < 1 / 3:
                        raise InterruptedError
            except InterruptedError:
                continue

    async def kill() -> None:
        for _ in range(6):
            await asyncio.sleep(0.8)
            running.kill_one()

    await asyncio.gather(*(business(first) for first in range(4)), kill())
    made = await numbers(database, "orders_made")
    assert TRANSACTIONS / 2 < len(made) < TRANSACTIONS * 5 / 6

    async def all_settled() -> bool:
        return await numbers(database, "settled") == made and await left(database) == 0

    await eventually(all_settled, 60)


@pytest.mark.timeout(180)
async def test_durable_jobs_come_back_after_redis_was_wiped(
    own_redis: str, database: Database, service: Callable[[AsyncEngine], Service]
) -> None:
    async with database.session() as session:
        for n in range(1000):
            await settle.options(durable=True).enqueue_in(session, n, 0.2)
    service(database.engine)
    async with Client.open(own_redis) as client:

        async def half_done() -> bool:
            return len(await numbers(database, "settled")) > 200

        await eventually(half_done, 60)
        await client.redis.flushall()

        async def all_done() -> bool:
            return len(await numbers(database, "settled")) == 1000 and await left(database) == 0

        await eventually(all_done, 90)
        assert await client.redis.zcard(keys.QUEUE) == 0


async def test_relay_goes_on_after_the_database_was_away(kit: Kit, database: Database) -> None:
    async with relaying(database, kit.client):
        await asyncio.sleep(0.3)
        async with database.engine.connect() as connection:
            await connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                    "AND datname = current_database()"
                )
            )
        async with AsyncSession(database.engine) as session, session.begin():
            await settle.options(queue=kit.queue).enqueue_in(session, 1)
        await eventually(lambda: queued(kit, 1), 15)
