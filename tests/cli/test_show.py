"""What Redis holds is printed as it is: it is no markup, and steers no terminal."""

import json
from typing import Any

import pytest

from worker.cli import failures, show
from worker.cli.check import Check
from worker.core.errors import EmbarqError

HOSTILE = ["[/x]", "[bold]loud[/bold]", "[tool.embarq]", "ends with \\", ":fire:", "[link=http://x]y[/link]"]
STEERS = "\x1b[2J\x9b2J\r\nok  \u202e"
SHOWN = "\\x1b[2J\\x9b2J\\r\\nok  \\u202e"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.parametrize(("text", "shown"), [*((text, text) for text in HOSTILE), (STEERS, SHOWN)])
def test_findings_cells_and_fields_are_shown_as_they_are(
    text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show.checks([Check.wrong(text, text), Check.doubtful("a", text), Check.fine("b", text)], as_json=False)
    show.rows([{"name": text, "args": {"x": 1}}], as_json=False)
    show.fields({"result": text}, as_json=False)
    told = capsys.readouterr().out
    assert told.count(shown) == 6
    assert len(told.splitlines()) == 3 + 2 + 1
    assert "\x1b" not in told


def test_values_inside_others_steer_nothing_either(capsys: pytest.CaptureFixture[str]) -> None:
    show.fields({"args": {"[/x]": [STEERS]}}, as_json=False)
    told = capsys.readouterr().out
    assert "[/x]" in told
    assert told.rstrip("\n").isprintable()


def test_scripts_get_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    record: dict[str, Any] = {"what": STEERS, "ok": False, "finding": "[/x]", "warning": False}
    show.checks([Check.wrong(STEERS, "[/x]")], as_json=True)
    assert json.loads(capsys.readouterr().out) == [record]


def test_line_of_a_failure_steers_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert failures.tell(EmbarqError(f"Redis said {STEERS}")) == failures.FAILURE
    told = capsys.readouterr().err
    assert told.startswith("embarq: Redis said \\x1b[2J")
    assert told.rstrip("\n").isprintable()
