"""Where in the source something is, for messages: `jobs/emails.py:12`."""

import importlib
import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

ENGINE = Path(__file__).resolve().parents[1]
STANDARD_LIBRARY = Path(traceback.__file__).resolve().parent
LOADERS = (Path(importlib.__file__).resolve(), Path(__file__).resolve().with_name("discovery.py"))


def place_of(function: Callable[..., Any]) -> str:
    """Where a function begins; its module and name where it has no source."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', '?')}"
    return _place(code.co_filename, code.co_firstlineno)


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """Where a function is defined, and by which import of its module."""

    place: tuple[str, int]
    loading: object

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Self | None:
        """None where it has no file, as at an interactive prompt."""
        inner = inspect.unwrap(function)
        code = getattr(inner, "__code__", None)
        if code is None or code.co_filename.startswith("<"):
            return None
        names = inner.__globals__
        return cls((code.co_filename, code.co_firstlineno), names.get("__spec__") or names)

    def hides(self, other: Self) -> bool:
        """Whether both are in one file, at two places. A module that is imported again, edited or not, hides nothing:
        it has another `__spec__` then, or other globals."""
        return self.loading is other.loading and self.place[0] == other.place[0] and self.place != other.place


def place_of_error(error: BaseException) -> str:
    """Where an error was raised: the innermost frame among those nearest to the project; '' where there is none, as for
    a module that was not found. For a syntax error, that line itself."""
    if isinstance(error, SyntaxError) and error.filename:
        return _place(error.filename, error.lineno or 1)
    frames = [each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith("<")]
    nearest = max(frames[::-1], key=lambda frame: _nearness(Path(frame.filename).resolve()), default=None)
    if nearest is None or Path(nearest.filename).resolve() in LOADERS:
        return ""
    return _place(nearest.filename, nearest.lineno or 1)


def _nearness(path: Path) -> int:
    """0 for the engine's own files, 1 for what is installed, 3 for the project in the current folder, 2 for others."""
    if ENGINE in path.parents:
        return 0
    if "site-packages" in path.parts or STANDARD_LIBRARY in path.parents:
        return 1
    return 3 if path.is_relative_to(Path.cwd()) else 2


def _place(filename: str, line: int) -> str:
    return f"{shown_path(filename)}:{line}"


def shown_path(filename: str) -> str:
    """A file as messages name it: from the current folder, where it is below that."""
    path = Path(filename)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return str(path)
