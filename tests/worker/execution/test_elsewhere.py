"""Two versions of the code side by side: arguments that do not fit here wait for a worker that they may fit."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from tests.support import Kit, eventually, free_port, logged
from worker import Client, JobDefinition, Registry, State, Worker
from worker.broker.inspect import WorkerRecord
from worker.core import keys
from worker.execution.elsewhere import Elsewhere

PUT_BACK = "arguments do not fit here: requeued for a worker of another version"


@pytest.fixture
def older(kit: Kit) -> Kit:
    @kit.registry.job(name="greet")
    async def greet(name: str) -> str:
        return f"Hello {name}"

    return kit


@pytest.fixture
def newer(kit: Kit) -> Kit:
    registry = Registry()

    @registry.job(name="greet")
    async def greet(name: str, language: str) -> str:
        return f"{language}: {name}"

    return Kit(kit.client, registry, kit.queue)


async def post(kit: Kit, **arguments: str) -> str:
    """A call as somebody of any version may have queued it."""
    job = await kit.client.arq.enqueue_job("greet", _queue_name=kit.queue_key, **arguments)  # type: ignore[arg-type]  # arq's own way
    assert job is not None
    return job.job_id


async def live(kit: Kit, worker: Worker) -> bool:
    return worker.id in [record.id for record in await kit.client.workers()]


async def say(kit: Kit, worker: str, record: Mapping[str, object]) -> None:
    """A worker of another release says that it lives."""
    known = {"id": worker, "host": "h", "pid": 1, "queues": [kit.queue], "concurrency": 1, "running": 0}
    data = msgspec.json.encode({**known, "started_at": 0.0, "jobs": ["greet"], **record})
    await kit.client.queue_store.heartbeat(worker, data, 60_000, [kit.queue_key])


async def test_jobs_that_do_not_fit_wait_for_the_live_worker_that_they_fit(older: Kit, newer: Kit) -> None:
    await say(older, f"newer-{older.queue}", {"signatures": newer.registry.signatures()})
    job_ids = [await post(older, name="Ada", language="en") for _ in range(20)]
    with logged("embarq.job") as lines:
        async with older.worker():
            for job_id in job_ids:
                await older.reaches(job_id, State.DEFERRED)
    assert [line["event"] for line in lines].count(PUT_BACK) >= 20
    async with newer.worker():
        for job_id in job_ids:
            job = await older.ended(job_id)
            assert (job.state, job.result, job.tries) == (State.SUCCEEDED, "en: Ada", 1)


async def test_job_that_fits_no_live_worker_fails_at_once(older: Kit) -> None:
    async with older.worker() as first, older.worker() as second:
        await eventually(lambda: live(older, first))
        await eventually(lambda: live(older, second))
        job = await older.ended(await post(older, language="en"), 3)
        assert job.error is not None
        assert (job.state, job.error.type) == (State.FAILED, "InvalidArguments")


async def test_worker_that_fits_but_serves_another_queue_is_not_waited_for(older: Kit, newer: Kit) -> None:
    elsewhere = Kit(newer.client, newer.registry, f"{newer.queue}-other")
    async with elsewhere.worker() as other:
        await eventually(lambda: live(older, other))
        job_id = await post(older, name="Ada", language="en")
        await older.drain()
        assert (await older.client.find(job_id)).state is State.FAILED


async def test_it_fails_after_the_deadline(older: Kit, newer: Kit) -> None:
    await say(older, f"newer-{older.queue}", {"signatures": newer.registry.signatures()})
    job_id = await post(older, name="Ada", language="en")
    await older.drain(unknown_job_deadline=0)
    job = await older.client.find(job_id)
    assert job.error is not None
    assert (job.state, job.error.type) == (State.FAILED, "InvalidArguments")


async def test_old_release_that_tells_no_signatures_but_knows_the_job_is_waited_for(older: Kit) -> None:
    await say(older, f"old-{older.queue}", {})
    job_id = await post(older, language="en")
    async with older.worker():
        job = await older.reaches(job_id, State.DEFERRED)
        assert job.tries == 0
    await older.client.queue_store.heartbeat(f"old-{older.queue}", b"", 0, ())
    async with older.worker():
        assert (await older.ended(job_id, 10)).state is State.FAILED


async def test_release_before_reads_the_new_record(older: Kit) -> None:
    class OldRecord(msgspec.Struct, frozen=True):
        id: str
        jobs: list[str]
        rate: float = 0.0

    async with older.worker() as worker:
        await eventually(lambda: live(older, worker))
        data = await older.client.redis.get(keys.WORKER + worker.id)
    record = msgspec.json.decode(data, type=OldRecord)
    assert record.jobs == ["greet"]
    assert msgspec.json.decode(data, type=WorkerRecord).signatures.keys() == {"greet"}


async def test_requeued_while_redis_cannot_be_asked(older: Kit) -> None:
    async with Client.open(f"redis://127.0.0.1:{free_port()}") as away:
        assert await Elsewhere(away.inspector).may_fit("greet", older.registry.get("greet"), older.queue)


async def test_one_look_at_the_workers_serves_all_jobs_for_some_seconds(older: Kit) -> None:
    now = 0.0
    elsewhere = Elsewhere(older.client.inspector, clock=lambda: now)
    definition = older.registry.get("greet")
    assert not await elsewhere.may_fit("greet", definition, older.queue)
    await say(older, f"old-{older.queue}", {})
    assert not await elsewhere.may_fit("greet", definition, older.queue)
    now = 3.0
    assert await elsewhere.may_fit("greet", definition, older.queue)


def definition_of(function: Any) -> JobDefinition[..., Any]:
    return Registry().job(name="greet")(function)


def test_digest_stands_for_names_types_order_and_what_is_required() -> None:
    async def base(name: str, count: int = 1) -> None: ...
    async def same(name: str, count: int = 2) -> None:
        """Another default, and words."""

    async def other_name(title: str, count: int = 1) -> None: ...
    async def other_type(name: str, count: float = 1) -> None: ...
    async def other_order(count: int = 1, name: str = "") -> None: ...
    async def required(name: str, count: int) -> None: ...
    async def more(name: str, count: int = 1, tone: str = "") -> None: ...

    known = definition_of(base).schema.digest
    assert definition_of(same).schema.digest == known
    others = [definition_of(each).schema.digest for each in (other_name, other_type, other_order, required, more)]
    assert len({known, *others}) == 6
