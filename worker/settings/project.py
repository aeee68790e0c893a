"""The project in the current folder: its settings, application, jobs and migrations, named in its `pyproject.toml`.

    [tool.embarq]
    jobs = ["myapp.tasks"]                # modules with jobs; EMBARQ_JOBS comes first; ["jobs"] if neither names any
    app = "myapp.web:create_app"          # what `embarq api` serves; the engine's HTTP API alone by default
    settings = "myapp.settings:Settings"  # a class that extends `worker.settings.Settings`
    migrations = ["migrations"]           # folders with alembic revisions beside the engine's
    development = { MYAPP_SAMPLES = "1" } # what `embarq dev` adds to the environment

None of it is needed: an empty folder with a module of jobs is a project.
"""

import importlib
import sys
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from worker.core.errors import EmbarqError
from worker.settings.engine import Settings

ENGINE = Path(__file__).resolve().parents[1]


class ProjectError(EmbarqError):
    """The project in the current folder cannot be run as it is."""


class Project(BaseModel):
    """The table `[tool.embarq]`, and its folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path
    jobs: tuple[str, ...] | None = None
    app: str = "worker.http.app:create_app"
    settings: str = "worker.settings:Settings"
    migrations: tuple[Path, ...] = ()
    development: dict[str, str] = {}

    def load_settings(self) -> Settings:
        """Read the environment with the project's class.

        Raises:
            SettingsError: a value is not allowed.
            ProjectError: there is no such class.
        """
        kind = _named(self.settings)
        if not (isinstance(kind, type) and issubclass(kind, Settings)):
            raise ProjectError(f"{self.settings}, which [tool.embarq] names, must extend worker.settings.Settings")
        return kind.load() if self.jobs is None else kind.load(jobs=self.jobs)

    def migration_folders(self) -> list[Path]:
        """Where the project's own revisions are.

        Raises:
            ProjectError: there is no such folder.
        """
        folders = [self.folder / each for each in self.migrations]
        for folder in folders:
            if not folder.is_dir():
                raise ProjectError(f"there is no folder {folder}, which [tool.embarq] names for migrations")
        return folders


def find_project(folder: Path | None = None) -> Project:
    """The project of a folder, the current one by default, whose modules can be imported from now on.

    Raises:
        ProjectError: its `pyproject.toml` cannot be read, or a module of its own shadows ours.
    """
    folder = (folder or Path.cwd()).resolve()
    _refuse_hidden_engine(folder)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    declared = _read(folder / "pyproject.toml")
    try:
        return Project.model_validate({**declared, "folder": folder})
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise ProjectError(f"[tool.embarq] in pyproject.toml, {place}: {problem['msg']}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = tomllib.load(file).get("tool", {}).get("embarq", {})
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise ProjectError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ProjectError(f"[tool.embarq] in {path} must be a table")
    return found


def _refuse_hidden_engine(folder: Path) -> None:
    """A module `worker` in the project's folder would be imported in place of the engine, in some processes."""
    for own in (folder / "worker.py", folder / "worker" / "__init__.py"):
        if own.exists() and own.parent.resolve() != ENGINE:
            raise ProjectError(f"{own} must have another name: it hides Embarq's own package `worker`")


def _named(path: str) -> object:
    """What `module:name` stands for."""
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ProjectError(f"there is no {path}, which [tool.embarq] names: {error}") from error
