"""Handles that are made by hand, from an id."""

import pytest

from tests.support import Kit
from worker import JobHandle, State, WorkflowHandle, WorkflowState, chain
from worker.core.errors import JobNotFound, WorkflowNotFound


async def test_handle_made_from_an_id_asks_after_the_job(kit: Kit) -> None:
    @kit.registry.job()
    async def double(n: int) -> int:
        return 2 * n

    stored = (await kit.enqueue(double, {"n": 4})).id
    handle = JobHandle[int](stored, kit.client)
    assert not handle.created
    assert await handle.state() is State.QUEUED
    await kit.drain()
    assert await handle.state() is State.SUCCEEDED
    assert await handle.result(timeout=15) == 8

    waiting = JobHandle[int]((await kit.enqueue(double, {"n": 1}, delay=60)).id, kit.client)
    assert await waiting.cancel() is State.CANCELLED


async def test_handle_of_no_job_says_so(kit: Kit) -> None:
    handle = JobHandle[int](f"{kit.queue}-nobody", kit.client)
    for ask in (handle.job, handle.state, handle.result, handle.cancel):
        with pytest.raises(JobNotFound):
            await ask()
    with pytest.raises(WorkflowNotFound):
        await WorkflowHandle(f"{kit.queue}-nobody", kit.client).workflow()


async def test_workflows_handle_made_from_an_id(kit: Kit) -> None:
    @kit.registry.job(queue=kit.queue)
    async def double(n: int) -> int:
        return 2 * n

    started = await chain(double.s(1), double.s()).enqueue()
    handle = WorkflowHandle(started.id, kit.client)
    await kit.drain()
    assert (await handle.workflow()).state is WorkflowState.SUCCEEDED
    assert await handle.result(timeout=15) == 4
