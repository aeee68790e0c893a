"""The fixtures in a project of somebody's own: packages of any name, nothing to import, nothing in the way."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PROJECT = {
    "pyproject.toml": """
        [tool.embarq]
        jobs = ["settings.tasks"]

        [tool.pytest.ini_options]
        asyncio_mode = "auto"
        asyncio_default_fixture_loop_scope = "function"
        filterwarnings = ["error"]
        pythonpath = ["."]
        """,
    "settings/__init__.py": "",
    "settings/tasks.py": """
        from collections.abc import AsyncIterator
        from worker import injected, job, resource

        class Greeter: ...

        @job(queue="greetings")
        async def greet(name: str, greeter: "Greeter" = injected) -> str:
            if name == "nobody":
                raise ValueError("nobody to greet")
            return greeter.greet(name)

        @resource
        async def greeter() -> AsyncIterator[Greeter]:
            raise AssertionError("opened")
            yield
        """,
    "tests/test_greet.py": """
        import pytest
        from settings.tasks import Greeter, greet
        from worker.testing import Kit

        class Loud(Greeter):
            def greet(self, name): return f"HELLO {name}"

        async def test_greets(embarq: Kit) -> None:
            handle = await greet.enqueue("Ada")
            assert embarq.assert_enqueued(greet, name="Ada").queue == "greetings"
            with embarq.replaced(Greeter, Loud()):
                await embarq.drain()
            assert await handle.result(timeout=0) == "HELLO Ada"

        async def test_starts_anew(embarq: Kit) -> None:
            assert not embarq.enqueued
        """,
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in PROJECT.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return tmp_path


def run_pytest(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


def test_private_server(project: Path) -> None:
    code, output = run_pytest(project)
    assert code == 0, output
    assert "2 passed" in output


def test_server_of_the_environment(project: Path, redis_url: str) -> None:
    code, output = run_pytest(project, REDIS_URL=redis_url)
    assert code == 0, output
    code, output = run_pytest(project, REDIS_URL="redis://127.0.0.1:1/0")
    assert code == 1
    assert "BrokerUnavailable" in output


def test_redis_of_production_is_refused(project: Path, redis_url: str) -> None:
    for says_so in ({"EMBARQ_ENV": "Production"}, {"DYNO": "run.1"}):
        code, output = run_pytest(project, REDIS_URL=redis_url, **says_so)
        assert code == 1
        assert "tests must not run on the Redis of production" in output


def test_error_of_a_job_is_shown_where_it_was_raised(project: Path) -> None:
    (project / "tests" / "test_greet.py").write_text(
        "from settings.tasks import greet\n"
        "class Own: ...\n"
        "async def test_greets(embarq):\n"
        "    await greet.enqueue('nobody')\n"
        "    with embarq.replaced(__import__('settings.tasks').tasks.Greeter, Own()):\n"
        "        await embarq.drain()\n"
    )
    code, output = run_pytest(project)
    assert code == 1
    assert "settings/tasks.py:10: ValueError" in output
    assert "raised by job 'greet'" in output
    assert "Captured log call" in output
    assert "╭" not in output


def test_project_without_jobs_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text("def test_nothing(): ...\n")
    code, output = run_pytest(tmp_path, "-W", "error", "-p", "no:asyncio")
    assert code == 0, output
    (tmp_path / "test_nothing.py").write_text(
        "import sys\ndef test_light(): assert not {'arq', 'pydantic', 'worker.client'} & set(sys.modules)\n"
    )
    code, output = run_pytest(tmp_path, "-p", "no:asyncio")
    assert code == 0, output
