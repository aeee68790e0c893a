"""`embarq worker --check` tells a container's health check whether workers live."""

import asyncio
import json

from tests.cli.conftest import Embarq
from tests.support import Kit, eventually
from worker.broker.inspect import WorkerRecord
from worker.broker.queue_selection import Service
from worker.cli.check_workers import unserved_queues


async def test_check_is_healthy_while_a_worker_of_the_queue_lives(kit: Kit, embarq: Embarq, redis_url: str) -> None:
    @kit.registry.job
    async def work() -> None: ...

    async def check(*arguments: str) -> tuple[int, str, str]:
        ran = await asyncio.to_thread(embarq, "worker", "--check", *arguments, REDIS_URL=redis_url)
        return ran.code, ran.out, ran.err

    code, out, _ = await check("-Q", kit.queue)
    assert (code, out) == (1, f"no live worker serves {kit.queue}\n")
    async with kit.worker() as worker:

        async def lives() -> bool:
            return any(each.id == worker.id for each in await kit.client.workers())

        await eventually(lives)
        code, out, err = await check("-Q", kit.queue)
        assert (code, err) == (0, "")
        assert out.endswith(f"live workers serve {kit.queue}\n")
        code, out, _ = await check("-Q", f"{kit.queue},other-{kit.queue}", "--json")
        told = json.loads(out)
        assert (code, told["healthy"], told["unserved"]) == (1, False, [f"other-{kit.queue}"])
        assert worker.id in [each["id"] for each in told["workers"]]
        assert (await check("-Q", kit.queue, "--json"))[0] == 0
    code, _, _ = await check("-Q", kit.queue)
    assert code == 1, "it said goodbye"


def test_check_without_redis_is_unhealthy(embarq: Embarq) -> None:
    ran = embarq("worker", "--check")
    assert ran.code == 1
    assert ran.line.startswith("embarq: Redis is not available")


def record(*queues: str) -> WorkerRecord:
    return WorkerRecord(
        id="w", host="h", pid=1, queues=list(queues), concurrency=1, running=0, started_at=0, jobs=["work"]
    )


def test_queues_that_nobody_serves() -> None:
    assert unserved_queues(Service.read(["a:3", "b:1"]), [record("a")]) == ["b"]
    assert unserved_queues(Service.read(["a", "b"]), [record("a"), record("b")]) == []
    assert unserved_queues(Service.read(["a"]), [record("*")]) == []
    assert unserved_queues(Service.read(["*"]), [record("a")]) == []
    assert unserved_queues(Service.read(["*"]), []) == ["*"]
    assert unserved_queues(Service.read(["a"]), []) == ["a"]
