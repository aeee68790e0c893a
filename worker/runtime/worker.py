"""The worker: what it consists of, how it begins, and how it ends."""

import asyncio
import contextlib
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import structlog

from worker.broker.exchange import Ack
from worker.client import Client
from worker.client.sync import lent
from worker.core.config import WorkerConfig
from worker.core.errors import BrokerUnavailable, DefinitionError
from worker.core.periodic import BackgroundService
from worker.core.stopping import StopPlan
from worker.definition.registry import Registry
from worker.definition.resources import open_resources
from worker.execution.attempt import Attempt
from worker.execution.elsewhere import Elsewhere
from worker.execution.executor import Executor
from worker.runtime.background import Background
from worker.runtime.events import Told
from worker.runtime.fetcher import Claiming, Fetcher, new_worker_id
from worker.runtime.handing_back import HandingBack
from worker.runtime.heartbeat import Heartbeat
from worker.runtime.listener import Listener
from worker.runtime.runner import Runner
from worker.runtime.state import Phase, Rules, State

logger = structlog.stdlib.get_logger("embarq.worker")


class Worker:
    """Runs the registry's jobs from its queues until told to stop.

    `await worker.async_run()` works until `handle_sig` was called (or, with `burst`, until nothing is left in the
    queues but jobs that it does not know); all it started has ended by then, or was handed back. So it is where it is
    cancelled, or one of its background services fails: it hands back first, which takes 3 s at most. It never ends its
    process: what runs in a thread and does not listen is left behind.
    """

    _runner_type = Runner

    def __init__(
        self,
        client: Client,
        registry: Registry,
        config: WorkerConfig,
        services: Sequence[BackgroundService] = (),
        plan: StopPlan | None = None,
    ) -> None:
        """`services` run beside the jobs until the worker ends. `plan`: when it stops, where others follow it too.

        Raises:
            DefinitionError: the registry has no job.
        """
        if not registry.names:
            raise DefinitionError("no job is registered, and a worker needs one: import the modules that declare @job")
        self.id = new_worker_id()
        self.client, self.registry, self.config, self.plan = client, registry, config, plan or StopPlan(config.grace)
        self.state: State[Attempt, Ack] = State.new(Rules.of(config))
        self.executor = self._make_executor()
        self.executor.client = client
        self.claiming = Claiming(self.id, config, registry, self.executor.prepare)
        fetcher = Fetcher(client.queue_store, self.claiming, config.lease)
        listener = Listener(client.queue_store, self.claiming, client.connections, config.lease)
        self.runner = self._runner_type(self.state, self.executor, fetcher, listener)
        self._heartbeat = Heartbeat(client, registry, config, self.claiming, self.state.runs, self.runner.tally)
        self._background = Background(client, registry, config, self.runner, self._heartbeat, self._recycle)
        self._services = services
        self._handing_back = HandingBack(self.state, self.runner.abandoned, self.executor.outcomes)

    def _make_executor(self) -> Executor:
        queue_store, workflow_store, elsewhere = (
            self.client.queue_store,
            self.client.workflow_store,
            Elsewhere(self.client.inspector),
        )
        return Executor(self.registry, self.config, self.id, queue_store, workflow_store, elsewhere)

    async def async_run(self) -> None:
        """Work until told to stop, and say goodbye."""
        queues = ",".join(self.config.queues)
        logger.info("worker starts", worker=self.id, queues=queues, jobs=len(self.registry.names))
        await self._heartbeat.refuse_other_keys()
        try:
            with lent(self.client, self.registry):
                async with open_resources(self.registry.providers) as resources:
                    self.executor.resources = resources
                    await self._background.beside(self._run_jobs, self._services)
        finally:
            await self.executor.close()
        await self._heartbeat.say_goodbye()
        logger.info("worker ended", worker=self.id, **asdict(self.runner.tally))

    async def _run_jobs(self) -> None:
        """Run jobs until the end, or hand back what runs where something else ends this worker."""
        running: asyncio.Task[None] | None = None
        try:
            with contextlib.suppress(BrokerUnavailable):
                await self._heartbeat.run_once()
                await self._heartbeat.look_at_server()
            running = asyncio.create_task(self.runner.run(), name="runner")
            await asyncio.shield(running)
        except BaseException:  # it is cancelled, or something beside the jobs failed, or the runner itself
            self.plan.hurry()
            self.follow_plan()
            if running is not None:
                await asyncio.wait([running])
            raise
        finally:
            if running is not None:
                running.cancel()
            await self._handing_back.let_go(self.client.queue_store)

    def handle_sig(self, signum: signal.Signals) -> None:
        """First signal: claim no more, give running jobs their grace. A second one hands them back now; the same one
        within 2 s is none."""
        self.plan.signal(signum)
        self.follow_plan()

    def _recycle(self, jobs: int, megabytes: float) -> None:
        """Stop as if told to; a supervisor starts a fresh process."""
        if self.state.phase is Phase.SERVING:
            logger.info("worker is recycled", worker=self.id, jobs=jobs, megabytes=megabytes)
            self.plan.stop()
            self.follow_plan()

    def follow_plan(self) -> None:
        """Do what the plan says; to be called in the loop when it has changed."""
        if self.plan.hand_back_at is not None:
            self.runner.take_no_more(Told(self.plan.hand_back_at, self.plan.gone_at))

    def unsettled(self) -> list[Ack]:
        """What is to be stored before this process may end. May be called from any thread."""
        return self._handing_back.unsettled()

    @property
    def is_seen(self) -> bool:
        """Whether Redis knows of it."""
        return self._heartbeat.is_heard

    @property
    def runs(self) -> Mapping[str, Attempt]:
        """The jobs that are here, by their ids."""
        return self.state.runs
