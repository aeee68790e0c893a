"""Which of redis-py's errors mean that Redis cannot serve something now, and what the others mean."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import redis.exceptions as errors

from worker.core.errors import BrokerUnavailable, EmbarqError

# Errors of a server that lives but cannot serve: its disk is full, it has too few replicas, a script runs.
AWAY_CODES = ("MISCONF", "NOREPLICAS", "BUSY", "TRYAGAIN", "UNBLOCKED", "OOM", "READONLY", "LOADING", "MASTERDOWN")

# Errors of a server that is not, or soon will not be, the one that the URL's name resolves to: it was demoted (blocked
# clients get UNBLOCKED then), it lost its primary, or its replicas went over to another.
DEMOTED_CODES = ("READONLY", "UNBLOCKED", "MASTERDOWN", "NOREPLICAS")

NO_DATABASE = "DB index is out of range"

AWAY = (
    errors.ConnectionError,  # with BusyLoadingError
    errors.TimeoutError,
    errors.ReadOnlyError,
    errors.OutOfMemoryError,
    errors.ClusterDownError,
    errors.InvalidResponse,
    errors.MasterDownError,
    ConnectionError,
    TimeoutError,
)
TROUBLE = (*AWAY, errors.ResponseError)


def says_demoted(error: BaseException) -> bool:
    """Whether an error says that another server is in charge now."""
    return isinstance(error, errors.ReadOnlyError | errors.MasterDownError) or (
        isinstance(error, errors.ResponseError) and str(error).startswith(DEMOTED_CODES)
    )


def raise_ours(error: Exception) -> NoReturn:
    """Raise what one of `TROUBLE` means to us.

    Raises:
        BrokerUnavailable: Redis cannot serve this now.
        EmbarqError: the URL's database is not there.
        ResponseError: it lives, and refuses: the error itself.
    """
    if isinstance(error, AWAY):
        raise BrokerUnavailable(f"Redis is not available: {error or type(error).__name__}") from error
    if NO_DATABASE in str(error):
        raise EmbarqError(f"the URL of Redis must end with the number of a database that it has: {error}") from error
    if not str(error).startswith(AWAY_CODES):
        raise error
    raise BrokerUnavailable(f"Redis is not available: {error}") from error


@contextmanager
def unavailable_when_away() -> Iterator[None]:
    """Turn every error that means "Redis cannot serve this now" into `BrokerUnavailable`."""
    try:
        yield
    except TROUBLE as error:
        raise_ours(error)


@contextmanager
def nothing_of_another_type() -> Iterator[None]:
    """Leave the block where a key of ours holds another type, put there by somebody else: it counts as empty. The next
    script that uses the key sets it aside."""
    try:
        yield
    except errors.ResponseError as error:
        if "WRONGTYPE" not in str(error):
            raise
