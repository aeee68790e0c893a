"""The API and a worker of `embarq dev`: started, supervised, replaced when the code changes, and stopped."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from worker.core.stopping import StopPlan
from worker.dev.banner import banner, trial
from worker.dev.children import Child, Reaper
from worker.dev.environment import key_to_show
from worker.dev.ports import Reserved
from worker.dev.screen import Screen
from worker.dev.stops import Stage, Stops
from worker.dev.trial import problem_of
from worker.runtime.supervisor import SHORTEST_LIFE, TICK
from worker.settings import Settings
from worker.system.ports import api_address

API_GRACE = 3.0  # seconds for requests at the end, such as those that wait for a job
RELOAD_GRACE = 2.0  # seconds for jobs and requests when the code has changed
SAY_AGAIN = 5.0
SAY_LATE = 30.0
NAMED = 3


@dataclass(slots=True)
class Session:
    """What runs in one terminal. `environment`: the children's; `reload`: whether changes are watched; `began`: when
    the start began, on the monotonic clock."""

    screen: Screen
    stops: Stops
    settings: Settings
    environment: Mapping[str, str]
    port: Reserved
    reload: bool
    began: float
    changed: set[Path] = field(default_factory=set)
    reaper: Reaper = field(default_factory=Reaper)
    api: Child = field(init=False)
    worker: Child = field(init=False)
    _was_ready: bool = False
    _is_announced: bool = False
    _say_at: float = 0.0
    _has_said: bool = False
    _hands_back: bool = False

    def __post_init__(self) -> None:
        self.api = Child("api", self.reaper, self.screen.line)
        self.worker = Child("worker", self.reaper, self.screen.line)

    async def run(self) -> int:
        """Work until a stop is requested, or a child fails; returns the exit code. No child is left then."""
        try:
            self._start()
            return await self._work()
        finally:
            self.stops.stop()
            await self._see_out()
            self.reaper.close()

    def tell(self, paths: set[Path]) -> None:
        """Files have changed."""
        self.changed |= paths
        self.stops.news.set()

    async def _work(self) -> int:
        while self.stops.stage is Stage.SERVING:
            for child in (self.api, self.worker):
                code = self._look_after(child)
                if code is not None:
                    return code
            self._announce()
            if self.changed:
                await self._take_change()
            await self._pause()
        return 0

    async def _pause(self) -> None:
        """Wait a moment, or for news."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK):
                await self.stops.news.wait()
        self.stops.news.clear()

    def _start(self) -> None:
        self._is_announced, self._say_at = False, time.monotonic() + SAY_LATE
        for child in (self.api, self.worker):
            if not child.is_there:
                self._start_child(child)

    def _start_child(self, child: Child) -> None:
        if child is self.worker:
            child.start(["worker", "-Q", "*"], self.environment)
            return
        numbers = self.port.take()
        child.start(["api", "--sockets", ",".join(map(str, numbers))], self.environment, numbers)

    def _look_after(self, child: Child) -> int | None:
        """Restart a child that has ended by itself, if that may help; the exit code of `embarq dev` if it ends."""
        child.hear()
        was_ready, lived = child.example is not None, time.monotonic() - child.started
        code = child.ended()
        if code is None:
            return None
        how = f"the {child.name} ended " + (f"with code {code}" if code >= 0 else f"by signal {-code}")
        if was_ready and (code == 0 or lived > SHORTEST_LIFE):
            self.screen.say(f"{how}, and is restarted")
            self._start_child(child)
            return None
        if self.reload and self._was_ready:
            self.screen.say(f"{how}: waiting for the next change")
            if child is self.api:
                self.port.release()
            return None
        self.screen.say(f"{how}, which ends everything")
        return code if code > 0 else 1

    def _announce(self) -> None:
        """Announce when all is ready; name what is missing where that takes long."""
        children, now = (self.api, self.worker), time.monotonic()
        late = [child.name for child in children if child.is_there and child.example is None]
        is_ready = all(child.is_there and child.example is not None for child in children)
        if is_ready and not self._is_announced:
            self._is_announced = True
            seconds = now - self.began
            if self._was_ready:
                self.screen.say(f"ready again after {seconds:.1f} s")
            else:
                self._show_banner(seconds)
            self._was_ready = True
        elif late and now > self._say_at:
            self._say_at = float("inf")
            self.screen.say(f"still waiting for the {' and the '.join(late)}")

    def _show_banner(self, seconds: float) -> None:
        url = api_address(self.settings.host, self.settings.port)
        key, is_exported = key_to_show(self.settings, self.environment)
        line_to_try = trial(url, self.api.example, key, is_exported=is_exported) if self.api.example else ""
        for line in banner(url, seconds, line_to_try, reload=self.reload, in_colour=self.screen.in_colour):
            self.screen.write(line)

    async def _take_change(self) -> None:
        """Replace the API and the worker, if the code can be imported as it is now."""
        self.began = time.monotonic()
        self.screen.say(f"{_named(self.changed)} changed")
        self.changed.clear()
        problem = await problem_of(self.environment, self.reaper, self.stops)
        if self.stops.stage is not Stage.SERVING or self.changed:  # the code that was tried is outdated already
            return
        if problem is None:
            await self._replace()
            return
        for line in problem.splitlines():
            self.screen.line("dev", line)
        kept = "the previous code keeps running, " if self.api.is_there and self.worker.is_there else ""
        self.screen.say(f"it cannot be imported: {kept}waiting for the next change")

    async def _replace(self) -> None:
        plan = StopPlan(min(RELOAD_GRACE, self.settings.grace))
        plan.stop()
        while self.api.is_there or self.worker.is_there:
            self._stop_step(plan, plan)
            await self._pause()
        if self.stops.stage is Stage.SERVING:
            self._start()

    async def _see_out(self) -> None:
        """The worker first: its jobs may need what the API serves."""
        plan, api_plan = self.stops.plan, StopPlan(min(API_GRACE, self.settings.grace))
        self._say_at = time.monotonic() + 1.0
        while self.api.is_there or self.worker.is_there:
            if self.stops.stage >= Stage.HAND_BACK:
                api_plan.hurry()
            elif not self.worker.is_there:
                api_plan.stop()
            self._stop_step(plan, api_plan)
            self._say_what_it_waits_for(plan)
            await self._pause()
        self.port.release()

    def _stop_step(self, plan: StopPlan, api_plan: StopPlan) -> None:
        for child, its in ((self.worker, plan), (self.api, api_plan)):
            child.hear()
            if child.is_there and its.is_on:
                child.stop(its)
            if self.stops.stage is Stage.KILL:
                child.kill()
            child.ended()

    def _say_what_it_waits_for(self, plan: StopPlan) -> None:
        """As soon as the worker has reported how many jobs run, and every few seconds from then on."""
        now, running = time.monotonic(), self.worker.running
        if not self.worker.is_there or running == 0 or plan.hand_back_at is None:
            return
        jobs = "the worker" if running is None else "1 job" if running == 1 else f"{running} jobs"
        if self.stops.stage >= Stage.HAND_BACK and not self._hands_back:
            self._hands_back, self._say_at = True, float("inf")
            self.screen.say(f"{'stopping' if running is None else 'handing back'} {jobs} at once; Ctrl-C again kills")
        elif now >= self._say_at or (running and not self._has_said):
            self._has_said, self._say_at = running is not None, now + SAY_AGAIN
            left = max(0.0, plan.hand_back_at - now)
            them = "it" if running == 1 else "them" if running else "its jobs"
            self.screen.say(f"waiting for {jobs}, at most {left:.0f} s; Ctrl-C again hands {them} back at once")


def _named(paths: set[Path]) -> str:
    """A few of the files by name."""
    here = Path.cwd()
    names = sorted(str(path.relative_to(here) if path.is_relative_to(here) else path) for path in paths)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
