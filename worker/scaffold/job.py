"""A new job: a module in the package of the project's jobs, and a test of it that passes."""

import keyword
import re
from collections.abc import Mapping
from pathlib import Path

from worker.core.errors import UnknownJob
from worker.definition.discovery import discover
from worker.definition.registry import registry
from worker.scaffold.writing import ScaffoldError, fill, write_all
from worker.settings.project import find_project

NAME = re.compile(r"[a-z][a-z0-9_]*")
LONGEST = 60
IN_ITS_TEST = frozenset({"embarq", "handle", "pytest"})  # names that mean something else there


def new_job(folder: Path, name: str) -> list[Path]:
    """Create the job `name` in the project of a folder: a module in the first package that has its jobs, and a test.

    Raises:
        ScaffoldError: the name is not allowed for a job, another job has it, the project has no package of jobs, or one
            of the files exists.
        ProjectError, SettingsError, DefinitionError: the project cannot be run as it is.
    """
    _check_name(name)
    jobs = find_project(folder).load_settings().jobs
    package = _package(folder, jobs)
    files = job_files(folder, package, name)
    discover(jobs, registry)
    try:
        other = registry.get(name)
    except UnknownJob:
        return write_all(files)
    raise ScaffoldError(f"a job's name must be new, and {name!r} is that of {other.path}")


def job_files(root: Path, package: str, name: str) -> Mapping[Path, str]:
    """The module of a job in a package below `root`, and its test."""
    module = f"{package}.{name}"
    imports = sorted(["from embarq.testing import Kit", f"from {module} import {name}"])
    values = {"job": name, "imports": "\n" + "\n".join(imports) + "\n"}
    return {
        root.joinpath(*package.split("."), f"{name}.py"): fill("job.py", values),
        root / "tests" / f"test_{name}.py": fill("test.py", values),
    }


def _check_name(name: str) -> None:
    if len(name) > LONGEST or not NAME.fullmatch(name):
        rule = f"at most {LONGEST} small letters, digits and _, such as send_email"
        raise ScaffoldError(f"a job's name must be {rule}, not {name[:LONGEST]!r}")
    if keyword.iskeyword(name):
        raise ScaffoldError(f"a job's name must not be a keyword of Python, as {name!r} is")
    if name in IN_ITS_TEST or name.startswith("test"):
        raise ScaffoldError(f"a job's name must not be {name!r}, which means something else in its test")


def _package(folder: Path, jobs: tuple[str, ...]) -> str:
    """The first of the modules with jobs that is a package in this folder."""
    for name in jobs:
        parts = name.split(".")
        if all(part.isidentifier() for part in parts) and folder.joinpath(*parts, "__init__.py").is_file():
            return name
    names = ", ".join(jobs)
    raise ScaffoldError(
        f"{folder} must have a folder {names.replace('.', '/')} with an __init__.py: a module is added to a package of "
        "jobs; `embarq new app NAME` creates a project"
    )
