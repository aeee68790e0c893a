"""A server that is away is told once in a process, whoever waits for it there, and once when all of them go on."""

import time
from collections.abc import Callable

import structlog
from redis.exceptions import RedisError

from worker.core.errors import BrokerUnavailable

logger = structlog.stdlib.get_logger("embarq.worker")


class Away:
    """Who waits for one server. All are asked to go on before it counts as back: some do not ask it each time."""

    def __init__(self, waits: str, back: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`waits`, `back`: what is logged of an outage, and of its end."""
        self._told_first, self._told_last = waits, back
        self._clock = clock
        self._since = 0.0
        self._waiting: set[object] = set()

    def waits(self, who: object, error: Exception) -> None:
        """Somebody did not reach it. Compared by identity unless `who` says otherwise."""
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if not self._waiting:
            self._since = self._clock()
            logger.warning(self._told_first, reason=reason)
        self._waiting.add(who)

    def goes_on(self, who: object) -> None:
        """Somebody did what it could not do before, if it could not."""
        if who in self._waiting:
            self._waiting.remove(who)
            if not self._waiting:
                logger.info(self._told_last, away=round(self._clock() - self._since, 1))

    def leaves(self, who: object) -> None:
        """Somebody waits no more, and has not seen it come back."""
        self._waiting.discard(who)


REDIS = Away("worker waits for redis", "redis is back")
DATABASE = Away("worker waits for its database", "the database is back")


def server_of(error: Exception) -> Away:
    """Which of them an error says is away."""
    return REDIS if isinstance(error, BrokerUnavailable | RedisError) else DATABASE
