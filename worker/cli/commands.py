"""The commands, a function each. Only their parameters are here: what they do is loaded when they are called."""

import os
import sys
from typing import Annotated

import typer

from worker.cli import new, operate
from worker.cli.loading import load
from worker.cli.parameters import AsJson, Wait
from worker.core.version import version

ABOUT = "Background jobs for asyncio Python. `embarq dev` runs everything in one terminal."

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes a tenth of a second to load, as long as all the rest of `--help`
    help=ABOUT,
)

for name, group in {**operate.GROUPS, "new": new.new}.items():
    app.add_typer(group, name=name)

Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on; PORT by default.")]
JobId = Annotated[str, typer.Argument(help="The job's id.")]


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"embarq {version()}")
        raise typer.Exit


def _debug(asked: bool) -> None:
    if asked:
        os.environ["EMBARQ_LOG_LEVEL"] = "DEBUG"  # for children too


@app.callback()
def options(
    tell_version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", callback=_debug, help="Log at DEBUG, and show tracebacks of errors.")
    ] = False,
) -> None:
    """The options before a command's name."""


@app.command("dev")
def dev_command(
    reload: Annotated[
        bool, typer.Option(help="Restart the API and the worker when the project's code changes.")
    ] = True,
) -> None:
    """Everything in one terminal: Redis and Postgres if none is set, the API, a worker."""
    sys.exit(load("cli.dev").run_all(reload=reload))


@app.command("api")
def api_command(
    port: Port = None,
    host: Annotated[str | None, typer.Option(help="Address to bind; EMBARQ_HOST by default.")] = None,
    sockets: Annotated[str | None, typer.Option(hidden=True)] = None,
    supervisor: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """The HTTP API."""
    load("cli.serve").serve_api(host, port, sockets, supervisor)


@app.command("worker")
def worker_command(
    queues: Annotated[
        str | None, typer.Option("-Q", "--queues", help="a,b in order; a:3,b:1 by weight; * all.")
    ] = None,
    concurrency: Annotated[int | None, typer.Option("-c", "--concurrency", min=1, help="Jobs at once.")] = None,
    burst: Annotated[
        bool, typer.Option("--burst", help="End when nothing is left in the queues but jobs unknown here.")
    ] = False,
    processes: Annotated[int | None, typer.Option("--processes", min=1, help="Worker processes.")] = None,
    schedules: Annotated[bool, typer.Option(help="Also fire what is scheduled.")] = True,
    check: Annotated[
        bool, typer.Option("--check", help="Do not run: exit code 0 if live workers serve the queues, else 1.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --check: print JSON.")] = False,
    supervisor: Annotated[int | None, typer.Option(hidden=True)] = None,
    again: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """A worker: runs jobs until SIGTERM or Ctrl-C; a second signal hands running jobs back at once."""
    if as_json and not check:
        raise typer.BadParameter("--json goes with --check: a worker logs JSON with EMBARQ_LOG_FORMAT=json")
    if check:
        sys.exit(load("cli.check_workers").check(queues, as_json=as_json))
    work = load("cli.work")
    asked = work.Asked(queues, concurrency, processes, burst=burst, schedules=schedules, again=again)
    work.run_worker(asked, supervisor)


@app.command("isolated-worker", hidden=True)
def isolated_worker_command(
    queues: Annotated[str, typer.Option("-Q")],
    concurrency: Annotated[int, typer.Option("-c")],
    supervisor: Annotated[int | None, typer.Option()] = None,
) -> None:
    """A worker that runs jobs isolated that lost their workers, and ends when none waits; `embarq worker` starts it."""
    load("cli.work").run_isolated(queues, concurrency, supervisor)


@app.command("scheduler")
def scheduler_command() -> None:
    """Only fire schedules: for those who want a process of its own for it; all workers do it, too."""
    load("cli.work").run_scheduler()


@app.command("enqueue")
def enqueue_command(
    job: Annotated[str, typer.Argument(help="The job's name.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="name=value, the value as JSON or text.")] = None,
    options: Annotated[str, typer.Option(help='Options as JSON, such as {"delay": 60}.')] = "{}",
    wait: Wait = 0,
    as_json: AsJson = False,
) -> None:
    """Queue a job: embarq enqueue echo value=1. With --wait, the exit code tells how it ended."""
    usage = load("cli.usage")
    values, asked = usage.pairs(arguments or []), usage.json_object("--options", options)
    jobs = load("cli.jobs")
    found = jobs.enqueue(job, values, asked, wait)
    load("cli.show").job(found, as_json=as_json)
    if wait and not jobs.has_succeeded(found):
        sys.exit(1)


@app.command("job")
def job_command(job_id: JobId, wait: Wait = 0, as_json: AsJson = False) -> None:
    """Look a job up by its id."""
    load("cli.show").job(load("cli.jobs").find(job_id, wait), as_json=as_json)


@app.command("why")
def why_command(job_id: JobId, as_json: AsJson = False) -> None:
    """Why a job waits."""
    load("cli.show").rows(load("cli.jobs").why(job_id), as_json=as_json)


@app.command("cancel")
def cancel_command(job_id: JobId, as_json: AsJson = False) -> None:
    """Cancel a job that waits or runs."""
    load("cli.show").job(load("cli.jobs").cancel(job_id), as_json=as_json)


@app.command("migrate")
def migrate_command(
    back_to: Annotated[str | None, typer.Option(help="Undo all after this revision; `base` undoes all.")] = None,
) -> None:
    """Bring the database's tables up to date, one process at a time."""
    load("cli.tables").bring_up_to_date(back_to)


@app.command("doctor")
def doctor_command(
    release: Annotated[
        bool, typer.Option("--release", help="A release is about to start: no worker lives yet.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check settings, jobs, Redis, database and workers; exit code 1 when something does not work."""
    checks = load("cli.doctor").examine_all(is_release=release)
    load("cli.show").checks(checks, as_json=as_json)
    if not all(check.ok for check in checks):
        sys.exit(1)
