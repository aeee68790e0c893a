"""Workflows as JSON: a job, `{"chain": [...]}`, `{"group": [...]}`, `{"chord": {"group": [...], "callback": ...}}`.

They may have 50,000 steps in 16 MB. So they are read step by step, yielding to other requests in between, and steps are
counted before any object is made of them.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from worker.core.errors import ArgumentProblem
from worker.core.options import CALLBACKS, EnqueueOptions, check_client_options
from worker.core.signature import Signature
from worker.core.workflow_graph import DEEPEST, MOST_NODES, Chain, Flow, Group, chord
from worker.definition.registry import Registry
from worker.http.errors import BodyTooLarge, InvalidBody
from worker.http.json import InvalidJson
from worker.http.parts import NOTHING, is_list, members
from worker.http.turns import Turns

Path = tuple[str | int, ...]

FORMS = ("chain", "group", "chord")
# msgspec names an unknown field in the text of its error only; the bound keeps a huge name out of the answer.
_UNKNOWN = re.compile(r"unknown field `(.{1,200}?)`")


class _Form(msgspec.Struct, forbid_unknown_fields=True):
    """A flow, its parts unread. A job has the first four, any other form only its own field."""

    job: msgspec.Raw = NOTHING
    args: msgspec.Raw = NOTHING
    options: msgspec.Raw = NOTHING
    immutable: msgspec.Raw = NOTHING
    chain: msgspec.Raw = NOTHING
    group: msgspec.Raw = NOTHING
    chord: msgspec.Raw = NOTHING


class _Chord(msgspec.Struct, forbid_unknown_fields=True):
    group: msgspec.Raw
    callback: msgspec.Raw


class FlowReader:
    """Reads one workflow; `largest` bytes are the most that one of its jobs may take."""

    def __init__(self, registry: Registry, largest: int) -> None:
        self._registry = registry
        self._largest = largest
        self._room = MOST_NODES
        self._turns = Turns()

    async def read(self, body: bytes) -> tuple[Flow, dict[str, Any]]:
        """The flow of a request, and the options of the workflow.

        Raises:
            InvalidJson: the body is not a JSON object.
            InvalidBody: something does not have the form of a flow; with a pointer to it.
            UnknownJob, InvalidOptions: the job or the options of a step are wrong.
        """
        if body.lstrip()[:1] != b"{":
            raise InvalidJson("the body must be a JSON object")
        form = self._form(msgspec.Raw(body), ())
        options = {} if form.options is NOTHING else self._decode(form.options, ("options",))
        if not isinstance(options, dict):
            raise _wrong(("options",), "must be an object")
        form.options = NOTHING
        return await self._flow(form, (), 0), options

    async def _flow(self, form: _Form, path: Path, depth: int) -> Flow:
        if depth > DEEPEST:
            raise _wrong(path, f"must be nested at most {DEEPEST} levels deep")
        await self._turns.give_way()
        given = [name for name in form.__struct_fields__ if getattr(form, name) is not NOTHING]
        name = next((name for name in FORMS if name in given), None)
        if name is None:
            return self._job(form, given, path)
        if given != [name]:
            raise _wrong((*path, next(other for other in given if other != name)), f"must not be given with {name}")
        own: Path = (*path, name)
        if name == "chord":
            return await self._chord(form.chord, own, depth)
        parts = await self._parts(getattr(form, name), own, depth)
        return Chain(parts) if name == "chain" else Group(parts)

    def _job(self, form: _Form, given: list[str], path: Path) -> Flow:
        step = {name: self._decode(getattr(form, name), (*path, name)) for name in given}
        return read_signature(self._registry, step, path)

    async def _chord(self, value: msgspec.Raw, path: Path, depth: int) -> Flow:
        try:
            parts = msgspec.json.decode(value, type=_Chord)
        except msgspec.ValidationError:
            raise _wrong(path, "must be an object with a group and a callback") from None
        header = Group(await self._parts(parts.group, (*path, "group"), depth))
        callback: Path = (*path, "callback")
        self._count(1, callback)  # before the parts below it are read: a body may hold more steps than a workflow may
        return chord(header, await self._flow(self._form(parts.callback, callback), callback, depth + 1))

    async def _parts(self, value: msgspec.Raw, path: Path, depth: int) -> tuple[Flow, ...]:
        if not is_list(value):
            raise _wrong(path, "must be a list of steps")
        # Counted before they are decoded: `members` gives up above the room that is left.
        steps = members(value, self._room)
        self._count(self._room + 1 if steps is None else len(steps), path)
        found = []
        for place, step in enumerate(steps or ()):
            own: Path = (*path, place)
            found.append(await self._flow(self._form(step, own), own, depth + 1))
        return tuple(found)

    def _count(self, steps: int, path: Path) -> None:
        self._room -= steps
        if self._room < 0:
            raise _wrong(path, f"must not bring the workflow over {MOST_NODES:,} steps")

    def _form(self, value: msgspec.Raw, path: Path) -> _Form:
        try:
            return msgspec.json.decode(value, type=_Form)
        except msgspec.ValidationError as error:
            unknown = _UNKNOWN.search(str(error))
            if unknown is None:
                raise _wrong(path, "must be a step: an object") from None
            raise _wrong((*path, unknown[1]), "must be a field of a step") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidJson(f"the body must be JSON: {error}") from error

    def _decode(self, value: msgspec.Raw, path: Path) -> Any:
        if len(memoryview(value)) > self._largest:
            raise BodyTooLarge(self._largest, path)
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidJson(f"the body must be JSON: {error}") from error


def read_signature(registry: Registry, value: Any, path: Path) -> Signature[Any]:
    """A job as a step: `{"job", "args", "options", "immutable"}`.

    Raises:
        InvalidBody: with a pointer to what is wrong.
        UnknownJob, InvalidOptions: the job or its options are wrong.
    """
    if not isinstance(value, dict) or not isinstance(value.get("job"), str):
        raise _wrong(path, "must be a step: an object with a job, or a chain, a group or a chord")
    unknown = next((key for key in value if key not in {"job", "args", "options", "immutable"}), None)
    if unknown is not None:
        raise _wrong((*path, unknown), "must be a field of a step")
    args, options, immutable = value.get("args", {}), value.get("options", {}), value.get("immutable", False)
    if not isinstance(args, dict):
        raise _wrong((*path, "args"), "must be an object: arguments by name")
    if not isinstance(immutable, bool):
        raise _wrong((*path, "immutable"), "must be true or false")
    definition = registry.get(value["job"])
    return Signature(definition, (), args, read_options(registry, definition.name, options, path), immutable)


def read_options(registry: Registry, job: str, options: Any, path: Path = ()) -> EnqueueOptions:
    """Options of a call as JSON, with callbacks as steps.

    Raises:
        InvalidOptions, InvalidBody, UnknownJob: one is wrong.
    """
    if isinstance(options, dict) and any(name in options for name in CALLBACKS):
        options = {**options, **read_callbacks(registry, options, path)}
    return check_client_options(job, options)


def read_callbacks(registry: Registry, options: dict[str, Any], path: Path = ()) -> dict[str, Signature[Any]]:
    """The callbacks among options.

    Raises:
        InvalidOptions, InvalidBody, UnknownJob: one is wrong, or has callbacks of its own, which nothing would call.
    """
    found = {}
    for name in (name for name in CALLBACKS if name in options):
        own: Path = (*path, "options", name)
        inner = options[name].get("options") if isinstance(options[name], dict) else None
        if isinstance(inner, dict) and any(each in inner for each in CALLBACKS):
            raise _wrong((*own, "options"), "must not have callbacks: a callback has none of its own")
        found[name] = read_signature(registry, options[name], own)
    return found


def queues_of(flow: Flow) -> Iterator[str]:
    """The queues that a flow's steps and their callbacks name, once a step."""
    if isinstance(flow, Signature):
        yield from queues_in(flow.options)
        return
    for part in flow.steps if isinstance(flow, Chain) else flow.members:
        yield from queues_of(part)


def queues_in(options: Mapping[str, Any]) -> Iterator[str]:
    """The queues that options name, with those of callbacks."""
    if "queue" in options:
        yield options["queue"]
    for name in CALLBACKS:
        if name in options:
            yield from queues_in(options[name].options)


def _wrong(path: Path, message: str) -> InvalidBody:
    return InvalidBody([ArgumentProblem(path, message)])
