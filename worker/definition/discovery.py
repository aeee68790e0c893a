"""Finding jobs: every module below the packages that settings name is imported, and `@job` registers."""

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from worker.core.errors import DefinitionError, EmbarqError
from worker.definition.places import place_of_error, shown_path
from worker.definition.registry import Registry


def discover(modules: Iterable[str], registry: Registry) -> None:
    """Import `modules`, and all modules below those that are packages, then check what they declare.

    Raises:
        DefinitionError: a module is missing or cannot be imported, or a job is declared wrongly.
    """
    for name in modules:
        module = _import(name)
        for found in pkgutil.walk_packages(getattr(module, "__path__", []), prefix=f"{name}."):
            _import(found.name)
    registry.check()


def _import(name: str) -> ModuleType:
    if not all(name.split(".")) or "/" in name or "\\" in name:
        raise DefinitionError(f"{name!r} must be a module as in `import`, such as myapp.tasks, not a path")
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a module raises, SystemExit too, is reported in one line
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            where = f"in {Path.cwd()} or among what is installed"
            missing = f"there is no module {name!r} {where}: EMBARQ_JOBS, or jobs in [tool.embarq], must name modules"
            raise DefinitionError(missing) from error
        raise DefinitionError(_problem(name, error)) from error


def _problem(name: str, error: BaseException) -> str:
    """What is wrong in a module, in one line; the traceback is the cause."""
    place = place_of_error(error) or _file_of(name)
    where = f"{place}: " if place else ""
    if isinstance(error, EmbarqError):
        return f"{where}{error}"
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    text = " ".join(message.split())
    return f"{where}{type(error).__name__}{': ' if text else ''}{text} (module {name!r} cannot be imported)"


def _file_of(name: str) -> str:
    """The file of a module that has not begun to run; '' where it has none."""
    try:
        found = importlib.util.find_spec(name)
    except Exception:  # raised by a parent package, which this imports
        return ""
    return shown_path(found.origin) if found is not None and found.has_location and found.origin else ""
