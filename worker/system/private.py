"""Folders and files that nobody but their owner may read, whatever the umask is."""

import os
from pathlib import Path

OTHERS = 0o077


def make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for their owner alone. One that is there stays as it is.

    Raises:
        OSError: it cannot be made.
    """
    for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)


def private_folder(folder: Path) -> Path:
    """As `make_private`, for a folder that is nobody's but ours: one that others could enter is closed to them.

    Raises:
        OSError: it cannot be made.
    """
    make_private(folder)
    _close(folder)
    return folder


def private_opener(path: str, flags: int) -> int:
    """For `open(..., opener=private_opener)`: a file that is made, or that is there, is for its owner alone."""
    descriptor = os.open(path, flags, 0o600)
    _close(descriptor)
    return descriptor


def _close(found: Path | int) -> None:
    seen = os.stat(found)
    if seen.st_uid == os.geteuid() and seen.st_mode & OTHERS:
        os.chmod(found, seen.st_mode & ~OTHERS & 0o7777)
