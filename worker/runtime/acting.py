"""Turns the planner's crank: events go in, and what it says then is done."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from worker.broker.exchange import Settlement
from worker.execution.attempt import Run
from worker.runtime import actions, events
from worker.runtime.alarm import Alarm
from worker.runtime.planner import next_actions, on
from worker.runtime.state import State

Action = actions.Action[events.Ended[Run, Settlement], Run]
Event = events.Event[Run, Settlement]


class Acting:
    """Has actions done from `run` on until the planner leaves. `do` does one of them, without waiting."""

    def __init__(self, state: State[Run, Settlement], do: Callable[[Action], None]) -> None:
        self._state = state
        self._do = do
        self._alarm = Alarm(self._act)
        self._group: asyncio.TaskGroup | None = None
        self._begun: set[asyncio.Task[None]] = set()
        self._left = asyncio.Event()
        self._fault: Exception | None = None

    async def run(self) -> None:
        """Until the planner leaves: what was begun is broken off then."""
        try:
            async with asyncio.TaskGroup() as self._group:
                self._act()
                await self._left.wait()
                for task in self._begun:
                    task.cancel()
                if self._fault is not None:
                    raise self._fault
        finally:
            self._group = None
            self._alarm.stop()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that takes time. Where it fails, `run` does."""
        if self._group is not None:
            task = self._group.create_task(work)
            self._begun.add(task)
            task.add_done_callback(self._begun.discard)

    def tell(self, event: Event) -> None:
        """Something has happened: do at once what follows."""
        on(self._state, event)
        self._act()

    def tell_soon(self, event: Event) -> None:
        """Something has happened that comes in numbers: do what follows once all of it is noted."""
        on(self._state, event)
        if self._group is not None:
            self._alarm.soon()

    def _act(self) -> None:
        """Do what there is to do, until it is time to sleep, or to leave. A fault of our own ends `run`."""
        try:
            while self._group is not None and not self._left.is_set():
                for action in next_actions(self._state, time.monotonic()):
                    if isinstance(action, actions.SleepUntil):
                        self._alarm.until(action.at)
                        return
                    if isinstance(action, actions.Leave):
                        self._left.set()
                    else:
                        self._do(action)
        except Exception as error:
            self._fault = error
            self._left.set()
