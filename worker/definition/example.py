"""A first request to try, made from the jobs that there are."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from worker.definition.definitions import JobDefinition

LIKED = "echo"
SIMPLE: Mapping[str, Any] = {"string": "text", "integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}}
LONGEST_EXAMPLE = 500  # bytes


def example(definitions: Iterable[JobDefinition[..., Any]]) -> bytes:
    """The body of a request that queues a job: `echo`, or the first one whose arguments are simple, if any."""
    for definition in sorted(definitions, key=lambda each: each.name != LIKED):
        arguments = _arguments(definition.schema.json_schema())
        if arguments is not None:
            body = json.dumps({"job": definition.name, "args": arguments}).encode()
            return body if len(body) <= LONGEST_EXAMPLE else b""
    return b""


def _arguments(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """A value for each required argument; None where one is not of a simple type."""
    found = {}
    for name in schema.get("required", ()):
        one = schema.get("properties", {}).get(name, {})
        one = schema.get("$defs", {}).get(str(one["$ref"]).rpartition("/")[2], one) if "$ref" in one else one
        if "enum" in one:
            found[name] = one["enum"][0]
        elif not set(one) - {"title", "description"}:  # of any type
            found[name] = 1
        elif one.get("type") in SIMPLE and not set(one) - {"title", "description", "type", "items"}:
            found[name] = SIMPLE[one["type"]]
        else:
            return None
    return found
