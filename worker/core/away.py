"""An unavailable server is logged once in a process, however many tasks wait for it, and once when all have resumed."""

import time
from collections.abc import Callable

import structlog
from redis.exceptions import RedisError

from worker.core.errors import BrokerUnavailable

logger = structlog.stdlib.get_logger("embarq.worker")


class Away:
    """Who waits for one server. It counts as available again when all of them have reached it: a task that succeeds
    may not have asked the server this time, so one success proves little."""

    def __init__(self, waits: str, back: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`waits`, `back`: the log messages for the start of an outage, and for its end."""
        self._told_first, self._told_last = waits, back
        self._clock = clock
        self._since = 0.0
        self._waiting: set[object] = set()

    def waits(self, who: object, error: Exception) -> None:
        """`who` could not reach it. Compared by identity unless `who` defines equality."""
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if not self._waiting:
            self._since = self._clock()
            logger.warning(self._told_first, reason=reason)
        self._waiting.add(who)

    def goes_on(self, who: object) -> None:
        """`who` has succeeded; ignored where it was not waiting."""
        if who in self._waiting:
            self._waiting.remove(who)
            if not self._waiting:
                logger.info(self._told_last, seconds=round(self._clock() - self._since, 1))

    def leaves(self, who: object) -> None:
        """`who` has stopped waiting, without having reached it."""
        self._waiting.discard(who)


REDIS = Away("redis is unavailable", "redis is available again")
DATABASE = Away("the database is unavailable", "the database is available again")


def server_of(error: Exception) -> Away:
    """Which of the two an error is about."""
    return REDIS if isinstance(error, BrokerUnavailable | RedisError) else DATABASE
