"""Workflows of many nodes: no script holds Redis for long, and who dies between two slices leaves nothing half done."""

import asyncio
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tests.support import Kit, eventually
from worker import State, WorkflowState, chain, chord, group
from worker.broker import scripts
from worker.broker.encoding import pack_workflow
from worker.broker.exchange import Ack, ClaimRequest, Ended
from worker.broker.workflow_records import NewWorkflow
from worker.broker.workflow_store import CANCELLED_KEPT_MS, _slices, _start_arguments
from worker.core import keys
from worker.core.errors import WorkflowEnded, WorkflowFailed, WorkflowNotFound
from worker.core.handle import WorkflowHandle
from worker.core.workflow_graph import Chain, Flow, compile_graph

LONGEST_MS = 60.0  # on a machine with much else to do; on a quiet one it is 5


class Steps:
    def __init__(self, kit: Kit) -> None:
        self.ran: list[int] = []
        self.broken = False

        @kit.registry.job(queue=kit.queue)
        async def number(value: int) -> int:
            self.ran.append(value)
            return value

        @kit.registry.job(queue=kit.queue)
        async def total(values: list[int]) -> int:
            return sum(values)

        @kit.registry.job(queue=kit.queue)
        async def plus(value: int, more: int) -> int:
            self.ran.append(more)
            if self.broken and more == 0:
                raise ValueError("no luck")
            return value + more

        self.number, self.total, self.plus = number, total, plus

    def many(self, count: int) -> Chain:
        return chord((self.number.s(n) for n in range(count)), self.total.s())

    def fan_out(self, count: int) -> Chain:
        return chain(self.number.s(1), group(self.plus.s(more=n) for n in range(count)), self.total.s())


@pytest.fixture
def steps(kit: Kit) -> Steps:
    return Steps(kit)


def packed(flow: Flow, name: str) -> NewWorkflow:
    return pack_workflow(compile_graph(flow), {"id": name})


async def run(kit: Kit, script: scripts.Script, *arguments: scripts.Argument) -> object:
    return await scripts.run(kit.client.redis, script, (), arguments)


async def nothing_waits(kit: Kit) -> bool:
    return not await kit.client.redis.zcard(kit.queue_key)


@dataclass
class Spent:
    """What a block cost Redis: how many scripts ran, and the median of the ten longest commands in milliseconds, which
    no pause of the machine makes."""

    scripts: int = 0
    longest_ms: float = 0.0


@asynccontextmanager
async def watched(kit: Kit) -> AsyncIterator[Spent]:
    spent = Spent()
    redis = kit.client
    before = await scripts_run(kit)
    await redis.redis.config_set("slowlog-log-slower-than", 1000)
    await redis.redis.slowlog_reset()
    yield spent
    spent.scripts = await scripts_run(kit) - before
    longest = sorted((entry["duration"] / 1000 for entry in await redis.redis.slowlog_get(1000)), reverse=True)[:10]
    spent.longest_ms = statistics.median(longest) if longest else 0.0
    await redis.redis.config_set("slowlog-log-slower-than", 10_000)


async def scripts_run(kit: Kit) -> int:
    return int((await kit.client.redis.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"])


async def test_no_script_holds_redis(kit: Kit, steps: Steps) -> None:
    async with watched(kit) as started:
        handle = await steps.many(10_000).enqueue()
    async with watched(kit) as found:
        assert len((await handle.workflow()).steps) == 10_002
    async with watched(kit) as cancelled:
        await handle.cancel()
    assert await nothing_waits(kit)
    assert (await handle.workflow()).state is WorkflowState.CANCELLED
    async with watched(kit) as retried:
        await handle.retry()
    assert await kit.client.redis.zcard(kit.queue_key) == 10_000
    await handle.cancel()
    assert {step.state for step in (await handle.workflow()).steps} == {"cancelled", "skipped"}
    for spent, nodes in ((started, 150), (found, 500), (cancelled, 50), (retried, 150)):
        assert spent.scripts >= 10_000 / nodes
    assert max(spent.longest_ms for spent in (started, found, cancelled, retried)) < LONGEST_MS


async def test_start_behind_a_step_holds_redis_no_longer(kit: Kit, steps: Steps) -> None:
    async with watched(kit) as spent:
        handle = await steps.fan_out(5_000).enqueue()
        async with kit.worker(concurrency=100):
            assert await handle.result(timeout=60) == 5_000 + sum(range(5_000))
    assert spent.longest_ms < LONGEST_MS
    assert len(steps.ran) == 5_001


async def test_large_group_behind_a_step_in_a_burst(kit: Kit, steps: Steps) -> None:
    handle = await steps.fan_out(1_000).enqueue()
    await kit.drain(concurrency=500)
    assert (await handle.workflow()).state is WorkflowState.SUCCEEDED


async def test_what_a_dead_worker_left_is_done_by_another(kit: Kit, steps: Steps) -> None:
    handle = await steps.fan_out(1_000).enqueue()
    _, claim = await kit.client.queue_store.exchange([], ClaimRequest("dies", 1, [kit.queue_key], 1, 5000))
    assert claim is not None
    (claimed,) = claim.jobs
    ended = Ended(State.SUCCEEDED, b'{"s":true}', 0, b"1")
    stored, _ = await kit.client.queue_store.exchange([Ack(claimed, ended, (), handle.id, 0)], None)
    assert stored == [True]
    assert 0 < await kit.client.redis.zcard(kit.queue_key) < 1_000
    async with kit.worker():
        assert await handle.result(timeout=30) == 1_000 + sum(range(1_000))


async def test_start_whose_client_dies_between_slices_goes_away(kit: Kit, steps: Steps) -> None:
    new = packed(steps.many(1_200), f"{kit.queue}-half")
    slices = list(_slices(new.nodes))
    assert [first for first, _ in slices] == [0, 500, 1000]
    for first, nodes in slices[:2]:
        assert await run(kit, scripts.START, *_start_arguments(new, first, nodes)) == 1
    assert await nothing_waits(kit)
    for kind in (keys.WORKFLOW, keys.NODES, keys.CALLS, keys.WAITS):
        assert 0 < await kit.client.redis.pttl(kind + new.id) <= 60_000, kind
    assert not await kit.client.workflow_store.start(packed(steps.many(3), new.id))  # the id is taken meanwhile
    for kind in (keys.WORKFLOW, keys.NODES, keys.CALLS, keys.WAITS):
        await kit.client.redis.delete(kind + new.id)  # as time does
    first, nodes = slices[2]
    assert await run(kit, scripts.START, *_start_arguments(new, first, nodes)) == -1
    assert await kit.client.workflow_store.start(packed(steps.many(3), new.id))


async def test_start_that_is_repeated_goes_on(kit: Kit, steps: Steps) -> None:
    new = packed(steps.many(1_200), f"{kit.queue}-again")
    first, nodes = next(iter(_slices(new.nodes)))
    await run(kit, scripts.START, *_start_arguments(new, first, nodes))
    assert await kit.client.workflow_store.start(new)
    assert await kit.client.workflow_store.start(new)
    assert await kit.client.redis.zcard(kit.queue_key) == 1_200
    assert await kit.client.redis.pttl(keys.NODES + new.id) == -1
    async with kit.worker():
        assert await WorkflowHandle(new.id, kit.client, created=True).result(timeout=30) == sum(range(1_200))


async def test_client_that_dies_after_the_last_slice(kit: Kit, steps: Steps) -> None:
    new = packed(steps.many(1_200), f"{kit.queue}-left")
    for first, nodes in _slices(new.nodes):
        answer = await run(kit, scripts.START, *_start_arguments(new, first, nodes))
    assert answer == 2
    assert await kit.client.redis.zcard(kit.queue_key) < 1_200
    async with kit.worker():
        assert await WorkflowHandle(new.id, kit.client, created=True).result(timeout=30) == sum(range(1_200))


async def test_workflow_that_is_cancelled_before_its_last_slice(kit: Kit, steps: Steps) -> None:
    new = packed(steps.many(1_200), f"{kit.queue}-early")
    slices = list(_slices(new.nodes))
    first, nodes = slices[0]
    await run(kit, scripts.START, *_start_arguments(new, first, nodes))
    await kit.client.cancel_workflow(new.id)
    with pytest.raises(WorkflowNotFound):  # it is not all there
        await kit.client.retry_workflow(new.id)
    assert await kit.client.workflow_store.start(new)
    assert await nothing_waits(kit)
    for kind in (keys.WORKFLOW, keys.NODES, keys.CALLS, keys.WAITS):
        assert await kit.client.redis.pttl(kind + new.id) > 60_000, kind
    await kit.client.retry_workflow(new.id)
    async with kit.worker():
        assert await WorkflowHandle(new.id, kit.client, created=True).result(timeout=30) == sum(range(1_200))


async def test_client_that_dies_while_it_cancels(kit: Kit, steps: Steps) -> None:
    """What still waits is ended by the workers that claim it."""
    handle = await steps.many(300).enqueue()
    answer = await run(kit, scripts.WORKFLOW_CANCEL, handle.id, CANCELLED_KEPT_MS, 0)
    assert isinstance(answer, list)
    assert answer[0] == b"cancelled"
    assert 0 < answer[1] < 300
    assert await kit.client.redis.zcard(kit.queue_key) == 300 - answer[1]
    async with kit.worker():
        await eventually(lambda: nothing_waits(kit))
    assert steps.ran == []
    workflow = await handle.workflow()
    assert workflow.state is WorkflowState.CANCELLED
    assert {step.state for step in workflow.steps} == {"cancelled", "skipped"}
    await handle.retry()
    async with kit.worker():
        assert await handle.result(timeout=30) == sum(range(300))


async def test_cancel_that_is_repeated_goes_on(kit: Kit, steps: Steps) -> None:
    handle = await steps.many(300).enqueue()
    await run(kit, scripts.WORKFLOW_CANCEL, handle.id, CANCELLED_KEPT_MS, 0)
    with pytest.raises(WorkflowEnded):
        await handle.cancel()
    assert await nothing_waits(kit)


async def test_retry_of_what_was_cancelled_by_half(kit: Kit, steps: Steps) -> None:
    handle = await steps.many(300).enqueue()
    await run(kit, scripts.WORKFLOW_CANCEL, handle.id, CANCELLED_KEPT_MS, 0)
    await handle.retry()
    async with kit.worker():
        assert await handle.result(timeout=30) == sum(range(300))
    assert sorted(steps.ran) == list(range(300))


async def test_client_that_dies_while_it_retries(kit: Kit, steps: Steps) -> None:
    handle = await steps.many(1_200).enqueue()
    await handle.cancel()
    assert await run(kit, scripts.WORKFLOW_RETRY, handle.id, 0) == [b"cancelled", 500]
    assert (await handle.workflow()).state is WorkflowState.CANCELLED
    assert await nothing_waits(kit)
    await handle.retry()
    async with kit.worker():
        assert await handle.result(timeout=30) == sum(range(1_200))


async def test_retry_of_a_large_group_keeps_what_ended_well(kit: Kit, steps: Steps) -> None:
    steps.broken = True
    handle = await steps.fan_out(1_000).enqueue()
    async with kit.worker(concurrency=50):
        with pytest.raises(WorkflowFailed):
            await handle.result(timeout=30)
        await eventually(lambda: nothing_waits(kit))
        steps.broken = False
        await handle.retry()
        assert await handle.result(timeout=30) == 1_000 + sum(range(1_000))
    assert steps.ran.count(1) <= 3  # the first step, and one member at most twice


async def test_failures_as_values_of_a_large_group(kit: Kit, steps: Steps) -> None:
    steps.broken = True
    handle = await chain(steps.number.s(1), group(steps.plus.s(more=n % 2) for n in range(600))).enqueue(
        on_failure="continue"
    )
    async with kit.worker():
        values = await handle.result(timeout=30)
    assert [value if n % 2 else value["error"]["message"] for n, value in enumerate(values)] == ["no luck", 2] * 300


async def test_who_waits_reads_the_graph_once(kit: Kit, steps: Steps) -> None:
    handle = await steps.many(2_000).enqueue()

    async def sent_by_redis() -> int:
        return int((await kit.client.redis.info("stats"))["total_net_output_bytes"])

    before = await sent_by_redis()
    await handle.workflow()
    once = await sent_by_redis() - before
    waits = [kit.client.wait_for_workflow(handle.id, 2.2), asyncio.sleep(0)]
    await asyncio.gather(*waits)
    assert await sent_by_redis() - before - once < 1.5 * once
    await handle.cancel()
