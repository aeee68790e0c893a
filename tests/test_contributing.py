"""What is there for contributors says what is so: the same checks everywhere, commands and files that exist."""

import json
import re
import tomllib

import pytest

from tests.support import ROOT

PAGES = ("CONTRIBUTING.md", "SECURITY.md")
MAKEFILE = (ROOT / "Makefile").read_text()


def checks_of_make() -> list[str]:
    """The commands of `make check`."""
    body = re.search(r"^check: .*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert body is not None
    return [line.strip().removeprefix("@$(BIN)/") for line in body[1].splitlines()]


def test_hooks_run_what_make_check_runs() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    entries = re.findall(r"^ +entry: \.venv/bin/(.+)$", text, re.MULTILINE)
    # Before a commit files are formatted, which fails it; the check only looks.
    assert entries == [command.replace(" --check", "") for command in checks_of_make()]
    assert set(re.findall(r"repo: (\S+)", text)) == {"local"}
    assert set(re.findall(r"language: (\S+)", text)) == {"system"}


def test_devcontainer_sets_up_what_make_does() -> None:
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    version = (ROOT / ".python-version").read_text().strip()
    assert container["image"] == f"python:{version}"
    assert container["postCreateCommand"] == "make .venv/ready"
    assert 8000 in container["forwardPorts"]
    interpreter = container["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert interpreter.endswith("/.venv/bin/python")


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_files_of_a_page_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    targets = {name for line in re.findall(r"^([\w./ -]+):", MAKEFILE, re.MULTILINE) for name in line.split()}
    assert set(re.findall(r"`make ([\w./-]+)`", text)) <= targets
    for link in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", text):
        assert (ROOT / link).exists(), link


def test_types_are_for_users_too() -> None:
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for package in ("worker", "embarq"):
        assert (ROOT / package / "py.typed").exists()
        assert "py.typed" in packaged[package]
