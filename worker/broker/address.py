"""The URL of Redis, checked before anything connects: redis-py takes a database that is not a number for 0, and its
connections raise a `TypeError` for an option in the query that they do not know."""

import os
import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from worker.core.errors import EmbarqError
from worker.core.urls import url_problem

SCHEMES = ("redis", "rediss", "unix")
DATABASE = re.compile(r"(/[0-9]{0,5})?")
OPTIONS = {"db": re.compile(r"[0-9]{1,5}"), "client_name": re.compile(r"[!-~]{1,100}")}
TLS_OPTIONS = {
    "ssl_cert_reqs": re.compile(r"none|optional|required"),
    "ssl_check_hostname": re.compile(r"(?i:true|false|yes|no|1|0)"),
}
TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def check_redis_url(url: str) -> None:
    """Check that a URL names a database of a Redis.

    Raises:
        EmbarqError: it does not; the error quotes no part of it, which may be a password.
    """
    problem = redis_url_problem(url)
    if problem is not None:
        raise EmbarqError(f"the URL of Redis {problem}")


def redis_url_problem(url: str) -> str | None:
    """What is wrong with a URL, as the end of a sentence; None if nothing."""
    problem = url_problem(SCHEMES, url or "")  # None where a caller passes on what `os.environ.get` gave
    if problem is not None:
        return problem
    parts = urlsplit(url)
    if parts.scheme == "unix" and not parts.path:
        return "must name a socket by its path, such as unix:///run/redis/redis.sock"
    if parts.scheme != "unix" and not DATABASE.fullmatch(parts.path):
        return "must end with the number of a database, such as redis://host:6379/0"
    return _problem_with_options(parts.query, is_tls=parts.scheme == "rediss")


def checks_hostname(url: str) -> bool:
    """Whether the certificate must match the host's name, which some releases of redis-py check only when asked to."""
    options = dict(parse_qsl(urlsplit(url).query))
    return options.get("ssl_cert_reqs", "required") != "none"


def _problem_with_options(query: str, *, is_tls: bool) -> str | None:
    patterns = {**OPTIONS, **TLS_OPTIONS} if is_tls else OPTIONS
    files = TLS_FILES if is_tls else ()
    options = parse_qsl(query, keep_blank_values=True)
    for place, (name, value) in enumerate(options):
        if any(name == before for before, _ in options[:place]):
            return f"must set {name} once"
        if name in files:
            if not (Path(value).is_file() and os.access(value, os.R_OK)):
                return f"must set {name} to a file that this process can read"
        elif name not in patterns:
            return f"must have no options but {', '.join((*patterns, *files))}"
        elif not patterns[name].fullmatch(value):
            return f"must have a valid value for {name}"
    return None
