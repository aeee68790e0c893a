"""Stops running jobs for what others say: a client that cancels, another worker that has a job by now."""

import asyncio
from collections.abc import Iterable
from typing import Any

from worker.broker.opening import blocking_connection
from worker.broker.pool import Pool
from worker.broker.queue_store import Renewed
from worker.broker.workflow_store import WorkflowStore
from worker.core import keys
from worker.execution.attempt import Attempt, Stop
from worker.runtime.listener import AWAY, BLOCK_SECONDS
from worker.runtime.state import State

RECONNECT_DELAY = 0.5


class Control:
    """Hears what is meant for one worker alone, and stops its jobs."""

    def __init__(self, worker: str, pool: Pool, workflow_store: WorkflowStore, state: State[Attempt, Any]) -> None:
        self._key = keys.CONTROL + worker
        self._pool = pool
        self._workflow_store = workflow_store
        self._state = state

    def lose(self, runs: Iterable[Attempt]) -> None:
        """Stop jobs whose leases are gone, but for those whose outcomes are on their way."""
        for run in runs:
            if self._state.is_open(run):
                run.cancel(Stop.LEASE_LOST)

    def cancel(self, job_ids: Iterable[str]) -> None:
        """Cancel those of the jobs that run here."""
        for job_id in job_ids:
            if (run := self._state.runs.get(job_id)) is not None:
                run.cancel(Stop.CANCELLED)

    def renewed(self, runs: Iterable[Attempt], renewed: Renewed) -> None:
        """Take in what a renewal of these jobs found out."""
        self.lose(run for run in runs if run.id in renewed.lost)
        self.cancel(renewed.aborted)

    async def run(self) -> None:
        """Read messages until cancelled; keeps at it through lost connections."""
        async with blocking_connection(self._pool) as redis:
            while True:
                try:
                    async with asyncio.timeout(2 * BLOCK_SECONDS):
                        taken = await redis.execute_command("BLPOP", self._key, BLOCK_SECONDS)
                    if taken is not None:
                        self.hear(taken[1].decode(errors="replace"))
                except AWAY:
                    await asyncio.sleep(RECONNECT_DELAY)

    def hear(self, message: str) -> None:
        """`stop <claim> <id>`: the job is cancelled; `lost <claim> <id>`: another worker has it by now; `abort <id>`:
        what the release before says instead of `stop`; `go on`: a script left something."""
        command, _, rest = message.partition(" ")
        number, _, job_id = rest.partition(" ")
        run = self._state.runs.get(job_id)
        if command == "go":
            self._workflow_store.unfinished.set()
        elif command == "abort":
            self.cancel([rest])
        elif run is not None and run.claimed.number == number:
            if command == "stop":
                run.cancel(Stop.CANCELLED)
            elif command == "lost":
                self.lose([run])
