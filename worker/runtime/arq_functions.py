"""Jobs as arq's worker lists them."""

from dataclasses import dataclass
from typing import Any, cast

from arq.typing import WorkerCoroutine
from arq.worker import Function

from worker.core.config import WorkerConfig
from worker.definition.definitions import JobDefinition
from worker.definition.registry import Registry


@dataclass
class JobFunction(Function):
    """A job as arq's worker lists it, with our definition."""

    definition: JobDefinition[..., Any]


def all_as_arq(registry: Registry, config: WorkerConfig) -> list[JobFunction]:
    """The jobs of a registry."""
    return [_as_arq(definition, config) for definition in registry]


def _as_arq(definition: JobDefinition[..., Any], config: WorkerConfig) -> JobFunction:
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
