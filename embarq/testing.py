"""The kit for tests: `from embarq.testing import Kit` is `from worker.testing import Kit`."""

from worker.testing import *  # noqa: F403  # the same objects
from worker.testing import __all__ as __all__
