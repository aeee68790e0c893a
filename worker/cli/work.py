"""`embarq worker` and `embarq scheduler`: a worker with its background services, or a supervisor of several."""

import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from worker.broker.lease import LeaseKeeper
from worker.broker.suspects import SuspectQueues
from worker.cli.loading import load
from worker.cli.queue_names import queue_names
from worker.cli.run import client_for, run, start
from worker.cli.servers import servers_for_jobs
from worker.core.config import Suspects, WorkerConfig
from worker.core.errors import DefinitionError
from worker.core.inline_mode import refuse_inline
from worker.core.periodic import BackgroundService
from worker.core.stopping import StopPlan
from worker.definition.registry import registry
from worker.runtime.hard_exit import ANSWER_WITHIN, HardExit
from worker.runtime.isolated import IsolatedWorkers
from worker.runtime.scheduler import Scheduler
from worker.runtime.supervisor import supervise
from worker.runtime.worker import Worker
from worker.settings import Settings, refuse
from worker.system.memory import freeze_heap
from worker.system.parent import Parent, parent_of


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of the command line; None leaves it to the settings. `again`: a supervisor restarts a worker."""

    queues: str | None
    concurrency: int | None
    processes: int | None
    burst: bool
    schedules: bool
    again: bool = False

    @property
    def of_each_process(self) -> list[str]:
        """The same for one process of several."""
        own = [] if self.queues is None else ["-Q", self.queues]
        own += ["-c", str(self.concurrency)] if self.concurrency else []
        own += ["--burst"] if self.burst else []
        own += [] if self.schedules else ["--no-schedules"]
        return [*own, "--processes", "1"]


def run_worker(asked: Asked, supervisor: int | None) -> None:
    """Run jobs until a signal stops it, in this process or in several; `supervisor` is the process that watches this
    one."""
    settings, parent = start(), parent_of(supervisor)
    refuse_inline("a worker")
    refuse(settings.problems())
    names = settings.queues if asked.queues is None else queue_names(asked.queues)
    with servers_for_jobs(settings, names) as served:
        processes = asked.processes or settings.processes
        if processes > 1:
            sys.exit(supervise(asked.of_each_process, processes, settings.grace, parent, burst=asked.burst))
        _run_here(served, asked, names, parent)


def _run_here(settings: Settings, asked: Asked, names: tuple[str, ...], parent: Parent | None) -> None:
    config = replace(
        _config(settings, names, asked.concurrency),
        burst=asked.burst,
        schedules=asked.schedules,
        starts=not asked.again,
        suspects=Suspects.HERE if asked.burst else Suspects.ELSEWHERE,
    )
    run(_work(settings, config, parent))


def run_isolated(queues: str, concurrency: int, supervisor: int | None) -> None:
    """Run jobs isolated that lost their workers, until none waits."""
    settings = start()
    config = _config(settings, tuple(queues.split(",")), concurrency)
    run(_work(settings, replace(config, burst=True, schedules=False, suspects=Suspects.ONLY), parent_of(supervisor)))


def run_scheduler() -> None:
    """Fire schedules until SIGTERM or Ctrl-C."""
    settings = start()
    refuse_inline("a scheduler")
    refuse(settings.problems())
    run(_schedule(settings))


def _config(settings: Settings, queues: tuple[str, ...], concurrency: int | None) -> WorkerConfig:
    return WorkerConfig(
        queues=queues,
        concurrency=concurrency or settings.concurrency,
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


async def _work(settings: Settings, config: WorkerConfig, supervisor: Parent | None) -> None:
    database_url = None if config.suspects is Suspects.ONLY else settings.database_url
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(client_for(settings))
        services: list[BackgroundService] = []
        if database_url is not None:
            beside = load("cli.with_database").services_of(settings, client, database_url)
            services += await stack.enter_async_context(beside)
        if not registry.names:
            where = f"in {', '.join(settings.jobs)} (from EMBARQ_JOBS, or jobs in [tool.embarq]; `jobs` by default)"
            raise DefinitionError(f"there is no @job {where}: declare one, or name other modules")
        plan = StopPlan(config.grace)
        if config.suspects is Suspects.ELSEWHERE:
            services.append(IsolatedWorkers(SuspectQueues(client.redis), config, plan, apart=supervisor is None))
        worker = Worker(client, registry, config, services, plan)
        hard_exit = HardExit(worker, LeaseKeeper(client.for_thread(timeout=ANSWER_WITHIN)), supervisor)
        hard_exit.start()
        freeze_heap()  # last: what exists by now lives as long as the process
        await worker.async_run()
    hard_exit.end()  # outside of the stack: it may end the process at once, and bounds until then how long that takes


async def _schedule(settings: Settings) -> None:
    async with client_for(settings) as client:
        firing = asyncio.create_task(Scheduler(client.schedules, registry).run())
        for signum in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signum, firing.cancel)
        await asyncio.wait([firing])
