"""Embarq's engine: background jobs as native coroutines over arq's Redis queue."""

from worker.client import Client
from worker.config import WorkerConfig
from worker.context import Context, current_context
from worker.definitions import BoundJob, Call, JobDefinition, Registry, job, registry, resource
from worker.discovery import discover
from worker.engine import Worker
from worker.errors import EmbarqError, Permanent, Retry, SoftTimeLimitExceeded
from worker.handle import JobHandle
from worker.job import Job, JobError, Priority, Progress, State, Try
from worker.retries import RetryPolicy

__all__ = [
    "BoundJob",
    "Call",
    "Client",
    "Context",
    "EmbarqError",
    "Job",
    "JobDefinition",
    "JobError",
    "JobHandle",
    "Permanent",
    "Priority",
    "Progress",
    "Registry",
    "Retry",
    "RetryPolicy",
    "SoftTimeLimitExceeded",
    "State",
    "Try",
    "Worker",
    "WorkerConfig",
    "current_context",
    "discover",
    "job",
    "registry",
    "resource",
]
