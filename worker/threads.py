"""Plain functions in threads that can be interrupted and, if they do not listen, left behind."""

import asyncio
import contextvars
import ctypes
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any


class JobThread:
    """Runs one function in a daemon thread, so that a stuck one never keeps the process from ending."""

    def __init__(self, name: str, function: Callable[[], Any]) -> None:
        inside = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[Any] = self._loop.create_future()
        self._lock = threading.Lock()
        self._ended = False
        self._thread = threading.Thread(target=inside.run, args=(self._work, function), name=name, daemon=True)

    async def run(self) -> Any:
        """The function's result. A cancellation is passed into the thread, and its end is waited for."""
        self._thread.start()
        while True:
            try:
                return await asyncio.shield(self._done)
            except asyncio.CancelledError:
                if self._done.done():
                    raise
                self.interrupt(asyncio.CancelledError)

    def interrupt(self, kind: type[BaseException]) -> None:
        """Raise an exception of this type in the thread, at the next line of Python that it runs."""
        with self._lock:
            if not self._ended and self._thread.ident is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread.ident), ctypes.py_object(kind))

    def stack(self) -> str:
        """Where the thread is, outermost frame first."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "" if frame is None else "".join(traceback.format_stack(frame))

    def _work(self, function: Callable[[], Any]) -> None:
        result, error = None, None
        try:
            result = function()
        except BaseException as raised:
            error = raised
        finally:
            with self._lock:
                self._ended = True
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._settle, result, error)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self._done.done():
            return
        if error is None:
            self._done.set_result(result)
        elif type(error) is asyncio.CancelledError:
            self._done.cancel()
        else:
            # A future refuses StopIteration; whatever it is, the job raised it.
            odd = isinstance(error, StopIteration)
            self._done.set_exception(RuntimeError(f"the job raised {error!r}") if odd else error)
