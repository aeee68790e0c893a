"""A command or an option that no test runs fails here."""

import ast
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from tests.support import ROOT
from worker.cli.commands import app

MOST_WORDS = 40  # of one call; longer lists are no command


def options_of(command: Any) -> Iterator[tuple[str, ...]]:
    """The names of each option that is shown; of one that is on by itself, those that turn it off."""
    for parameter in command.params:
        if parameter.param_type_name == "option" and not parameter.hidden and parameter.name != "help":
            yield tuple(parameter.secondary_opts if parameter.default is True else parameter.opts)


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All that are shown, by the words that call them."""
    if path:
        yield path, command
    for name, each in getattr(command, "commands", {}).items():
        if not each.hidden:
            yield from commands(each, (*path, name))


TREE: Any = typer.main.get_command(app)
COMMANDS = [path for path, each in commands(TREE) if not hasattr(each, "commands")]
OPTIONS = [(path, names) for path, each in [((), TREE), *commands(TREE)] for names in options_of(each)]


def words(node: ast.AST) -> list[str]:
    """The words of the texts in one call, tuple or list, in their order; texts may hold several."""
    parts = node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.Tuple | ast.List) else []
    found: list[str] = []
    for part in parts:
        if isinstance(part, ast.Tuple | ast.List):
            found += words(part)
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            found += part.value.split()
        elif isinstance(part, ast.JoinedStr):
            texts = [each.value for each in part.values if isinstance(each, ast.Constant)]
            found += " ".join(str(each) for each in texts).split()
    return found


@pytest.fixture(scope="module")
def called() -> list[list[str]]:
    """What tests write in one call, tuple or list."""
    found = []
    for file in (ROOT / "tests").rglob("*.py"):
        found += [each for node in ast.walk(ast.parse(file.read_text())) if (each := words(node))]
    return [each for each in found if len(each) <= MOST_WORDS]


def runs(each: list[str], path: tuple[str, ...]) -> bool:
    """Whether these words call a command: its own stand together."""
    return not path or any(tuple(each[at : at + len(path)]) == path for at in range(len(each)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_is_run_by_a_test(called: list[list[str]], path: tuple[str, ...]) -> None:
    assert any(runs(each, path) for each in called)


@pytest.mark.parametrize(("path", "names"), OPTIONS, ids=lambda each: " ".join(each) or "embarq")
def test_every_option_is_given_by_a_test(
    called: list[list[str]], path: tuple[str, ...], names: tuple[str, ...]
) -> None:
    assert any(runs(each, path) and set(names) & set(each) for each in called), f"no test gives {' or '.join(names)}"


def test_what_is_looked_at_is_there() -> None:
    """Or nothing above would fail where Typer comes to keep its commands otherwise."""
    assert ("queue", "purge") in COMMANDS
    assert (("worker",), ("-c", "--concurrency")) in OPTIONS
    assert (("dev",), ("--no-reload",)) in OPTIONS
