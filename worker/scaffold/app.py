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
    """Create the project `name` in a folder of its own below `folder`; returns its files.

    Raises:
        ScaffoldError: the name is not allowed for a project, or the folder exists.
    """
    package = package_name(name)
    root = folder / name
    if root.exists() or root.is_symlink():
        raise ScaffoldError(f"{root} must not exist yet: choose another name, or move it away")
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
        ScaffoldError: it would not be a package, or hide one that is installed.
    """
    if len(name) > LONGEST or not NAME.fullmatch(name):
        rule = f"at most {LONGEST} letters and digits, with - or _ between them, such as my-shop"
        raise ScaffoldError(f"a project's name must be {rule}, not {name[:LONGEST]!r}")
    package = name.replace("-", "_").lower()
    if keyword.iskeyword(package) or keyword.issoftkeyword(package):
        raise ScaffoldError(f"a project's name must not be a keyword of Python, as {name!r} is")
    if package in RESERVED or package in sys.stdlib_module_names or _is_installed(package):
        raise ScaffoldError(f"a project's name must not be {name!r}: its package would hide the module {package!r}")
    return package


def _is_installed(package: str) -> bool:
    """Whether an import of that name finds something outside of the current folder."""
    found = find_spec(package)
    if found is None:
        return False
    modules = [found.origin] if found.origin and not found.submodule_search_locations else []
    places = [*(found.submodule_search_locations or ()), *modules]
    return any(Path(place).resolve().parent != Path.cwd().resolve() for place in places)
