"""What a newcomer reads once everything is up: where it answers, and a line to try."""

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from worker.definitions import JobDefinition
from worker.dev.environment import KEY
from worker.observability.colours import BOLD, DIM, painted

LIKED = "echo"
SIMPLE: Mapping[str, Any] = {"string": "text", "integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}}
LONGEST_EXAMPLE = 500  # bytes
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where to find one that listens there


def address(host: str, port: int) -> str:
    """Where to find an API that listens there."""
    named = EVERYWHERE.get(host, host)
    return f"http://[{named}]:{port}" if ":" in named else f"http://{named}:{port}"


def example(definitions: Iterable[JobDefinition[..., Any]]) -> bytes:
    """The body of a request that queues a job: `echo`, or the first one whose arguments are simple, if any."""
    for definition in sorted(definitions, key=lambda each: each.name != LIKED):
        arguments = _arguments(definition.schema.json_schema())
        if arguments is not None:
            body = json.dumps({"job": definition.name, "args": arguments}).encode()
            return body if len(body) <= LONGEST_EXAMPLE else b""
    return b""


def _arguments(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """A value for each argument that must be given; None where that takes more than this knows."""
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


def trial(url: str, example: bytes, key: str | None, *, is_exported: bool) -> str:
    """A line for a shell that queues the job of this body. `is_exported`: whether that shell knows the key, too. It is
    not shown then."""
    header = "" if key is None else f"-H {_quoted_header(key, is_exported)} "
    return f"curl -i {url}/api/v1/jobs {header}-d {shlex.quote(example.decode())}"


def _quoted_header(key: str, is_exported: bool) -> str:
    return f'"Authorization: Bearer ${KEY}"' if is_exported else shlex.quote(f"Authorization: Bearer {key}")


def banner(url: str, seconds: float, trial: str, *, reload: bool, in_colour: bool) -> list[str]:
    """The lines. `seconds`: how long the start took. `trial`: a line to try, if there is one."""
    strong = (lambda text: painted(text, BOLD)) if in_colour else str
    weak = (lambda text: painted(text, DIM)) if in_colour else str
    lines = ["", f"  {strong('Embarq')} is ready {weak(f'after {seconds:.1f} s')}", f"  {strong(url)}/", ""]
    if trial:
        lines += [f"  Try:  {trial}", ""]
    changes = "A change of the code restarts the API and the worker. " if reload else ""
    return [*lines, f"  {weak(f'{changes}Ctrl-C stops everything.')}", ""]
