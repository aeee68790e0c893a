"""Commands that look after queues, schedules and workflows: `embarq queue | schedule | workflow ...`."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import typer

from worker.cli import show
from worker.cli.run import client_for, run, start
from worker.client import Client
from worker.registry import registry
from worker.scheduler import Scheduler
from worker.schedules import Schedule
from worker.workflow_records import Workflow

T = TypeVar("T")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="Its name.")]
WorkflowId = Annotated[str, typer.Argument(help="The workflow's id.")]

queues = typer.Typer(no_args_is_help=True, help="Queues: lengths, pause, resume, purge.")
schedules = typer.Typer(no_args_is_help=True, help="Schedules: list, pause, resume, run now.")
workflows = typer.Typer(no_args_is_help=True, help="Workflows: look up, cancel, retry.")
GROUPS = {"queue": queues, "schedule": schedules, "workflow": workflows}


@asynccontextmanager
async def _client() -> AsyncIterator[Client]:
    async with client_for(start()) as client:
        yield client


def _ask(question: Callable[[Client], Awaitable[T]]) -> T:
    async def ask() -> T:
        async with _client() as client:
            return await question(client)

    return run(ask())


@queues.command("list")
def list_queues(as_json: AsJson = False) -> None:
    """Every queue that was ever used: what waits, is over a limit, is due later or runs; latency in seconds."""
    show.rows([asdict(record) for record in _ask(Client.queues)], as_json=as_json)


@queues.command("pause")
def pause_queue(queue: Name) -> None:
    """Let no worker take jobs from it."""
    changed = _ask(lambda client: client.pause_queue(queue))
    typer.echo(f"{queue} is paused" if changed else f"{queue} was paused already")


@queues.command("resume")
def resume_queue(queue: Name) -> None:
    """Let workers take jobs from it again."""
    changed = _ask(lambda client: client.resume_queue(queue))
    typer.echo(f"{queue} goes on" if changed else f"{queue} was not paused")


@queues.command("purge")
def purge_queue(queue: Name, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Cancel all jobs that wait in it; those that run go on."""
    if not yes:
        typer.confirm(f"Cancel all jobs that wait in {queue}?", abort=True)
    typer.echo(f"{_ask(lambda client: client.purge_queue(queue))} jobs were cancelled")


def _schedule_row(schedule: Schedule) -> dict[str, Any]:
    record = schedule.record
    return {
        "name": record.name,
        "job": None if record.job == record.name else record.job,
        "when": record.times.text,
        "tz": record.tz if record.cron else None,
        "next_run": schedule.next_run,
        "last_run": schedule.last_run,
        "paused": schedule.paused,
    }


@schedules.command("list")
def list_schedules(as_json: AsJson = False) -> None:
    """All schedules with their last and next runs, in UTC."""

    async def found(client: Client) -> list[dict[str, Any]]:
        scheduler = Scheduler(client.schedules, registry)
        await scheduler.declare()
        return [_schedule_row(schedule) for schedule in await scheduler.list()]

    show.rows(_ask(found), as_json=as_json)


@schedules.command("pause")
def pause_schedule(name: Name, as_json: AsJson = False) -> None:
    """Fire it no more."""
    found = _ask(lambda client: Scheduler(client.schedules, registry).pause(name))
    show.fields(_schedule_row(found), as_json=as_json)


@schedules.command("resume")
def resume_schedule(name: Name, as_json: AsJson = False) -> None:
    """Fire it again, from its next time on."""
    found = _ask(lambda client: Scheduler(client.schedules, registry).resume(name))
    show.fields(_schedule_row(found), as_json=as_json)


@schedules.command("run")
def run_schedule(name: Name) -> None:
    """Queue a run now; prints the job's id."""
    typer.echo(_ask(lambda client: Scheduler(client.schedules, registry).run_now(name, client)).id)


def _workflow_record(workflow: Workflow, *, every_step: bool) -> dict[str, Any]:
    record = asdict(workflow)
    if not every_step:
        record["steps"] = dict(Counter(step.state for step in workflow.steps))
    return record


@workflows.command("show")
def show_workflow(
    workflow_id: WorkflowId,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the end.")] = 0,
    as_json: AsJson = False,
) -> None:
    """A workflow and the states of its steps, which JSON lists one by one."""
    found = _ask(lambda client: client.wait_for_workflow(workflow_id, wait))
    show.fields(_workflow_record(found, every_step=as_json), as_json=as_json)


@workflows.command("cancel")
def cancel_workflow(workflow_id: WorkflowId) -> None:
    """Cancel all of it."""
    _ask(lambda client: client.cancel_workflow(workflow_id))
    typer.echo(f"{workflow_id} is cancelled")


@workflows.command("retry")
def retry_workflow(workflow_id: WorkflowId) -> None:
    """Let it go on from where it failed or was cancelled."""
    _ask(lambda client: client.retry_workflow(workflow_id))
    typer.echo(f"{workflow_id} goes on")
