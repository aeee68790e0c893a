import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import Kit, eventually
from worker import Context, JobDefinition, Registry, Retry, Signature, State, WorkflowState, chain, chord, group
from worker.broker.exchange import Ack, ClaimRequest, Ended
from worker.core import keys
from worker.core.errors import InvalidArguments, InvalidWorkflow, WorkflowEnded, WorkflowFailed, WorkflowNotFound
from worker.core.workflow_graph import Chain, Flow, Group, compile_graph


class Steps:
    """Jobs of a kit's queue that most tests need."""

    def __init__(self, kit: Kit) -> None:
        self.ran: list[Any] = []
        self.broken = True

        @kit.registry.job(queue=kit.queue)
        async def number(value: int) -> int:
            self.ran.append(value)
            return value

        @kit.registry.job(queue=kit.queue)
        async def add(value: int, more: int = 1) -> int:
            self.ran.append("add")
            return value + more

        @kit.registry.job(queue=kit.queue)
        async def total(values: list[int]) -> int:
            self.ran.append("total")
            return sum(values)

        @kit.registry.job(queue=kit.queue)
        async def keep(value: Any) -> Any:
            self.ran.append(value)
            return value

        @kit.registry.job(queue=kit.queue)
        async def fails(value: int = 0) -> int:
            self.ran.append("fails")
            if self.broken:
                raise ValueError("no luck")
            return value

        @kit.registry.job(queue=kit.queue)
        async def waits(seconds: float = 30) -> str:
            await asyncio.sleep(seconds)
            return "done"

        self.number, self.add, self.total = number, add, total
        self.keep, self.fails, self.waits = keep, fails, waits


@pytest.fixture
def steps(kit: Kit) -> Steps:
    return Steps(kit)


async def states(kit: Kit, workflow_id: str) -> list[str]:
    return [step.state for step in (await kit.client.workflow(workflow_id)).steps]


async def test_chain_passes_each_result_on(kit: Kit, steps: Steps) -> None:
    handle = await chain(steps.number.s(1), steps.add.s(), steps.add.s(10), steps.keep.s()).enqueue()
    assert await states(kit, handle.id) == ["queued", "waiting", "waiting", "waiting"]
    async with kit.worker():
        assert await handle.result(timeout=20) == 12
    assert steps.ran == [1, "add", "add", 12]
    workflow = await handle.workflow()
    assert workflow.state is WorkflowState.SUCCEEDED
    assert {step.state for step in workflow.steps} == {"succeeded"}
    last = workflow.steps[-1].job_id
    assert last is not None
    assert (await kit.client.find(last)).workflow_id == handle.id


async def test_group_gives_results_in_the_order_of_its_members(kit: Kit, steps: Steps) -> None:
    @kit.registry.job(queue=kit.queue)
    async def slow(value: int) -> int:
        await asyncio.sleep(0.05 * (5 - value))
        return value

    handle = await group(slow.s(value) for value in range(5)).enqueue()
    async with kit.worker():
        assert await handle.result(timeout=20) == [0, 1, 2, 3, 4]


async def test_chord_calls_back_once_with_all_results(kit: Kit, steps: Steps) -> None:
    handle = await chord((steps.number.s(n) for n in range(20)), steps.total.s()).enqueue()
    async with kit.worker():
        assert await handle.result(timeout=20) == sum(range(20))
    assert steps.ran.count("total") == 1


async def test_nested_flows(kit: Kit, steps: Steps) -> None:
    inner = chain(steps.number.s(1), group(steps.add.s(1), chain(steps.add.s(2), steps.add.s(3))), steps.total.s())
    flow = chain(group(inner, steps.number.s(5), group(steps.number.s(7), steps.number.s(8))), steps.keep.s())
    handle = await flow.enqueue()
    async with kit.worker():
        assert await handle.result(timeout=20) == [2 + 6, 5, [7, 8]]


async def test_group_after_group_gets_the_whole_list_in_each_member(kit: Kit, steps: Steps) -> None:
    two = group(steps.number.s(1), steps.number.s(2))
    handle = await chain(two, group(steps.total.s(), steps.keep.s())).enqueue()
    async with kit.worker():
        assert await handle.result(timeout=20) == [3, [1, 2]]


async def test_empty_group_is_done_at_once(kit: Kit, steps: Steps) -> None:
    handle = await chord([], steps.total.s()).enqueue()
    behind = await chain(steps.number.s(4), group(), steps.keep.s()).enqueue()
    async with kit.worker():
        assert await handle.result(timeout=20) == 0
        assert await behind.result(timeout=20) == []


async def test_empty_group_alone_is_started_by_a_client(kit: Kit) -> None:
    handle = await kit.client.start(group(), {})
    assert await handle.result(timeout=20) == []
    with pytest.raises(InvalidWorkflow, match="at least one job"):
        await group().enqueue()


async def test_immutable_step_takes_no_result(kit: Kit, steps: Steps) -> None:
    handle = await chain(steps.number.s(1), steps.number.si(9), steps.add.s()).enqueue()
    async with kit.worker():
        assert await handle.result(timeout=20) == 10


async def test_named_argument_leaves_the_next_one_for_the_result(kit: Kit, steps: Steps) -> None:
    handle = await chain(steps.number.s(4), steps.add.s(value=100)).enqueue()
    async with kit.worker():
        assert await handle.result(timeout=20) == 104


async def test_wrong_steps_are_refused_before_anything_is_queued(kit: Kit, steps: Steps) -> None:
    @kit.registry.job(queue=kit.queue)
    async def nothing() -> None: ...

    with pytest.raises(InvalidArguments, match="number"):
        await chain(steps.number.s("x"), steps.add.s()).enqueue()
    with pytest.raises(InvalidArguments, match="more"):
        await chain(steps.number.s(1), steps.add.s(more="x")).enqueue()
    with pytest.raises(InvalidWorkflow, match="must have an argument left"):
        await chain(steps.number.s(1), nothing.s()).enqueue()
    with pytest.raises(InvalidWorkflow, match="at least one step"):
        await kit.client.start(chain(), {})
    with pytest.raises(InvalidWorkflow, match="unique_for"):
        await chain(steps.number.options(unique_for=5).s(1)).enqueue()
    assert await kit.client.redis.zcard(kit.queue_key) == 0


async def test_result_of_a_wrong_type_fails_the_step_that_takes_it(kit: Kit, steps: Steps) -> None:
    handle = await chain(steps.keep.s("text"), steps.add.s()).enqueue()
    async with kit.worker():
        with pytest.raises(WorkflowFailed, match="InvalidArguments"):
            await handle.result(timeout=20)


async def test_failure_stops_the_rest(kit: Kit, steps: Steps) -> None:
    handle = await chain(steps.fails.s(), steps.add.s(), steps.add.s()).enqueue()
    async with kit.worker():
        with pytest.raises(WorkflowFailed, match="ValueError: no luck"):
            await handle.result(timeout=20)
    assert await states(kit, handle.id) == ["failed", "skipped", "skipped"]
    assert steps.ran == ["fails"]


async def test_failure_cancels_members_that_have_not_started(kit: Kit, steps: Steps) -> None:
    members = [steps.fails.s(), *(steps.number.s(n) for n in range(5))]
    handle = await chord(members, steps.total.s()).enqueue()
    async with kit.worker(concurrency=1):
        with pytest.raises(WorkflowFailed):
            await handle.result(timeout=20)
        await eventually(lambda: nothing_waits(kit))
    assert steps.ran == ["fails"]
    assert await states(kit, handle.id) == ["failed", *["cancelled"] * 5, "skipped", "skipped"]


async def nothing_waits(kit: Kit) -> bool:
    return bool(await kit.client.redis.zcard(kit.queue_key) == 0)


async def test_failures_as_values(kit: Kit, steps: Steps) -> None:
    members = group(steps.number.s(1), steps.fails.s(), steps.number.s(3))
    handle = await chain(members, steps.keep.s()).enqueue(on_failure="continue")
    async with kit.worker():
        one, two, three = await handle.result(timeout=20)
    assert (one, three) == (1, 3)
    assert two["error"]["type"] == "ValueError"


async def test_last_step_that_fails_fails_the_workflow_also_where_failures_are_values(kit: Kit, steps: Steps) -> None:
    handle = await chain(steps.number.s(1), steps.fails.s()).enqueue(on_failure="continue")
    async with kit.worker():
        with pytest.raises(WorkflowFailed, match="no luck"):
            await handle.result(timeout=20)


async def test_retry_goes_on_from_the_failed_step(kit: Kit, steps: Steps) -> None:
    handle = await chain(steps.number.s(1), steps.fails.s(), steps.add.s()).enqueue()
    async with kit.worker():
        with pytest.raises(WorkflowFailed):
            await handle.result(timeout=20)
        steps.broken = False
        await handle.retry()
        assert await handle.result(timeout=20) == 2
    assert steps.ran == [1, "fails", "fails", "add"]
    with pytest.raises(WorkflowEnded):
        await handle.retry()


async def test_retry_runs_what_was_cancelled_by_the_failure(kit: Kit, steps: Steps) -> None:
    members = [steps.fails.s(7), *(steps.number.s(n) for n in range(5))]
    handle = await chord(members, steps.total.s()).enqueue()
    async with kit.worker(concurrency=1):
        with pytest.raises(WorkflowFailed):
            await handle.result(timeout=20)
        steps.broken = False
        await handle.retry()
        assert await handle.result(timeout=20) == 17


async def test_cancel_ends_what_waits_and_what_runs(kit: Kit, steps: Steps) -> None:
    handle = await chain(group(steps.waits.s(), steps.waits.s(), steps.waits.s()), steps.keep.s()).enqueue()
    async with kit.worker(concurrency=2):
        await eventually(lambda: running(kit, handle.id, 2))
        await handle.cancel()
        assert (await handle.workflow()).state is WorkflowState.CANCELLED
        await eventually(lambda: nothing_waits(kit))
    assert await states(kit, handle.id) == ["cancelled", "cancelled", "cancelled", "skipped", "skipped"]
    with pytest.raises(WorkflowEnded):
        await handle.cancel()


async def running(kit: Kit, workflow_id: str, count: int) -> bool:
    return (await states(kit, workflow_id)).count("running") == count


async def test_cancelling_one_job_fails_its_workflow(kit: Kit, steps: Steps) -> None:
    handle = await chain(steps.number.s(1), steps.add.s()).enqueue()
    first = (await handle.workflow()).steps[0].job_id
    assert first is not None
    await kit.client.cancel(first)
    workflow = await handle.workflow()
    assert (workflow.state, workflow.failed) == (WorkflowState.FAILED, 0)
    assert workflow.error is not None
    assert workflow.error.type == "CancelledError"


async def test_purge_ends_workflows_too(kit: Kit, steps: Steps) -> None:
    handle = await chain(steps.number.s(1), steps.add.s()).enqueue()
    assert await kit.client.purge_queue(kit.queue) == 1
    assert (await handle.workflow()).state is WorkflowState.FAILED


async def test_same_id_starts_one_workflow(kit: Kit, steps: Steps) -> None:
    first = await chain(steps.number.s(1)).enqueue(id=f"{kit.queue}-one")
    second = await chain(steps.number.s(2)).enqueue(id=f"{kit.queue}-one")
    assert (first.created, second.created) == (True, False)
    async with kit.worker():
        assert await second.result(timeout=20) == 1


async def test_job_retries_inside_a_workflow(kit: Kit, steps: Steps) -> None:
    @kit.registry.job(queue=kit.queue)
    async def third_time(ctx: Context, value: int) -> int:
        if ctx.try_number < 3:
            raise Retry(delay=0)
        return value * ctx.try_number

    handle = await chain(steps.number.s(2), third_time.s(), steps.add.s()).enqueue()
    async with kit.worker():
        assert await handle.result(timeout=20) == 7


async def test_callbacks_of_a_workflow(kit: Kit, steps: Steps) -> None:
    well = await chain(steps.number.s(1), steps.add.s()).enqueue(on_success=steps.keep.s(), on_error=steps.keep.s())
    async with kit.worker():
        assert await well.result(timeout=20) == 2
        assert steps.ran == [1, "add", 2]
        badly = await chain(steps.fails.s(), steps.add.s()).enqueue(on_success=steps.keep.s(), on_error=steps.keep.s())
        with pytest.raises(WorkflowFailed):
            await badly.result(timeout=20)
        await eventually(lambda: nothing_waits(kit))
    cause = steps.ran[-1]
    assert cause["job_id"].startswith(badly.id)
    assert (cause["error"]["type"], cause["error"]["message"]) == ("ValueError", "no luck")
    assert len(steps.ran) == 5


async def test_error_handler_runs_once_for_many_failures(kit: Kit, steps: Steps) -> None:
    handle = await group(steps.fails.s() for _ in range(10)).enqueue(on_error=steps.keep.s())
    async with kit.worker():
        with pytest.raises(WorkflowFailed):
            await handle.result(timeout=20)
        await eventually(lambda: nothing_waits(kit))
    assert sum(isinstance(each, dict) for each in steps.ran) == 1


async def test_callbacks_of_a_job(kit: Kit, steps: Steps) -> None:
    callbacks: Any = {"on_success": steps.keep.s(), "on_error": steps.keep.s()}
    well = await steps.number.options(**callbacks).enqueue(5)
    badly = await steps.fails.options(**callbacks).enqueue()
    async with kit.worker():
        assert await well.result(timeout=20) == 5
        await kit.ended(badly.id)
        await eventually(lambda: nothing_waits(kit))
    assert steps.ran.count(5) == 2
    (cause,) = [each for each in steps.ran if isinstance(each, dict)]
    assert cause["job_id"] == badly.id
    assert (await kit.client.find(badly.id)).state is State.FAILED


async def test_job_with_callbacks_keeps_its_id(kit: Kit, steps: Steps) -> None:
    name = f"{kit.queue}-job"
    options: Any = {"id": name, "on_success": steps.keep.s()}
    first = await steps.number.options(**options).enqueue(1)
    again = await steps.number.options(**options).enqueue(1)
    assert (first.id, first.created, again.id, again.created) == (name, True, name, False)


async def test_unknown_workflow(kit: Kit) -> None:
    for call in (kit.client.workflow, kit.client.cancel_workflow, kit.client.retry_workflow):
        with pytest.raises(WorkflowNotFound):
            await call("nobody")


async def test_ended_workflow_is_kept_for_a_time(kit: Kit, steps: Steps) -> None:
    handle = await chain(steps.number.s(1), steps.add.s()).enqueue(keep=60)
    async with kit.worker():
        await handle.result(timeout=20)
    for kind in (keys.WORKFLOW, keys.NODES, keys.CALLS, keys.WAITS, keys.ENDS, keys.VALUES):
        left = await kit.client.redis.pttl(kind + handle.id)
        assert 0 < left <= timedelta(seconds=60).total_seconds() * 1000, kind


async def test_fan_out_from_inside_a_job(kit: Kit, steps: Steps) -> None:
    @kit.registry.job(queue=kit.queue)
    async def batch(ctx: Context, count: int) -> str:
        parts = group(steps.number.s(n) for n in range(count))
        handle = await chord(parts, steps.total.s()).enqueue(id=f"{ctx.job_id}-parts")
        return handle.id

    handle = await kit.enqueue(batch, {"count": 50})
    async with kit.worker():
        workflow_id = await handle.result(timeout=20)
        workflow = await kit.client.wait_for_workflow(workflow_id, 10)
    assert workflow.result == sum(range(50))


async def test_thousands_of_members(kit: Kit, steps: Steps) -> None:
    handle = await chord((steps.number.s(n) for n in range(10_000)), steps.total.s()).enqueue()
    async with kit.worker():
        assert await handle.result(timeout=60) == sum(range(10_000))
    workflow = await handle.workflow()
    assert len(workflow.steps) == 10_002


def test_graph_bounds() -> None:
    registry = Registry()

    @registry.job()
    async def job(value: int = 0) -> None: ...

    with pytest.raises(InvalidWorkflow, match="at most"):
        compile_graph(group(job.s() for _ in range(50_001)))
    deep: Flow = job.s()
    for _ in range(200):
        deep = group(deep)
    with pytest.raises(InvalidWorkflow, match="levels deep"):
        compile_graph(deep)


def flows(job: JobDefinition[..., Any]) -> st.SearchStrategy[Flow]:
    return st.recursive(
        st.integers(0, 9).map(job.s),
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=4).map(lambda parts: Chain(tuple(parts))),
            st.lists(inner, min_size=0, max_size=4).map(lambda parts: Group(tuple(parts))),
        ),
        max_leaves=20,
    )


_registry = Registry()


@_registry.job()
async def leaf(value: Any, more: Any = None) -> Any: ...


@settings(max_examples=200, deadline=None)
@given(flows(leaf))
def test_any_graph_runs_to_its_end_in_an_order_that_keeps_its_edges(flow: Flow) -> None:
    graph = compile_graph(flow, on_success=leaf.s(), on_error=leaf.s())
    waits = {number: node.waits for number, node in enumerate(graph.nodes) if node.waits >= 0}
    ready, done = [number for number, count in waits.items() if count == 0], []
    while ready:
        number = ready.pop()
        done.append(number)
        node = graph.nodes[number]
        before = node.members or (() if node.after is None else (node.after,))
        assert all(each in done for each in before)
        for successor in node.then:
            waits[successor] -= 1
            if waits[successor] == 0:
                ready.append(successor)
    assert len(done) == graph.required == len(waits)
    assert sum(isinstance(node.call, Signature) for node in graph.nodes) == count_of(flow) + 2


def count_of(flow: Flow) -> int:
    if isinstance(flow, Signature):
        return 1
    return sum(count_of(part) for part in (flow.steps if isinstance(flow, Chain) else flow.members))


async def test_cancelled_workflow_with_failures_as_values_goes_on(kit: Kit, steps: Steps) -> None:
    handle = await chain(steps.number.s(1), steps.add.s(), steps.add.s(10)).enqueue(on_failure="continue")
    await handle.cancel()
    assert await states(kit, handle.id) == ["cancelled", "skipped", "skipped"]
    await handle.retry()
    async with kit.worker():
        assert await handle.result(timeout=20) == 12


async def test_retry_of_a_last_step_that_failed_where_failures_are_values(kit: Kit, steps: Steps) -> None:
    handle = await chain(steps.number.s(1), steps.fails.s()).enqueue(on_failure="continue")
    async with kit.worker():
        with pytest.raises(WorkflowFailed):
            await handle.result(timeout=20)
        steps.broken = False
        await handle.retry()
        assert await handle.result(timeout=20) == 1


async def test_retry_of_a_cancelled_workflow_whose_steps_all_ended_well(kit: Kit, steps: Steps) -> None:
    handle = await chain(steps.number.s(1)).enqueue()
    _, claim = await kit.client.queue_store.exchange([], ClaimRequest("late", 1, [kit.queue_key], 1, 5000))
    assert claim is not None
    await handle.cancel()
    ended = Ended(State.SUCCEEDED, b'{"s":true}', 0, b"1")
    await kit.client.queue_store.exchange([Ack(claim.jobs[0], ended, (), handle.id, 0)], None)
    assert (await handle.workflow()).state is WorkflowState.CANCELLED
    await handle.retry()
    assert await handle.result(timeout=20) == 1


async def test_workflow_that_is_cancelled_and_retried_at_once_ends_well(kit: Kit) -> None:
    """What the workers were told to cancel is the run of then, not the one that the retry started."""

    @kit.registry.job(queue=kit.queue)
    async def rest(n: int) -> int:
        await asyncio.sleep(0.2)
        return n

    async with kit.worker():
        flow = group(rest.s(n) for n in range(60))
        for _ in range(2):
            handle = await kit.client.start(flow, {})
            await asyncio.sleep(0.1)
            await handle.cancel()
            await handle.retry()
            assert await handle.result(20) == list(range(60))
