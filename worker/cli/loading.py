"""What a command does is loaded when it is called: help and wrong arguments need none of it, and a worker holds neither
a web server nor a database driver."""

from importlib import import_module
from typing import Any


def load(name: str) -> Any:
    """A module of the engine by its name, such as `cli.work`."""
    return import_module(f"worker.{name}")
