"""What goes on in a worker beside its jobs."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from worker.broker.lease import LeaseKeeper
from worker.client import Client
from worker.core.config import Suspects, WorkerConfig
from worker.core.periodic import Companion, Duty, keep_doing
from worker.definition.registry import Registry
from worker.runtime import heartbeat, progress, recycler, time_keeper
from worker.runtime.abort_watch import AbortWatch
from worker.runtime.control import Control
from worker.runtime.events import Told
from worker.runtime.heartbeat import Heartbeat
from worker.runtime.leftovers import Leftovers
from worker.runtime.progress import ProgressWriter
from worker.runtime.recycler import Recycler
from worker.runtime.runner import Runner
from worker.runtime.scheduler import SchedulerService
from worker.runtime.time_keeper import TimeKeeper
from worker.runtime.watchdog import Guardian, Watch


class Background:
    """All of it, for one worker. `recycle` is called when its process has done as much as it may."""

    def __init__(
        self,
        client: Client,
        registry: Registry,
        config: WorkerConfig,
        runner: Runner,
        heartbeat: Heartbeat,
        recycle: Callable[[], None],
    ) -> None:
        self._client = client
        self._registry = registry
        self._config = config
        self._runner = runner
        self._heartbeat = heartbeat
        self._recycle = recycle
        self._control = Control(runner.executor.outcomes.worker, client.connections, client.graphs, runner.state)

    def periodic_tasks(self) -> list[Duty]:
        """What is done again and again."""
        client, config, runner = self._client, self._config, self._runner
        runs = runner.state.runs
        writer = ProgressWriter(client.broker, config.lease_ms, runs, self._control.renewed)
        return [
            Duty("heartbeat", heartbeat.INTERVAL, self._heartbeat.run_once),
            Duty("progress writer", progress.INTERVAL, writer.run_once),
            Duty("time keeper", time_keeper.INTERVAL, TimeKeeper(runner.state, config, runner.abandon).run_once),
            Duty("abort watch", config.poll, AbortWatch(client.redis, runs.values).run_once),
            Duty("recycler", recycler.INTERVAL, Recycler(config, runner.tally, self._recycle).run_once),
            Duty("workflows", 0.0, client.graphs.go_on_when_told),
        ]

    def services(self) -> list[Companion]:
        """What has a rhythm of its own."""
        client, registry, config, runner = self._client, self._registry, self._config, self._runner
        services: list[Companion] = [self._control]
        if config.burst and config.suspects is not Suspects.ONLY:
            services.append(Leftovers(client.inspector, registry, config, lambda: runner.tell(Told())))
        if config.schedules and not config.burst:
            stopping = runner.executor.stopping
            services.append(SchedulerService(client.schedules, registry, stopping, starts=config.starts))
        return services

    async def beside(self, main: Callable[[], Awaitable[None]], companions: Sequence[Companion]) -> None:
        """All of it while `main` runs, and what was brought along. What fails of that cancels it."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(keep_doing(each), name=each.name) for each in self.periodic_tasks()]
            services = [*self.services(), *companions]
            tasks += [group.create_task(each.run(), name=type(each).__name__) for each in services]
            guardian = self._guardian()
            guardian.start()
            try:
                await main()
            finally:
                for task in tasks:
                    task.cancel()
                await guardian.stop()

    def _guardian(self) -> Guardian:
        keeper = LeaseKeeper(self._client.for_thread(timeout=max(0.2, self._config.lease / 3)))
        runs = self._runner.state.runs
        return Guardian(
            keeper,
            self._config.lease,
            Watch(lambda: list(runs.values()), self._control.lose, self._control.cancel),
        )
