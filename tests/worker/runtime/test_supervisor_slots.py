"""A place for a child of a supervisor."""

import os

import pytest

from worker.runtime.supervisor import Slot


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


def test_child_that_cannot_be_started_leaves_no_pipe_open() -> None:
    slot = Slot(0)
    before = open_files()
    for _ in range(10):
        with pytest.raises(FileNotFoundError):
            slot.start(["/no/such/program"])
    assert open_files() == before
    assert slot.process is None
