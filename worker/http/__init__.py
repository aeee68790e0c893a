"""The HTTP API: jobs, workflows, queues, schedules and health over HTTP, for any registry of jobs."""

from worker.http.app import create_app
from worker.http.schemas import BASE
from worker.http.state import Shared, shared

__all__ = ["BASE", "Shared", "create_app", "shared"]
