"""What calls and steps need to know of a job, so that they need not know how jobs are defined."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from worker.core.queue_client import Producer, SyncProducer


class Schema(Protocol):
    """The arguments of a job; see `ArgumentSchema`."""

    @property
    def names(self) -> Sequence[str]:
        """The arguments' names, in order."""
        ...

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Name positional arguments as a Python call would."""
        ...

    def validate(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Turn values into what the signature's types say."""
        ...

    def to_json(self, values: dict[str, Any]) -> dict[str, Any]:
        """Validated arguments as JSON values."""
        ...

    def bind_without(self, taken: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """As `bind`, when an earlier step's result becomes the argument `taken`."""
        ...

    def check_without(self, taken: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Check arguments of which one is still to come; as JSON values."""
        ...


class Outbox(Protocol):
    """Whoever takes jobs that are to be queued when a transaction commits."""

    async def put(self, session: Any, call: Any) -> str:
        """Take a call in the transaction of `session`; the id that its job will have."""
        ...


class JobRegistry(Protocol):
    """Where a job is registered, as far as its calls go."""

    @property
    def producer(self) -> "Producer":
        """The client that queues calls and starts workflows in this process."""
        ...

    @property
    def sync_producer(self) -> "SyncProducer":
        """The same for callers that cannot await."""
        ...

    @property
    def max_arguments(self) -> int:
        """Bytes that a call may take in this process."""
        ...


class Declared(Protocol):
    """A job, as far as its calls go."""

    @property
    def name(self) -> str:
        """Its name on the wire."""
        ...

    @property
    def queue(self) -> str:
        """Where calls go that name no queue."""
        ...

    @property
    def declared(self) -> Mapping[str, Any]:
        """What `@job(...)` was given."""
        ...

    @property
    def schema(self) -> Schema:
        """What it takes."""
        ...

    @property
    def registry(self) -> JobRegistry:
        """Where it is registered."""
        ...
