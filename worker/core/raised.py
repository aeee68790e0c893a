"""Exceptions across processes: what is written of one, and one of the same class rebuilt from that.

What comes back is data that anybody may have written into Redis. So no module is imported for it, only subclasses of
`Exception` in modules that this process has loaded already are found, and no Python code of theirs runs: neither a
constructor, nor a module's `__getattr__`, nor the `__class__` of a proxy, nor anything that a metaclass overrides. See
docs/decisions/014-causes-from-untrusted-data.md.
"""

import sys
from collections.abc import Sequence
from types import BuiltinFunctionType, ModuleType
from typing import Any

from worker.core.job import JobError, Scalar
from worker.core.texts import head

MOST_ARGS = 10
LONGEST_ARG = 1_000  # characters
LONGEST_PATH = 300
LARGEST_NUMBER = 2**53  # above it, readers of JSON lose digits
RETRY_OF_ARQ = "arq.worker:Retry"  # its `repr` raises without what its constructor sets, and it says nothing else

# The descriptors of `module` and `type` themselves: plain attribute access could run a metaclass's code.
_DICT_OF_MODULE: Any = vars(ModuleType)["__dict__"]
_DICT_OF_CLASS: Any = vars(type)["__dict__"]
_LINE_OF_CLASS: Any = vars(type)["__mro__"]


def path_of(kind: type[BaseException]) -> str:
    """Where a class is: `module:Name`."""
    return f"{kind.__module__}:{kind.__qualname__}"


def traits(error: BaseException, message: str) -> dict[str, Any]:
    """What is written of an error so that `rebuilt` can make one like it: its class, and its arguments where these are
    not its message alone. Nothing for what no caller should catch, such as `SystemExit`."""
    path = path_of(type(error))
    if not isinstance(error, Exception) or len(path) > LONGEST_PATH:
        return {}
    args = plain_args(error)
    return {"class": path} if args is None or args == [message] else {"class": path, "args": args}


def plain_args(error: BaseException) -> list[Scalar] | None:
    """The arguments of an error as JSON scalars, anything else as text; None where they cannot be read."""
    try:
        return [_plain(each) for each in error.args[:MOST_ARGS]]
    except Exception:  # the class's own code raised
        return None


def _plain(value: object) -> Scalar:
    if value is None or isinstance(value, bool):
        return value
    if type(value) is float or (type(value) is int and abs(value) <= LARGEST_NUMBER):
        return value
    return head(value, LONGEST_ARG)


def rebuilt(error: JobError | None) -> Exception | None:
    """An exception of the class that the job raised; None where this process has not loaded that, or cannot make one.

    Its `args` are there, with what was neither text nor number as text; its other attributes are not, so a custom
    `__str__` that reads them raises. To try that here would run its code.
    """
    if error is None or error.path is None or error.path == RETRY_OF_ARQ:
        return None
    try:
        kind = _loaded(error.path)
        return None if kind is None else _blank(kind, (error.message,) if error.args is None else error.args)
    except Exception:  # a class written in C that wants other arguments
        return None


# What follows calls C code only: `isinstance` reads `__class__`, and attributes of a class may be its metaclass's.
def _loaded(path: str) -> type[Exception] | None:
    """The class of this path, if a module that is loaded has it."""
    module_name, _, name = path.partition(":")
    found: Any = sys.modules.get(module_name)
    if not issubclass(type(found), ModuleType):
        return None
    held = _DICT_OF_MODULE.__get__(found)
    for part in name.split("."):
        found = held.get(part)
        if not issubclass(type(found), type):
            return None
        held = _DICT_OF_CLASS.__get__(found)
    return found if issubclass(found, Exception) else None


def _blank(kind: type[Exception], args: Sequence[Scalar]) -> Exception | None:
    """Made as Python makes exceptions before their own code runs: by the nearest `__new__` that is written in C. None
    for a class with `__del__`, whose code would run when the exception is dropped."""
    line = _LINE_OF_CLASS.__get__(kind)
    if any("__del__" in _DICT_OF_CLASS.__get__(each) for each in line):
        return None
    new = next(maker for each in line if (maker := _maker(each)) is not None)
    made: Exception = new(kind, *args)
    return made if type.__subclasscheck__(kind, type(made)) else None


def _maker(kind: type) -> Any:
    """The `__new__` that a class of C has by itself."""
    found = _DICT_OF_CLASS.__get__(kind).get("__new__")
    return found if type(found) is BuiltinFunctionType and found.__self__ is kind else None
