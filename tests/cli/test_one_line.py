"""What is written wrongly ends a command with one line that says where and what to do."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Embarq

Write = Callable[[str, str], None]
HEAD = "from worker import Context, RateLimit, injected, job, resource, schedule\n"


@pytest.mark.parametrize(
    ("source", "line", "said"),
    [
        ("def f(:\n", 2, "SyntaxError: invalid syntax"),
        ("import sendgrid_of_nobody\n", 2, "ModuleNotFoundError: No module named 'sendgrid_of_nobody'"),
        ("1 / 0\n", 2, "ZeroDivisionError: division by zero"),
        ("@job(time_out=5)\nasync def send(): ...\n", 2, "@job has no option 'time_out'; did you mean 'timeout'?"),
        ("@job\n@schedule('0 3 * * *')\nasync def send(): ...\n", 3, "@schedule must stand above the @job of 'send'"),
    ],
)
def test_module_that_cannot_be_imported(embarq: Embarq, write: Write, source: str, line: int, said: str) -> None:
    write("jobs.py", HEAD + source)
    ran = embarq("worker", "--burst")
    assert ran.code == 2
    assert ran.line.startswith(f"embarq: jobs.py:{line}: {said}")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "@job\nasync def send(ctx, to: str): ...\n",
            "its context must be `ctx: Context` (from embarq import Context)",
        ),
        (
            "@job\nasync def send(ctx: dict, to: str): ...\n",
            "its context must be `ctx: Context` (from embarq import Context)",
        ),
        ("@job\nasync def send(*to: str): ...\n", "parameter *to must be sent by name"),
        ("class Mailer: ...\n@job\nasync def send(by: Mailer): ...\n", "parameter `by: Mailer` must have a JSON form"),
        (
            "class Mailer: ...\n@job\nasync def send(by: Mailer = injected): ...\n",
            "a resource must provide `by: Mailer`",
        ),
    ],
)
def test_job_that_is_declared_wrongly(embarq: Embarq, write: Write, source: str, said: str) -> None:
    write("jobs.py", HEAD + source)
    ran = embarq("worker", "--burst")
    assert ran.code == 2
    assert ran.line.startswith("embarq: job 'send' (jobs.py:")
    assert said in ran.line


@pytest.mark.parametrize("command", [("enqueue", "send"), ("api",), ("scheduler",), ("doctor",), ("schedule", "list")])
def test_every_command_that_needs_jobs_says_what_is_wrong(
    embarq: Embarq, write: Write, command: tuple[str, ...]
) -> None:
    write("jobs.py", "1 / 0\n")
    ran = embarq(*command)
    assert ran.code == 2
    assert ran.line.startswith("embarq: jobs.py:1: ZeroDivisionError: division by zero")


def test_traceback_is_shown_where_it_is_asked_for(embarq: Embarq, write: Write) -> None:
    write("jobs.py", "1 / 0\n")
    for ran in (embarq("--debug", "worker"), embarq("worker", EMBARQ_LOG_LEVEL="DEBUG")):
        assert ran.code == 2
        assert ran.err.splitlines()[-1].startswith("embarq: jobs.py:1: ZeroDivisionError")
        assert 'jobs.py", line 1, in <module>' in ran.err


def test_several_processes_end_with_what_is_wrong(embarq: Embarq, write: Write) -> None:
    write("jobs.py", "1 / 0\n")
    ran = embarq("worker", "--processes", "2")
    assert ran.code == 2
    assert "embarq: jobs.py:1: ZeroDivisionError: division by zero" in ran.err


def test_several_processes_end_with_their_burst(embarq: Embarq, write: Write, redis_url: str, queue: str) -> None:
    write("jobs.py", HEAD + "@job\nasync def send(to: str): ...\n")
    assert embarq("worker", "--burst", "--processes", "2", "-Q", queue, REDIS_URL=redis_url).code == 0


def test_folder_without_jobs(embarq: Embarq, write: Write) -> None:
    assert "there is no module 'jobs' in " in embarq("worker").line
    write("jobs.py", "")
    ran = embarq("worker")
    assert ran.code == 2
    assert ran.line.startswith("embarq: there is no @job in jobs (from EMBARQ_JOBS, or jobs in [tool.embarq]")
    write("pyproject.toml", '[tool.embarq]\njobs = ["tasks", "more"]\n')
    for name in ("tasks", "more"):
        write(f"{name}.py", "async def forgotten() -> None: ...\n")
    ran = embarq("worker", "--burst", "--processes", "2")
    assert ran.code == 2
    assert "embarq: there is no @job in tasks, more (" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("enqueue", "sned"), "no job is registered as 'sned'; did you mean 'send'?"),
        (("enqueue", "send", "a@example.test"), "'a@example.test' must be name=value, such as user_id=7"),
        (("enqueue", "send", "--options", "{"), "--options '{' must be JSON: "),
        (("enqueue", "send", "--options", "[]"), "--options '[]' must be a JSON object"),
        (
            ("enqueue", "send", "to=x", "--options", '{"dely": 5}'),
            "/options/dely: must be a known option; did you mean 'delay'?",
        ),
        (("enqueue", "send"), "/args/to: Field required"),
        (("worker", "-Q", "a:0"), "-Q: a weight must be a number above 0 and below 1,000,000, not '0'"),
        (("worker", "-Q", "a,b c"), "-Q: must name queues, and 'b c' does not: "),
        (("worker", "-Q", ""), "-Q '' must name queues"),
        (("worker", "--processes", "2", "-Q", " ,"), "-Q ' ,' must name queues"),
        (("worker", "--check", "-Q", ""), "-Q '' must name queues"),
        (("worker", "--check", "-Q", "key="), "-Q: must name queues, and 'key=' does not: "),
    ],
)
def test_what_is_asked_wrongly(embarq: Embarq, write: Write, command: tuple[str, ...], said: str) -> None:
    write("jobs.py", HEAD + "@job\nasync def send(to: str): ...\n")
    ran = embarq(*command)
    assert ran.code == 2
    assert ran.line.startswith("embarq: ")
    assert said in ran.line


@pytest.mark.parametrize("group", ["pause", "resume", "purge"])
def test_queue_that_nobody_knows(embarq: Embarq, write: Write, redis_url: str, queue: str, group: str) -> None:
    write("jobs.py", HEAD + f"@job(queue='{queue}')\nasync def send(to: str): ...\n")
    yes = ["--yes"] if group == "purge" else []
    ran = embarq("queue", group, f"{queue}s", *yes, REDIS_URL=redis_url)
    assert ran.code == 1
    assert ran.line == f"embarq: there is no queue '{queue}s'; did you mean '{queue}'?"
    assert embarq("queue", group, queue, *yes, REDIS_URL=redis_url).code == 0
    assert embarq("queue", "resume", queue, REDIS_URL=redis_url).code == 0


def test_schedule_that_nobody_knows(embarq: Embarq, write: Write, redis_url: str, queue: str) -> None:
    name = f"at-three-{queue}"
    write("jobs.py", HEAD + f"@schedule('0 3 * * *', name='{name}')\n@job\nasync def send(): ...\n")
    assert embarq("schedule", "list", REDIS_URL=redis_url).code == 0
    ran = embarq("schedule", "pause", f"{name}x", REDIS_URL=redis_url)
    assert ran.code == 1
    assert ran.line == f"embarq: no schedule is named '{name}x'; did you mean '{name}'?"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("EMBARQ_LEASE", "soon", "EMBARQ_LEASE='soon': Input should be a valid number"),
        (
            "EMBARQ_SOFT_TIMEOUT",
            "1000",
            "EMBARQ_SOFT_TIMEOUT=1000 must be at most",
        ),
        ("REDIS_URL", "http://:hunter2@example.test", "REDIS_URL=http://…: must start with redis:// or"),
    ],
)
def test_setting_that_is_not_allowed(embarq: Embarq, write: Write, variable: str, value: str, said: str) -> None:
    write("jobs.py", HEAD + "@job\nasync def send(to: str): ...\n")
    ran = embarq("worker", "--burst", **{variable: value})
    assert ran.code == 2
    assert ran.line.startswith(f"embarq: {said}")
    assert "hunter2" not in embarq("--debug", "worker", **{variable: value}).err


def test_misspelt_setting_is_told(embarq: Embarq, write: Write, redis_url: str, queue: str) -> None:
    write("jobs.py", HEAD + "@job\nasync def send(to: str): ...\n")
    ran = embarq("worker", "--burst", "-Q", queue, REDIS_URL=redis_url, EMBARQ_CONCURENCY="5")
    assert ran.code == 0
    (told,) = [line for line in ran.err.splitlines() if "unknown setting" in line]
    assert "EMBARQ_CONCURENCY" in told
    assert "EMBARQ_CONCURRENCY" in told


def test_data_folder_that_cannot_be_written_to(embarq: Embarq, write: Write, tmp_path: Path) -> None:
    write("jobs.py", HEAD + "@job\nasync def send(to: str): ...\n")
    write("taken", "a file")
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    ran = embarq("queue", "list", REDIS_URL="", EMBARQ_DATA_DIR="taken", **environment)
    assert ran.code == 1
    assert ran.line.startswith("embarq: ")
    assert "taken" in ran.line
    assert "EMBARQ_DATA_DIR" in ran.line


def test_lookup_needs_no_module_of_jobs(embarq: Embarq, write: Write, redis_url: str) -> None:
    write("jobs.py", "1 / 0\n")
    ran = embarq("job", "nobody", REDIS_URL=redis_url)
    assert (ran.code, ran.line) == (1, "embarq: no job has the id 'nobody'")
