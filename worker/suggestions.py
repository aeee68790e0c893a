"""What somebody who misspelt a name may have meant."""

import difflib
from collections.abc import Iterable
from itertools import islice

LONGEST = 100  # characters of a name that is compared with others, each of which costs some microseconds
MOST_COMPARED = 1000


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'echo'?` for the known name that is most like `name`, or nothing where none is like it."""
    if len(name) > LONGEST:
        return ""
    near = difflib.get_close_matches(name, islice(known, MOST_COMPARED), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
