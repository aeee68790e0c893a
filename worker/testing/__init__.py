"""Testing a project's jobs on the real queue: a client and queues of the test's own, which it drains when it wants."""

from worker.testing.enqueued import Enqueued
from worker.testing.kit import Kit
from worker.testing.replacing import replaced

__all__ = ["Enqueued", "Kit", "replaced"]
