"""A call of a job: what a client enqueues."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from worker.declared import Declared
from worker.options import EnqueueOptions

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """A job with checked, JSON-ready arguments and options."""

    definition: Declared
    arguments: Mapping[str, Any]
    options: EnqueueOptions = field(default_factory=EnqueueOptions)
