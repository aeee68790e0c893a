"""`embarq` is `worker` by the product's name."""

import subprocess
import sys
from pathlib import Path

import embarq
import worker


def test_both_names_stand_for_the_same_objects() -> None:
    assert set(embarq.__all__) == set(worker.__all__)
    for name in worker.__all__:
        assert getattr(embarq, name) is getattr(worker, name)


def test_module_that_hides_the_engine_is_named(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text("")
    (tmp_path / "task.py").write_text("from embarq import job\n")
    ran = subprocess.run([sys.executable, "task.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert str(tmp_path / "worker.py") in ran.stderr
    assert ran.stderr.rstrip().endswith("give your module another name")
