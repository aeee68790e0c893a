"""A call that is still to be placed in a workflow: a job, some of its arguments, options."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from worker.core.declared import Declared

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Signature(Generic[R]):
    """What `job.s(...)` gives. Behind another step it takes that step's result, unless it is `immutable`.

    The result becomes the first argument that is not given by name; `args` come after it. `options` are checked
    `EnqueueOptions`, which may have signatures themselves.
    """

    definition: Declared
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Any = field(default_factory=dict)
    immutable: bool = False

    def takes(self) -> str:
        """The argument that an earlier step's result becomes; '' when there is none.

        Decided by the job's signature and by what is given by name.
        """
        return "" if self.immutable else next((n for n in self.definition.schema.names if n not in self.kwargs), "")

    def given(self, takes: str) -> dict[str, Any]:
        """The arguments by name, as JSON values, without the one that a result becomes.

        Raises:
            InvalidArguments: they do not fit the job's signature.
        """
        schema = self.definition.schema
        if not takes:
            return schema.to_json(schema.validate(schema.bind(self.args, self.kwargs)))
        return schema.check_without(takes, schema.bind_without(takes, self.args, self.kwargs))
