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
    """What lines are written to."""

    def write(self, text: str, /) -> object:
        """Take a text."""
        ...

    def flush(self) -> object:
        """Show it now."""
        ...

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        ...


def wants_colour(stream: Output) -> bool:
    """Whether a stream is to have colours: by `NO_COLOR` and `FORCE_COLOR`, as https://no-color.org and
    https://force-color.org have it, else where it is a terminal that knows them."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def painted(text: str, colour: str) -> str:
    """The text in a colour."""
    return f"{colour}{text}{PLAIN}"
