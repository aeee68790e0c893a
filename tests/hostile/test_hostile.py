"""Random requests at every endpoint and random records in Redis, while innocent clients work and workers run.

`make chaos` runs 50,000 cases. The seed is printed: `HOSTILE_SEED=… HOSTILE_FIRST=… HOSTILE_CASES=…` makes the same
cases again, from the first of those; `HOSTILE_ONLY=text` leaves out all whose description does not have the text.
"""

import asyncio
import logging
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from api.app import create_app
from settings import Settings
from tests.api.conftest import serving
from tests.hostile.damage import WORKER, WRONG_QUEUE, Argument, Damage, DamageCase
from tests.hostile.innocents import QUEUE, Acknowledged, Innocents, small_registry
from tests.hostile.requests import HOSTILE_QUEUE, HttpCase, Requests
from tests.hostile.values import Nasty
from tests.support import free_port
from worker import Client, Priority, Worker, WorkerConfig
from worker.core import keys
from worker.core.periodic import BackgroundService
from worker.database import Database
from worker.database.relay import Relay
from worker.dev import private_redis
from worker.history.writer import HistoryWriter
from worker.observability.logs import configure_logs
from worker.settings import LogLevel

SEED = int(os.environ.get("HOSTILE_SEED", random.randrange(10**6)))
CASES = int(os.environ.get("HOSTILE_CASES", "2000"))
FIRST = int(os.environ.get("HOSTILE_FIRST", "0"))
ONLY = os.environ.get("HOSTILE_ONLY", "")
SLICE = 100
SIDE_BY_SIDE = 8
SHARED_EVERY = 20  # cases, so that 2,000 damage every key that all share
LONGEST_ANSWER = 15.0  # seconds; 10 are promised, the rest is for the machine
WORKERS = "/health/workers"  # may see none until the next heartbeat, when their records were damaged
QUIET = 5.0  # seconds after the last case, in which nothing may still go wrong
FATAL = ("engine fault", "watchdog fault", "lease renewal fault", "hard exit fault", "worker fault")
OF_JOBS = ("failed", "request failed", "left out of the history")  # what a hostile job or request may come to

Case = HttpCase | DamageCase


class Faults(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
        self.seen.append(f"{record.getMessage()} {getattr(record, 'fields', '')} {trace}"[-3000:])


@contextmanager
def faults() -> Iterator[Faults]:
    """Errors of our loggers within the block, which stay out of the test's output."""
    handler, logger = Faults(), logging.getLogger("embarq")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield handler
    finally:
        logger.propagate = True
        logger.removeHandler(handler)


@dataclass(slots=True)
class Arena:
    """All that runs, and what came of the cases so far."""

    client: Client
    http: httpx.AsyncClient
    workers: dict[Worker, "asyncio.Task[None]"]
    innocents: Innocents
    faults: Faults
    requests: Requests
    engine: AsyncEngine
    damage: Damage = field(default_factory=Damage)
    statuses: Counter[int] = field(default_factory=Counter)
    latest: list[Acknowledged] = field(default_factory=list)
    refused_commands: int = 0

    def case(self, number: int) -> Case:
        """The case of this number, always the same for the seed."""
        nasty = Nasty(random.Random(f"{SEED} {number}"))
        if number % SHARED_EVERY == 0:
            return self.damage.of_shared(nasty, number // SHARED_EVERY)
        return self.requests.case(nasty) if nasty.one_in(2) else self.damage.case(nasty)

    async def throw(self, number: int) -> str | None:
        """Do it; what is wrong with the answer, if something is."""
        case = self.case(number)
        if ONLY not in str(case):
            return None
        if isinstance(case, DamageCase):
            await self._damage(case)
            return None
        began = time.monotonic()
        try:
            async with asyncio.timeout(LONGEST_ANSWER):
                answer = await self.http.request(
                    case.method,
                    case.path,
                    content=case.body,
                    headers=case.raw_headers,
                )
        except TimeoutError:
            return f"case {number} of seed {SEED} had no answer in {time.monotonic() - began:.1f} s: {case}"
        self.statuses[answer.status_code] += 1
        asked_for = case.path.startswith("/stand-ins/") and "in trouble" in answer.text
        unseen = case.path.startswith(WORKERS) and answer.status_code == 503
        if answer.status_code < 500 or asked_for or unseen:
            return None
        return (
            f"case {number} of seed {SEED} gave {answer.status_code}: {case}\n{answer.text[:300]}{self._last_fault()}"
        )

    def _last_fault(self) -> str:
        requests = [fault for fault in self.faults.seen if fault.startswith("request failed")]
        return f"\n{requests[-1]}" if requests else ""

    async def _damage(self, case: DamageCase) -> None:
        ids = [worker.id.encode() for worker in self.workers]
        for number, command in enumerate(case.commands):
            filled = [_filled(argument, ids[number % len(ids)]) for argument in command]
            with suppress(RedisError):
                await self.client.redis.execute_command(*filled)
                continue
            self.refused_commands += 1

    def ended_workers(self) -> list[str]:
        """Workers that are gone, with what ended them."""
        return [
            f"worker {worker.config.queues} ended: {task.exception()!r}"
            for worker, task in self.workers.items()
            if task.done()
        ]

    async def unseen_workers(self) -> list[str]:
        """Workers that the application does not show."""
        shown = [worker["id"] for worker in (await self.http.get(WORKERS)).json()["workers"]]
        return [f"{WORKERS} does not show {worker.id}" for worker in self.workers if worker.id not in shown]

    async def unrecorded(self) -> list[str]:
        """Jobs of the last slice that do not come into the history."""
        wanted = {call.id for call in self.latest if not call.is_workflow}
        for _ in range(100):
            async with self.engine.connect() as connection:
                wanted -= set((await connection.execute(text("SELECT id FROM embarq_jobs"))).scalars())
            if not wanted:
                return []
            await asyncio.sleep(0.1)
        return [f"{len(wanted)} jobs of the innocent are not in the history, such as {min(wanted)}"]

    async def ghosts(self) -> list[str]:
        """Ids that are due in a queue of the innocents, and are nothing."""
        found = []
        for priority in Priority:
            queue = keys.queue_key(QUEUE, priority)
            for job_id in await self.client.redis.zrangebyscore(queue, "-inf", int(time.time() * 1000) - 2000):
                if not await self.client.redis.exists(keys.JOB.encode() + job_id, keys.LEASE.encode() + job_id):
                    found.append(f"{queue} {job_id[:100]!r}")
        return found


def _filled(argument: Argument, worker: bytes) -> Argument:
    if isinstance(argument, str):
        argument = argument.encode("utf-8", "surrogatepass")
    return argument.replace(WORKER.encode(), worker) if isinstance(argument, bytes) else argument


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator["asyncio.Task[None]"]:
    """The worker at work, told to stop on leaving."""
    running = asyncio.create_task(worker.async_run())
    try:
        yield running
    finally:
        if not running.done():
            worker.handle_sig(signal.SIGTERM)
        await asyncio.wait([running], timeout=15)


@asynccontextmanager
async def services(redis: Client, database_url: str) -> AsyncIterator[list[BackgroundService]]:
    async with Database.open(database_url, size=5) as database:
        yield [
            Relay(database.engine, redis.queue_store),
            HistoryWriter(database.engine, redis.connections, "hostile", 30),
        ]


def config(*queues: str) -> WorkerConfig:
    return WorkerConfig(
        queues=queues, lease=4.0, poll=0.2, grace=1.0, cancel_grace=0.5, timeout=5, unknown_job_deadline=2
    )


@pytest.fixture
async def arena(tmp_path: Path, migrated: AsyncEngine) -> AsyncIterator[Arena]:
    database_url = migrated.url.render_as_string(hide_password=False)
    with private_redis(tmp_path / "redis") as url, faults() as seen:
        settings = Settings(
            data_dir=tmp_path,
            jobs=("jobs", "tests.hostile.innocents"),
            queues=(QUEUE, HOSTILE_QUEUE),
            mail_port=free_port(),
            log_level=LogLevel.ERROR,
            REDIS_URL=url,
            DATABASE_URL=database_url,
        )
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(serving(settings))
            client = await stack.enter_async_context(Client.open(url))
            beside = await stack.enter_async_context(services(client, database_url))
            workers = {
                worker: await stack.enter_async_context(working(worker))
                for worker in (
                    Worker(client, small_registry(), config(QUEUE, WRONG_QUEUE)),
                    Worker(client, small_registry(), config(HOSTILE_QUEUE), beside),
                    Worker(client, small_registry(), config("*")),
                )
            }
            innocents = Innocents(client, http, [])
            yield Arena(client, http, workers, innocents, seen, Requests(create_app(settings).routes), migrated)
    configure_logs("INFO", as_json=False)


async def one_slice(arena: Arena, numbers: range) -> list[str]:
    """Throw these cases, several at a time, with innocent calls between; what went wrong."""
    waiting = iter(numbers)
    wrong: list[str] = []

    async def thrower() -> None:
        for number in waiting:
            found = await arena.throw(number)
            if found is not None:
                wrong.append(found)

    async def caller() -> None:
        try:
            async with asyncio.timeout(LONGEST_ANSWER):
                await arena.innocents.call_once_each()
        except Exception as error:
            wrong.append(f"innocent calls were not taken: {type(error).__name__}: {error}")

    await asyncio.gather(*(thrower() for _ in range(SIDE_BY_SIDE)), caller())
    calls = arena.latest = arena.innocents.acknowledged
    arena.innocents.acknowledged = []
    faults = await asyncio.gather(*(call.fault(arena.client) for call in calls))
    wrong += [fault for fault in faults if fault is not None]
    wrong += arena.ended_workers()
    wrong += [fault for fault in arena.faults.seen if fault.startswith(FATAL)]
    return wrong


@pytest.mark.timeout(60 + CASES)
async def test_nothing_hostile_harms_the_innocent(arena: Arena, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    for first in range(FIRST, FIRST + CASES, SLICE):
        numbers = range(first, min(first + SLICE, FIRST + CASES))
        wrong = await one_slice(arena, numbers)
        assert not wrong, told(arena, numbers, wrong)
        arena.faults.seen.clear()
    await asyncio.sleep(QUIET)
    still = [fault for fault in arena.faults.seen if fault.partition(" {")[0] not in OF_JOBS]
    assert not still, f"seed {SEED}: still goes wrong {QUIET:.0f} s after the last case: " + "\n".join(still[-5:])
    wrong = await one_slice(arena, range(0)) + await arena.ghosts() + await arena.unseen_workers()
    wrong += await arena.unrecorded()
    assert not wrong, told(arena, range(FIRST, FIRST + CASES), wrong)
    with capsys.disabled():
        took = time.monotonic() - began
        print(
            f"\nhostile: seed {SEED}, {CASES} cases in {took:.0f} s: {sum(arena.statuses.values())} requests, "
            f"{arena.innocents.count} innocent calls ended well, 0 harmed"
        )


def told(arena: Arena, numbers: range, wrong: list[str]) -> str:
    """What went wrong, and what may have done it."""
    again = f"HOSTILE_SEED={SEED} HOSTILE_FIRST={numbers.start} HOSTILE_CASES={len(numbers)}"
    cases = [f"{number}: {str(arena.case(number))[:400]}" for number in numbers[-SLICE:]]
    cases = [case for case in cases if ONLY in case]
    return "\n".join([f"again with {again}", *wrong[:10], f"({len(wrong)} in all); the cases before it:", *cases])
