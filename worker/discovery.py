"""Finding jobs: every module below the packages that settings name is imported, and `@job` registers."""

import importlib
import pkgutil
from collections.abc import Iterable

from worker.errors import DefinitionError
from worker.registry import Registry


def discover(modules: Iterable[str], registry: Registry) -> None:
    """Import `modules`, and all modules below those that are packages, then check what they declare.

    Raises:
        DefinitionError: a module is missing, or a job is declared wrongly.
        InvalidArguments: a schedule's arguments do not fit its job.
    """
    for name in modules:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
            raise DefinitionError(f"no module {name!r}, which EMBARQ_JOBS names") from error
        for found in pkgutil.walk_packages(getattr(module, "__path__", []), prefix=f"{name}."):
            importlib.import_module(found.name)
    registry.check()
