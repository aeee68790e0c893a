"""`embarq dev` in a terminal: keys, closed windows, readers that leave, sudden ends, changed code, what it shows."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.flow.terminals import EMBARQ, Terminal, terminal
from tests.support import free_port

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="what runs is found in /proc"),
    pytest.mark.timeout(300),
]

JOBS = """
import asyncio, os
from worker import Context, job

@job()
async def nap(ctx: Context, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return os.environ.get("OF_FILE", "first")

@job()
async def fail(ctx: Context, words: str) -> None:
    raise ValueError(words)
"""
HOLD = """
@job()
async def hold() -> None:
    import re, subprocess
    subprocess.Popen(["sleep", "600"])
    print("it holds")
    re.match(r"(a+)+$", "a" * 60 + "b")
"""
TELL_PORT = """
@job()
async def tell_port() -> str:
    return os.environ["PORT"]
"""
READY = "Ctrl-C stops everything."
LONG = 600.0

Open = Callable[..., AbstractContextManager[Terminal]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with jobs of its own, and what `make run` is there."""
    (tmp_path / "tasks.py").write_text(JOBS)
    (tmp_path / "pyproject.toml").write_text('[tool.embarq]\njobs = ["tasks"]\n')
    (tmp_path / "Makefile").write_text(f"run:\n\t@{EMBARQ} dev\n")
    return tmp_path


@pytest.fixture
def opened(project: Path, servers: Path) -> Open:
    """Terminals in that folder, which share the data of private servers."""

    def start(line: str = f"exec {EMBARQ} dev --no-reload", **environment: str) -> AbstractContextManager[Terminal]:
        return terminal(line, project, **{"EMBARQ_DATA_DIR": str(servers / "terminal"), **environment})

    return start


def nap(screen: Terminal, seconds: float = LONG) -> str:
    """Queue a nap and wait until it has begun; the job's path."""
    answer = json.loads(screen.asks("/api/v1/jobs", {"job": "nap", "args": {"seconds": seconds}}))
    screen.shows(f"job_id={answer['id']}")
    return f"/api/v1/jobs/{answer['id']}"


def cancel(screen: Terminal, path: str) -> None:
    screen.asks(f"{path}/cancel", {})
    screen.shows("cancelled")


def test_shows_where_it_answers_and_a_line_to_try(opened: Open) -> None:
    with opened() as screen:
        screen.shows("Embarq is ready")
        assert screen.shows("http://").strip() == f"http://127.0.0.1:{screen.port}/"
        tried = screen.shows("Try:").partition("Try:")[2]
        screen.shows(READY)
        answer = subprocess.run(shlex.split(tried), capture_output=True, check=True, timeout=60)
        assert b" 202 Accepted" in answer.stdout
        screen.shows("succeeded")
        known = json.loads(screen.asks("/"))
        assert known["name"] == "Embarq"
        assert json.loads(screen.asks(known["links"]["workers"]))["status"] == "ok"
        assert f'href="{known["links"]["definitions"]}"' in screen.asks("/", accept="text/html,*/*")
        screen.press(b"\x03")
        assert screen.code() == 0
        screen.is_gone()


def test_ctrl_c_waits_for_jobs_and_says_so(opened: Open) -> None:
    with opened("make run") as screen:
        screen.shows("restarts the API and the worker")
        nap(screen, 6.0)
        screen.press(b"\x03")
        said = screen.shows("waiting for 1 job")
        assert re.search(r"waiting for 1 job, at most \d+ s; Ctrl-C again hands it back at once", said)
        screen.shows("succeeded")
        screen.shows("api stops")
        assert screen.code() == -signal.SIGINT  # of make, which ends itself by the signal that it got, too
        assert "make:" not in screen.text
        screen.is_gone()


def test_second_ctrl_c_hands_back_at_once_and_uses_no_try(opened: Open) -> None:
    with opened() as screen:
        screen.shows(READY)
        path = nap(screen)
        screen.press(b"\x03")
        screen.shows("waiting for 1 job")
        screen.press(b"\x03")
        screen.shows("handing back 1 job at once")
        assert screen.code(60) == 0
        screen.is_gone()
        assert "Traceback" not in screen.text
    with opened() as screen:
        assert "try=1" in screen.shows(f"job_id={path.rpartition('/')[2]}")
        screen.shows(READY)
        cancel(screen, path)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_third_ctrl_c_kills_what_holds_the_interpreter(opened: Open, project: Path, processes: str) -> None:
    (project / "tasks.py").write_text(JOBS + HOLD)
    with opened(EMBARQ_DATA_DIR=str(project / "data"), EMBARQ_PROCESSES=processes) as screen:
        screen.shows(READY)
        screen.asks("/api/v1/jobs", {"job": "hold"})
        screen.shows("it holds")
        for said in ("waiting for the worker", "stopping the worker at once; Ctrl-C again kills"):
            screen.press(b"\x03")
            screen.shows(said)
        screen.press(b"\x03")
        assert screen.code(60) == 0
        screen.is_gone()


def test_ctrl_c_while_postgres_makes_its_data_is_a_stop(opened: Open, project: Path) -> None:
    with opened(EMBARQ_DATA_DIR=str(project / "data")) as screen:
        screen.shows("postgres makes its data")
        screen.press(b"\x03")
        screen.shows("stopping as soon as the servers have started")
        assert screen.code() == 0
        screen.is_gone()
        assert "embarq: " not in screen.text


def test_several_api_processes_answer_from_the_first_moment_and_end_at_once(opened: Open) -> None:
    with opened(WEB_CONCURRENCY="2") as screen:
        screen.shows(READY)
        path = nap(screen)
        with socket.create_connection(("127.0.0.1", screen.port)) as waiting:
            waiting.sendall(f"GET {path}?wait=60 HTTP/1.1\r\nHost: here\r\n\r\n".encode())
            time.sleep(1.0)  # it is read by then
            screen.press(b"\x03")
            screen.shows("waiting for 1 job")
            screen.press(b"\x03")
            assert screen.code() == 0
        screen.is_gone()
        assert "child is killed" not in screen.text
        assert "Traceback" not in screen.text


def test_third_ctrl_c_while_postgres_makes_its_data_leaves_nothing_behind(opened: Open, project: Path) -> None:
    with opened(EMBARQ_DATA_DIR=str(project / "data")) as screen:
        screen.shows("postgres makes its data")
        for _ in range(3):
            screen.press(b"\x03")
            time.sleep(0.2)  # two at once would be one
        screen.code()
        screen.is_gone()


@pytest.mark.parametrize("line", [f"exec {EMBARQ} dev --no-reload", "make run"])
def test_closed_terminal_leaves_nothing_behind_and_loses_nothing(opened: Open, line: str) -> None:
    with opened(line) as screen:
        screen.shows(READY)
        path = nap(screen)
        screen.close()
        screen.is_gone()
    with opened() as screen:
        assert "try=1" in screen.shows(f"job_id={path.rpartition('/')[2]}")
        screen.shows(READY)
        cancel(screen, path)


def test_ctrl_c_behind_a_pipe_leaves_nothing_behind(opened: Open, tmp_path: Path) -> None:
    with opened(f"make run 2>&1 | tee {tmp_path}/log") as screen:
        screen.shows(READY)
        path = nap(screen)
        screen.press(b"\x03")
        screen.is_gone()
        assert "\x1b" not in (tmp_path / "log").read_text()
        assert "Traceback" not in screen.text
    with opened() as screen:
        assert "try=1" in screen.shows(f"job_id={path.rpartition('/')[2]}")
        screen.shows(READY)
        cancel(screen, path)


def test_reader_that_leaves_is_the_end(opened: Open) -> None:
    with opened(f"{EMBARQ} dev 2>&1 | sed '/{READY}/q'") as screen:
        screen.is_gone()
        assert READY in screen.text
        assert "Traceback" not in screen.text


def test_killed_dev_leaves_nothing_behind_and_loses_nothing(opened: Open, project: Path) -> None:
    with opened() as screen:
        screen.shows(READY)
        path = nap(screen)
        os.kill(screen.process("worker.cli dev"), signal.SIGKILL)
        screen.is_gone()
    with opened() as screen:
        assert "try=1" in screen.shows(f"job_id={path.rpartition('/')[2]}")
        screen.shows(READY)
        cancel(screen, path)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_killed_dev_takes_what_holds_the_interpreter_with_it(opened: Open, project: Path, processes: str) -> None:
    (project / "tasks.py").write_text(JOBS + HOLD)
    with opened(EMBARQ_DATA_DIR=str(project / "data"), EMBARQ_PROCESSES=processes) as screen:
        screen.shows(READY)
        screen.asks("/api/v1/jobs", {"job": "hold"})
        screen.shows("it holds")
        os.kill(screen.process("worker.cli dev"), signal.SIGKILL)
        screen.is_gone()


def test_taken_port_is_told_before_anything_starts(opened: Open, project: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port, data = other.getsockname()[1], project / "data"
        for line, command in (
            (f"exec {EMBARQ} dev", "embarq dev"),
            ("make run", "make run"),
            (f"exec {EMBARQ} api", "embarq api"),
        ):
            with opened(line, PORT=str(port), EMBARQ_DATA_DIR=str(data), REDIS_URL="redis://127.0.0.1:1") as screen:
                said = screen.shows("embarq: ")
                assert f"port {port} is taken by process {os.getpid()} (" in said
                assert re.search(rf"PORT=\d+ {command}$", said)
                assert screen.code() != 0
                assert "Traceback" not in screen.text
        assert not data.exists()


def test_changed_code_restarts_the_processes(opened: Open, project: Path) -> None:
    def result_of_a_nap(screen: Terminal) -> object:
        return json.loads(screen.asks(f"{nap(screen, 0.1)}?wait=30"))["result"]

    port, needy = free_port(), JOBS + TELL_PORT + '\nos.environ["OF_FILE_ALONE"]\n'
    (project / ".env").write_text(f"OF_FILE_ALONE=1\nPORT={port}\n")
    (project / "tasks.py").write_text(needy)
    with opened(f"unset PORT; exec {EMBARQ} dev", PORT=str(port)) as screen:
        screen.shows(READY)
        assert result_of_a_nap(screen) == "first"
        path = nap(screen)
        (project / "tasks.py").write_text(needy.replace("first", "second"))
        screen.shows("tasks.py changed")
        screen.shows("handed back")
        assert "try=1" in screen.shows(f"job_id={path.rpartition('/')[2]}")
        screen.shows("ready again")
        assert result_of_a_nap(screen) == "second"

        (project / "tasks.py").write_text(JOBS + "\nimport nothing_of_this_name\n")
        screen.shows("nothing_of_this_name")
        screen.shows("the previous code keeps running, waiting for the next change")
        assert result_of_a_nap(screen) == "second"

        (project / "tasks.py").write_text((JOBS + TELL_PORT).replace("first", "third"))
        screen.shows("ready again")
        assert result_of_a_nap(screen) == "third"

        (project / ".env").write_text("OF_FILE=fourth\nPORT=1\n")
        screen.shows("ready again")
        assert result_of_a_nap(screen) == "fourth"
        answer = json.loads(screen.asks("/api/v1/jobs", {"job": "tell_port"}))
        assert json.loads(screen.asks(f"/api/v1/jobs/{answer['id']}?wait=30"))["result"] == str(port)
        (project / ".env").write_text("OF_FILE=fifth\n")
        screen.shows("ready again")
        assert result_of_a_nap(screen) == "fifth"
        cancel(screen, path)
        screen.press(b"\x03")
        assert screen.code() == 0
        screen.is_gone()


def test_database_that_is_away_is_one_line(opened: Open) -> None:
    with opened(DATABASE_URL="postgres://127.0.0.1:1/x") as screen:
        assert screen.shows("embarq: Postgres is not available").endswith(": check DATABASE_URL")
        assert screen.code() == 1
        screen.is_gone()
        assert "Traceback" not in screen.text


def test_broken_code_ends_the_start_with_one_line_of_it(opened: Open, project: Path) -> None:
    (project / "tasks.py").write_text("import nothing_of_this_name\n")
    with opened(f"exec {EMBARQ} dev") as screen:
        screen.shows("nothing_of_this_name")
        assert screen.code() not in (0, None)
        screen.is_gone()
        assert "Traceback" not in screen.text


def test_lines_have_colours_a_short_time_and_no_words_of_clients_that_steer(opened: Open) -> None:
    steering = "\x1b[2J\x1b]0;title\x07\r\nworker 12:00:00.000 INFO     made up"
    with opened() as screen:
        screen.shows(READY)
        screen.asks("/api/v1/jobs", {"job": "fail", "args": {"words": steering}, "options": {"max_tries": 1}})
        line = screen.shows("failed")
        assert re.match(r"worker \d\d:\d\d:\d\d\.\d\d\d (ERROR|WARNING) +failed ", line)
        screen.shows("made up")
        screen.press(b"\x03")
        assert screen.code() == 0
        text, colours = screen.text, set(re.findall(r"\x1b.{0,3}", screen.raw))
        assert "\x1b" not in text
        assert "\x07" not in text
        assert colours
        assert not [line for line in text.splitlines() if re.match(r"worker\s+12:00:00.000 INFO +made up", line)]
        assert text.index("started ") < text.index("failed ")
        assert "color_message" not in text
        assert re.search(r"worker starts .* jobs=2$", text, re.MULTILINE)
