"""A job's arguments, checked against its signature by pydantic: at enqueue, and again in the worker."""

import hashlib
import inspect
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NotRequired, get_args, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError, with_config
from pydantic.errors import PydanticInvalidForJsonSchema
from typing_extensions import TypedDict

from worker.core import wire
from worker.core.context import Context
from worker.core.errors import ArgumentProblem, DefinitionError, InvalidArguments
from worker.core.options import MOST_PROBLEMS, problems
from worker.definition.fail_fast import fail_fast
from worker.definition.places import place_of
from worker.definition.resources import injected

FEW_PARTS = 1000  # values up to which all problems are listed: pydantic's list of more takes too long
CONTEXT = "`ctx: Context` (from embarq import Context)"
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_STARS: Mapping[object, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
_INSTEAD: Mapping[object, str] = {
    inspect.Parameter.VAR_POSITIONAL: "must be sent by name: write a list, such as `values: list[int]`",
    inspect.Parameter.VAR_KEYWORD: "must be named: write each argument, or a dict such as `values: dict[str, int]`",
    inspect.Parameter.POSITIONAL_ONLY: "must be sent by name: leave out the `/`",
}


def label_of(job: str, function: Callable[..., Any]) -> str:
    """A job and where it is defined, for messages."""
    return f"job {job!r} ({place_of(function)})"


def _found(name: str, hint: Any) -> str:
    return f"not `{name}`" if hint is None else f"not `{name}: {getattr(hint, '__name__', hint)}`"


def _has_json(hint: Any) -> bool:
    try:
        TypeAdapter(hint)
    except PydanticUserError:
        return False
    return True


def _is_one_of(hint: Any, resources: Container[type]) -> bool:
    return isinstance(hint, type) and hint in resources


def has_more_parts(value: Any, most: int) -> bool:
    """Whether more than `most` values are in `value`, all levels together."""
    count, left = 0, [value]
    while left:
        inner = left.pop()
        members = inner.values() if isinstance(inner, Mapping) else inner if isinstance(inner, list | tuple) else ()
        count += len(members)
        if count > most:
            return True
        left += members
    return False


class ArgumentSchema:
    """The arguments that a job function takes, without its context.

    Raises:
        DefinitionError: a parameter has no annotation or no JSON form, cannot be sent by name, or is the context in the
            wrong place.
    """

    def __init__(self, job: str, function: Callable[..., Any], resources: Container[type] = ()) -> None:
        """`resources`: types that the worker provides; parameters of these, and those whose default is `injected`, are
        not sent. `check` is what `validate` does with up to `most_values` values, but for its errors, which are those
        of pydantic."""
        self._job = job
        self._function = function
        hints = self._read_hints()
        parameters = list(inspect.signature(function).parameters.values())
        self.takes_context = bool(parameters) and hints.get(parameters[0].name) is Context
        taken = {p.name: p for p in parameters[self.takes_context :]}
        self._refuse_unclear(taken, hints, first=parameters[0].name if parameters else "")
        self.injected: dict[str, type] = {
            name: hints[name]
            for name, p in taken.items()
            if p.default is injected or _is_one_of(hints[name], resources)
        }
        self._parameters = {name: p for name, p in taken.items() if name not in self.injected}
        self._order = list(self._parameters)
        self._hints = hints
        self._adapter = self._build(self._parameters, hints)
        self.check: Callable[[Any], dict[str, Any]] = fail_fast(self._adapter).validate_python
        self.most_values = len(self._order) + MOST_PROBLEMS
        self._adapters_without: dict[str, TypeAdapter[dict[str, Any]]] = {}

    def _read_hints(self) -> dict[str, Any]:
        try:
            return get_type_hints(self._function, include_extras=True)
        except (NameError, AttributeError, SyntaxError, TypeError) as error:
            raise self._wrong(f"an annotation cannot be read: {error}") from error

    def _wrong(self, problem: str) -> DefinitionError:
        return DefinitionError(f"{label_of(self._job, self._function)}: {problem}")

    def _refuse_unclear(self, taken: Mapping[str, inspect.Parameter], hints: Mapping[str, Any], first: str) -> None:
        """Refuse parameters that cannot be sent, or that were meant to be the context."""
        for name, parameter in taken.items():
            hint = hints.get(name)
            if name == first == "ctx":
                raise self._wrong(
                    f"its context must be {CONTEXT}, an object where arq has a dict, {_found(name, hint)}"
                )
            if hint is Context or Context in get_args(hint):
                raise self._wrong(f"its context must be the first parameter, {CONTEXT}, {_found(name, hint)}")
            if parameter.kind not in _BY_NAME:
                raise self._wrong(f"parameter {_STARS.get(parameter.kind, '')}{name} {_INSTEAD[parameter.kind]}")
            if name not in hints and name == first and name in {"self", "cls"}:
                raise self._wrong("a job must be a function, not a method: move it out of its class")
            if name not in hints:
                raise self._wrong(f"parameter {name!r} must have a type annotation, such as `{name}: int`")

    def _build(
        self, parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]
    ) -> TypeAdapter[dict[str, Any]]:
        fields = {
            name: hints[name] if p.default is p.empty else NotRequired[hints[name]] for name, p in parameters.items()
        }
        table: Any = TypedDict(f"{self._job}_arguments", fields)  # type: ignore[misc]  # made at run time
        try:
            checked: TypeAdapter[dict[str, Any]] = TypeAdapter(with_config(ConfigDict(extra="forbid"))(table))  # type: ignore[arg-type]  # a table is a dict
            return checked
        except PydanticUserError as error:
            raise self._without_json(parameters, hints, error) from error

    def _without_json(
        self, parameters: Iterable[str], hints: Mapping[str, Any], error: PydanticUserError
    ) -> DefinitionError:
        """The error that names the parameter that cannot be sent."""
        name = next((each for each in parameters if not _has_json(hints[each])), None)
        if name is None:
            return self._wrong(f"annotations must have a JSON form: {error.message.splitlines()[0]}")
        kind = getattr(hints[name], "__name__", str(hints[name]))
        what = f"parameter `{name}: {kind}` must have a JSON form, or a resource that provides it"
        how = f"an `async def` under @resource that yields one and is annotated -> AsyncIterator[{kind}]"
        return self._wrong(f"{what}: take what can be sent as JSON, or write {how}")

    @property
    def names(self) -> Sequence[str]:
        """The arguments' names, in order."""
        return self._order

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Name positional arguments as a Python call would.

        Raises:
            InvalidArguments: too many, or one given twice.
        """
        if not args:
            return dict(kwargs)
        named = dict(zip(self._order, args, strict=False))
        wrong = [ArgumentProblem(("args", name), "must not be given twice") for name in named if name in kwargs]
        if len(args) > len(self._order):
            count = f"must be at most {len(self._order)}, not {len(args)}"
            wrong.append(ArgumentProblem(("args",), count))
        if wrong:
            raise InvalidArguments(self._job, wrong)
        return {**named, **kwargs}

    def validate(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Turn JSON values, or Python ones, into what the signature's types say.

        Raises:
            InvalidArguments: a value is missing, unknown or of a wrong type.
        """
        if len(values) > self.most_values:
            count = ArgumentProblem(("args",), f"must be at most {len(self._order)}, not {len(values)}")
            raise InvalidArguments(self._job, [count])
        try:
            return self.check(values)
        except ValidationError as error:
            raise InvalidArguments(self._job, self._problems(values, error)) from error
        except RecursionError as error:
            raise InvalidArguments(self._job, [ArgumentProblem(("args",), "must be nested less deeply")]) from error

    def _problems(self, values: Mapping[str, Any], found: ValidationError) -> list[ArgumentProblem]:
        """Everything that is wrong with small values; for large ones, the first problem of each list."""
        if not has_more_parts(values, FEW_PARTS):
            try:
                self._adapter.validate_python(values)
            except ValidationError as error:
                return problems(error, "args")
        return problems(found, "args")

    def bind_without(self, taken: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """As `bind`, when an earlier step's result becomes the argument `taken` and `args` come behind it.

        Raises:
            InvalidArguments: too many, or one given twice.
        """
        named = self.bind((None, *args), kwargs) if self._order[0] == taken else self.bind(args, kwargs)
        named.pop(taken, None)
        return named

    def check_without(self, taken: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Check arguments of which one is still to come; as JSON values.

        Raises:
            InvalidArguments: a value is missing, unknown or of a wrong type.
        """
        adapter = self._adapters_without.get(taken)
        if adapter is None:
            hints = {name: hint for name, hint in self._hints.items() if name != taken}
            parameters = {name: each for name, each in self._parameters.items() if name != taken}
            adapter = self._adapters_without[taken] = self._build(parameters, hints)
        try:
            dumped: dict[str, Any] = adapter.dump_python(adapter.validate_python(values), mode="json")
        except ValidationError as error:
            raise InvalidArguments(self._job, problems(error, "args")) from error
        return dumped

    def to_json(self, values: dict[str, Any]) -> dict[str, Any]:
        """Validated arguments as JSON values."""
        dumped: dict[str, Any] = self._adapter.dump_python(values, mode="json")
        return dumped

    @cached_property
    def digest(self) -> str:
        """Identifies names, order, types and what is required: another version of the job with the same arguments has
        the same one."""
        try:
            shape: object = self._adapter.json_schema()
        except PydanticInvalidForJsonSchema:  # a custom type without a JSON schema
            shape = {name: (repr(self._hints[name]), p.default is p.empty) for name, p in self._parameters.items()}
        return hashlib.sha256(wire.dumps([self._order, shape])).hexdigest()[:16]

    def json_schema(self) -> dict[str, Any]:
        """The JSON schema of the arguments, with their defaults."""
        schema = self._adapter.json_schema()
        for name, parameter in self._parameters.items():
            if parameter.default is not inspect.Parameter.empty:
                default = self._adapter.dump_python({name: parameter.default}, mode="json", warnings=False)[name]
                schema["properties"][name]["default"] = default
        return schema
