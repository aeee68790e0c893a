"""The arguments of commands, parsed before anything connects."""

import json
from collections.abc import Iterable
from typing import Any

from worker.core.errors import EmbarqError


class UsageError(EmbarqError):
    """A command was given a wrong argument."""


def pairs(arguments: Iterable[str]) -> dict[str, Any]:
    """`name=value` as arguments of a job: a value is JSON, or else text.

    Raises:
        UsageError: one has no `=`.
    """
    found: dict[str, Any] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals:
            raise UsageError(f"{argument!r} must be name=value, such as user_id=7")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def json_object(option: str, text: str) -> dict[str, Any]:
    """The value of an option as a JSON object.

    Raises:
        UsageError: it is not one.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{option} {text!r} must be JSON: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(f'{option} {text!r} must be a JSON object, such as {{"delay": 60}}')
    return value
