"""Exceptions across processes: what is written of one, and one of the same class made from that.

What comes back is data that anybody may have written into Redis. So no module is imported for it, only classes below
`Exception` of modules that this process has loaded already are found, and no code of theirs runs: neither a constructor
nor a module's `__getattr__`.
"""

import sys
from collections.abc import Sequence
from types import BuiltinFunctionType, ModuleType
from typing import Any

from worker.job import JobError, Scalar
from worker.texts import head

MOST_ARGS = 10
LONGEST_ARG = 1_000  # characters
LONGEST_PATH = 300
LARGEST_NUMBER = 2**53


def path_of(kind: type[BaseException]) -> str:
    """Where a class is: `module:Name`."""
    return f"{kind.__module__}:{kind.__qualname__}"


def traits(error: BaseException, message: str) -> dict[str, Any]:
    """What is written of an error so that `rebuilt` can make one like it: its class, and its arguments where these are
    not its message alone. Nothing of what no job can be expected to catch, such as `SystemExit`."""
    path = path_of(type(error))
    if not isinstance(error, Exception) or len(path) > LONGEST_PATH:
        return {}
    args = plain_args(error)
    return {"class": path} if args is None or args == [message] else {"class": path, "args": args}


def plain_args(error: BaseException) -> list[Scalar] | None:
    """The arguments of an error as JSON can hold them, others than texts, numbers and the like as text; None where they
    cannot be had."""
    try:
        return [_plain(each) for each in error.args[:MOST_ARGS]]
    except Exception:  # of the code of whoever wrote the class
        return None


def _plain(value: object) -> Scalar:
    if value is None or isinstance(value, bool):
        return value
    if type(value) is float or (type(value) is int and abs(value) <= LARGEST_NUMBER):
        return value
    return head(value, LONGEST_ARG)


def rebuilt(error: JobError | None) -> Exception | None:
    """An exception of the class that the job raised; None where this process has not loaded that, or cannot make one.

    Its `args` are there, with what was neither text nor number as text; its other attributes are not.
    """
    kind = None if error is None or error.path is None else _loaded(error.path)
    if error is None or kind is None:
        return None
    try:
        made = _blank(kind, (error.message,) if error.args is None else error.args)
    except Exception:  # a class of C that wants other arguments
        return None
    return made if isinstance(made, kind) else None


def _loaded(path: str) -> type[Exception] | None:
    """The class of this path, if a module that is loaded has it."""
    module_name, _, name = path.partition(":")
    module = sys.modules.get(module_name)
    if not isinstance(module, ModuleType):
        return None
    found: Any = module
    for part in name.split("."):
        found = object.__getattribute__(found, "__dict__").get(part) if found is module else _own(found, part)
        if not isinstance(found, type):
            return None
    return found if issubclass(found, Exception) else None


def _own(kind: type, name: str) -> object:
    return type.__getattribute__(kind, "__dict__").get(name)


def _blank(kind: type[Exception], args: Sequence[Scalar]) -> Exception:
    """Made as Python makes exceptions before their own code runs: by the nearest `__new__` that is written in C."""
    makers = (each.__dict__.get("__new__") for each in kind.__mro__)
    new = next(maker for maker in makers if isinstance(maker, BuiltinFunctionType))
    made: Exception = new(kind, *args)
    return made
