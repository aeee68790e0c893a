"""Embarq's engine: background jobs as native coroutines over arq's Redis queue. Its names are those of `worker.public`.

They are imported on the first access to one of them: `embarq --help`, in a module of this package, needs none.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

_NAMES_NOT_MODULES = ("inline",)  # a public name, and a submodule, too

if TYPE_CHECKING:
    from worker.public import *  # noqa: F403
    from worker.public import __all__ as __all__
else:

    def __getattr__(name: str) -> Any:
        if name not in _NAMES_NOT_MODULES and find_spec(f"{__name__}.{name}") is not None:
            raise AttributeError(name)  # `from worker import http` tries an attribute first, and then the submodule
        return getattr(import_module("worker.public"), name)


class _Engine(ModuleType):
    """Python sets an imported submodule as an attribute of its package, where it would hide a public name."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _NAMES_NOT_MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Engine
