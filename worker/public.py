"""What `from worker import ...` gives: the engine's public names."""

from worker.calls import Call
from worker.client import Client
from worker.config import WorkerConfig
from worker.connecting import connect
from worker.context import Context, current_context
from worker.cron import every
from worker.definitions import BoundJob, JobDefinition
from worker.discovery import discover
from worker.engine import Worker
from worker.errors import EmbarqError, Permanent, ResourceUnavailable, Retry, SoftTimeLimitExceeded
from worker.handle import JobHandle, WorkflowHandle
from worker.hooks import JobEnd
from worker.inline import InlineClient, inline
from worker.job import Job, JobError, Priority, Progress, State, Try
from worker.limits import ConcurrencyLimit, RateLimit
from worker.registry import (
    Registry,
    after_job_end,
    job,
    on_job_end,
    on_job_start,
    registry,
    resource,
    schedule,
)
from worker.resources import injected
from worker.retries import RetryPolicy
from worker.signature import Signature
from worker.sync import SyncClient
from worker.sync_handle import SyncJobHandle, SyncWorkflowHandle
from worker.workflow_records import Workflow, WorkflowState
from worker.workflows import chain, chord, group

__all__ = [
    "BoundJob",
    "Call",
    "Client",
    "ConcurrencyLimit",
    "Context",
    "EmbarqError",
    "InlineClient",
    "Job",
    "JobDefinition",
    "JobEnd",
    "JobError",
    "JobHandle",
    "Permanent",
    "Priority",
    "Progress",
    "RateLimit",
    "Registry",
    "ResourceUnavailable",
    "Retry",
    "RetryPolicy",
    "Signature",
    "SoftTimeLimitExceeded",
    "State",
    "SyncClient",
    "SyncJobHandle",
    "SyncWorkflowHandle",
    "Try",
    "Worker",
    "WorkerConfig",
    "Workflow",
    "WorkflowHandle",
    "WorkflowState",
    "after_job_end",
    "chain",
    "chord",
    "connect",
    "current_context",
    "discover",
    "every",
    "group",
    "injected",
    "inline",
    "job",
    "on_job_end",
    "on_job_start",
    "registry",
    "resource",
    "schedule",
]
