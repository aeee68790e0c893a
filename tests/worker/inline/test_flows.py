"""Workflows in the calling process: cancelled, tried again, large, forgotten. `test_parity`: as on Redis."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from worker import Context, InlineClient, Registry, State, WorkflowState, chain, chord, group, inline
from worker.core.errors import WorkflowEnded, WorkflowFailed, WorkflowNotFound
from worker.inline import memory


@pytest.fixture
async def client(registry: Registry) -> AsyncIterator[InlineClient]:
    async with inline(registry) as opened:
        yield opened


async def test_steps_run_in_order_and_see_the_workflow(registry: Registry, client: InlineClient) -> None:
    seen: list[Any] = []

    @registry.job()
    async def step(ctx: Context, before: Any, name: str) -> str:
        seen.append((name, before, ctx.workflow_id, (await client.workflow(ctx.workflow_id or "")).state))
        return name

    handle = await chain(
        step.s(before=None, name="a"), group(step.s(name="b"), step.s(name="c")), step.s(name="d")
    ).enqueue(id="flow")
    running = WorkflowState.RUNNING
    assert seen == [
        ("a", None, "flow", running),
        ("b", "a", "flow", running),
        ("c", "a", "flow", running),
        ("d", ["b", "c"], "flow", running),
    ]
    assert await handle.result() == "d"
    again = await chain(step.s(before=None, name="x")).enqueue(id="flow")
    assert again.created is False
    assert len(seen) == 4


async def test_job_with_callbacks_is_looked_up_by_its_own_id(registry: Registry, client: InlineClient) -> None:
    told: list[Any] = []

    @registry.job()
    async def divide(by: int) -> float:
        return 10 / by

    @registry.job()
    async def done(result: float) -> None:
        told.append(result)

    @registry.job()
    async def failed(cause: dict[str, Any]) -> None:
        told.append((cause["job_id"], cause["error"]["type"]))

    call = divide.options(id="by-two", on_success=done.s(), on_error=failed.s())
    handle = await call.enqueue(2)
    assert await handle.result() == 5
    assert (await call.enqueue(2)).created is False
    await divide.options(id="by-zero", on_success=done.s(), on_error=failed.s()).enqueue(0)
    assert told == [5, ("by-zero", "ZeroDivisionError")]


async def test_workflow_is_cancelled_from_beside_and_goes_on(registry: Registry, client: InlineClient) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()
    runs: list[str] = []

    @registry.job()
    async def wait(name: str) -> str:
        runs.append(name)
        inside.set()
        await go_on.wait()
        return name

    running = asyncio.create_task(group(wait.s("a"), wait.s("b")).enqueue(id="flow"))
    await inside.wait()
    flow = await client.workflow("flow")
    assert [step.state for step in flow.steps] == ["running", "queued", "waiting"]
    assert (await client.find("flow~1")).state is State.QUEUED
    waiter = asyncio.create_task(client.wait_for_workflow("flow", 15))
    await asyncio.sleep(0)
    await client.cancel_workflow("flow")
    assert (await waiter).state is WorkflowState.CANCELLED
    handle = await running
    flow = await client.workflow("flow")
    assert [step.state for step in flow.steps] == ["cancelled", "cancelled", "skipped"]
    assert (await client.find("flow~1")).state is State.CANCELLED
    assert runs == ["a"]
    with pytest.raises(WorkflowEnded):
        await handle.cancel()
    with pytest.raises(WorkflowFailed):
        await handle.result()
    go_on.set()
    await handle.retry()
    assert await handle.result() == ["a", "b"]
    with pytest.raises(WorkflowEnded):
        await handle.retry()
    with pytest.raises(WorkflowNotFound):
        await client.retry_workflow("unknown")


async def test_step_may_cancel_its_own_workflow(registry: Registry, client: InlineClient) -> None:
    @registry.job()
    async def stop(ctx: Context) -> None:
        await client.cancel_workflow(ctx.workflow_id or "")
        await asyncio.sleep(60)

    @registry.job()
    async def never() -> None: ...

    handle = await chain(stop.s(), never.si()).enqueue()
    flow = await handle.workflow()
    assert flow.state is WorkflowState.CANCELLED
    assert [step.state for step in flow.steps] == ["cancelled", "skipped"]


async def test_caller_that_is_cancelled_takes_its_workflow_along(registry: Registry, client: InlineClient) -> None:
    inside = asyncio.Event()

    @registry.job()
    async def wait(number: int) -> None:
        inside.set()
        await asyncio.sleep(60)

    running = asyncio.create_task(group(wait.s(number) for number in range(3)).enqueue(id="flow"))
    await inside.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await client.workflow("flow")).state is WorkflowState.CANCELLED
    assert [(await client.find(f"flow~{number}")).state for number in range(3)] == [State.CANCELLED] * 3


async def test_workflow_of_a_thousand_steps(registry: Registry, client: InlineClient) -> None:
    @registry.job()
    async def add(a: int, b: int = 1) -> int:
        return a + b

    @registry.job()
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    assert await (await chain(add.s(0), *(add.s() for _ in range(500))).enqueue()).result() == 501
    assert await (await chord([add.s(number) for number in range(1000)], total.s()).enqueue()).result() == 500500


async def test_memory_of_ended_workflows_is_bounded(
    registry: Registry, client: InlineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    @registry.job()
    async def nothing() -> None: ...

    monkeypatch.setattr(memory, "MOST_NODES", 5)
    for number in range(4):
        await chain(nothing.si(), nothing.si()).enqueue(id=f"flow-{number}")
    assert (await client.workflow("flow-3")).state is WorkflowState.SUCCEEDED
    with pytest.raises(WorkflowNotFound):
        await client.workflow("flow-0")


async def test_memory_of_ended_workflows_is_bounded_in_bytes(
    registry: Registry, client: InlineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    @registry.job(max_tries=1)
    async def give(text: str, *, fails: bool = False) -> str:
        if fails:
            raise ValueError(text)
        return text

    monkeypatch.setattr(memory, "MOST_BYTES", 10_000)
    for number in range(4):
        await group(give.s("x" * 1500, fails=number % 2 > 0), give.s("y" * 1500)).enqueue(id=f"flow-{number}")
    assert (await client.workflow("flow-3")).state is WorkflowState.FAILED
    with pytest.raises(WorkflowNotFound):
        await client.workflow("flow-0")
    with pytest.raises(WorkflowNotFound):
        await client.workflow("flow-1")
    await client.retry_workflow("flow-3")
    kept = client._queue.memory
    flows = [flowing.flow for flowing in kept._flows.values()]
    assert len(flows) < 4
    assert kept._flow_bytes == sum(flow.size for flow in flows)
    for flow in flows:
        assert flow.size == sum(len(node.payload) for node in flow.new.nodes) + sum(map(len, flow.values.values()))
