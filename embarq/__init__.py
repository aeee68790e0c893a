"""Embarq by its own name: `from embarq import job` is `from worker import job`."""

import importlib.util
from pathlib import Path

_found = importlib.util.find_spec("worker")
if _found is None or _found.origin is None or not Path(_found.origin).with_name("broker").is_dir():
    raise ImportError(
        f"{_found.origin if _found else 'nothing'} is imported as `worker` in place of Embarq's own package: "
        "give your module another name"
    )

from worker import *  # noqa: E402, F403  # the same objects, once it is known that it is ours
from worker import __all__ as __all__  # noqa: E402
