import hashlib
import inspect
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from jobs.files import process_large_file
from jobs.resources import file_store, open_store
from jobs.storage import FileOutsideStore, FileStore, Folder, folder
from settings import Settings
from tests.support import Kit
from worker import Context, Progress, State
from worker.database import Database


class Recorder(Context):
    """Keeps every progress report."""

    def progress(
        self, current: int, total: int | None = None, message: str | None = None, *, meta: object = None
    ) -> None:
        reports.append(Progress(current, total, message))


reports: list[Progress] = []


async def test_counts_words_and_reports_every_hundred_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "PART", 1000)  # lines and words lie across parts
    reports.clear()
    content = b"".join(b"line number %d\n" % n for n in range(950)) + b"no newline at the end"
    (tmp_path / "big.txt").write_bytes(content)
    ctx = Recorder(job_id="j", job="process_large_file")
    run = process_large_file.invoke(ctx, (), {"path": "big.txt", "store": FileStore(Folder(tmp_path), b"secret")})
    assert inspect.isawaitable(run)
    report = await run
    digest = hashlib.sha256(content).hexdigest()
    assert report == {"lines": 951, "words": 950 * 3 + 5, "bytes": len(content), "sha256": digest}
    assert [r.current for r in reports] == [0, *range(100, 1000, 100), 951]
    assert {r.total for r in reports} == {951}


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b"])
def test_paths_stay_inside_the_store(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileOutsideStore):
        Folder(tmp_path).path(name)


async def test_missing_file_fails_with_its_name(kit: Kit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EMBARQ_DATA_DIR", str(tmp_path))
    kit.registry.add(process_large_file)
    kit.registry.resource(file_store)
    handle = await kit.enqueue(process_large_file, {"path": "nowhere.txt"})
    await kit.drain()
    job = await handle.job()
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.type == "FileNotFoundError"
    assert "nowhere.txt" in job.error.message


def test_processes_that_start_at_once_sign_with_one_secret(tmp_path: Path) -> None:
    start = Barrier(8)

    def secret(_: int) -> str:
        start.wait()
        open_store(Settings(data_dir=tmp_path), Database(None))
        return (tmp_path / "secret").read_text()

    with ThreadPoolExecutor(8) as pool:
        (kept,) = set(pool.map(secret, range(8)))
    assert len(kept) == 64
    assert (tmp_path / "secret").stat().st_mode & 0o077 == 0
    assert {path.name for path in tmp_path.iterdir()} == {"files", "secret"}
