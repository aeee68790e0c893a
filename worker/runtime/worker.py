"""The worker: it claims what is due, runs it, settles it. A subclass of arq's, with the parts between replaced."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Sequence

import structlog
from arq.worker import Worker as ArqWorker

from worker.broker.encoding import new_id
from worker.broker.exchange import Claim, Claimed, Ended, PutBack, Settlement
from worker.broker.lease import LeaseKeeper
from worker.broker.queue_selection import Service
from worker.broker.queue_store import Renewed
from worker.client import Client
from worker.client.sync import lent
from worker.core import keys
from worker.core.config import Suspects, WorkerConfig
from worker.core.errors import BrokerUnavailable
from worker.core.job import Priority, State
from worker.core.periodic import Companion, Duty, keep_doing
from worker.core.stopping import StopPlan
from worker.definition.registry import Registry
from worker.definition.resources import open_resources
from worker.execution.attempt import Run, Stop
from worker.execution.elsewhere import Elsewhere
from worker.execution.executor import Executor
from worker.execution.outcomes import Outcome
from worker.runtime import heartbeat
from worker.runtime import recycler as recycling
from worker.runtime.abort_watch import AbortWatch
from worker.runtime.arq_functions import all_as_arq
from worker.runtime.fetcher import Pump
from worker.runtime.handing_back import HandingBack
from worker.runtime.heartbeat import Heartbeat
from worker.runtime.isolation import Isolation
from worker.runtime.leftovers import Leftovers
from worker.runtime.listener import Standby, keep_reading
from worker.runtime.progress import ProgressWriter
from worker.runtime.scheduler import Scheduler
from worker.runtime.watchdog import Guardian, Watch

logger = structlog.stdlib.get_logger("embarq.worker")

PROGRESS_INTERVAL = 0.1
LIMITS_INTERVAL = 0.05


class Worker(ArqWorker):
    """Runs the registry's jobs from its queues until told to stop.

    Must be made inside a running loop. `await worker.async_run()` works until `handle_sig` was called (or, with
    `burst`, until nothing is left in the queues but jobs that it does not know); all it started has ended by then, or
    was handed back. So it is where it is cancelled, or one of its companions fails: it hands back first, which takes
    3 s at most. It never ends its process: what runs in a thread and does not listen is left behind. `plan` says when
    it stops.
    """

    def __init__(
        self,
        client: Client,
        registry: Registry,
        config: WorkerConfig,
        companions: Sequence[Companion] = (),
        plan: StopPlan | None = None,
    ) -> None:
        """`companions` run beside the jobs until the worker ends. `plan`: when it stops, where others follow it too."""
        service = Service.read(config.queues)
        super().__init__(
            all_as_arq(registry, config),
            redis_pool=client.arq,
            queue_name=keys.queue_key("default" if service.serves_all else service.queues[0]),
            burst=config.burst,
            handle_signals=False,
            max_jobs=config.concurrency,
            job_timeout=config.timeout,
            max_tries=config.max_tries,
            poll_delay=config.poll,
            job_serializer=client.arq.job_serializer,
            job_deserializer=client.arq.job_deserializer,
        )
        self.id = f"{socket.gethostname().replace(':', '-')}-{os.getpid()}-{new_id()[12:24]}"
        self.client = client
        self._companions = tuple(companions)
        self.config = config
        self.executor = Executor(registry, config, self.id, client.broker, client.graphs, Elsewhere(client.inspector))
        self.runs: dict[str, Run] = {}
        self._registry = registry
        self._pump = Pump(client.broker, config, self, Isolation(config, lambda: len(self.runs)))
        self._abandoned: set[Run] = set()
        self._stopping = False
        self.plan = plan or StopPlan(config.grace)
        self._scheduling: asyncio.Task[None] | None = None
        self._handing_back = HandingBack(self.runs, self._abandoned, self._pump, self.executor.outcomes)
        self._progress = ProgressWriter(client.broker, config.lease_ms, self.runs, self._heard)
        self._heart = Heartbeat(self.id, client, registry, config)
        self._serves_all = service.serves_all
        if config.burst and config.suspects is not Suspects.ONLY:
            self._companions += (Leftovers(client.inspector, registry, config, self._take_no_more),)
        self._standby = Standby(client.broker, client.connections, self._pump, config.lease)
        self._serve(Service(self._declared()) if self._serves_all else service)

    def _serve(self, service: Service) -> None:
        self._pump.service = service
        self._standby.serve([keys.WAKE_ANY] if service.by_use else [keys.wake_key(queue) for queue in service.queues])

    async def main(self) -> None:
        """Work until told to stop, and say goodbye."""
        queues = ",".join(self.config.queues)
        logger.info("worker starts", worker=self.id, queues=queues, jobs=len(self.functions))
        await self._heart.refuse_other_keys(self._pump.service)
        try:
            with lent(self.client, self._registry):
                await self._work()
        finally:
            await self.executor.close()
        await self._heart.say_goodbye()
        logger.info("worker ended", worker=self.id, complete=self.jobs_complete, failed=self.jobs_failed)

    def _declared(self) -> tuple[str, ...]:
        """The queues that one that serves all begins with, and tells of, until Redis names those that are known."""
        declared = sorted({"default", *self._registry.queues})
        return tuple(declared[: keys.QUEUES_ASKED // len(Priority)])

    async def _work(self) -> None:
        """Open resources, start the duties, and pump until the end."""
        async with open_resources(self._registry.providers) as resources:
            self.executor.resources = resources
            async with asyncio.TaskGroup() as group:
                background = [group.create_task(keep_doing(duty), name=duty.name) for duty in self._duties()]
                background.append(group.create_task(self._standby.run(), name="standby"))
                control = keep_reading(self.client.connections, keys.CONTROL + self.id, self._controlled)
                background.append(group.create_task(control, name="control"))
                if self.config.schedules and not self.burst:
                    scheduler = Scheduler(self.client.schedules, self._registry, starts=self.config.starts)
                    self._scheduling = group.create_task(scheduler.run(), name="scheduler")
                    background.append(self._scheduling)
                background += [group.create_task(each.run(), name=type(each).__name__) for each in self._companions]
                guardian = self._guardian()
                guardian.start()
                try:
                    await self._pump_until_done()
                finally:
                    for task in background:
                        task.cancel()
                    await guardian.stop()

    async def _pump_until_done(self) -> None:
        """Pump until the end, or hand back what runs where something else ends this worker: jobs may run already before
        the pump does, by a claim that stands."""
        pumping: asyncio.Task[None] | None = None
        try:
            with contextlib.suppress(BrokerUnavailable):
                await self._heartbeat()
                await self._heart.look_at_server()
            pumping = asyncio.create_task(self._pump.run(), name="pump")
            await asyncio.shield(pumping)
        except BaseException:  # it is cancelled, or something beside the pump failed, or the pump itself
            self.plan.hurry()
            self.follow_plan()
            if pumping is not None:
                await asyncio.wait([pumping])
            raise
        finally:
            if pumping is not None:
                pumping.cancel()
            await self._handing_back.let_go(self.client.broker)

    def unsettled(self) -> list[Settlement]:
        """What is to be stored before this process may end. May be called from any thread."""
        return self._handing_back.unsettled()

    @property
    def is_seen(self) -> bool:
        """Whether Redis knows of it."""
        return self._heart.is_heard

    @property
    def running(self) -> int:
        """How many jobs run."""
        return len(self.runs)

    def _guardian(self) -> Guardian:
        keeper = LeaseKeeper(self.client.for_thread(timeout=max(0.2, self.config.lease / 3)))
        watch = Watch(lambda: list(self.runs.values()), self._lose, self._cancel)
        return Guardian(keeper, self.config.lease, watch)

    def _lose(self, runs: list[Run]) -> None:
        """Stop jobs whose leases are gone, but for those that have settled meanwhile."""
        settling = {id(settlement.claimed) for settlement in self._pump.unsettled()}
        for run in runs:
            if self.runs.get(run.claimed.id) is run and id(run.claimed) not in settling:
                run.cancel(Stop.LEASE_LOST)

    def _duties(self) -> list[Duty]:
        return [
            Duty("progress writer", PROGRESS_INTERVAL, self._progress.write),
            Duty("heartbeat", heartbeat.INTERVAL, self._heartbeat),
            Duty("recycling", recycling.INTERVAL, self._recycle),
            Duty("time keeper", LIMITS_INTERVAL, self._keep_limits),
            Duty("workflows", 0.0, self.client.graphs.go_on_when_told),
            Duty("abort watch", self.config.poll, AbortWatch(self.client.redis, self.runs.values).run_once),
        ]

    def room(self, leaving: int) -> int:
        """How many jobs could start once `leaving` more have left."""
        return 0 if self._stopping else self.config.concurrency - self._taken + leaving

    def done(self, *, idle: bool) -> bool:
        """Whether there is nothing to do and no reason to stay, or no time left."""
        if self.plan.has_come(self.plan.gone_at):
            return True
        return idle and not self._taken and (self._stopping or (self.burst and self._pump.nothing_waits))

    @property
    def _taken(self) -> int:
        """Slots that are taken, by jobs and by the hooks of those that have ended."""
        return len(self.runs) + self.executor.hooks.busy

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, and more than one job is welcome."""
        return not (self._taken or self._stopping or self.burst) and self.config.concurrency > 1

    def begin(self, claim: Claim, leased_until: float) -> None:
        """Start the jobs of a claim."""
        if self._stopping:  # it was under way when the worker was told to stop: others are to have what it brought
            for claimed in claim.jobs:
                self._pump.send(self.executor.prepare(claimed).settle(PutBack(0, released=True)))
            return
        for claimed in claim.jobs:
            earlier = self.runs.get(claimed.id)
            if earlier is not None:  # its lease was lost, and the job came back to this very worker
                earlier.cancel(Stop.LEASE_LOST)
            run = self.executor.prepare(claimed)
            run.leased_until = leased_until
            run.context.workers_client = self.client
            self.runs[claimed.id] = run
            name = f"job {claimed.id}"
            run.task = self.tasks[claimed.id] = self.loop.create_task(self._run(run), name=name, context=run.inside)
        self._note_room()

    async def _run(self, run: Run) -> None:
        outcome = await self.executor.execute(run)
        if run in self._abandoned:
            self._abandoned.discard(run)
            logger.warning("abandoned job ended at last", job_id=run.claimed.id, duration=run.duration)
            return
        self._conclude(run, outcome)

    def _conclude(self, run: Run, outcome: Outcome | None) -> None:
        self.tasks.pop(run.claimed.id, None)
        if outcome is None:
            was_full = self._taken >= self.config.concurrency
            self._remove(run.claimed)
            self._freed(was_full=was_full)
            self._pump.stir()
        else:
            self._pump.send(run.settle(outcome))

    async def _keep_limits(self) -> None:
        """Enforce time limits, and leave behind what does not end although it was cancelled."""
        now = time.monotonic()
        for run in list(self.runs.values()):
            run.keep_limits(now)
            if run.stop is Stop.HANDED_BACK:  # nobody else may have it before this process ends, or must leave it
                continue
            if run.stopped_at is not None and now > run.stopped_at + self.config.cancel_grace:
                self._abandon(run)

    def _abandon(self, run: Run) -> None:
        """The job swallowed its cancellation: settle it without waiting, and give its slot to others."""
        if run.task is None or run.task.done() or run in self._abandoned:
            return
        stack = run.stack() if run.stack is not None else ""
        logger.error("job abandoned: it does not end", job_id=run.claimed.id, job=run.context.job, stack=stack)
        self._abandoned.add(run)
        self._conclude(run, self.executor.outcomes.stopped(run, None))

    def settled(self, settlements: Sequence[Settlement], stored: Sequence[bool]) -> None:
        """Free the slots of jobs whose outcomes were stored, or refused."""
        was_full = self._taken >= self.config.concurrency
        for settlement, accepted in zip(settlements, stored, strict=True):
            run, outcome = self._remove(settlement.claimed), settlement.outcome
            if accepted and run is not None:
                self.executor.hooks.stored(run, outcome, self._hooks_ended)
            if not accepted:
                logger.warning("late result refused: the lease was lost", job_id=settlement.claimed.id)
            elif isinstance(outcome, PutBack):
                self.jobs_retried += not outcome.released
            elif isinstance(outcome, Ended):
                self.jobs_complete += outcome.state is State.SUCCEEDED
                self.jobs_failed += outcome.state is not State.SUCCEEDED
        if settlements:
            self._freed(was_full=was_full)

    def _remove(self, claimed: Claimed) -> Run | None:
        self._progress.forget(claimed.id)
        run = self.runs.get(claimed.id)
        if run is None or run.claimed.token != claimed.token:
            return None
        del self.runs[claimed.id]
        return run

    def _hooks_ended(self) -> None:
        self._freed(was_full=self._taken + 1 >= self.config.concurrency)
        self._pump.stir()

    def _freed(self, *, was_full: bool) -> None:
        """Slots are free. Room after none is a reason to look for work that others were not woken for."""
        if was_full or self.burst:
            self._pump.look()
        self._note_room()

    def _note_room(self) -> None:
        if self._pump.has_room and not self._pump.backlog:
            self._standby.ready.set()
        else:
            self._standby.ready.clear()
        self._standby.reconsider()

    def _controlled(self, message: str) -> None:
        """`stop <claim> <id>`: the job is cancelled; `lost <claim> <id>`: another worker has it by now; `abort <id>`:
        what the release before says instead of `stop`; `go on`: a script left something."""
        command, _, rest = message.partition(" ")
        number, _, job_id = rest.partition(" ")
        run = self.runs.get(job_id)
        if command == "go":
            self.client.graphs.unfinished.set()
        elif command == "abort":
            self._cancel([rest])
        elif run is not None and run.claimed.number == number:
            if command == "stop":
                run.cancel(Stop.CANCELLED)
            elif command == "lost":
                self._lose([run])

    def _cancel(self, job_ids: list[str], reason: Stop = Stop.CANCELLED) -> None:
        for job_id in job_ids:
            run = self.runs.get(job_id)
            if run is not None:
                run.cancel(reason)

    def _heard(self, runs: list[Run], renewed: Renewed) -> None:
        self._lose([run for run in runs if run.claimed.id in renewed.lost])
        self._cancel(renewed.aborted)

    @property
    def _tries_ended(self) -> int:
        return self.jobs_complete + self.jobs_failed + self.jobs_retried

    async def _recycle(self) -> None:
        """Stop when this process has done, or taken, as much as it may: its supervisor starts a fresh one."""
        used = recycling.used(self._tries_ended, self.config)
        if not self._stopping and used.is_enough(self.config):
            logger.info("worker is recycled", worker=self.id, jobs=used.jobs, megabytes=used.megabytes)
            self.plan.stop()
            self.follow_plan()

    async def _heartbeat(self) -> None:
        served = self._registry.queues if self._serves_all else set(self._pump.service.queues)
        known = await self._heart.beat(self._pump.service, served, len(self.runs), self._tries_ended)
        if self._serves_all:
            names = tuple(sorted({keys.parse_queue_key(key)[0] for key in known} | served))
            self._serve(Service(names, by_use=len(known) > keys.QUEUES_ASKED))

    def handle_sig(self, signum: signal.Signals) -> None:
        """First signal: claim no more, give running jobs their grace. A second one hands them back now; the same one
        within 2 s is none."""
        self.plan.signal(signum)
        self.follow_plan()

    def follow_plan(self) -> None:
        """Do what the plan says; to be called in the loop when it has changed."""
        if self.plan.hand_back_at is None:
            return
        if not self._stopping:
            self._take_no_more()
        wait = self.plan.hand_back_at - time.monotonic()
        if wait > 0:
            self.loop.call_later(wait, self.follow_plan)
        else:
            self._cancel(list(self.runs), Stop.HANDED_BACK)
            self._pump.stir()

    def _take_no_more(self) -> None:
        logger.info("worker stops", worker=self.id, running=len(self.runs))
        self._stopping = True
        self.executor.stopping.set()
        if self._scheduling is not None:
            self._scheduling.cancel()
        self._note_room()
        self._pump.stir()

    async def close(self) -> None:
        """Nothing is left open after `async_run`; the client belongs to whoever made it."""
