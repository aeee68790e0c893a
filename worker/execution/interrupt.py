"""Throwing a chosen exception into a running coroutine at its await point."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

R = TypeVar("R")


@dataclass(slots=True, eq=False)
class Interruptible(Generic[R]):
    """Awaits a coroutine. `interrupt` makes the await that it is in raise the given exception.

    `overruled`: whether the task has been cancelled for good meanwhile. Two cancellations of one turn of the loop come
    as one, which is not exchanged then.

    A task can only be cancelled from outside. So the task is cancelled, which also stops what it waits for, and the
    cancellation is exchanged for the exception on its way into the coroutine.
    """

    coroutine: Coroutine[Any, Any, R]
    overruled: Callable[[], bool]
    _pending: BaseException | None = field(default=None, init=False)
    _task: "asyncio.Task[Any] | None" = field(default=None, init=False)

    def interrupt(self, error: BaseException) -> None:
        """Raise `error` in the coroutine, if it is under way."""
        if self._task is not None and not self._task.done():
            self._pending = error
            self._task.cancel()

    def stack(self) -> str:
        """Where the coroutine is, a frame a line, outermost first."""
        lines, awaited = [], cast(Any, self.coroutine)
        while getattr(awaited, "cr_frame", None) is not None:
            frame = awaited.cr_frame
            lines.append(f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}")
            awaited = awaited.cr_await
        return "\n".join(lines)

    def __await__(self) -> Generator[Any, Any, R]:
        self._task = asyncio.current_task()
        coroutine, error = self.coroutine, None
        while True:
            try:
                waits_for = coroutine.send(None) if error is None else coroutine.throw(error)
            except StopIteration as returned:
                result: R = returned.value
                return result
            error = None
            try:
                yield waits_for
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as thrown:
                error = self._exchange(thrown)

    def _exchange(self, thrown: BaseException) -> BaseException:
        if self._pending is None or not isinstance(thrown, asyncio.CancelledError):
            return thrown
        pending, self._pending = self._pending, None
        if self._task is not None:
            self._task.uncancel()
        return thrown if self.overruled() else pending
