"""The HTTP API: jobs, workflows, queues, schedules and health over HTTP, for any registry of jobs."""

from worker.http.app import create_app
from worker.http.errors import InvalidBody
from worker.http.json import JsonResponse, read_object
from worker.http.middleware import after_response
from worker.http.schemas import BASE
from worker.http.state import Shared, shared

__all__ = ["BASE", "InvalidBody", "JsonResponse", "Shared", "after_response", "create_app", "read_object", "shared"]
