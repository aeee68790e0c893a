"""Functions that a worker calls around each try of a job: `@on_job_start`, `@on_job_end`, `@after_job_end`."""

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from worker.core.context import Context
from worker.core.errors import DefinitionError
from worker.core.job import State


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a try ended. `duration`: seconds since its claim.

    state: what the job is now, or will be once that is stored: a final state; `retrying`; `queued` where it was
    requeued without counting; None where the lease was lost, so that another worker has it.
    result: what the function returned, if the job succeeded. error: what it raised or was stopped for, if it did not.
    """

    state: State | None
    duration: float
    result: object = None
    error: BaseException | None = None


StartHook = Callable[[Context], Coroutine[Any, Any, object]]
EndHook = Callable[[Context, JobEnd], Coroutine[Any, Any, object]]
H = TypeVar("H", bound=Callable[..., Coroutine[Any, Any, object]])


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks of a registry, in the order in which they were declared."""

    start: list[StartHook] = field(default_factory=list)
    end: list[EndHook] = field(default_factory=list)
    after: list[EndHook] = field(default_factory=list)

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return bool(self.start or self.end or self.after)


def checked(hook: H, kind: str, *takes: str) -> H:
    """A function that may be a hook of this kind.

    Raises:
        DefinitionError: it is no coroutine function, or takes other arguments.
    """
    name = getattr(hook, "__name__", repr(hook))
    wanted = f"write `async def {name}({', '.join(takes)})`"
    if not inspect.iscoroutinefunction(hook):
        raise DefinitionError(f"a hook @{kind} must be a coroutine function, and {name!r} is not: {wanted}")
    try:
        inspect.signature(hook).bind(*takes)
    except TypeError:
        raise DefinitionError(
            f"a hook @{kind} must take ({', '.join(takes)}), and {name!r} does not: {wanted}"
        ) from None
    return hook
