"""Whether to write in colour, and how."""

import os
from typing import Protocol

PLAIN = "\x1b[0m"
DIM = "\x1b[2m"
RED = "\x1b[31m"
GREEN = "\x1b[32m"
YELLOW = "\x1b[33m"
CYAN = "\x1b[36m"
MAGENTA = "\x1b[35m"
BOLD = "\x1b[1m"


class Output(Protocol):
    """A stream for lines."""

    def write(self, text: str, /) -> object:
        """Write a text."""
        ...

    def flush(self) -> object:
        """Write what is buffered."""
        ...

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        ...


def wants_colour(stream: Output) -> bool:
    """Whether to write colours to a stream: by `NO_COLOR` and `FORCE_COLOR` (https://no-color.org,
    https://force-color.org), else if it is a terminal that supports them."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def painted(text: str, colour: str) -> str:
    """The text in a colour."""
    return f"{colour}{text}{PLAIN}"
