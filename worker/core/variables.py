"""The environment variables that settings are read from: their names, the errors about wrong values, and variables that
look like them but are not."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from pydantic import AfterValidator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings

from worker.core.suggestions import nearest
from worker.core.urls import url_problem

PREFIX = "EMBARQ_"
SECRETS = re.compile(r"URL|SECRET|KEY|PASSWORD|TOKEN")  # in the names of variables whose values are not shown
SCHEME = re.compile(r"[a-z][a-z0-9+]{0,19}://")
SPACELESS = re.compile(r"[^\s\x00-\x1f\x7f]+")
LONGEST_SHOWN = 100


def is_production(environ: Mapping[str, str]) -> bool:
    """Whether an environment says so: by EMBARQ_ENV, in any case of letters, or, where that is not set, by DYNO, which
    Heroku sets. An unknown EMBARQ_ENV is not taken for development; settings refuse it.
    """
    stated = stated_environment(environ.get("EMBARQ_ENV", ""))
    return stated != "development" if stated else "DYNO" in environ


def stated_environment(value: str) -> str:
    """What EMBARQ_ENV is understood as."""
    return value.strip().lower()


def variable_of(kind: type[BaseSettings], field: str) -> str:
    """The environment's name for a field."""
    alias = kind.model_fields[field].validation_alias if field in kind.model_fields else None
    return alias if isinstance(alias, str) else f"{PREFIX}{field.upper()}"


def url_of(*schemes: str) -> AfterValidator:
    """Accepts URLs of these schemes. Its errors quote no part of a URL, which may be a password."""
    return AfterValidator(partial(_url, schemes))


def _url(schemes: Sequence[str], value: str) -> str:
    problem = url_problem(schemes, value)
    if problem is not None:
        raise ValueError(problem)
    return value


def url_with_host(*schemes: str) -> AfterValidator:
    """As `url_of`, for URLs that lead nowhere without a host."""

    def check(value: str) -> str:
        _url(schemes, value)
        if not urlsplit(value).hostname or not SPACELESS.fullmatch(value):
            raise ValueError("must have a host after ://, and no spaces")
        return value

    return AfterValidator(check)


def refusal(kind: type[BaseSettings], problem: ErrorDetails) -> str:
    """What is wrong with a variable, in one line. Where it may hold a secret, the value is not shown."""
    place = str(problem["loc"][0])
    variable = place if place.isupper() else variable_of(kind, place)
    message = problem["msg"].removeprefix("Value error, ")
    value = os.environ.get(variable, str(problem["input"]))
    if not SECRETS.search(variable):
        return f"{variable}={value[:LONGEST_SHOWN]!r}: {message}"
    scheme = SCHEME.match(value)
    return f"{variable}={scheme[0]}…: {message}" if scheme else f"{variable}: {message}"


@dataclass(frozen=True, slots=True)
class Misspelt:
    """A variable with our prefix that sets nothing, and the one that was probably meant, if any."""

    variable: str
    meant: str | None

    def __str__(self) -> str:
        hint = f"; did you mean {self.meant}?" if self.meant else ""
        return f"{self.variable} is not a setting{hint}"


def misspelt(kind: type[BaseSettings], environ: Mapping[str, str]) -> list[Misspelt]:
    """Those in an environment, for a class of settings."""
    known = {variable_of(kind, field) for field in kind.model_fields}
    bare = {variable.removeprefix(PREFIX): variable for variable in known}  # the prefix would make all names alike
    found = [name for name in sorted(environ) if name.upper().startswith(PREFIX) and name.upper() not in known]
    return [Misspelt(name, bare.get(nearest(name.upper().removeprefix(PREFIX), bare) or "")) for name in found]
