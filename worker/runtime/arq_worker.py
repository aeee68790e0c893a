"""A worker of ours as arq's `Worker`, for code that is written against that."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from arq.worker import Worker as PlainWorker

from worker.broker.queue_selection import Service
from worker.client import Client
from worker.core import keys
from worker.core.config import WorkerConfig
from worker.core.periodic import BackgroundService
from worker.definition.registry import Registry
from worker.runtime.arq_functions import all_as_arq
from worker.runtime.worker import Worker

T = TypeVar("T")


class _Ours(Generic[T]):
    """What our worker knows. arq's constructor sets it, which does nothing."""

    def __init__(self, read: Callable[[Worker], T]) -> None:
        self._read = read

    def __get__(self, instance: "ArqWorker", owner: type) -> T:
        return self._read(instance.worker)

    def __set__(self, instance: "ArqWorker", value: T) -> None: ...


class ArqWorker(PlainWorker):
    """Is arq's worker to whoever has it, and has a `worker` of ours do the work.

    What arq promises holds: `run`, `async_run`, `main` and `run_check` work until `handle_sig` or `close`, in a burst
    until nothing waits; `jobs_complete`, `jobs_failed` and `jobs_retried` count, `tasks` are those of the jobs that
    run, `functions` what can run, `pool` is `client.arq`. Signals are left to whoever makes it.
    """

    jobs_complete = _Ours(lambda worker: worker.runner.tally.complete)
    jobs_failed = _Ours(lambda worker: worker.runner.tally.failed)
    jobs_retried = _Ours(lambda worker: worker.runner.tally.retried)
    tasks = _Ours(lambda worker: {run.id: run.task for run in worker.runs.values() if run.task})

    def __init__(
        self, client: Client, registry: Registry, config: WorkerConfig, services: Sequence[BackgroundService] = ()
    ) -> None:
        """See `Worker`."""
        self.worker = Worker(client, registry, config, services)
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

    async def main(self) -> None:
        """Work until told to stop."""
        await self.worker.async_run()

    def handle_sig(self, signum: signal.Signals) -> None:
        """Take no more jobs; those that run get their grace period, which a second signal ends."""
        self.worker.handle_sig(signum)

    def handle_sig_wait_for_completion(self, signum: signal.Signals) -> None:
        """The same: every stop waits for what runs."""
        self.handle_sig(signum)

    async def close(self) -> None:
        """Stop, and wait until it has ended. The client stays open: it belongs to whoever made it."""
        if self.main_task is not None and not self.main_task.done():
            self.handle_sig(signal.SIGTERM)
            await asyncio.wait([self.main_task])
