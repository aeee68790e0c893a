"""Which Redis is started: one that can run our scripts."""

from pathlib import Path

import pytest

from tests.support import logged
from tests.worker.dev.old_redis import redis_6_2
from worker.broker.versions import too_old
from worker.core.errors import ServerTooOld
from worker.dev import EmbeddedError, private_redis, redis_program, wheel_redis_program

__all__ = ["redis_6_2"]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def put(folder: Path, name: str, says: str) -> Path:
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    return program


OLD = "Redis server v=6.2.14 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=e08d"
NEW = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=e08d"
VALKEY = "Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64 build=1536df31c0395150"


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("6.2.14", True),
        ("6.0", True),
        ("4.0.9", True),
        ("7.0.0", False),
        ("7.2.4", False),
        ("10.1", False),
        ("?", False),
    ],
)
def test_lowest_version(version: str, expected: bool) -> None:
    assert too_old(version) is expected


@pytest.mark.parametrize(("name", "says"), [("redis-server", NEW), ("valkey-server", VALKEY)])
def test_program_on_path_is_taken_where_it_is_new_enough(path: Path, name: str, says: str) -> None:
    found = put(path, name, says)
    assert redis_program() == found


def test_old_redis_on_path_is_passed_over_for_a_newer_valkey(path: Path) -> None:
    put(path, "redis-server", OLD)
    newer = put(path, "valkey-server", VALKEY)
    assert redis_program() == newer


def test_old_redis_on_path_is_told_of_and_the_bundled_server_runs(path: Path, tmp_path: Path) -> None:
    old = put(path, "redis-server", OLD)
    with logged("embarq.servers") as lines, private_redis(tmp_path / "data"):
        pass
    told = [line for line in lines if line["event"] == "redis on PATH is too old"]
    assert [(line["found"], line["needed"]) for line in told] == [(f"{old} is 6.2.14", "7.0")]
    assert told[0]["instead"] == str(wheel_redis_program())


def test_program_that_tells_no_version_is_passed_over(path: Path) -> None:
    put(path, "redis-server", "hello")
    assert redis_program() == wheel_redis_program()


def test_nothing_to_start_is_told_in_one_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = put(path, "redis-server", OLD)
    monkeypatch.setattr("platform.machine", lambda: "riscv64")  # for which nothing is bundled
    with pytest.raises(
        EmbeddedError, match=rf"{old} is 6\.2\.14; no Redis 7\.0 or newer on PATH.*set REDIS_URL"
    ) as told:
        redis_program()
    assert "\n" not in str(told.value)


def test_error_names_the_version_and_the_lowest() -> None:
    assert "6.2.14" in str(ServerTooOld("6.2.14"))
    assert "7.0" in str(ServerTooOld("6.2.14"))


def test_real_redis_6_2_is_passed_over(path: Path, redis_6_2: Path) -> None:
    (path / "redis-server").symlink_to(redis_6_2)
    assert redis_program() == wheel_redis_program()
