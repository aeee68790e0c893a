"""Which servers can run our scripts."""

import re

# Scripts begin with `#!lua flags=...`, which older servers do not compile: one without memory is to let jobs end.
LOWEST = "7.0"


def too_old(version: str) -> bool:
    """Whether a Redis of this version, or a Valkey that says it stands in for it, is none for us."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) < (7, 0)
