"""Which servers can run our scripts."""

import re

from worker.core.errors import LOWEST_REDIS

# The error of a server that does not know `#!lua flags=...` (Redis 7.0). Our scripts begin with it, as the flag
# allow-oom lets jobs end when no memory is left.
HEADER_REFUSED = "Error compiling script"

_VERSION = re.compile(r"(\d+)\.(\d+)")


def too_old(version: str) -> bool:
    """Whether a Redis of this version is too old. Valkey reports the version of Redis that it is compatible with."""
    found = _numbers(version)
    return found is not None and found < (_numbers(LOWEST_REDIS) or found)


def _numbers(version: str) -> tuple[int, int] | None:
    found = _VERSION.match(version)
    return (int(found[1]), int(found[2])) if found else None
