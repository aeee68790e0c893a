"""What `embarq dev` watches: the project's modules, and the files that it reads."""

import asyncio
import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog

from worker.settings.project import ENGINE, Project

logger = structlog.stdlib.get_logger("embarq.dev")

READ_AT_START = ("pyproject.toml", ".env")


@dataclass(frozen=True, slots=True)
class Watched:
    """Folders whose Python files are watched, those below them too, and single files."""

    folders: frozenset[Path]
    files: frozenset[Path]

    @classmethod
    def of(cls, project: Project, jobs: Iterable[str]) -> "Watched":
        """The packages of the modules with jobs, of the application and of the settings, except the engine itself."""
        modules = [*jobs, project.app.partition(":")[0], project.settings.partition(":")[0]]
        places = [place for name in modules for place in _places(name)]
        files = {place for place in places if place.is_file()} | {project.folder / name for name in READ_AT_START}
        return cls(frozenset(place for place in places if place.is_dir()), frozenset(files))

    def takes(self, path: Path) -> bool:
        """Whether a file that has changed is one of these."""
        inside = path.suffix == ".py" and any(path.is_relative_to(folder) for folder in self.folders)
        return inside or path in self.files


def _places(module: str) -> list[Path]:
    """The folders or the file of a module's outermost package, without importing it. A namespace package, without an
    `__init__.py`, may have several folders."""
    try:
        found = importlib.util.find_spec(module.partition(".")[0])
    except (ImportError, ValueError):  # the process that imports it will report it
        return []
    if found is None:
        return []
    folders, file = found.submodule_search_locations, [found.origin] if found.origin else []
    places = [Path(place).resolve() for place in (file if folders is None else folders)]
    return [place for place in places if place != ENGINE]


async def watch(watched: Watched, tell: Callable[[set[Path]], object]) -> None:
    """Report each change, those that come together at once, until cancelled. If that is impossible, log why."""
    try:
        import watchfiles  # noqa: PLC0415  # a dependency of development
    except ImportError:
        logger.warning("no reload: `pip install 'embarq[dev]'` for it")
        return
    done = asyncio.Event()  # watchfiles' threads check it: after a cancellation alone they would still be waited for

    async def follow(places: Iterable[Path], *, below: bool) -> None:
        there = [place for place in places if place.is_dir()]
        async for changes in watchfiles.awatch(*there, recursive=below, stop_event=done, step=50, debounce=500):
            paths = {Path(path) for _, path in changes if watched.takes(Path(path))}
            if paths:
                tell(paths)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(follow(watched.folders, below=True))
            group.create_task(follow({file.parent for file in watched.files}, below=False))
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                done.set()
    except* OSError as errors:  # the limit of inotify watches, or a file system without notifications
        logger.warning("no reload: files cannot be watched", reason=str(errors.exceptions[0]))
