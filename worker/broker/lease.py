"""Leases, renewed and given back from a thread: the one part of the broker that does not need the event loop, and so
keeps working while a job blocks it."""

from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import NoScriptError, ResponseError

from worker.broker import scripts
from worker.broker.availability import unavailable_when_away
from worker.broker.exchange import Ack, urgent_first
from worker.broker.queue_store import Renewal, Renewed, read_renewed, renewal_arguments
from worker.broker.round_trips import finish_request


class LeaseKeeper:
    """Renews leases over a connection of its own. Used by one thread."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def renew(self, lease_ms: int, renewals: Sequence[Renewal]) -> Renewed:
        """Extend the leases of running jobs, as `QueueStore.renew` does.

        Raises:
            BrokerUnavailable: Redis cannot serve it.
        """
        return read_renewed(self._run(scripts.RENEW, renewal_arguments(lease_ms, renewals)))

    def settle(self, acks: Sequence[Ack]) -> None:
        """Store what became of jobs, as `QueueStore.exchange` does: what is most urgent first, all that is possible.

        Raises:
            BrokerUnavailable: Redis cannot serve it, and did not get the rest.
            ResponseError: Redis refused some of it, of which this is the last; the rest is stored.
        """
        refused: ResponseError | None = None
        for call in urgent_first(acks):
            try:
                self._run(scripts.FINISH, finish_request(call).tail[1:])
            except ResponseError as error:
                refused = error
        if refused is not None:
            raise refused

    def connect(self) -> None:
        """Connect ahead of the first use.

        Raises:
            BrokerUnavailable: Redis cannot serve it.
        """
        with unavailable_when_away():
            self._redis.ping()

    def _run(self, script: scripts.Script, arguments: Sequence[scripts.Argument]) -> Any:
        with unavailable_when_away():
            try:
                return self._redis.execute_command("EVALSHA", script.sha, 0, *arguments)
            except NoScriptError:
                return self._redis.execute_command("EVAL", script.source, 0, *arguments)

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()
