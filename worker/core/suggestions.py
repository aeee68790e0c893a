"""What somebody who misspelt a name may have meant."""

import difflib
from collections.abc import Iterable
from itertools import islice

LONGEST = 100  # characters of a name that is compared with others, each of which costs some microseconds
MOST_COMPARED = 1000


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `name`, or None where none is like it."""
    if len(name) > LONGEST:
        return None
    return next(iter(difflib.get_close_matches(name, islice(known, MOST_COMPARED), n=1)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'echo'?`, or nothing, for the end of a message."""
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near else ""
