"""Children end with their parent, also where the kernel does not see to it."""

import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import pytest

from worker.system.parent import die_with_parent, leave_with_parent

LONG = 60.0


def stay(prepare: Callable[[], None]) -> None:
    prepare()
    time.sleep(LONG)


def main(name: str) -> None:
    """The parent: says who its child is, and stays."""
    prepare = {"die": die_with_parent, "leave": leave_with_parent}[name]
    child = multiprocessing.get_context("spawn").Process(target=stay, args=(prepare,))
    child.start()
    sys.stdout.write(f"{child.pid}\n")
    sys.stdout.flush()
    time.sleep(LONG)


@pytest.mark.parametrize("way", ["die", "leave"])
def test_child_ends_when_its_parent_is_killed(way: str) -> None:
    code = f"from tests.worker.system.test_parent import main; main({way!r})"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        child.wait(10)
