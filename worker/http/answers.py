"""How large answers may get."""

from collections.abc import Iterable
from typing import Any

import msgspec

from worker.core import wire
from worker.http.turns import Turns

LARGEST_ANSWER = 8 * 1024 * 1024  # bytes: more is split into pages, so that one answer cannot hold up a process
LARGEST_PAGE = LARGEST_ANSWER - 64 * 1024  # of the records in it


async def fitting(records: Iterable[dict[str, Any]]) -> tuple[list[msgspec.Raw], bool]:
    """As many records as fit into an answer, encoded, but at least the first one; and whether these are all."""
    turns, found, size = Turns(), list[msgspec.Raw](), 0
    for record in records:
        encoded = wire.dumps(record)
        size += len(encoded) + 1
        if found and size > LARGEST_PAGE:
            return found, False
        found.append(msgspec.Raw(encoded))
        await turns.give_way()
    return found, True
