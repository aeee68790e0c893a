"""The URL of Redis, checked before anything connects: redis-py takes a database that is not a number for 0."""

import re
from urllib.parse import urlsplit

from worker.core.errors import EmbarqError
from worker.core.urls import url_problem

SCHEMES = ("redis", "rediss", "unix")
DATABASE = re.compile(r"(/[0-9]{0,5})?")


def check_redis_url(url: str) -> None:
    """Check that a URL names a database of a Redis.

    Raises:
        EmbarqError: it does not; the error quotes no part of it, which may be a password.
    """
    problem = redis_url_problem(url)
    if problem is not None:
        raise EmbarqError(f"the URL of Redis {problem}")


def redis_url_problem(url: str) -> str | None:
    """What is wrong with it, as the end of a sentence."""
    problem = url_problem(SCHEMES, url or "")  # None where a caller passes on what `os.environ.get` gave
    if problem is None and not url.startswith("unix:") and not DATABASE.fullmatch(urlsplit(url).path):
        return "must end with the number of a database, such as redis://host:6379/0"
    return problem
