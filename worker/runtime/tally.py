"""How many tries a worker has ended, and how."""

from dataclasses import dataclass

from worker.broker.exchange import Requeue
from worker.core.job import State
from worker.execution.outcomes import Outcome


@dataclass(slots=True)
class Tally:
    """Counts tries whose outcomes are stored; those that were requeued without counting are not among them."""

    complete: int = 0
    failed: int = 0
    retried: int = 0

    def count(self, outcome: Outcome) -> None:
        """Count one."""
        if isinstance(outcome, Requeue):
            self.retried += not outcome.released
        else:
            self.complete += outcome.state is State.SUCCEEDED
            self.failed += outcome.state is not State.SUCCEEDED

    @property
    def ended(self) -> int:
        """All of them."""
        return self.complete + self.failed + self.retried
