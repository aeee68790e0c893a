"""Workflows as JSON: a job, `{"chain": [...]}`, `{"group": [...]}`, `{"chord": {"group": [...], "callback": ...}}`."""

from collections.abc import Callable
from typing import Any

from api.errors import InvalidBody
from worker.errors import ArgumentProblem
from worker.options import CALLBACKS, EnqueueOptions, check_client_options
from worker.registry import Registry
from worker.signature import Signature
from worker.workflows import DEEPEST, Chain, Flow, Group, chord

Path = tuple[str | int, ...]


def read_flow(registry: Registry, value: Any, path: Path = ()) -> Flow:
    """A flow from its JSON form.

    Raises:
        InvalidBody: with a pointer to what has not the form of a flow.
        UnknownJob, InvalidOptions: a step says so.
    """
    if not isinstance(value, dict):
        raise _wrong(path, "is a step: an object")
    if len(path) > 4 * DEEPEST:
        raise _wrong(path, f"is nested deeper than {DEEPEST} levels")
    for name, read in FORMS.items():
        if name in value:
            if len(value) > 1:
                raise _wrong((*path, next(key for key in value if key != name)), f"does not go with {name}")
            return read(registry, value[name], (*path, name))
    return read_signature(registry, value, path)


def read_signature(registry: Registry, value: Any, path: Path) -> Signature[Any]:
    """A job as a step: `{"job", "args", "options", "immutable"}`.

    Raises:
        InvalidBody: with a pointer to what is wrong.
        UnknownJob, InvalidOptions: the job or its options are wrong.
    """
    if not isinstance(value, dict) or not isinstance(value.get("job"), str):
        raise _wrong(path, "is a step: it has a job, or is a chain, a group or a chord")
    unknown = next((key for key in value if key not in {"job", "args", "options", "immutable"}), None)
    if unknown is not None:
        raise _wrong((*path, unknown), "is not a field of a step")
    args, options, immutable = value.get("args", {}), value.get("options", {}), value.get("immutable", False)
    if not isinstance(args, dict):
        raise _wrong((*path, "args"), "is an object: arguments by name")
    if not isinstance(immutable, bool):
        raise _wrong((*path, "immutable"), "is true or false")
    definition = registry.get(value["job"])
    return Signature(definition, (), args, read_options(registry, definition.name, options), immutable)


def read_options(registry: Registry, job: str, options: Any) -> EnqueueOptions:
    """Options of a call as JSON, with callbacks as steps.

    Raises:
        InvalidOptions, InvalidBody, UnknownJob: one is wrong.
    """
    if isinstance(options, dict) and any(name in options for name in CALLBACKS):
        options = {**options, **read_callbacks(registry, options)}
    return check_client_options(job, options)


def read_callbacks(registry: Registry, options: dict[str, Any]) -> dict[str, Signature[Any]]:
    """The callbacks among options."""
    given = [name for name in CALLBACKS if name in options]
    return {name: read_signature(registry, options[name], ("options", name)) for name in given}


def _parts(registry: Registry, value: Any, path: Path) -> tuple[Flow, ...]:
    if not isinstance(value, list):
        raise _wrong(path, "is a list of steps")
    return tuple(read_flow(registry, part, (*path, place)) for place, part in enumerate(value))


def _chain(registry: Registry, value: Any, path: Path) -> Flow:
    return Chain(_parts(registry, value, path))


def _group(registry: Registry, value: Any, path: Path) -> Flow:
    return Group(_parts(registry, value, path))


def _chord(registry: Registry, value: Any, path: Path) -> Flow:
    if not isinstance(value, dict) or value.keys() != {"group", "callback"}:
        raise _wrong(path, "has a group and a callback")
    header = Group(_parts(registry, value["group"], (*path, "group")))
    return chord(header, read_flow(registry, value["callback"], (*path, "callback")))


FORMS: dict[str, Callable[[Registry, Any, Path], Flow]] = {"chain": _chain, "group": _group, "chord": _chord}


def _wrong(path: Path, message: str) -> InvalidBody:
    return InvalidBody([ArgumentProblem(path, message)])
