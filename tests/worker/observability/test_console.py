"""Log lines for people."""

import asyncio
import io
import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import structlog

from tests.support import ROOT
from worker.observability.batched_log_handler import BatchedLogger
from worker.observability.colours import wants_colour
from worker.observability.logs import configure_logs

TIME = r"\d\d:\d\d:\d\d\.\d\d\d"
STEERING = "\x1b[2J\x07\r\n\u202e12:00:00.000 INFO     made up"


class Stream(io.StringIO):
    """What lines are written to; a terminal, if it says so."""

    def __init__(self, *, is_terminal: bool = False) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    @property
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()


@pytest.fixture(autouse=True)
def usual_logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def stream() -> Stream:
    stream = Stream()
    configure_logs("INFO", as_json=False, stream=stream)
    return stream


def test_line_has_a_short_time_a_level_an_event_and_fields(stream: Stream) -> None:
    structlog.stdlib.get_logger("embarq.test").info("happened", count=3, words="two words", name="plain", nothing=None)
    line = stream.lines[0]
    assert re.fullmatch(
        rf"{TIME} INFO     happened +\[embarq\.test\] count=3 words='two words' name=plain nothing=None", line
    )


def test_stacks_stand_on_lines_of_their_own(stream: Stream) -> None:
    logger = structlog.stdlib.get_logger("embarq.test")
    try:
        raise ValueError(STEERING)
    except ValueError:
        logger.exception("it failed", job_id="a")
    logger.error("it hangs", stack='  File "jobs.py", line 1\n\tx()\n', job_id="b")
    first, second = [at for at, line in enumerate(stream.lines) if re.match(TIME, line)]
    assert stream.lines[first].endswith("[embarq.test] job_id=a")
    assert stream.lines[first + 1] == "    Traceback (most recent call last):"
    assert stream.lines[second - 1] == r"    \u202e12:00:00.000 INFO     made up"
    assert stream.lines[second + 1 :] == ['      File "jobs.py", line 1', "        x()"]


@pytest.mark.parametrize("place", ["event", "field", "spaced field", "exception", "record"])
def test_words_of_clients_neither_steer_nor_make_lines(stream: Stream, place: str) -> None:
    logger = structlog.stdlib.get_logger("embarq.test")
    match place:
        case "event":
            logger.info(STEERING)
        case "field":
            logger.info("happened", job=STEERING.replace(" ", ""))
        case "spaced field":
            logger.info("happened", path=[STEERING])
        case "exception":
            logger.info("happened", exc_info=ValueError(STEERING))
        case "record":
            logging.getLogger("plain").info("of %s", STEERING)
    text = stream.getvalue()
    assert [character for character in text if not character.isprintable() and character != "\n"] == []
    assert len(re.findall(rf"^{TIME} ", text, re.MULTILINE)) == 1
    assert "made" in text


def test_lines_stand_in_the_order_in_which_things_happened(stream: Stream) -> None:
    quick, usual = BatchedLogger("embarq.quick"), structlog.stdlib.get_logger("embarq.usual")

    async def happen() -> None:
        quick.info("one", {})
        usual.error("two")
        quick.info("three", {})
        thread = threading.Thread(target=usual.warning, args=("four",))
        thread.start()
        thread.join()
        quick.info("five", {})
        await asyncio.sleep(0)

    asyncio.run(happen())
    assert [line.split()[2] for line in stream.lines] == ["one", "two", "three", "four", "five"]


def test_lines_of_a_loop_that_ended_are_not_lost(stream: Stream) -> None:
    quick = BatchedLogger("embarq.quick")

    async def happen(event: str) -> None:
        quick.info(event, {})

    for event in ("one", "two"):
        loop = asyncio.new_event_loop()
        task = loop.create_task(happen(event))
        task.add_done_callback(lambda _, loop=loop: loop.stop())  # type: ignore[misc]  # a default is no annotation
        loop.run_forever()
        loop.close()
    logging.getLogger().handlers[0].flush()
    assert [line.split()[2] for line in stream.lines] == ["one", "two"]


def test_json_is_for_machines() -> None:
    stream = Stream(is_terminal=True)
    configure_logs("INFO", as_json=True, stream=stream)
    logging.getLogger("uvicorn.error").warning("odd", extra={"color_message": "\x1b[1modd"})
    record = json.loads(stream.getvalue())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("timestamp"))
    assert record == {"level": "warning", "logger": "uvicorn.error", "event": "odd"}


@pytest.mark.parametrize(
    ("is_terminal", "environment", "in_colour"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"TERM": "dumb"}, False),
        (True, {"NO_COLOR": "1"}, False),
        (False, {"FORCE_COLOR": "1"}, True),
        (True, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
    ],
)
def test_colours_by_the_conventions(
    is_terminal: bool, environment: dict[str, str], in_colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = Stream(is_terminal=is_terminal)
    assert wants_colour(stream) is in_colour
    configure_logs("INFO", as_json=False, stream=stream)
    logging.getLogger("embarq.test").error("happened")
    assert ("\x1b[31mERROR   \x1b[0m" in stream.getvalue()) is in_colour
    assert ("\x1b" in stream.getvalue()) is in_colour


def test_nobody_who_reads_is_no_error() -> None:
    code = """
import logging, sys
from worker.observability.logs import configure_logs
configure_logs("INFO", as_json=False)
for number in range(3):
    sys.stdin.readline()
    logging.getLogger("embarq.test").info("happened")
print("went on", flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert b"happened" in process.stderr.readline()
        process.stderr.close()
        said, _ = process.communicate(b"\n\n", timeout=60)
    assert (process.returncode, said) == (0, b"went on\n")
