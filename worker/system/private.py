"""Folders and files that only their owner may read, whatever the umask is."""

import os
from pathlib import Path

OTHERS = 0o077


def make_private(folder: Path) -> None:
    """Create a folder, and missing ones above it, for their owner alone. An existing one is not changed.

    Raises:
        OSError: it cannot be created.
    """
    for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)


def private_folder(folder: Path) -> Path:
    """As `make_private`, for a folder that is ours alone: an existing one is closed to others.

    Raises:
        OSError: it cannot be created.
    """
    make_private(folder)
    _close(folder)
    return folder


def private_opener(path: str, flags: int) -> int:
    """For `open(..., opener=private_opener)`: the file, created or existing, is for its owner alone."""
    descriptor = os.open(path, flags, 0o600)
    _close(descriptor)
    return descriptor


def _close(found: Path | int) -> None:
    seen = os.stat(found)
    if seen.st_uid == os.geteuid() and seen.st_mode & OTHERS:
        os.chmod(found, seen.st_mode & ~OTHERS & 0o7777)
