"""The names of revisions. The engine's and a project's share one name space, since one table keeps which have run."""

import ast
from collections.abc import Sequence
from pathlib import Path

from worker.core.errors import EmbarqError

ENGINE = Path(__file__).resolve().parent / "migrations" / "versions"


def refuse_taken_names(folders: Sequence[Path]) -> None:
    """Look through the revisions in these folders.

    Raises:
        EmbarqError: one is called like another, or like one of the engine's; the message names the file.
    """
    known: dict[str, Path] = {}
    for folder in folders:
        for file in sorted(folder.glob("*.py")):
            name = _name_in(file)
            if name in known:
                whose = "the engine" if known[name].parent == ENGINE else known[name]
                raise EmbarqError(f"{file}: the revision {name!r} is one of {whose} already; give it another name")
            if name is not None:
                known[name] = file


def _name_in(file: Path) -> str | None:
    """What it says behind `revision =`. It is not run: alembic does that, and tells what is wrong with the file."""
    try:
        statements = ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return None
    for statement in statements:
        match statement:
            case ast.Assign(targets=[ast.Name("revision")], value=ast.Constant(str(name))):
                return name
            case ast.AnnAssign(target=ast.Name("revision"), value=ast.Constant(str(name))):
                return name
    return None
