"""Commands on a service that runs: what they do, what they print for people and for scripts, how they end."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest

from tests.cli.conftest import Embarq, Ran
from tests.support import Kit
from worker import JobDefinition, State, WorkflowState, chain

Write = Callable[[str, str], None]
Run = Callable[..., Awaitable[Ran]]
JOBS = """
from worker import job, schedule

@schedule('0 3 * * *', name='nightly-{queue}')
@job(name='double-{queue}', queue='{queue}')
async def double(number: int = 7) -> int: ...

@job(name='fail-{queue}', queue='{queue}')
async def fail(number: int) -> None: ...
"""


@pytest.fixture
def run(embarq: Embarq, write: Write, redis_url: str, queue: str) -> Run:
    """Runs a command beside the test's own worker, in a project with two jobs and a schedule."""
    write("jobs.py", JOBS.format(queue=queue))

    async def run_command(*arguments: str, typed: str = "") -> Ran:
        return await asyncio.to_thread(embarq, *arguments, typed=typed, REDIS_URL=redis_url)

    return run_command


@pytest.fixture
def jobs(kit: Kit) -> tuple[JobDefinition[..., Any], JobDefinition[..., Any]]:
    """The same jobs, as the test's own worker runs them."""

    @kit.registry.job(name=f"double-{kit.queue}", queue=kit.queue)
    async def double(number: int) -> int:
        return 2 * number

    @kit.registry.job(name=f"fail-{kit.queue}", queue=kit.queue)
    async def fail(number: int) -> None:
        raise ValueError("no luck")

    return double, fail


def told(ran: Ran, code: int = 0) -> Any:
    """What a command told scripts."""
    assert ran.code == code, ran.err
    return json.loads(ran.out)


def said(ran: Ran, code: int = 0) -> str:
    """What a command told people."""
    assert (ran.code, ran.err) == (code, "")
    return ran.out


async def test_job_is_queued_looked_up_explained_and_cancelled(run: Run, kit: Kit) -> None:
    job = told(await run("enqueue", f"double-{kit.queue}", "number=21", "--options", '{"delay": 3600}', "--json"))
    assert (job["state"], job["args"]) == ("deferred", {"number": 21})
    assert "deferred" in said(await run("job", job["id"]))
    (reason,) = told(await run("why", job["id"], "--json"))
    assert reason["kind"] == "due"
    assert reason["message"] in said(await run("why", job["id"]))
    assert told(await run("cancel", job["id"], "--json"))["state"] == "cancelled"
    assert told(await run("job", job["id"], "--json"))["state"] == "cancelled"
    again = await run("cancel", job["id"])
    assert (again.code, again.out) == (1, "")
    assert again.line.startswith("embarq: ")
    assert job["id"] in again.line
    assert told(await run("why", job["id"], "--json")) == []
    assert said(await run("why", job["id"])) == "none\n"
    other = told(await run("enqueue", f"double-{kit.queue}", "number=1", "--json"))
    assert "cancelled" in said(await run("cancel", other["id"]))


async def test_wait_ends_with_the_job_and_the_exit_code_tells_how(
    run: Run, kit: Kit, jobs: tuple[JobDefinition[..., Any], ...]
) -> None:
    async with kit.worker():
        ran = await run("enqueue", f"double-{kit.queue}", "number=21", "--wait", "30")
        assert "42" in said(ran)
        failed = told(await run("enqueue", f"fail-{kit.queue}", "number=1", "--wait", "30", "--json"), code=1)
        assert (failed["state"], failed["error"]["message"]) == ("failed", "no luck")
        assert told(await run("job", failed["id"], "--wait", "30", "--json"))["state"] == "failed"


async def test_job_that_does_not_end_in_time_is_told_as_it_is(run: Run, kit: Kit) -> None:
    waiting = told(await run("enqueue", f"double-{kit.queue}", "number=1", "--wait", "0.2", "--json"), code=1)
    assert waiting["state"] == "queued"
    assert told(await run("job", waiting["id"], "--wait", "0.2", "--json"))["state"] == "queued"


async def test_worker_of_a_terminal_runs_what_is_queued(run: Run, write: Write, kit: Kit) -> None:
    write("jobs.py", f"from worker import job\n@job(name='one-{kit.queue}')\nasync def one() -> int:\n    return 1\n")
    job = told(await run("enqueue", f"one-{kit.queue}", "--options", json.dumps({"queue": kit.queue}), "--json"))
    ran = await run("worker", "--burst", "--queues", f"{kit.queue}:2", "--concurrency", "3", "--no-schedules")
    assert ran.code == 0, ran.err
    assert told(await run("job", job["id"], "--json"))["result"] == 1
    ran = await run("worker", "--burst", "-Q", kit.queue, "-c", "3", "--processes", "1", "--schedules")
    assert ran.code == 0, ran.err


async def test_queue_is_listed_paused_resumed_and_purged(run: Run, kit: Kit) -> None:
    for _ in range(2):
        await run("enqueue", f"double-{kit.queue}", "number=1")
    assert said(await run("queue", "pause", kit.queue)) == f"{kit.queue} is paused\n"
    assert said(await run("queue", "pause", kit.queue)) == f"{kit.queue} was paused already\n"
    (listed,) = [each for each in told(await run("queue", "list", "--json")) if each["queue"] == kit.queue]
    assert (listed["paused"], listed["waiting"]) == (True, 2)
    assert kit.queue in said(await run("queue", "list"))
    assert said(await run("queue", "resume", kit.queue)) == f"{kit.queue} is resumed\n"
    assert said(await run("queue", "resume", kit.queue)) == f"{kit.queue} was not paused\n"
    refused = await run("queue", "purge", kit.queue, typed="n\n")
    assert refused.code == 1
    assert "Cancel all jobs" in refused.out
    assert (await run("queue", "purge", kit.queue)).code == 1, "nobody answered"
    assert await kit.client.redis.zcard(kit.queue_key) == 2
    assert (await run("queue", "purge", kit.queue, typed="y\n")).out.endswith("2 jobs were cancelled\n")
    assert said(await run("queue", "purge", kit.queue, "--yes")) == "0 jobs were cancelled\n"


async def test_schedule_is_listed_paused_resumed_and_run(run: Run, kit: Kit) -> None:
    name = f"nightly-{kit.queue}"
    (listed,) = [each for each in told(await run("schedule", "list", "--json")) if each["name"] == name]
    assert (listed["job"], listed["when"], listed["paused"]) == (f"double-{kit.queue}", "0 3 * * *", False)
    assert datetime.fromisoformat(listed["next_run"]).hour == 3
    assert name in said(await run("schedule", "list"))
    assert told(await run("schedule", "pause", name, "--json"))["paused"]
    assert name in said(await run("schedule", "pause", name)), "it is paused already"
    resumed = told(await run("schedule", "resume", name, "--json"))
    assert (resumed["paused"], resumed["next_run"]) == (False, listed["next_run"])
    assert name in said(await run("schedule", "resume", name))
    job_id = said(await run("schedule", "run", name)).strip()
    assert (await kit.client.find(job_id)).state is State.QUEUED


async def test_workflow_is_looked_up_cancelled_and_retried(
    run: Run, kit: Kit, jobs: tuple[JobDefinition[..., Any], ...]
) -> None:
    double, fail = jobs
    flow = await chain(double.si(1), fail.si(2)).enqueue()
    waiting = told(await run("workflow", "show", flow.id, "--json"))
    assert (waiting["state"], [step["state"] for step in waiting["steps"]]) == ("running", ["queued", "waiting"])
    assert '"queued":1' in said(await run("workflow", "show", flow.id))
    assert said(await run("workflow", "cancel", flow.id)) == f"{flow.id} was cancelled\n"
    again = await run("workflow", "cancel", flow.id)
    assert (again.code, again.out) == (1, "")
    assert flow.id in again.line
    async with kit.worker():
        assert said(await run("workflow", "retry", flow.id)) == f"{flow.id} is resumed\n"
        ended = told(await run("workflow", "show", flow.id, "--wait", "30", "--json"))
        assert (ended["state"], ended["error"]["message"]) == ("failed", "no luck")
    assert (await kit.client.workflow(flow.id)).state is WorkflowState.FAILED
