"""What goes on in a worker beside its jobs."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from worker.broker.lease import LeaseKeeper
from worker.client import Client
from worker.core.config import Suspects, WorkerConfig
from worker.core.periodic import BackgroundService, PeriodicTask, keep_running
from worker.definition.registry import Registry
from worker.runtime import progress, recycler, time_keeper
from worker.runtime.abort_watch import AbortWatch
from worker.runtime.control import Control
from worker.runtime.events import Told
from worker.runtime.heartbeat import INTERVAL as HEARTBEAT_INTERVAL
from worker.runtime.heartbeat import Heartbeat
from worker.runtime.leftovers import Leftovers
from worker.runtime.progress import ProgressWriter
from worker.runtime.recycler import Recycler
from worker.runtime.runner import Runner
from worker.runtime.scheduler import SchedulerService
from worker.runtime.time_keeper import TimeKeeper
from worker.runtime.watchdog import Watch, Watchdog


class Background:
    """All of it, for one worker. `recycle` is called when its process has done as much as it may."""

    def __init__(
        self,
        client: Client,
        registry: Registry,
        config: WorkerConfig,
        runner: Runner,
        heartbeat: Heartbeat,
        recycle: Callable[[int, float], None],
    ) -> None:
        self._client = client
        self._registry = registry
        self._config = config
        self._runner = runner
        self._heartbeat = heartbeat
        self._recycle = recycle
        self._control = Control(
            runner.executor.outcomes.worker, client.connections, client.workflow_store, runner.state
        )

    def periodic_tasks(self) -> list[PeriodicTask]:
        """What is done again and again."""
        client, config, runner = self._client, self._config, self._runner
        runs = runner.state.runs
        writer = ProgressWriter(client.queue_store, config.lease_ms, runs, self._control.renewed)
        return [
            PeriodicTask("heartbeat", HEARTBEAT_INTERVAL, self._heartbeat.run_once),
            PeriodicTask("progress writer", progress.INTERVAL, writer.run_once),
            PeriodicTask(
                "time keeper", time_keeper.INTERVAL, TimeKeeper(runner.state, config, runner.abandon).run_once
            ),
            PeriodicTask("abort watch", config.poll, AbortWatch(client.redis, runs.values).run_once),
            PeriodicTask("recycler", recycler.INTERVAL, Recycler(config, runner.tally, self._recycle).run_once),
            PeriodicTask("workflows", 0.0, client.workflow_store.go_on_when_told),
        ]

    def services(self) -> list[BackgroundService]:
        """What has a rhythm of its own."""
        client, registry, config, runner = self._client, self._registry, self._config, self._runner
        services: list[BackgroundService] = [self._control]
        if config.burst and config.suspects is not Suspects.ONLY:
            services.append(Leftovers(client.inspector, registry, config, lambda: runner.take_no_more(Told())))
        if config.schedules and not config.burst:
            stopping = runner.executor.stopping
            services.append(SchedulerService(client.schedules, registry, stopping, starts=config.starts))
        return services

    async def beside(self, main: Callable[[], Awaitable[None]], services: Sequence[BackgroundService]) -> None:
        """All of it while `main` runs, and what was brought along. What fails of that cancels it."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(keep_running(each), name=each.name) for each in self.periodic_tasks()]
            services = [*self.services(), *services]
            tasks += [group.create_task(each.run(), name=type(each).__name__) for each in services]
            watchdog = self._watchdog()
            watchdog.start()
            try:
                await main()
            finally:
                for task in tasks:
                    task.cancel()
                await watchdog.stop()

    def _watchdog(self) -> Watchdog:
        keeper = LeaseKeeper(self._client.for_thread(timeout=max(0.2, self._config.lease / 3)))
        runs = self._runner.state.runs
        return Watchdog(
            keeper,
            self._config.lease,
            Watch(lambda: list(runs.values()), self._control.lose, self._control.cancel),
        )
