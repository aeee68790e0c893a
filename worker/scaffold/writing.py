"""Writes files from templates. Existing files are never overwritten."""

from collections.abc import Mapping
from contextlib import suppress
from importlib import resources
from pathlib import Path
from string import Template

from worker.core.errors import EmbarqError


class ScaffoldError(EmbarqError):
    """The files cannot be created; nothing was written."""


def fill(template: str, values: Mapping[str, str]) -> str:
    """The text of a template with its values."""
    source = resources.files("worker.scaffold") / "templates" / f"{template}.template"
    return Template(source.read_text()).substitute(values)


def write_all(files: Mapping[Path, str]) -> list[Path]:
    """Write new files, with the folders that they need; all of them, or none.

    Raises:
        ScaffoldError: one exists already, or cannot be written.
    """
    taken = next((path for path in files if path.exists() or path.is_symlink()), None)
    if taken is not None:
        raise ScaffoldError(f"{taken} must not exist yet: choose another name, or move it away")
    written: list[Path] = []
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            with suppress(OSError):
                path.unlink()
        raise ScaffoldError(f"{error.filename or path} cannot be written: {error.strerror}") from error
    return written
