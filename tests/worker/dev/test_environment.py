"""What the API and the worker of `embarq dev` are given."""

from pathlib import Path

import pytest

from worker.dev.environment import environment_of_children, generated_key, key_to_show
from worker.dev.ports import Moved
from worker.settings import Settings
from worker.settings.project import Project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in ("NO_COLOR", "FORCE_COLOR", "SAMPLES", "OWN", "OF_FILE"):
        monkeypatch.delenv(name, raising=False)
    return Project(folder=tmp_path, development={"SAMPLES": "1"})


def test_servers_ports_and_what_the_project_adds(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN", "kept")
    monkeypatch.setenv("REDIS_URL", "redis://old")
    monkeypatch.setenv("OF_FILE", "read again")
    ports = [Moved("EMBARQ_MAIL_PORT", 1, 2)]
    found = environment_of_children(project, ["OF_FILE"], {"REDIS_URL": "redis://new"}, ports, in_colour=False)
    names = ("OWN", "REDIS_URL", "EMBARQ_MAIL_PORT", "SAMPLES", "OF_FILE")
    assert [found.get(name) for name in names] == ["kept", "redis://new", "2", "1", None]


def test_what_somebody_has_set_is_not_overruled_by_the_project(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMPLES", "0")
    assert environment_of_children(project, (), {}, (), in_colour=False)["SAMPLES"] == "0"


@pytest.mark.parametrize("in_colour", [True, False])
def test_children_write_in_colour_if_we_do(project: Project, in_colour: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "3")
    monkeypatch.setenv("NO_COLOR", "")
    found = environment_of_children(project, (), {}, (), in_colour=in_colour)
    assert found.get("FORCE_COLOR") == ("3" if in_colour else None)
    assert found.get("NO_COLOR") == (None if in_colour else "1")


@pytest.mark.parametrize(("host", "is_made"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_key_is_made_where_other_machines_reach_the_api(host: str, is_made: bool) -> None:
    assert bool(generated_key(Settings(host=host))) is is_made


@pytest.mark.parametrize(
    ("exported", "of_file", "generated", "shown"),
    [
        (None, None, None, (None, False)),
        ("exported-exported", None, None, ("exported-exported", True)),
        (None, "of-file-of-file-", None, ("of-file-of-file-", False)),
        (None, None, "made-made-made-made", ("made-made-made-made", False)),
    ],
)
def test_key_to_show_is_the_one_that_the_api_asks_for(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    exported: str | None,
    of_file: str | None,
    generated: str | None,
    shown: tuple[str | None, bool],
) -> None:
    monkeypatch.delenv("EMBARQ_API_KEY", raising=False)
    if exported or of_file:
        monkeypatch.setenv("EMBARQ_API_KEY", exported or of_file or "")  # as reading `.env` does
    names = ["EMBARQ_API_KEY"] if of_file else []
    environment = environment_of_children(project, names, {}, (), in_colour=False)
    environment |= {"EMBARQ_API_KEY": generated} if generated else {}
    assert key_to_show(Settings(), environment) == shown
