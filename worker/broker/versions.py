"""Which servers can run our scripts."""

import re

from worker.core.errors import LOWEST_REDIS

# What a server says that is older than `#!lua flags=...`. Our scripts begin so, which lets jobs end where no memory is
# left.
HEADER_REFUSED = "Error compiling script"

_VERSION = re.compile(r"(\d+)\.(\d+)")


def too_old(version: str) -> bool:
    """Whether a Redis of this version is none for us. Valkey says which Redis it stands in for."""
    found = _numbers(version)
    return found is not None and found < (_numbers(LOWEST_REDIS) or found)


def _numbers(version: str) -> tuple[int, int] | None:
    found = _VERSION.match(version)
    return (int(found[1]), int(found[2])) if found else None
