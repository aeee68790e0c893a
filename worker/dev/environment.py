"""The environment of the API and the worker under `embarq dev`."""

import os
import secrets
from collections.abc import Collection, Iterable, Mapping

from worker.dev.ports import Moved
from worker.settings import Settings
from worker.settings.project import Project

KEY = "EMBARQ_API_KEY"


def environment_of_children(
    project: Project, of_file: Collection[str], fixed: Mapping[str, str], ports: Iterable[Moved], *, in_colour: bool
) -> dict[str, str]:
    """Our own environment, with the addresses of servers, the ports of this run, and the project's additions where they
    are not set.

    `fixed`: what stays for as long as we run. `of_file`: variables that `.env` has set, which children read again, as
    it may have changed. Children write to a pipe, so variables say whether they use colours.
    """
    own = {name: value for name, value in os.environ.items() if name not in of_file}
    added = {name: value for name, value in project.development.items() if not os.environ.get(name)}
    moved = {each.variable: str(each.port) for each in ports}
    environment = {**own, **added, **fixed, **moved, "PYTHONUNBUFFERED": "1"}
    wanted, other = ("FORCE_COLOR", "NO_COLOR") if in_colour else ("NO_COLOR", "FORCE_COLOR")
    environment.pop(other, None)
    return environment | {wanted: environment.get(wanted) or "1"}


def generated_key(settings: Settings) -> dict[str, str]:
    """A key for this run, if other machines could use the API without one."""
    return {KEY: secrets.token_urlsafe(24)} if settings.is_exposed else {}


def key_to_show(settings: Settings, environment: Mapping[str, str]) -> tuple[str | None, bool]:
    """The key that the API requires, and whether the user's shell has it exported; `.env` exports nothing.

    `environment`: of the API, which reads `.env` as well.
    """
    own = settings.api_key.get_secret_value() if settings.api_key else None
    key = environment.get(KEY) or own
    return key, key is not None and environment.get(KEY) == os.environ.get(KEY)
