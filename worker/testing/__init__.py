"""Testing one's own jobs on the real queue: a client and queues of the test's own, run to their end when it says so."""

from worker.testing.enqueued import Enqueued
from worker.testing.kit import Kit
from worker.testing.replacing import replaced

__all__ = ["Enqueued", "Kit", "replaced"]
