"""`embarq dev` as a newcomer runs it: the whole straight way over HTTP, Ctrl-C, and a second start."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.serving import wait_until_ready
from tests.support import free_port, start_embarq

START_LIMIT = 60


@contextmanager
def dev(port: int, data: Path, log: Path) -> Iterator[httpx.Client]:
    """The running system; stopped by Ctrl-C's signal at the end."""
    environment = {"PORT": str(port), "EMBARQ_DATA_DIR": str(data), "REDIS_URL": "", "DATABASE_URL": ""}
    process = start_embarq("dev", log=log, **environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
            wait_until_ready(http, process, log, workers=True, within=START_LIMIT)
            yield http
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(40)


def processes_of(data: Path) -> list[str]:
    """Command lines of running processes that name the data folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(data) in command:
                found.append(command)
    return found


def test_newcomers_way(servers: Path) -> None:
    data, log, port = servers / "dev", servers / "dev.log", free_port()
    numbers = [f"+1555{n:07}" for n in range(100)]
    body = {"job": "send_bulk_messages", "args": {"numbers": numbers, "message": "hello"}}
    with dev(port, data, log) as http:
        posted = http.post("/api/v1/jobs", json=body)
        assert posted.status_code == 202
        where = posted.headers["Location"]
        job = http.get(where, params={"wait": 30}, timeout=40).json()
        assert (job["state"], job["result"]) == ("succeeded", {"sent": 100, "refused": []})
        assert (job["progress"]["current"], job["progress"]["percent"]) == (100, 100.0)
        assert http.get("/stand-ins/sms").json()["count"] == 100
        (data / "files" / "lines.txt").write_text("one line\n" * 1000)
        posted = http.post("/api/v1/jobs", json={"job": "process_large_file", "args": {"path": "lines.txt"}})
        report = http.get(posted.headers["Location"], params={"wait": 30}, timeout=40).json()
        assert report["result"]["lines"] == 1000
        later = http.post("/api/v1/jobs", json={"job": "echo", "args": {"value": 7}, "options": {"delay": 3}})
    assert processes_of(data) == []
    with dev(port, data, log) as http:
        assert http.get(where).json()["result"] == {"sent": 100, "refused": []}
        kept = http.get(later.headers["Location"], params={"wait": 20}, timeout=30).json()
        assert (kept["state"], kept["result"]) == ("succeeded", 7)
    assert processes_of(data) == []
