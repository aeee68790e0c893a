"""The HTTP API and the commands in inline mode: no Redis is anywhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import without_a_socket
from worker.http import create_app
from worker.settings import Settings

TASKS = """
from worker import Client, Context, job, registry

@job()
async def greet(name: str) -> str:
    return f"hello {name}"

@job(max_tries=1)
async def fail() -> None:
    raise ValueError("no paper")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "pyproject.toml").write_text('[tool.embarq]\njobs = ["tasks"]\n')
    return tmp_path


def run(project: Path, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *command],
        cwd=project,
        env={**os.environ, "EMBARQ_INLINE": "1", "PYTHONPATH": str(project), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_command_runs_the_job_itself(project: Path) -> None:
    done = run(project, "-m", "worker.cli", "enqueue", "greet", "name=Ada", "--wait", "5")
    assert done.returncode == 0, done.stderr
    assert "hello Ada" in done.stdout
    failed = run(project, "-m", "worker.cli", "enqueue", "fail", "--wait", "5")
    assert failed.returncode == 1
    assert not (project / ".embarq").exists()


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (("worker",), {}, "EMBARQ_INLINE"),
        (("scheduler",), {}, "EMBARQ_INLINE"),
        (("dev",), {}, "EMBARQ_INLINE"),
        (("queue", "pause", "default"), {}, "inline mode"),
        (("enqueue", "greet", "name=Ada"), {"EMBARQ_ENV": "production"}, "EMBARQ_INLINE must be off"),
        (("api",), {"DYNO": "web.1", "REDIS_URL": "redis://localhost"}, "EMBARQ_INLINE must be off"),
        (("worker",), {"EMBARQ_ENV": "production"}, "EMBARQ_INLINE must be off"),
    ],
)
def test_command_that_cannot_work_says_so(
    project: Path, arguments: tuple[str, ...], environment: dict[str, str], told: str
) -> None:
    done = run(project, "-m", "worker.cli", *arguments, **environment)
    assert done.returncode in {1, 2}
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_script_with_connect_needs_no_redis(project: Path) -> None:
    script = (
        "import asyncio\nfrom worker import connect\nfrom tasks import greet\n"
        "async def main():\n    async with connect():\n"
        "        print(await (await greet.enqueue('Ada')).result())\n"
        "asyncio.run(main())\n"
    )
    done = run(project, "-c", script)
    assert (done.stdout, done.returncode) == ("hello Ada\n", 0), done.stderr
    assert not (project / ".embarq").exists()


def test_bounds_are_those_of_the_projects_settings(project: Path) -> None:
    (project / "own.py").write_text(
        "from worker.settings import Settings\n\nclass Own(Settings):\n    max_tries: int = 2\n"
    )
    (project / "pyproject.toml").write_text('[tool.embarq]\njobs = ["tasks"]\nsettings = "own:Own"\n')
    script = """
import asyncio
from worker import Retry, job
from worker.core.errors import InvalidArguments

@job()
async def again(text: str) -> None:
    raise Retry(delay=1)

async def main() -> None:
    print((await (await again.enqueue("short")).job()).tries)
    try:
        await again.enqueue("x" * 2000)
    except InvalidArguments as error:
        print("refused", error)

asyncio.run(main())
try:
    again.enqueue_sync("x" * 2000)
except InvalidArguments as error:
    print("refused", error)
"""
    done = run(project, "-c", script, EMBARQ_MAX_ARGUMENTS="1024")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["2", "refused", "refused"], done.stderr
    assert "1024" in lines[1].replace(",", "")


async def test_http_api_runs_the_job_before_it_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBARQ_INLINE", "1")
    settings = Settings(data_dir=tmp_path, jobs=("tests.worker.inline.tasks",))
    async with without_a_socket(create_app(settings)) as http:
        posted = await http.post("/api/v1/jobs", json={"job": "inline_double", "args": {"number": 4}})
        assert posted.status_code == 202
        seen = (await http.get(posted.headers["Location"])).json()
        assert (seen["state"], seen["result"]) == ("succeeded", 8)
        bulk = await http.post("/api/v1/jobs/bulk", json={"jobs": [{"job": "inline_double", "args": {"number": 1}}]})
        assert bulk.status_code in {200, 202, 207}, bulk.text
        flow = {"chain": [{"job": "inline_double", "args": {"number": 1}}, {"job": "inline_double"}]}
        started = await http.post("/api/v1/workflows", json=flow)
        assert started.status_code == 202
        shown = (await http.get(started.headers["Location"])).json()
        assert (shown["state"], shown["result"]) == ("succeeded", 4)
        assert (await http.get("/health/ready")).json()["redis"] == "ok"
        assert (await http.get("/api/v1/queues")).json()["queues"] == []
        refused = await http.post("/api/v1/queues/default/pause")
        assert (refused.status_code, "inline mode" in refused.json()["detail"]) == (501, True)
