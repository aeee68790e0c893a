"""What no command can do: Redis is unavailable, nobody knows the id, options do not fit. One line, and an exit code."""

from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from tests.cli.conftest import Embarq
from worker.cli.commands import app

Write = Callable[[str, str], None]
JOB = "from worker import job\n@job\nasync def send(to: str): ...\n"

ASK_REDIS = [
    ("enqueue", "send", "to=x"),
    ("job", "x"),
    ("why", "x"),
    ("cancel", "x"),
    ("queue", "list"),
    ("queue", "pause", "x"),
    ("queue", "resume", "x"),
    ("queue", "purge", "x", "--yes"),
    ("schedule", "list"),
    ("schedule", "pause", "x"),
    ("schedule", "resume", "x"),
    ("schedule", "run", "x"),
    ("workflow", "show", "x"),
    ("workflow", "cancel", "x"),
    ("workflow", "retry", "x"),
]
TAKE_AN_ID = [command for command in ASK_REDIS if command[-1] == "x"]

WRONG = [
    (("dev", "--reload=often"), "does not take a value"),
    (("api", "--port", "0"), "greater than or equal to 1"),
    (("api", "--port", "99999"), "less than or equal to 65535"),
    (("worker", "-c", "0"), "greater than or equal to 1"),
    (("worker", "--processes", "0"), "greater than or equal to 1"),
    (("worker", "--json"), "--json goes with --check"),
    (("scheduler", "--burst"), "No such option"),
    (("enqueue",), "Missing argument 'job'"),
    (("enqueue", "send", "--wait", "soon"), "unable to parse string as a number"),
    (("enqueue", "send", "--wait", "nan"), "nan must be seconds, 0 or more"),
    (("job",), "Missing argument 'job_id'"),
    (("job", "x", "--wait", "-1"), "-1.0 must be seconds, 0 or more"),
    (("why",), "Missing argument 'job_id'"),
    (("cancel",), "Missing argument 'job_id'"),
    (("migrate", "--back-to"), "requires an argument"),
    (("doctor", "--no-such-option"), "No such option"),
    (("queue", "list", "x"), "unexpected extra argument"),
    (("queue", "pause"), "Missing argument 'queue'"),
    (("queue", "resume"), "Missing argument 'queue'"),
    (("queue", "purge"), "Missing argument 'queue'"),
    (("schedule", "list", "x"), "unexpected extra argument"),
    (("schedule", "pause"), "Missing argument 'name'"),
    (("schedule", "resume"), "Missing argument 'name'"),
    (("schedule", "run"), "Missing argument 'name'"),
    (("workflow", "show", "x", "--wait", "nan"), "nan must be seconds, 0 or more"),
    (("workflow", "cancel"), "Missing argument 'workflow_id'"),
    (("workflow", "retry"), "Missing argument 'workflow_id'"),
    (("new", "app"), "Missing argument 'name'"),
    (("new", "job"), "Missing argument 'name'"),
    (("sned",), "No such command 'sned'"),
]


@pytest.mark.parametrize("command", ASK_REDIS, ids=" ".join)
def test_redis_is_away(embarq: Embarq, write: Write, command: tuple[str, ...]) -> None:
    write("jobs.py", JOB)
    ran = embarq(*command)
    assert (ran.code, ran.out) == (1, "")
    assert ran.line.startswith("embarq: Redis is not available: ")


@pytest.mark.parametrize("command", TAKE_AN_ID, ids=" ".join)
def test_nobody_knows_it(embarq: Embarq, write: Write, redis_url: str, queue: str, command: tuple[str, ...]) -> None:
    write("jobs.py", JOB)
    hostile = f"{queue}\x1b[2J"
    ran = embarq(*(hostile if part == "x" else part for part in command), REDIS_URL=redis_url)
    assert (ran.code, ran.out) == (1, "")
    assert ran.line.startswith("embarq: ")
    assert f"'{queue}\\x1b[2J'" in ran.line


@pytest.mark.parametrize(("command", "said"), WRONG, ids=lambda each: " ".join(each) if isinstance(each, tuple) else "")
def test_options_and_arguments_that_do_not_fit(command: tuple[str, ...], said: str) -> None:
    """As Typer reads them, before anything is loaded."""
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 2
    assert said in ran.stderr


def test_database_is_away(embarq: Embarq) -> None:
    ran = embarq("migrate", DATABASE_URL="postgresql://somebody:hunter2@127.0.0.1:1/x")
    assert ran.code == 1
    assert ran.err.splitlines()[-1].startswith("embarq: Postgres is not available (no connection: ")
    assert "hunter2" not in ran.err


def test_revision_that_nobody_knows(embarq: Embarq, database_url: str) -> None:
    ran = embarq("migrate", "--back-to", "nonsense", DATABASE_URL=database_url)
    assert ran.code == 1
    assert ran.line == "embarq: Can't locate revision identified by 'nonsense'"


@pytest.mark.parametrize("name", ["", "..", "a b", "1st", "class"])
def test_name_that_is_none(embarq: Embarq, name: str) -> None:
    for kind in ("app", "job"):
        ran = embarq("new", kind, name)
        assert ran.code == 1
        assert ran.line.startswith("embarq: ")
        assert repr(name) in ran.line
