"""Commands that operate queues, schedules and workflows: `embarq queue | schedule | workflow ...`.

As in `commands`, what they do is loaded when they are called.
"""

from typing import Annotated

import typer

from worker.cli.loading import load
from worker.cli.parameters import AsJson, Wait

Name = Annotated[str, typer.Argument(help="Its name.")]
WorkflowId = Annotated[str, typer.Argument(help="The workflow's id.")]

queues = typer.Typer(no_args_is_help=True, help="Queues: lengths, pause, resume, purge.")
schedules = typer.Typer(no_args_is_help=True, help="Schedules: list, pause, resume, run now.")
workflows = typer.Typer(no_args_is_help=True, help="Workflows: look up, cancel, retry.")
GROUPS = {"queue": queues, "schedule": schedules, "workflow": workflows}


@queues.command("list")
def list_queues(as_json: AsJson = False) -> None:
    """Every queue that was ever used: what waits, is over a limit, is due later or runs; latency in seconds."""
    load("cli.show").rows(load("cli.operations").list_queues(), as_json=as_json)


@queues.command("pause")
def pause_queue(queue: Name) -> None:
    """Let no worker take jobs from it."""
    changed = load("cli.operations").pause_queue(queue)
    typer.echo(f"{queue} is paused" if changed else f"{queue} was paused already")


@queues.command("resume")
def resume_queue(queue: Name) -> None:
    """Let workers take jobs from it again."""
    changed = load("cli.operations").resume_queue(queue)
    typer.echo(f"{queue} is resumed" if changed else f"{queue} was not paused")


@queues.command("purge")
def purge_queue(queue: Name, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Cancel all jobs that wait in it; running ones are not touched."""
    if not yes:
        typer.confirm(f"Cancel all jobs that wait in {queue}?", abort=True)
    typer.echo(f"{load('cli.operations').purge_queue(queue)} jobs were cancelled")


@schedules.command("list")
def list_schedules(as_json: AsJson = False) -> None:
    """All schedules with their last and next runs, in UTC."""
    load("cli.show").rows(load("cli.operations").list_schedules(), as_json=as_json)


@schedules.command("pause")
def pause_schedule(name: Name, as_json: AsJson = False) -> None:
    """Stop firing it."""
    load("cli.show").fields(load("cli.operations").pause_schedule(name), as_json=as_json)


@schedules.command("resume")
def resume_schedule(name: Name, as_json: AsJson = False) -> None:
    """Fire it again, from its next time on."""
    load("cli.show").fields(load("cli.operations").resume_schedule(name), as_json=as_json)


@schedules.command("run")
def run_schedule(name: Name) -> None:
    """Queue a run now; prints the job's id."""
    typer.echo(load("cli.operations").run_schedule(name))


@workflows.command("show")
def show_workflow(workflow_id: WorkflowId, wait: Wait = 0, as_json: AsJson = False) -> None:
    """A workflow and the states of its steps, which JSON lists one by one."""
    load("cli.show").fields(
        load("cli.operations").find_workflow(workflow_id, wait, every_step=as_json), as_json=as_json
    )


@workflows.command("cancel")
def cancel_workflow(workflow_id: WorkflowId) -> None:
    """Cancel all of it."""
    load("cli.operations").cancel_workflow(workflow_id)
    typer.echo(f"{workflow_id} was cancelled")


@workflows.command("retry")
def retry_workflow(workflow_id: WorkflowId) -> None:
    """Resume it from where it failed or was cancelled."""
    load("cli.operations").retry_workflow(workflow_id)
    typer.echo(f"{workflow_id} is resumed")
