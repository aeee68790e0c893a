"""What a worker's claims ask, and what they bring: which queues it serves, and runs of the jobs that come."""

import os
import socket
from collections.abc import Callable, Collection, Sequence

from worker.broker.encoding import new_id
from worker.broker.exchange import Claim, Claimed, ClaimRequest
from worker.broker.queue_selection import Service
from worker.core import keys
from worker.core.config import WorkerConfig
from worker.core.job import Priority
from worker.definition.registry import Registry
from worker.execution.attempt import Run
from worker.runtime.actions import Ask
from worker.runtime.events import Brought


def new_worker_id() -> str:
    """Tells people where a worker runs, and is nobody else's."""
    return f"{socket.gethostname().replace(':', '-')}-{os.getpid()}-{new_id()[12:24]}"


class Claiming:
    """The claims of one worker. `service`: the queues that it serves now; one of all queues begins with those that jobs
    declare, until Redis names those that are known. `prepare` makes a run of a claimed job."""

    def __init__(
        self, worker: str, config: WorkerConfig, registry: Registry, prepare: Callable[[Claimed], Run]
    ) -> None:
        self.worker = worker
        self._config = config
        self._registry = registry
        self._prepare = prepare
        asked = Service.read(config.queues)
        self._serves_all = asked.serves_all
        declared = sorted({"default", *registry.queues})[: keys.QUEUES_ASKED // len(Priority)]
        self.service = Service(tuple(declared)) if asked.serves_all else asked

    @property
    def served(self) -> Collection[str]:
        """The queues that this worker says it serves, by their names."""
        return self._registry.queues if self._serves_all else self.service.queues

    def heard_of(self, queue_keys: Sequence[str]) -> None:
        """Serve those, too, if all are to be served."""
        if self._serves_all:
            known = {keys.parse_queue_key(key)[0] for key in queue_keys}
            by_use = len(queue_keys) > keys.QUEUES_ASKED
            self.service = Service(tuple(sorted(known | set(self._registry.queues))), by_use=by_use)

    @property
    def wake_keys(self) -> Sequence[str]:
        """The lists in which tokens for these queues are."""
        return [keys.WAKE_ANY] if self.service.by_use else [keys.wake_key(queue) for queue in self.service.queues]

    def request(self, ask: Ask) -> ClaimRequest:
        """What goes to Redis."""
        number, lease_ms = ask.number, self._config.lease_ms
        order, lowest_first = self.service.keys(number), self.service.lowest_first(number)
        return ClaimRequest(self.worker, number, order, ask.limit, lease_ms, lowest_first, ask.suspects)

    def brought(self, claim: Claim, asked_at: float) -> Brought[Run]:
        """What came. Leases count from before the claim was sent: this process may have been frozen since. They are
        known before anybody sees the runs: the thread that watches leases would take them for lost."""
        runs = [self._prepare(claimed) for claimed in claim.jobs]
        for run in runs:
            run.leased_until = asked_at + self._config.lease
        return Brought(runs, claim.next_due_in, claim.more, claim.suspects)
