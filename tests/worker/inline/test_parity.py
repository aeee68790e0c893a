"""The same jobs and workflows on Redis with a worker and inline: what can be looked up afterwards is the same."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support import Kit
from worker import Client, Context, Permanent, Registry, Retry, RetryPolicy, WorkflowHandle, chain, chord, group, inline
from worker.core.job import Job
from worker.core.workflow import Workflow
from worker.core.workflow_graph import Flow, check_workflow_options

QUICK = RetryPolicy(on=(OSError,), delay=0.01)


def jobs_of_tests() -> Registry:
    registry = Registry()

    @registry.job()
    async def add(a: int, b: int = 1) -> int:
        return a + b

    @registry.job()
    def total(numbers: list[Any]) -> int:
        return sum(number for number in numbers if isinstance(number, int))

    @registry.job(max_tries=3, retry=QUICK)
    async def flaky(ctx: Context, value: Any = None) -> int:
        ctx.progress(ctx.try_number, 2)
        if ctx.try_number < 2:
            raise ConnectionError("away")
        return ctx.try_number

    @registry.job(max_tries=2)
    async def fail(ctx: Context, value: Any = None) -> None:
        ctx.progress(1, meta={"value": "seen"})
        if ctx.try_number == 1:
            raise Retry(delay=0.01)
        raise Permanent("for good")

    @registry.job()
    async def note(value: Any) -> str:
        return f"noted {sorted(value) if isinstance(value, dict) else value}"

    @registry.job()
    async def unserializable() -> object:
        return object()

    @registry.job(soft_timeout=0.2, timeout=60)
    async def slow() -> None:
        await asyncio.sleep(60)

    return registry


@asynccontextmanager
async def by_worker(kit: Kit, registry: Registry) -> AsyncIterator[Client]:
    own = Kit(kit.client, registry, kit.queue)
    registry.route([("*", kit.queue)])
    registry.bind(kit.client)
    async with own.worker(poll=0.05):
        yield kit.client
    registry.bind(None)


@asynccontextmanager
async def by_inline(kit: Kit, registry: Registry) -> AsyncIterator[Client]:
    registry.route([("*", kit.queue)])
    async with inline(registry) as client:
        yield client


def told(job: Job) -> dict[str, Any]:
    """What does not differ from run to run."""
    record: dict[str, Any] = {
        name: getattr(job, name)
        for name in ("name", "queue", "priority", "state", "args", "tries", "max_tries", "progress", "result", "tags")
    }
    record["error"] = job.error and (job.error.type, job.error.message, job.error.path, job.error.args)
    record["attempts"] = [(each.number, each.outcome, each.error and each.error.type) for each in job.attempts]
    return record


def shape(flow: Workflow) -> dict[str, Any]:
    own = flow.id

    def name(text: str | None) -> str | None:
        return None if text is None else text.replace(own, "FLOW")

    return {
        "state": flow.state,
        "on_failure": flow.on_failure,
        "result": flow.result,
        "failed": flow.failed,
        "error": flow.error and (flow.error.type, flow.error.message),
        "steps": [(step.node, step.state, name(step.job_id), step.job, step.then) for step in flow.steps],
    }


CALLS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("add", {"a": 1}, {"tags": ("x",), "priority": "high"}),
    ("add", {"a": 1, "b": 2}, {"max_tries": 7, "result_ttl": None}),
    ("flaky", {}, {}),
    ("flaky", {}, {"max_tries": 1}),
    ("fail", {}, {}),
    ("unserializable", {}, {}),
    ("slow", {}, {}),
    ("note", {"value": {"deep": [1, None, "é"]}}, {"result_ttl": 0}),
]


async def run_calls(client: Client, registry: Registry) -> list[dict[str, Any]]:
    found = []
    for name, arguments, options in CALLS:
        definition: Any = registry.get(name)
        handle = await definition.options(**options).enqueue(**arguments)
        found.append(told(await client.wait_for(handle.id, 15)))
    return found


async def test_jobs_look_the_same(kit: Kit) -> None:
    found = []
    for way in (by_worker, by_inline):
        registry = jobs_of_tests()
        async with way(kit, registry) as client:
            found.append(await run_calls(client, registry))
    assert found[0] == found[1]


def random_flow(registry: Registry, chance: random.Random, depth: int = 0) -> Flow:
    """A flow in which now and then something fails, is retried, or has callbacks."""
    kind = chance.choice(["step", "step", "chain", "group", "chord"]) if depth < 3 else "step"
    if kind == "step":
        name = chance.choices(["note", "flaky", "fail", "add"], [6, 2, 1, 3])[0]
        definition: Any = registry.get(name)
        options: dict[str, Any] = {}
        if chance.random() < 0.2:
            options["on_success"] = registry.get("note").s()
        if chance.random() < 0.2:
            options["on_error"] = registry.get("note").s()
        bound = definition.options(**options)
        if name == "add":
            return bound.si(chance.randint(0, 9))  # type: ignore[no-any-return]
        return bound.s() if name != "note" else bound.si("alone")  # type: ignore[no-any-return]
    parts = [random_flow(registry, chance, depth + 1) for _ in range(chance.randint(1, 3))]
    if kind == "chain":
        return chain(*parts)
    if kind == "group":
        return group(*parts)
    return chord(parts, registry.get("total").s())


def flows(registry: Registry) -> list[tuple[Flow, dict[str, Any]]]:
    job: Callable[[str], Any] = registry.get
    add, total, fail, note = (job(name) for name in ("add", "total", "fail", "note"))
    fixed: list[tuple[Flow, dict[str, Any]]] = [
        (chain(add.s(1), add.s(10), note.s()), {}),
        (group(add.s(n) for n in range(5)), {}),
        (chord([add.s(n) for n in range(5)], total.s()), {"on_success": note.s(), "on_error": note.s()}),
        (chord([add.s(1), fail.s(), add.s(3)], total.s()), {"on_error": note.s()}),
        (chord([add.s(1), fail.s(), add.s(3)], total.s()), {"on_failure": "continue", "on_success": note.s()}),
        (chain(add.s(1), fail.s(), note.s()), {"on_failure": "continue", "on_success": note.s()}),
        (chain(add.s(1), fail.options(on_error=note.s(), on_success=note.s()).s(), note.s()), {"on_error": note.s()}),
        (chain(group(), add.si(1), group(group(), add.s(2)), note.s()), {}),
        (chain(*(group() for _ in range(300)), note.si("end")), {}),
        (group(), {}),
    ]
    for seed in range(25):
        chance = random.Random(seed)
        options = {"on_failure": chance.choice(["stop", "continue"])}
        if chance.random() < 0.3:
            options |= {"on_success": note.s(), "on_error": note.s()}
        fixed.append((random_flow(registry, chance), options))
    return fixed


async def ended(client: Client, handle: WorkflowHandle) -> dict[str, Any]:
    """The workflow once all that it started has ended too."""
    for _ in range(2):
        flow = await client.wait_for_workflow(handle.id, 15)
        assert flow.state.ended, flow
        for step in flow.steps:
            if step.job_id is not None and step.state in {"queued", "running"}:
                await client.wait_for(step.job_id, 15)
    return shape(await client.workflow(handle.id))


async def test_workflows_look_the_same(kit: Kit) -> None:
    found: list[list[Any]] = []
    for way in (by_worker, by_inline):
        registry = jobs_of_tests()
        async with way(kit, registry) as client:
            handles = [await client.start(flow, check_workflow_options(options)) for flow, options in flows(registry)]
            found.append([await ended(client, handle) for handle in handles])
    for number, (one, other) in enumerate(zip(*found, strict=True)):
        assert one == other, number
    assert {flow["state"] for flow in found[0]} == {"succeeded", "failed"}


def job_that_is_mended(registry: Registry, broken: list[bool]) -> Any:
    """It fails as long as the list holds something."""

    @registry.job(max_tries=1)
    async def mended(value: Any = None) -> str:
        if broken:
            raise ValueError("broken")
        return "mended"

    return mended


@pytest.mark.parametrize("on_failure", ["stop", "continue"])
async def test_retried_workflows_look_the_same(kit: Kit, on_failure: str) -> None:
    found: list[list[Any]] = []
    for way in (by_worker, by_inline):
        registry, broken = jobs_of_tests(), [True]
        mended = job_that_is_mended(registry, broken)
        job: Callable[[str], Any] = registry.get
        flow = chain(
            group(job("add").s(1), mended.s(), job("add").s(2)),
            mended.options(on_success=job("note").s(), on_error=job("note").s()).s(),
        )
        async with way(kit, registry) as client:
            options = check_workflow_options({"on_failure": on_failure, "on_success": job("note").s()})
            handle = await client.start(flow, options)
            states = [await ended(client, handle)]
            broken.clear()
            await client.retry_workflow(handle.id)
            states.append(await ended(client, handle))
            found.append(states)
    assert found[0] == found[1]
    assert [flow["state"] for flow in found[0]] == ["failed", "succeeded"]
