"""What is wrong with a URL, as the end of a sentence that names no part of it, which may be a password."""

from collections.abc import Sequence
from urllib.parse import urlsplit


def url_problem(schemes: Sequence[str], url: str) -> str | None:
    """None for a URL of one of these schemes that can be read."""
    scheme, mark, _ = url.partition("://")
    if scheme not in schemes or not mark:
        return f"must start with {' or '.join(f'{each}://' for each in schemes)}"
    try:
        urlsplit(url).port  # noqa: B018  # raises where an unescaped password runs into the port
    except ValueError:
        return "cannot be read: in a password, write @ as %40, : as %3A, / as %2F, # as %23"
    return None
