"""JSON taken apart before it is read: how many members a list has, and how large each is, is known before objects are
made of them.

Sixteen megabytes of `1,1,1` are eight million objects once they are read, and reading them cannot be interrupted; to
find where members begin and end takes a thirtieth of the time, and no memory.
"""

from functools import lru_cache
from typing import Any

import msgspec

NOTHING = msgspec.Raw(b"")
# msgspec has no lazy list, but a struct encoded as an array, whose fields are raw, is one with a maximum length. A
# struct is allocated with all its fields, so the smallest that fits is used.
SIZES = (16, 1000, 10_000, 50_000)


@lru_cache
def _decoder(size: int) -> "msgspec.json.Decoder[Any]":
    """Reads a list as a struct whose fields are its members, unread. It stops where there is one too many."""
    fields = [(f"member_{number}", msgspec.Raw, NOTHING) for number in range(size)]
    members = msgspec.defstruct("Members", fields, array_like=True, forbid_unknown_fields=True)
    return msgspec.json.Decoder(members)


def prepare() -> None:
    """Build the decoders, which takes a tenth of a second, before there are requests that would wait for it."""
    for size in SIZES:
        _decoder(size)


def is_list(value: msgspec.Raw) -> bool:
    """Whether this JSON value is a list."""
    return bytes(memoryview(value)[:1]) == b"["


def members(value: msgspec.Raw, most: int) -> list[msgspec.Raw] | None:
    """The members of a list of JSON values, as they are written; None if there are more than `most`, 50,000 at most."""
    for size in SIZES:
        try:
            found = msgspec.structs.astuple(_decoder(size).decode(value))
        except msgspec.ValidationError:
            continue
        listed = [member for member in found if member is not NOTHING]
        return listed if len(listed) <= most else None
    return None
