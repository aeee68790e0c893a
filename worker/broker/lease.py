"""Leases, kept from a thread: the one part of the broker that does not need the event loop."""

from collections.abc import Sequence

import redis
from redis.exceptions import NoScriptError

from worker.broker import scripts
from worker.broker.broker import Renewal, Renewed, read_renewed, renewal_arguments
from worker.broker.pool import unavailable_when_away


class LeaseKeeper:
    """Renews leases over a connection of its own. Used by one thread."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def renew(self, lease_ms: int, renewals: Sequence[Renewal]) -> Renewed:
        """Push on the leases of running jobs, as `Broker.renew` does.

        Raises:
            BrokerUnavailable: Redis cannot serve it.
        """
        arguments = renewal_arguments(lease_ms, renewals)
        with unavailable_when_away():
            try:
                answer = self._redis.execute_command("EVALSHA", scripts.RENEW.sha, 0, *arguments)
            except NoScriptError:
                answer = self._redis.execute_command("EVAL", scripts.RENEW.source, 0, *arguments)
        return read_renewed(answer)

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()
