"""The kit for tests: `from embarq.testing import Kit` is `from worker.testing import Kit`."""

from worker.testing import Enqueued, Kit, replaced

__all__ = ["Enqueued", "Kit", "replaced"]
