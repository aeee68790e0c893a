"""The names of revisions. The engine's and a project's share one namespace, since one table records which have run."""

import ast
from collections.abc import Sequence
from pathlib import Path

from worker.core.errors import EmbarqError

ENGINE = Path(__file__).resolve().parent / "migrations" / "versions"


def refuse_taken_names(folders: Sequence[Path]) -> None:
    """Check the names of the revisions in these folders.

    Raises:
        EmbarqError: one has the name of another, or of one of the engine's; the message names the file.
    """
    known: dict[str, Path] = {}
    for folder in folders:
        for file in sorted(folder.glob("*.py")):
            name = _name_in(file)
            if name in known:
                whose = "the engine" if known[name].parent == ENGINE else known[name]
                raise EmbarqError(f"{file}: the revision must not be named {name!r}, like one of {whose}: rename it")
            if name is not None:
                known[name] = file


def _name_in(file: Path) -> str | None:
    """The value of `revision =`. The file is not run here: alembic does that, and reports what is wrong with it."""
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
