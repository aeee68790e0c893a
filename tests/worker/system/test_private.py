import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import mode
from worker.system.private import make_private, private_folder, private_opener


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0o000)
    yield
    os.umask(before)


def test_what_is_made_is_for_its_owner_alone(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "a" / "b")
    with open(folder / "file", "w", opener=private_opener) as file:
        file.write("x")
    assert [mode(path) for path in (folder.parent, folder, folder / "file")] == [0o700, 0o700, 0o600]


def test_folder_of_ours_that_was_open_is_closed_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir(mode=0o755)
    make_private(tmp_path / "given")
    assert mode(tmp_path / "given") == 0o755
    private_folder(tmp_path / "given" / "ours")
    (tmp_path / "given" / "ours").chmod(0o755)
    private_folder(tmp_path / "given" / "ours")
    assert [mode(tmp_path / "given"), mode(tmp_path / "given" / "ours")] == [0o755, 0o700]
