"""Plain functions in threads that can be interrupted and, if they do not listen, left behind."""

import asyncio
import contextlib
import contextvars
import ctypes
import itertools
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any


class JobThread:
    """Runs one function in a daemon thread, so that a stuck one never keeps the process from ending.

    What the function returned counts: an interruption that comes too late for it is dropped. That takes a `function`
    with no line of Python between its call and its return, such as a `functools.partial`.
    """

    def __init__(self, name: str, function: Callable[[], Any], ended: Callable[[], None]) -> None:
        """`ended` is called in the thread, as soon as the function has returned or raised."""
        inside = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[Any] = self._loop.create_future()
        self._tell_end = ended
        self._lock = threading.Lock()
        self._open = self._sealed = self._interrupted = False
        self._early: type[BaseException] | None = None
        self._results: list[Any] = []
        self._thread = threading.Thread(target=inside.run, args=(self._work, function), name=name, daemon=True)

    async def run(self) -> Any:
        """The function's result. A first cancellation is passed into the thread, and its end is waited for; a second
        one leaves the thread behind."""
        self._thread.start()
        interrupted = False
        while not self._done.done():
            try:
                await asyncio.wait([self._done])
            except asyncio.CancelledError:
                if interrupted and not self._done.done():
                    raise
                interrupted = True
                self.interrupt(asyncio.CancelledError)
        return self._done.result()

    def interrupt(self, kind: type[BaseException]) -> None:
        """Raise an exception of this type in the thread, at the next line of Python that its function runs."""
        with self._lock:
            if not self._open:
                self._early = kind
            elif not self._sealed:
                self._interrupted = True
                _raise_in(self._thread.ident or 0, kind)

    def stack(self) -> str:
        """Where the thread is, outermost frame first."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "" if frame is None else "".join(traceback.format_stack(frame))

    def _work(self, function: Callable[[], Any]) -> None:
        error = None
        try:
            self._begin()
            # All in C: between the function's return and the result's place in the list nothing can be raised.
            self._results.extend(itertools.starmap(function, ((),)))
        except BaseException as raised:
            error = raised
        try:
            self._seal()
        except BaseException:  # an interruption has come up on the way
            try:
                self._seal()
            except BaseException:  # a second one, of the soft limit and a cancellation; there is no third
                self._seal()
        self._tell_end()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._settle, error)

    def _begin(self) -> None:
        """From here on interruptions come; before, one would hit the thread where it is still being started."""
        with self._lock:
            self._open = True
            if self._early is not None:
                raise self._early

    def _seal(self) -> None:
        """From here on no interruption comes; one that is on its way comes up in here, to be dropped."""
        with self._lock:
            self._sealed = True
        if self._interrupted:
            for _ in range(3):  # CPython looks for pending exceptions where a loop turns
                pass

    def _settle(self, error: BaseException | None) -> None:
        if self._done.done():
            return
        if self._results:
            self._done.set_result(self._results[0])
        elif error is None:  # `starmap` took it for its own end; a future would refuse it anyway, as a coroutine does
            self._done.set_exception(RuntimeError("the job raised StopIteration"))
        elif type(error) is asyncio.CancelledError:
            self._done.cancel()
        else:
            self._done.set_exception(error)


def _raise_in(thread: int, kind: type[BaseException]) -> None:
    """Let an exception come up in a thread. It is never taken back by a call without one: CPython 3.11 would go on
    looking for it at every turn of every loop of the process, and a thread that is traced would do nothing else."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))
