"""The engine's public names, for `from worker import ...`."""

from worker.client import Client
from worker.client.sync import SyncClient
from worker.connecting import connect
from worker.core.calls import Call
from worker.core.config import WorkerConfig
from worker.core.context import Context, current_context
from worker.core.cron import every
from worker.core.errors import (
    ArgumentProblem,
    BrokerUnavailable,
    CallRefused,
    ClientClosed,
    DefinitionError,
    EmbarqError,
    InvalidArguments,
    InvalidOptions,
    InvalidSchedule,
    InvalidWorkflow,
    JobEnded,
    JobFailed,
    JobNotFound,
    LeaseLost,
    MalformedPayload,
    NoClient,
    NotInline,
    NotSerializable,
    Overloaded,
    Permanent,
    ProcessDied,
    ResourceUnavailable,
    ResultNotSerializable,
    ResultTooLarge,
    Retry,
    ScheduleExists,
    ScheduleNotFound,
    ServerTooOld,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
    TooLarge,
    UnknownJob,
    UnknownResource,
    WorkflowDamaged,
    WorkflowEnded,
    WorkflowFailed,
    WorkflowNotFound,
)
from worker.core.handle import JobHandle, WorkflowHandle
from worker.core.hooks import JobEnd
from worker.core.job import Job, JobAttempt, JobError, Priority, Progress, State
from worker.core.late_outbox import LateOutbox
from worker.core.limits import ConcurrencyLimit, RateLimit
from worker.core.queue_client import QueueClient
from worker.core.retries import RetryPolicy
from worker.core.signature import Signature
from worker.core.sync_handle import SyncJobHandle, SyncWorkflowHandle
from worker.core.workflow import Workflow, WorkflowState
from worker.core.workflow_graph import chain, chord, group
from worker.definition.definitions import BoundJob, JobDefinition
from worker.definition.discovery import discover
from worker.definition.registry import (
    Registry,
    after_job_end,
    job,
    on_job_end,
    on_job_start,
    registry,
    resource,
    schedule,
)
from worker.definition.resources import injected
from worker.inline import InlineClient, InlineDeadlock, InlineTooDeep, inline
from worker.runtime.arq_worker import ArqWorker
from worker.runtime.worker import Worker
from worker.settings import SettingsError, SettingsMissing
from worker.settings.project import ProjectError

Registry.table = LateOutbox("worker.database.outbox")

__all__ = [
    "ArgumentProblem",
    "ArqWorker",
    "BoundJob",
    "BrokerUnavailable",
    "Call",
    "CallRefused",
    "Client",
    "ClientClosed",
    "ConcurrencyLimit",
    "Context",
    "DefinitionError",
    "EmbarqError",
    "InlineClient",
    "InlineDeadlock",
    "InlineTooDeep",
    "InvalidArguments",
    "InvalidOptions",
    "InvalidSchedule",
    "InvalidWorkflow",
    "Job",
    "JobAttempt",
    "JobDefinition",
    "JobEnd",
    "JobEnded",
    "JobError",
    "JobFailed",
    "JobHandle",
    "JobNotFound",
    "LeaseLost",
    "MalformedPayload",
    "NoClient",
    "NotInline",
    "NotSerializable",
    "Overloaded",
    "Permanent",
    "Priority",
    "ProcessDied",
    "Progress",
    "ProjectError",
    "QueueClient",
    "RateLimit",
    "Registry",
    "ResourceUnavailable",
    "ResultNotSerializable",
    "ResultTooLarge",
    "Retry",
    "RetryPolicy",
    "ScheduleExists",
    "ScheduleNotFound",
    "ServerTooOld",
    "SettingsError",
    "SettingsMissing",
    "Signature",
    "SoftTimeLimitExceeded",
    "State",
    "SyncClient",
    "SyncJobHandle",
    "SyncWorkflowHandle",
    "TimeLimitExceeded",
    "TooLarge",
    "UnknownJob",
    "UnknownResource",
    "Worker",
    "WorkerConfig",
    "Workflow",
    "WorkflowDamaged",
    "WorkflowEnded",
    "WorkflowFailed",
    "WorkflowHandle",
    "WorkflowNotFound",
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
