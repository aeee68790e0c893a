"""A module of jobs that cannot be imported is told in one line, with the place in it."""

import importlib
import itertools
import re
import sys
from pathlib import Path

import pytest

from worker import Registry, discover
from worker.core.errors import DefinitionError

NUMBERS = itertools.count()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty package in the current folder, under a name that no other test has."""
    folder = tmp_path / f"discovered_{next(NUMBERS)}"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def message(package: Path, registry: Registry) -> str:
    with pytest.raises(DefinitionError) as caught:
        discover([package.name], registry)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("source", "line", "said"),
    [
        ("x = 1\ndef work(:\n", 2, "SyntaxError: invalid syntax"),
        ("import json\nimport sendgrid_of_nobody\n", 2, "ModuleNotFoundError: No module named 'sendgrid_of_nobody'"),
        ("from json import nothing\n", 1, "ImportError: cannot import name 'nothing' from 'json'"),
        ("import json\n\njson.loads('{')\n", 3, "JSONDecodeError: Expecting property name"),
        ("raise ValueError('first\\nsecond')\n", 1, "ValueError: first second"),
        ("import sys\nsys.exit('no')\n", 2, "SystemExit: no"),
        ("\nraise BaseException('no')\n", 2, "BaseException: no"),
    ],
)
def test_broken_module_is_told_with_its_line(
    package: Path, registry: Registry, source: str, line: int, said: str
) -> None:
    (package / "emails.py").write_text(source)
    text = message(package, registry)
    assert text.startswith(f"{package.name}/emails.py:{line}: {said}")
    assert text.endswith(f"(module '{package.name}.emails' cannot be imported)")


def test_wrong_declaration_is_told_with_its_line(package: Path, registry: Registry) -> None:
    (package / "emails.py").write_text(
        "from worker import registry\n\n@registry.job(time_out=5)\nasync def send() -> None: ...\n"
    )
    assert message(package, registry) == (
        f"{package.name}/emails.py:3: @job has no option 'time_out'; did you mean 'timeout'?"
    )


def test_module_of_which_no_line_runs_is_told_with_its_file(package: Path, registry: Registry) -> None:
    (package / "emails.py").write_bytes(b"x = 1\n\0\n")
    text = message(package, registry)
    assert re.match(rf"{package.name}/emails\.py(:\d+)?: \w+: source code .* null bytes \(module ", text), text


@pytest.mark.parametrize("name", ["../jobs", ".jobs", "jobs.", "", "my/jobs.py"])
def test_name_that_is_no_module_is_told(registry: Registry, name: str) -> None:
    with pytest.raises(DefinitionError, match="must be a module as in `import`"):
        discover([name], registry)


def test_method_is_no_job(package: Path, registry: Registry) -> None:
    @registry.job(name="sent")
    async def send(self, to: str) -> None: ...  # type: ignore[no-untyped-def]  # as in a class

    told = message(package, registry)
    assert told.startswith("job 'sent' (")
    assert told.endswith("not a method: move it out of its class")


JOB = "\n\n@registry.job()\nasync def send(to: str) -> None: ...\n"


@pytest.fixture
def head(package: Path) -> str:
    """The beginning of a module with jobs, whose registry is its package's alone."""
    (package / "own.py").write_text("from worker import Registry\n\nregistry = Registry()\n")
    return f"from {package.name}.own import registry\n"


def test_second_job_of_a_name_in_a_module_is_told_with_both_lines(package: Path, registry: Registry, head: str) -> None:
    (package / "emails.py").write_text(head + JOB + JOB)
    path, place = f"{package.name}.emails.send", f"{package.name}/emails.py"
    assert message(package, registry) == (
        f"{place}:8: two jobs are named 'send': {path} ({place}:4) and {path} ({place}:8); give one @job(name=...)"
    )


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize("is_reload", [False, True])
def test_module_may_be_loaded_again(package: Path, head: str, is_reload: bool, edited: bool) -> None:
    (package / "emails.py").write_text(head + JOB)
    module = importlib.import_module(f"{package.name}.emails")
    before = module.send
    (package / "emails.py").write_text(head + ("\n# a longer line than before\n" if edited else "") + JOB)
    if is_reload:
        importlib.reload(module)
    else:
        del sys.modules[module.__name__]
        module = importlib.import_module(module.__name__)
    assert module.registry.get("send") is module.send is not before


def test_missing_module_is_told_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DefinitionError, match=r"there is no module 'nobodys_tasks\.emails' in .*EMBARQ_JOBS"):
        discover(["nobodys_tasks.emails"], Registry())


def test_module_whose_own_import_is_missing_is_not_called_missing(package: Path, registry: Registry) -> None:
    short = package.name[:5]
    assert short not in sys.modules
    (package / "__init__.py").write_text(f"import {short}\n")
    assert message(package, registry).startswith(f"{package.name}/__init__.py:1: ModuleNotFoundError")
