"""A new project: a folder in which `embarq dev` and `pytest` work."""

import keyword
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from worker.scaffold.job import job_files
from worker.scaffold.writing import ScaffoldError, fill, write_all

NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*([-_][A-Za-z0-9]+)*")
LONGEST = 60
FIRST_JOB = "greet"
RESERVED = frozenset({"tests", "worker", "embarq"})


def new_app(folder: Path, name: str) -> list[Path]:
    """Make the project `name` in a folder of its own below `folder`; returns its files.

    Raises:
        ScaffoldError: the name is not one for a project, or something is there under it.
    """
    package = package_name(name)
    root = folder / name
    if root.exists() or root.is_symlink():
        raise ScaffoldError(f"{root} is there already, and is not written over")
    values = {"name": name, "package": package}
    files = {
        root / "pyproject.toml": fill("pyproject.toml", values),
        root / "Procfile": fill("Procfile", values),
        root / ".gitignore": fill("gitignore", values),
        root / ".env.example": fill("env", values),
        root / package / "__init__.py": fill("package.py", values),
        root / package / "tasks" / "__init__.py": fill("init.py", values),
        **job_files(root, f"{package}.tasks", FIRST_JOB),
    }
    return write_all(files)


def package_name(name: str) -> str:
    """The package of a project: its name, with `_` for `-`.

    Raises:
        ScaffoldError: it would be no package, or hide one that is installed.
    """
    if len(name) > LONGEST or not NAME.fullmatch(name):
        rule = f"at most {LONGEST} letters and digits, with - or _ between them, such as my-shop"
        raise ScaffoldError(f"{name[:LONGEST]!r} is no name for a project: it must be {rule}")
    package = name.replace("-", "_").lower()
    if keyword.iskeyword(package) or keyword.issoftkeyword(package):
        raise ScaffoldError(f"{name!r} is no name for a project: {package!r} is a word of Python's own")
    if package in RESERVED or package in sys.stdlib_module_names or _is_installed(package):
        raise ScaffoldError(f"{name!r} is no name for a project: its package would hide the module {package!r}")
    return package


def _is_installed(package: str) -> bool:
    """Whether something of that name would be imported that does not lie in the current folder itself."""
    found = find_spec(package)
    if found is None:
        return False
    modules = [found.origin] if found.origin and not found.submodule_search_locations else []
    places = [*(found.submodule_search_locations or ()), *modules]
    return any(Path(place).resolve().parent != Path.cwd().resolve() for place in places)
