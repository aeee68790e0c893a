"""A call of a job: what a client enqueues."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from worker.core.declared import Declared
from worker.core.errors import ArgumentProblem, InvalidOptions
from worker.core.options import EnqueueOptions

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """A job with checked, JSON-ready arguments and options."""

    definition: Declared
    arguments: Mapping[str, Any]
    options: EnqueueOptions = field(default_factory=EnqueueOptions)


def refusal(call: Call[Any], option: str, reason: str) -> InvalidOptions:
    """The error that says why an option of a call is refused here."""
    return InvalidOptions(call.definition.name, [ArgumentProblem(("options", option), reason)])
