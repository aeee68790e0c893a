"""An event loop in a thread of its own, for callers that have none: who opens what, asks it, and closes it."""

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import threading
import warnings
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar
from weakref import WeakSet, finalize

from worker.core.errors import ClientClosed, EmbarqError

C = TypeVar("C")
T = TypeVar("T")

LOOK_AGAIN = 1.0  # seconds between looks whether the thread still lives
CLOSED_WITHIN = 5.0
BROKEN_OFF_WITHIN = 2.0
OWN_LOOP = "a coroutine cannot wait for its own loop: use `await ….enqueue(…)` in place of `enqueue_sync`"


class _Life(Generic[C]):
    """One thread with its loop, and what was opened in it."""

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[C]]) -> None:
        self._opening = opening
        self._tasks: set[asyncio.Task[Any]] = set()
        self.opened: concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = (
            concurrent.futures.Future()
        )
        self._inside: C | None = None
        self.thread = threading.Thread(target=self._run, name="embarq sync client", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        # Should the process fork, this frame keeps all of it from ever being closed in the child: the sockets are the
        # parent's too, and so is what the loop has registered in the kernel.
        try:
            asyncio.run(self._live())
        except BaseException as error:
            if self.opened.done():
                raise
            self.opened.set_exception(error)

    async def _live(self) -> None:
        stop = asyncio.Event()
        async with self._opening() as self._inside:
            self.opened.set_result((asyncio.get_running_loop(), stop))
            await stop.wait()
            await self._break_off()

    async def _break_off(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=BROKEN_OFF_WITHIN)

    def begin(self, ask: Callable[[C], Coroutine[Any, Any, T]]) -> "concurrent.futures.Future[T]":
        """Ask what was opened; from any other thread."""
        loop, _ = self.opened.result()
        asking = self._ask(ask)
        try:
            return asyncio.run_coroutine_threadsafe(asking, loop)
        except RuntimeError as error:  # the loop is closed
            asking.close()
            raise _closed() from error

    async def _ask(self, ask: Callable[[C], Coroutine[Any, Any, T]]) -> T:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        assert self._inside is not None  # noqa: S101  # nobody is let in before it is opened
        return await ask(self._inside)

    def abandoned(self) -> None:
        """Close what was opened, without waiting for it. The garbage collector calls this, in any thread."""
        self.opened.add_done_callback(_stop)
        warnings.warn("a sync client was dropped without `close()`", ResourceWarning, stacklevel=2)

    def end(self) -> None:
        """Close what was opened; what is under way is broken off."""
        with contextlib.suppress(Exception):  # it was never opened, or is closed
            loop, stop = self.opened.result(timeout=CLOSED_WITHIN)
            loop.call_soon_threadsafe(stop.set)
        if threading.current_thread() is not self.thread:
            self.thread.join(CLOSED_WITHIN)


def _stop(opened: "concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]") -> None:
    with contextlib.suppress(Exception):  # it was never opened, or is closed
        loop, stop = opened.result()
        loop.call_soon_threadsafe(stop.set)


def awaited(answer: "concurrent.futures.Future[T]", lives: Callable[[], bool]) -> T:
    """The answer of a loop in another thread, as soon as it is there. `lives`: whether there can be one. Raises what
    was raised there.

    Raises:
        ClientClosed: there will be none.
    """
    try:
        while True:
            done, _ = concurrent.futures.wait([answer], timeout=LOOK_AGAIN)
            if done:
                return answer.result()
            if not lives() and not answer.done():
                raise _closed()
    except concurrent.futures.CancelledError as error:
        raise _closed() from error
    except BaseException:
        answer.cancel()
        raise


class Portal(Generic[C]):
    """Asks what lives in the loop of another thread, which is started by the first question. Used from any thread.

    A process that was forked has a thread of its own, also started by its first question; what the parent has open is
    left alone there.
    """

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[C]]) -> None:
        """`opening` makes what is opened in the thread, and closed there."""
        self._opening = opening
        self._lock = threading.Lock()
        self._life: _Life[C] | None = None
        self._dropped: finalize[..., Portal[C]] | None = None
        self._is_closed = False
        _portals.add(self)

    def ask(self, ask: Callable[[C], Coroutine[Any, Any, T]]) -> T:
        """What `ask` gives; the caller waits for it as long as it takes. Raises what it raises.

        Raises:
            ClientClosed: the portal is closed, or was meanwhile.
            EmbarqError: the caller runs in the portal's own loop, which cannot wait for itself.
        """
        life = self._alive()
        life.opened.result()
        return awaited(life.begin(ask), life.thread.is_alive)

    def _alive(self) -> _Life[C]:
        with self._lock:
            if self._is_closed:
                raise _closed()
            if self._life is None or not self._life.thread.is_alive():
                self._keep_no_end()
                self._life = _Life(self._opening)
                self._dropped = finalize(self, self._life.abandoned)
                self._dropped.atexit = False  # then those that are there are closed
            if threading.current_thread() is self._life.thread:
                raise EmbarqError(OWN_LOOP)
            return self._life

    def open(self) -> None:
        """Answer questions again after a `close`."""
        with self._lock:
            self._is_closed = False

    def close(self) -> None:
        """End the thread, within seconds; who waits for an answer is told so."""
        with self._lock:
            self._is_closed = True
            life, self._life = self._life, None
            self._keep_no_end()
        if life is not None:
            life.end()

    def forked(self) -> None:
        """Begin anew in a child: its parent's thread is not there, and may have held the lock."""
        self._lock = threading.Lock()
        if self._life is not None:
            _of_parents.append(self._life)
        self._life = None
        self._keep_no_end()

    def _keep_no_end(self) -> None:
        """Its life ends by other means, or is a parent's."""
        if self._dropped is not None:
            self._dropped.detach()
            self._dropped = None


def _closed() -> ClientClosed:
    return ClientClosed("this client is closed: use it inside its `with` block, or open it again")


_portals: WeakSet[Portal[Any]] = WeakSet()
_of_parents: list[_Life[Any]] = []


def _begin_anew() -> None:
    for portal in list(_portals):
        portal.forked()


def _close_all() -> None:
    for portal in list(_portals):
        portal.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
atexit.register(_close_all)
