"""A job for each of many things."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

from worker import Signature, group

MOST = 10_000


async def fan_out(steps: Iterable[Signature[Any]], name: str) -> list[str]:
    """Start a job for each step, in groups of 10,000; the groups' ids, which begin with `name`.

    A job that fails does not affect the others. A second run finds the groups of the first.
    """
    started: list[str] = []
    remaining = iter(steps)
    while members := list(islice(remaining, MOST)):
        handle = await group(members).enqueue(id=f"{name}.{len(started) + 1}", on_failure="continue")
        started.append(handle.id)
    return started
