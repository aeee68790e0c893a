"""The wheel in an empty environment: somebody's own project, whose packages are called what they like."""

import time
import zipfile
from pathlib import Path

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.install.conftest import Installed
from tests.install.fresh import Fresh, write

JOB = """
from worker import Context, job


@job()
async def double(ctx: Context, number: int) -> int:
    return 2 * number
"""
TRAP = 'raise SystemExit("a module of somebody else was imported")\n'
PLATFORM_ROUTES = ("/stand-ins/sms", "/stand-ins/mail", "/api/v1/contact", "/api/v1/register", "/api/v1/files/1")

PROJECTS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "jobs, found by its name; api and settings are somebody else's": (
        {"jobs/__init__.py": "", "jobs/numbers.py": JOB, "api/__init__.py": TRAP, "settings/__init__.py": TRAP},
        {},
    ),
    "jobs, api and settings, named in pyproject.toml": (
        {
            "pyproject.toml": '[tool.embarq]\napp = "api:create_app"\nsettings = "settings:Settings"\n',
            "jobs/__init__.py": "",
            "jobs/numbers.py": JOB + "\nfrom settings import Settings\nassert Settings().colour\n",
            "api/__init__.py": "from worker.http.app import create_app as engine\n"
            "from settings import Settings\n"
            "def create_app():\n"
            "    assert Settings().colour == 'red'\n"
            "    return engine()\n",
            "settings/__init__.py": "from worker.settings import Settings as Engine\n"
            "class Settings(Engine):\n    colour: str = 'red'\n",
        },
        {},
    ),
    "myapp.tasks, named by EMBARQ_JOBS": (
        {"myapp/__init__.py": "", "myapp/tasks.py": JOB},
        {"EMBARQ_JOBS": "myapp.tasks"},
    ),
}


def ended(http: httpx.Client, job: str, **arguments: object) -> dict[str, object]:
    """A job posted by HTTP, once it has ended."""
    posted = http.post("/api/v1/jobs", json={"job": job, "args": arguments})
    assert posted.status_code == 202, posted.text
    answer: dict[str, object] = http.get(posted.headers["Location"], params={"wait": "25"}).json()
    return answer


def test_wheel_holds_the_engine_alone(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as wheel:
        names = wheel.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"worker", "embarq"}
    for suffix in (".lua", ".sql", ".template", "skip.lua"):
        assert any(name.endswith(suffix) for name in names), suffix
    assert {"worker/py.typed", "embarq/py.typed"} <= set(names)


def test_without_the_extra_it_says_what_to_install(installed: Installed) -> None:
    assert installed.bare.returncode == 1
    assert "pip install 'embarq[dev]'" in installed.bare.stdout
    assert "Traceback" not in installed.bare.stdout


@pytest.mark.parametrize("name", PROJECTS)
def test_project_of_ones_own(installed: Installed, folder: Path, name: str) -> None:
    files, variables = PROJECTS[name]
    project = installed.at(write(folder / "own", files))
    project.must("embarq", "migrate", **variables)
    project.must("embarq", "doctor", "--release", **variables)
    with project.running("embarq", "dev", variables=variables) as http:
        assert ended(http, "double", number=21)["result"] == 42
        definitions = http.get("/api/v1/definitions").json()
        assert "double" in str(definitions)
        assert "send_email" not in str(definitions)
        for route in PLATFORM_ROUTES:
            assert http.get(route).status_code == 404, route
        assert "84" in project.must("embarq", "enqueue", "double", "number=42", "--wait", "30", **variables)
        project.must("embarq", "doctor", **variables)


def test_processes_of_their_own(
    installed: Installed, folder: Path, redis_url: str, fresh_database: AsyncEngine
) -> None:
    """`embarq api` and `embarq worker` beside each other, on servers that are there."""
    project = installed.at(write(folder / "own", {"jobs/__init__.py": "", "jobs/numbers.py": JOB}))
    database_url = fresh_database.url.render_as_string(hide_password=False)
    servers = {"REDIS_URL": redis_url, "DATABASE_URL": database_url}
    project.must("embarq", "migrate", **servers)
    with project.running("embarq", "api", variables=servers) as http:
        posted = http.post("/api/v1/jobs", json={"job": "double", "args": {"number": 4}})
        project.must("embarq", "worker", "--burst", **servers)
        assert http.get(posted.headers["Location"]).json()["result"] == 8


def test_new_project_and_new_job(installed: Installed, folder: Path) -> None:
    made = Fresh(folder, installed.bin).must("embarq", "new", "app", "my-shop")
    assert "embarq enqueue greet name=Ada --wait 10" in made
    project = installed.at(folder / "my-shop")
    project.must("embarq", "new", "job", "send_email")
    assert "2 passed" in project.must("pytest", "-q", "-W", "error")
    with project.running("embarq", "dev"):
        assert "Hello, Ada!" in project.must("embarq", "enqueue", "greet", "name=Ada", "--wait", "30")


def test_script_of_ones_own(installed: Installed, folder: Path) -> None:
    script = """
import asyncio
from embarq import connect
from myapp.tasks import double

async def main():
    async with connect():
        handle = await double.enqueue(4)
        print("got", await handle.result(timeout=30))

asyncio.run(main())
"""
    files = {"myapp/__init__.py": "", "myapp/tasks.py": JOB, "run.py": script}
    files["pyproject.toml"] = '[tool.embarq]\njobs = ["myapp.tasks"]\n'
    project = installed.at(write(folder / "own", files))
    with project.running("embarq", "dev"):
        assert "got 8" in project.must("python", "run.py")


def test_module_that_hides_the_engine_is_named(installed: Installed, folder: Path) -> None:
    project = installed.at(write(folder / "own", {"worker.py": "", "jobs.py": JOB}))
    refused = project.run("embarq", "worker", "--burst")
    assert refused.returncode == 2
    assert "hides Embarq's own package" in refused.stdout
    assert "Traceback" not in refused.stdout


def test_commands_answer_soon(installed: Installed, folder: Path) -> None:
    project = Fresh(folder, installed.bin)
    project.must("embarq", "--version")
    times = []
    for _ in range(3):
        began = time.monotonic()
        project.must("embarq", "--help")
        times.append(time.monotonic() - began)
    assert min(times) < 3, times  # 0.3 s on a quiet machine
