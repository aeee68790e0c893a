"""`embarq new`: what it writes works as it is, and it writes over nothing."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from worker.scaffold import new_app, new_job
from worker.scaffold.writing import ScaffoldError
from worker.settings.project import Project


def embarq(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "worker.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_new_project_and_new_job_pass_their_tests(tmp_path: Path) -> None:
    made = embarq(tmp_path, "new", "app", "My-shop")
    assert made.returncode == 0, made.stderr
    root = tmp_path / "My-shop"
    assert {path.name for path in root.iterdir()} == {
        *("pyproject.toml", "Procfile", ".gitignore", ".env.example"),
        *("my_shop", "tests"),
    }
    made = embarq(root, "new", "job", "send_email")
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines()[:2] == ["wrote my_shop/tasks/send_email.py", "wrote tests/test_send_email.py"]
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert "2 passed" in ran.stdout
    before = everything_in(root)
    again = embarq(root, "new", "job", "send_email")
    assert again.returncode == 1
    assert (
        again.stderr
        == "embarq: a job's name must be new, and 'send_email' is that of my_shop.tasks.send_email.send_email\n"
    )
    assert everything_in(root) == before


def test_new_project_says_what_it_is(tmp_path: Path) -> None:
    new_app(tmp_path, "shop")
    declared = tomllib.loads((tmp_path / "shop" / "pyproject.toml").read_text())
    assert declared["project"]["name"] == "shop"
    assert Project.model_validate({**declared["tool"]["embarq"], "folder": tmp_path}).jobs == ("shop.tasks",)
    root = Path(__file__).parents[3]
    assert (tmp_path / "shop" / "Procfile").read_text() == (root / "Procfile").read_text()


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "/tmp/x", "a/b", "a\\b", "a b", "-a", "a-", "a--b", "1a", "é", "a\n", "a\0", "x" * 61],  # noqa: S108
)
def test_name_that_is_no_projects(tmp_path: Path, name: str) -> None:
    with pytest.raises(ScaffoldError, match="a project's name must be at most"):
        new_app(tmp_path, name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["class", "Match", "worker", "embarq", "tests", "json", "redis", "SQLAlchemy"])
def test_project_whose_package_would_be_something_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(ScaffoldError, match=r"keyword of Python|would hide the module"):
        new_app(tmp_path, name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_project_is_not_written_over_anything(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "shop"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ScaffoldError, match="must not exist yet"):
        new_app(tmp_path, "shop")
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose package has a name that no other test uses."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "pyproject.toml").write_text('[tool.embarq]\njobs = ["plain_module", "scaffold_of_a_test.jobs"]\n')
    (tmp_path / "plain_module.py").write_text("")
    (tmp_path / "scaffold_of_a_test" / "jobs").mkdir(parents=True)
    (tmp_path / "scaffold_of_a_test" / "__init__.py").write_text("")
    (tmp_path / "scaffold_of_a_test" / "jobs" / "__init__.py").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    "name", ["", "../x", "a.b", "a-b", "Send", "_a", "1a", "é", "a\n", "x" * 61, "class", "test_it", "embarq", "handle"]
)
def test_name_that_is_no_jobs(project: Path, name: str) -> None:
    before = everything_in(project)
    with pytest.raises(ScaffoldError, match="a job's name must"):
        new_job(project, name)
    assert everything_in(project) == before


@pytest.mark.parametrize("taken", ["scaffold_of_a_test/jobs/mine.py", "tests/test_mine.py"])
def test_job_is_not_written_over_anything(project: Path, taken: str) -> None:
    (project / taken).parent.mkdir(exist_ok=True)
    (project / taken).write_text("mine = 1\n")
    before = everything_in(project)
    with pytest.raises(ScaffoldError, match=f"{taken} must not exist yet"):
        new_job(project, "mine")
    assert {name: text for name, text in everything_in(project).items() if "__pycache__" not in name} == before


def test_project_without_a_package_of_jobs(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text("")
    ended = embarq(tmp_path, "new", "job", "send")
    assert ended.returncode == 1
    assert "must have a folder jobs with an __init__.py" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "inner").write_text("a file where a folder should be")
    with pytest.raises(ScaffoldError, match="cannot be written"):
        new_app(tmp_path / "shop" / "inner", "app")
