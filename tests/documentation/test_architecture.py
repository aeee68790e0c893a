"""`docs/architecture.md` draws the wings as they are, and names files that exist."""

import re
import tomllib

from tests.support import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()
FILE = re.compile(r"`((?:worker|api|jobs|tests|docs)/[\w./-]*)`")
MOST_FILES = 4  # that one of the changes touches


def drawn() -> list[set[str]]:
    """The wings of the first picture, a set for each row."""
    picture = PAGE.split("```mermaid\n")[1].split("```")[0]
    rows = re.findall(r"subgraph .*?\n(.*?)\n    end", picture, re.DOTALL)
    return [set(re.findall(r'^ +(\w+)\["\1: ', row, re.MULTILINE)) for row in rows]


def test_files_that_are_named_exist() -> None:
    named = FILE.findall(PAGE)
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_picture_has_the_rows_that_import_linter_holds() -> None:
    wings = {path.parent.name for path in (ROOT / "worker").glob("*/__init__.py")}
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [each["layers"] for each in contracts if each.get("containers") == ["worker"]]
    assert drawn() == [set(re.split(r"[ :|]+", row)) & wings for row in layers]
    assert set().union(*drawn()) == wings


def test_changes_touch_few_files() -> None:
    table = PAGE.partition("## Where a change goes")[2]
    rows = [line for line in table.splitlines() if line.startswith("| add ")]
    assert len(rows) >= 3
    for row in rows:
        assert len(FILE.findall(row)) <= MOST_FILES, row
