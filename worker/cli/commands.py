"""The commands, a function each: `embarq dev | api | worker | enqueue | job | doctor`.

What only one command needs is imported inside it: a worker holds neither a web server nor a database driver.
"""

import asyncio
import dataclasses
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import typer

from worker.broker.lease import LeaseKeeper
from worker.broker.suspects import SuspectQueues
from worker.cli import operate, show
from worker.cli.run import client_for, run, start
from worker.client import Client
from worker.config import Suspects, WorkerConfig
from worker.embedded import postgres_for
from worker.engine import Worker
from worker.errors import EmbarqError
from worker.isolated import IsolatedWorkers
from worker.job import Job, State
from worker.loops import Companion
from worker.memory import keep_heap
from worker.options import check_client_options
from worker.project import find_project
from worker.registry import registry
from worker.scheduler import Scheduler
from worker.settings import Settings
from worker.stopping import StopPlan
from worker.supervisor import supervise
from worker.waiting import Reason
from worker.watchdog import ANSWER_WITHIN, Watchdog

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

for name, group in operate.GROUPS.items():
    app.add_typer(group, name=name)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; PORT by default.")]


@app.command("dev")
def dev_command() -> None:
    """Everything in one terminal: Redis and Postgres if none is set, the API, a worker."""
    from worker.cli import dev  # noqa: PLC0415

    sys.exit(dev.run_all(start()))


@app.command("api")
def api_command(
    port: Port = None,
    host: Annotated[str | None, typer.Option(help="Address to bind; EMBARQ_HOST by default.")] = None,
) -> None:
    """The HTTP API."""
    import uvicorn  # noqa: PLC0415

    settings = start()
    uvicorn.run(
        find_project().app,
        factory=True,
        host=host or settings.host,
        port=port or settings.port,
        workers=settings.web_concurrency,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=int(settings.grace),
    )


@app.command("worker")
def worker_command(
    queues: Annotated[
        str | None, typer.Option("-Q", "--queues", help="a,b in order; a:3,b:1 by weight; * all.")
    ] = None,
    concurrency: Annotated[int | None, typer.Option("-c", "--concurrency", min=1, help="Jobs at once.")] = None,
    burst: Annotated[bool, typer.Option("--burst", help="End when the queues are empty.")] = False,
    processes: Annotated[int | None, typer.Option("--processes", min=1, help="Worker processes.")] = None,
    schedules: Annotated[bool, typer.Option(help="Also fire what is scheduled.")] = True,
    supervisor: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """A worker: runs jobs until SIGTERM or Ctrl-C; a second signal hands running jobs back at once."""
    settings = start()
    if (processes or settings.processes) > 1:
        own = ["-Q", queues] if queues else []
        own += ["-c", str(concurrency)] if concurrency else []
        own += ["--burst"] if burst else []
        own += [] if schedules else ["--no-schedules"]
        sys.exit(supervise([*own, "--processes", "1"], processes or settings.processes, settings.grace))
    names = tuple(queues.split(",")) if queues else settings.queues
    own_config = _config(settings, names)
    if concurrency:
        own_config = dataclasses.replace(own_config, concurrency=concurrency)
    suspects = Suspects.HERE if burst else Suspects.ELSEWHERE
    own_config = dataclasses.replace(own_config, burst=burst, schedules=schedules, suspects=suspects)
    run(_work(settings, own_config, supervisor))


@app.command("isolated-worker", hidden=True)
def isolated_worker_command(
    queues: Annotated[str, typer.Option("-Q")],
    concurrency: Annotated[int, typer.Option("-c")],
    supervisor: Annotated[int | None, typer.Option()] = None,
) -> None:
    """A worker that runs jobs apart that lost their workers, and ends when none waits; `embarq worker` starts it."""
    settings = start()
    config = dataclasses.replace(_config(settings, tuple(queues.split(","))), concurrency=concurrency)
    apart = dataclasses.replace(config, burst=True, schedules=False, suspects=Suspects.ONLY)
    run(_work(settings, apart, supervisor))


def _config(settings: Settings, queues: tuple[str, ...]) -> WorkerConfig:
    return WorkerConfig(
        queues=queues,
        concurrency=settings.concurrency,
        lease=settings.lease,
        poll=settings.poll,
        grace=settings.grace,
        unknown_job_deadline=settings.unknown_job_deadline,
        max_tries=settings.max_tries,
        soft_timeout=settings.soft_timeout,
        timeout=settings.timeout,
        cancel_grace=settings.cancel_grace,
        leases_lost_limit=settings.leases_lost_limit,
        outage_patience=settings.outage_patience,
        recycle_jobs=settings.recycle_jobs,
        recycle_megabytes=settings.recycle_megabytes,
        result_ttl=settings.result_ttl,
        event_bytes=settings.event_bytes,
        max_result=settings.max_result,
    )


async def _work(settings: Settings, config: WorkerConfig, supervisor: int | None) -> None:
    database_url = None if config.suspects is Suspects.ONLY else settings.database_url
    async with client_for(settings) as client, companions_of(settings, client, database_url) as companions:
        plan = StopPlan(config.grace)
        if config.suspects is Suspects.ELSEWHERE:
            companions.append(IsolatedWorkers(SuspectQueues(client), config, plan))
        worker = Worker(client, registry, config, companions, plan)
        watchdog = Watchdog(worker, LeaseKeeper(client.for_thread(timeout=ANSWER_WITHIN)), supervisor)
        watchdog.start()
        keep_heap()
        await worker.async_run()
    watchdog.end()


@asynccontextmanager
async def companions_of(settings: Settings, client: Client, database_url: str | None) -> AsyncIterator[list[Companion]]:
    """What needs a database, where there is one."""
    if database_url is None:
        yield []
        return
    from worker.connections import ENGINE  # noqa: PLC0415
    from worker.database import Database  # noqa: PLC0415
    from worker.history.writer import HistoryWriter  # noqa: PLC0415
    from worker.relay import Relay  # noqa: PLC0415

    async with Database.open(database_url, size=5, patience=ENGINE) as database:
        name = f"{socket.gethostname()}-{os.getpid()}"
        kept = (settings.history_days, settings.history_stream_bytes)
        history = HistoryWriter(database.engine, client.connections, name, *kept)
        yield [Relay(database.engine, client.broker), history]


@app.command("scheduler")
def scheduler_command() -> None:
    """Only fire what is scheduled: for those who want it apart from their workers, which all do it too."""
    settings = start()
    run(_schedule(settings))


async def _schedule(settings: Settings) -> None:
    async with client_for(settings) as client:
        firing = asyncio.create_task(Scheduler(client.schedules, registry).run())
        for signum in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signum, firing.cancel)
        await asyncio.wait([firing])


@app.command("enqueue")
def enqueue_command(
    job: Annotated[str, typer.Argument(help="The job's name.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="name=value, the value as JSON or text.")] = None,
    options: Annotated[str, typer.Option(help='Options as JSON, such as {"delay": 60}.')] = "{}",
    wait: Annotated[float, typer.Option(help="Seconds to wait for the end.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Queue a job: embarq enqueue echo value=1. With --wait, the exit code tells how it ended."""
    found = run(_enqueue(start(), job, _pairs(arguments or []), _object(options), wait))
    show.job(found, as_json=as_json)
    if wait and found.state is not State.SUCCEEDED:
        sys.exit(1)


async def _enqueue(
    settings: Settings, name: str, arguments: dict[str, Any], options: dict[str, Any], wait: float
) -> Job:
    async with client_for(settings) as client:
        call = registry.get(name).call_with(arguments, check_client_options(name, options))
        handle = await client.enqueue(call)
        return await client.wait_for(handle.id, wait)


@app.command("job")
def job_command(
    job_id: Annotated[str, typer.Argument(help="The job's id.")],
    wait: Annotated[float, typer.Option(help="Seconds to wait for the end.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Look a job up by its id."""
    show.job(run(_find(start(), job_id, wait)), as_json=as_json)


async def _find(settings: Settings, job_id: str, wait: float) -> Job:
    async with client_for(settings) as client:
        return await client.wait_for(job_id, wait)


@app.command("why")
def why_command(job_id: Annotated[str, typer.Argument(help="The job's id.")], as_json: AsJson = False) -> None:
    """Why a job waits."""
    show.rows([dataclasses.asdict(reason) for reason in run(_why(start(), job_id))], as_json=as_json)


async def _why(settings: Settings, job_id: str) -> list[Reason]:
    async with client_for(settings) as client:
        return await client.why(job_id)


@app.command("cancel")
def cancel_command(job_id: Annotated[str, typer.Argument(help="The job's id.")], as_json: AsJson = False) -> None:
    """Cancel a job that waits or runs."""
    show.job(run(_cancel(start(), job_id)), as_json=as_json)


async def _cancel(settings: Settings, job_id: str) -> Job:
    async with client_for(settings) as client:
        await client.cancel(job_id)
        return await client.wait_for(job_id, settings.cancel_grace + 1)


@app.command("migrate")
def migrate_command(
    back_to: Annotated[str | None, typer.Option(help="Undo all after this revision; `base` undoes all.")] = None,
) -> None:
    """Bring the database's tables up to date, one process at a time."""
    from worker.database.migrate import migrate  # noqa: PLC0415

    settings = start()
    with postgres_for(settings.data_dir, settings.database_url) as url:
        migrate(url, find_project().migration_folders(), back_to=back_to)


@app.command("doctor")
def doctor_command(as_json: AsJson = False) -> None:
    """Check settings, jobs, Redis and database; exit code 1 when something would not work."""
    from worker.cli import doctor  # noqa: PLC0415

    checks = run(doctor.examine(start()))
    show.checks(checks, as_json=as_json)
    if not all(check.ok for check in checks):
        sys.exit(1)


def _pairs(arguments: list[str]) -> dict[str, Any]:
    pairs = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals:
            raise EmbarqError(f"{argument!r} is not name=value")
        try:
            pairs[name] = json.loads(value)
        except ValueError:
            pairs[name] = value
    return pairs


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise EmbarqError(f"--options is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise EmbarqError("--options is not a JSON object")
    return value
