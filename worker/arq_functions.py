"""Jobs as arq's worker lists them."""

from dataclasses import dataclass
from typing import Any, cast

from arq.typing import WorkerCoroutine
from arq.worker import Function

from worker.config import WorkerConfig
from worker.definitions import JobDefinition


@dataclass
class JobFunction(Function):
    """A job as arq's worker lists it, with our definition."""

    definition: JobDefinition[..., Any]


def as_arq(definition: JobDefinition[..., Any], config: WorkerConfig) -> JobFunction:
    """A job as arq's worker lists it; its options are ours."""
    ttl = definition.declared.get("result_ttl", config.result_ttl)
    return JobFunction(
        name=definition.name,
        coroutine=cast(WorkerCoroutine, definition),
        timeout_s=definition.declared.get("timeout", config.timeout),
        keep_result_s=ttl,
        keep_result_forever=ttl is None,
        max_tries=definition.declared.get("max_tries", config.max_tries),
        definition=definition,
    )
