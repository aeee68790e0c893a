"""A project is what its folder says it is; a mistake in it is one line that names the place."""

import sys
from pathlib import Path

import pytest

from worker.settings import Settings, SettingsError
from worker.settings.project import ProjectError, find_project


@pytest.fixture(autouse=True)
def path_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


def declare(folder: Path, text: str) -> Path:
    (folder / "pyproject.toml").write_text(text)
    return folder


def test_empty_folder_runs_the_engine_alone(tmp_path: Path) -> None:
    project = find_project(tmp_path)
    settings = project.load_settings()
    assert type(settings) is Settings
    assert settings.jobs == ("jobs",)
    assert project.migration_folders() == []
    assert sys.path[0] == str(tmp_path)


def test_names_what_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_settings.py").write_text(
        "from worker import settings\nclass Own(settings.Settings):\n    colour: str = 'red'\n"
    )
    (tmp_path / "revisions").mkdir()
    declare(
        tmp_path,
        '[tool.embarq]\njobs = ["shop.tasks"]\nsettings = "own_settings:Own"\nmigrations = ["revisions"]\n',
    )
    project = find_project(tmp_path)
    settings = project.load_settings()
    assert settings.jobs == ("shop.tasks",)
    assert settings.colour == "red"  # type: ignore[attr-defined]  # of the project's own class
    assert project.migration_folders() == [tmp_path / "revisions"]
    monkeypatch.setenv("EMBARQ_JOBS", "other.tasks")
    assert project.load_settings().jobs == ("other.tasks",)


def test_wrong_setting_of_a_project_names_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBARQ_GRACE", "soon")
    with pytest.raises(SettingsError, match="EMBARQ_GRACE"):
        find_project(declare(tmp_path, '[tool.embarq]\njobs = ["shop.tasks"]\n')).load_settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.embarq", "cannot be read"),
        ("tool = 1", "cannot be read"),
        ("tool.embarq = 1", "must be a table"),
        ("[tool.embarq]\njob = ['x']", "job: Extra inputs"),
        ("[tool.embarq]\njobs = 'x'", "jobs: Input should be a valid tuple"),
    ],
)
def test_damaged_table_is_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ProjectError, match=said):
        find_project(declare(tmp_path, text))


@pytest.mark.parametrize(
    "named", ["nowhere:Settings", "worker.settings:Nothing", "worker.settings:", "worker:Client", ""]
)
def test_settings_that_are_none_are_told(tmp_path: Path, named: str) -> None:
    project = find_project(declare(tmp_path, f'[tool.embarq]\nsettings = "{named}"\n'))
    with pytest.raises(ProjectError, match=r"\[tool.embarq\] names"):
        project.load_settings()


def test_folder_of_migrations_that_is_not_there_is_told(tmp_path: Path) -> None:
    project = find_project(declare(tmp_path, '[tool.embarq]\nmigrations = ["nowhere"]\n'))
    with pytest.raises(ProjectError, match="nowhere"):
        project.migration_folders()


@pytest.mark.parametrize("own", ["worker.py", "worker/__init__.py"])
def test_module_that_hides_the_engine_is_told(tmp_path: Path, own: str) -> None:
    (tmp_path / own).parent.mkdir(exist_ok=True)
    (tmp_path / own).write_text("")
    with pytest.raises(ProjectError, match=r"it hides Embarq's own package `worker`"):
        find_project(tmp_path)
