"""Which queues a worker serves, and in which order a claim looks at them."""

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.core import keys
from worker.core.errors import ArgumentProblem, InvalidOptions
from worker.core.job import Priority
from worker.core.options import check_options, shortened
from worker.core.wire import LONGEST_NAME

if TYPE_CHECKING:
    from worker.broker.inspect import WorkerRecord  # reading settings, which name queues, must not load redis-py

ALL_QUEUES = "*"
LOW_FIRST_EVERY = 10  # a tenth of the claims for low levels is enough against starvation, and costs high ones little


@dataclass(frozen=True, slots=True)
class Service:
    """Queues in strict order, or with weights: then each claim draws its order, and a queue of weight 3 comes before
    one of weight 1 in three draws of four.

    Inside a queue its levels are served in order, but every tenth claim goes the other way, so that low ones do not
    starve. With `by_use`, all queues are served that hold something when the claim is made: there are more than one
    claim could name.
    """

    queues: tuple[str, ...]
    weights: tuple[float, ...] = ()
    by_use: bool = False

    @classmethod
    def read(cls, names: Sequence[str]) -> "Service":
        """From what people write: `("emails", "default")`, `("emails:3", "default:1")`, `("*",)`. Where others have
        weights, `key=sky:default` has the weight 1.

        Raises:
            InvalidOptions: a name or a weight is wrong.
        """
        pairs = [(name, "", "") if name.startswith(keys.BY_KEY) else name.partition(":") for name in names]
        queues = tuple(name for name, _, _ in pairs)
        for queue in queues:
            if queue != ALL_QUEUES:
                _check_name(queue)
        if not any(colon for _, colon, _ in pairs):
            return cls(queues)
        return cls(queues, tuple(_weight(weight) if colon else 1.0 for _, colon, weight in pairs))

    @property
    def serves_all(self) -> bool:
        """Whether every known queue is served."""
        return ALL_QUEUES in self.queues

    def told(self, declared: Collection[str]) -> list[str]:
        """The queues as they are reported; where there are too many, those that jobs declare and `*` for the others."""
        return [*sorted(declared), ALL_QUEUES] if self.by_use else list(self.queues)

    def keys(self, claim: int) -> list[str]:
        """The sorted sets for the claim of this number, first ones first; none for those that hold something."""
        if self.by_use:
            return []
        ordered = [keys.queue_key(queue, priority) for queue in self._order() for priority in Priority]
        return ordered[::-1] if self.lowest_first(claim) else ordered

    def lowest_first(self, claim: int) -> bool:
        """Whether the claim of this number goes through the levels from the lowest."""
        return claim % LOW_FIRST_EVERY == 0

    def _order(self) -> Sequence[str]:
        if not self.weights:
            return self.queues
        # A weighted draw without replacement: sort by u^(1/w) with u uniform in (0, 1) (Efraimidis and Spirakis,
        # "Weighted random sampling with a reservoir", Information Processing Letters 97, 2006).
        weighted = zip(self.queues, self.weights, strict=True)
        draws = {queue: random.random() ** (1 / weight) for queue, weight in weighted}  # noqa: S311
        return sorted(draws, key=draws.__getitem__, reverse=True)


def _check_name(queue: str) -> None:
    try:
        check_options("worker", {"queue": queue})
    except InvalidOptions as error:
        wrong = f"must name queues, and {shortened(queue, LONGEST_NAME)!r} does not: {error.problems[0].message}"
        raise InvalidOptions("worker", [ArgumentProblem(("queues",), wrong)]) from error


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = 0.0
    if not 0 < weight < 1e6:
        wrong = f"a weight must be a number above 0 and below 1,000,000, not {shortened(text, LONGEST_NAME)!r}"
        raise InvalidOptions("worker", [ArgumentProblem(("queues",), wrong)])
    return weight


def serving(workers: "Iterable[WorkerRecord]", queue: str) -> "list[WorkerRecord]":
    """Those of the workers that serve a queue, by its name or with all others."""
    return [worker for worker in workers if {queue, ALL_QUEUES} & set(worker.queues)]
