"""`.env` is for development: it sets what the environment does not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Embarq

Write = Callable[[str, str], None]
JOBS = """
import os
from worker import job

@job(name="tell-{queue}", queue="{queue}")
async def tell() -> str:
    return os.environ.get("OF_THE_FILE", "nothing")
"""


@pytest.fixture
def tell(embarq: Embarq, write: Write, redis_url: str, queue: str) -> Callable[..., object]:
    """What a job of a worker finds in its environment."""
    write("jobs.py", JOBS.format(queue=queue))

    def ask(**environment: str) -> object:
        told = embarq("enqueue", f"tell-{queue}", "--json", **{"REDIS_URL": redis_url} | environment)
        assert told.code == 0, told.err
        job_id = json.loads(told.out)["id"]
        ran = embarq("worker", "--burst", "-Q", queue, **{"REDIS_URL": redis_url} | environment)
        assert ran.code == 0, ran.err
        return json.loads(embarq("job", job_id, "--json", **{"REDIS_URL": redis_url} | environment).out)["result"]

    return ask


def test_file_sets_what_the_environment_does_not(tell: Callable[..., object], write: Write, redis_url: str) -> None:
    write(".env", f'# ours\nREDIS_URL={redis_url}\nexport OF_THE_FILE="a value"\n')
    assert tell(REDIS_URL=redis_url) == "a value"
    assert tell(OF_THE_FILE="of the environment") == "of the environment"


def test_settings_come_from_the_file(embarq: Embarq, write: Write) -> None:
    write(".env", "EMBARQ_LEASE=soon\n")
    ran = embarq("job", "x")
    assert (ran.code, ran.line.startswith("embarq: EMBARQ_LEASE='soon': ")) == (2, True)
    assert embarq("job", "x", EMBARQ_LEASE="15").code == 1


@pytest.mark.parametrize("environment", [{"EMBARQ_ENV": "PRODUCTION"}, {"DYNO": "web.1"}])
def test_file_is_not_read_in_production(embarq: Embarq, write: Write, environment: dict[str, str]) -> None:
    write(".env", "EMBARQ_LEASE=soon\n")
    ran = embarq("job", "x", **environment)
    assert (ran.code, "EMBARQ_LEASE" in ran.err) == (1, False), ran.err


def test_several_processes_have_it(embarq: Embarq, write: Write, redis_url: str, queue: str) -> None:
    write("jobs.py", "import os\nraise ValueError(os.environ['OF_THE_FILE'])\n")
    write(".env", "OF_THE_FILE=for-children\n")
    ran = embarq("worker", "--processes", "2", "-Q", queue, REDIS_URL=redis_url)
    assert "ValueError: for-children" in ran.err


def test_file_that_cannot_be_read_is_told(embarq: Embarq, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"NAME=\xff\xfe\n")
    ran = embarq("job", "x")
    assert ran.code == 2
    assert ran.line.startswith(f"embarq: {tmp_path}/.env cannot be read: ")


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ("EMBARQ_API_KEY='unclosed-secret\nEMBARQ_LEASE=15\n", 1, "with each quote closed"),
        ("A=1\n\nEMBARQ_API_KEY='unclosed-secret\nEMBARQ_LEASE='15'\n", 3, "with each quote closed"),
        ("# ours\nsecret of mine\n", 2, "must be NAME=value"),
        ("A=1\nB=sec\0ret\n", 2, "must not have a NUL byte"),
        ("'A=B'=secret\n", 1, "a variable's name must not hold ="),
    ],
)
def test_damaged_line_is_refused_with_its_place(
    embarq: Embarq, write: Write, tmp_path: Path, content: str, line: int, said: str
) -> None:
    write(".env", content)
    ran = embarq("doctor")
    assert ran.code == 2
    assert ran.line.startswith(f"embarq: {tmp_path}/.env:{line}: ")
    assert said in ran.line
    assert "secret" not in ran.line
