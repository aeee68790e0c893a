"""The API and a worker of `embarq dev`, without a terminal."""

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest

from tests.support import eventually, free_port
from worker.dev import session as sessions
from worker.dev.ports import Reserved
from worker.dev.screen import Screen
from worker.dev.session import Session
from worker.dev.stops import Stops
from worker.settings import Settings

PATIENCE = 90.0
LATE = 5.0
JOBS = """
import sys
from worker import job

@job()
async def nothing() -> None: ...
"""
ENDS_THE_WORKER = JOBS + '\nif "worker" in sys.argv: raise SystemExit(3)\n'


@pytest.mark.timeout(300)
async def test_worker_that_waits_for_a_change_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    monkeypatch.setattr(sessions, "SAY_LATE", LATE)
    monkeypatch.chdir(tmp_path)
    tasks, shown, port = tmp_path / "tasks.py", tmp_path / "shown", free_port()
    tasks.write_text(JOBS)
    environment = {**os.environ, "REDIS_URL": redis_url, "PORT": str(port), "EMBARQ_JOBS": "tasks"}
    with shown.open("w") as stream:
        screen = Screen(stream, in_colour=False, on_gone=threading.Event().set)
        settings = Settings(port=port, jobs=("tasks",))
        stops, place = Stops(1.0), Reserved("127.0.0.1", port, "embarq dev")
        session = Session(screen, stops, settings, environment, place, True, time.monotonic())
        running = asyncio.create_task(session.run())

        async def shows(words: str) -> None:
            async def look() -> bool:
                return words in shown.read_text()

            await eventually(look, PATIENCE)

        await shows("Ctrl-C stops everything.")
        tasks.write_text(ENDS_THE_WORKER)
        session.tell({tasks})
        await shows("waiting for the next change")
        await asyncio.sleep(LATE + 1)
        stops.stop()
        assert await asyncio.wait_for(running, PATIENCE) == 0
        screen.close()
    _, found, after = shown.read_text().partition("waiting for the next change")
    assert found
    assert "still waiting" not in after or "still waiting for the api" in after
