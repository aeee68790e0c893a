"""A wrong argument to `.enqueue(...)` is a type error."""

import re
from pathlib import Path

from mypy import api as mypy

from tests.support import ROOT

FILE = Path(__file__).with_name("wrong_calls.py")


def test_checker_refuses_exactly_the_wrong_calls() -> None:
    expected = {
        number: set(line.partition("# E: ")[2].split())
        for number, line in enumerate(FILE.read_text().splitlines(), start=1)
        if "# E: " in line
    }
    assert len(expected) == 16
    output, errors, _ = mypy.run(["--config-file", str(ROOT / "pyproject.toml"), "--no-incremental", str(FILE)])
    assert not errors
    found: dict[int, str] = {}
    for line in output.splitlines():
        match = re.search(r"wrong_calls\.py:(\d+): error: .*\[([a-z-]+)\]$", line)
        if match:
            found[int(match[1])] = match[2]
    assert found.keys() == expected.keys(), output
    assert all(code in expected[number] for number, code in found.items()), output
