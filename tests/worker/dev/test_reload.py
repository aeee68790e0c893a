"""What is watched, and what is not."""

import asyncio
from pathlib import Path

import pytest

from worker.dev.reload import Watched, watch
from worker.settings.project import ENGINE, Project


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "shop" / "tasks").mkdir(parents=True)
    (tmp_path / "shop" / "__init__.py").write_text("raise RuntimeError('nothing is imported to be watched')")
    (tmp_path / "alone.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_packages_files_and_what_is_read_at_the_start(folder: Path) -> None:
    project = Project(folder=folder, app="shop.web:create_app", settings="alone:Settings")
    watched = Watched.of(project, ["shop.tasks", "not_there"])
    taken = ["shop/tasks/emails.py", "shop/new/deep.py", "alone.py", "pyproject.toml", ".env"]
    assert [watched.takes(folder / name) for name in taken] == [True] * len(taken)
    left = ["shop/page.html", "other.py", "shop/tasks/x.pyc", ".embarq/redis/x.py"]
    assert [watched.takes(folder / name) for name in left] == [False] * len(left)


def test_package_without_an_init_is_watched(folder: Path) -> None:
    (folder / "plain" / "deep").mkdir(parents=True)
    (folder / "plain" / "deep" / "tasks.py").touch()
    watched = Watched.of(Project(folder=folder), ["plain.deep.tasks"])
    assert watched.takes(folder / "plain" / "deep" / "tasks.py")
    assert watched.takes(folder / "plain" / "new.py")


def test_engine_of_a_project_without_an_app_is_not_watched(folder: Path) -> None:
    watched = Watched.of(Project(folder=folder), ["alone"])
    assert not watched.takes(ENGINE / "runtime" / "worker.py")


async def test_changes_are_told_once_for_each_time(folder: Path) -> None:
    told: list[set[Path]] = []
    news = asyncio.Event()

    def tell(paths: set[Path]) -> None:
        told.append(paths)
        news.set()

    watching = asyncio.create_task(watch(Watched.of(Project(folder=folder), ["shop", "alone"]), tell))
    async with asyncio.timeout(30):
        while not told:  # the watch may not have begun
            (folder / "alone.py").write_text("x = 1")
            await asyncio.sleep(0.2)
        assert told[0] == {folder / "alone.py"}
        await asyncio.sleep(1.0)
        told.clear()
        news.clear()
        (folder / "shop" / "page.html").touch()
        (folder / "shop" / "tasks" / "new.py").touch()
        await news.wait()
        assert told[0] == {folder / "shop" / "tasks" / "new.py"}
        watching.cancel()
        await asyncio.wait([watching])
