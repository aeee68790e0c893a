"""Private servers: who starts them, who stops them, and what becomes of them when users are killed."""

import asyncio
import os
import signal
import socketserver
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import redis as sync_redis

from tests.worker.dev.processes import processes_of, user, wait_until
from worker.database import make_engine, ping
from worker.dev import EmbeddedError, postgres_for, private_postgres, private_redis, redis_for


def pinged(url: str) -> bool:
    with sync_redis.Redis.from_url(url) as client:
        return bool(client.ping())


async def _ask(url: str) -> None:
    engine = make_engine(url)
    try:
        await ping(engine)
    finally:
        await engine.dispose()


def ask_postgres(url: str) -> None:
    asyncio.run(_ask(url))


def gone(folder: Path) -> None:
    wait_until(lambda: not processes_of(folder), lambda: f"{processes_of(folder)} still run")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of which nothing runs any more at the end. None of pytest's: each session closes those to others, and so
    to the system user of a Postgres that root starts."""
    with tempfile.TemporaryDirectory(prefix="embarq-") as name:
        yield Path(name)
        gone(Path(name))


def test_data_is_kept_between_runs(folder: Path) -> None:
    for expected in (None, b"kept"):
        with private_redis(folder) as url, sync_redis.Redis.from_url(url) as client:
            assert client.get("key") == expected
            client.set("key", "kept")


def test_second_user_shares_the_server_and_leaves_it_running(folder: Path) -> None:
    with private_redis(folder) as url:
        with private_redis(folder) as second:
            assert second == url
        assert pinged(url)


def test_server_ends_with_its_only_user(folder: Path) -> None:
    with private_redis(folder / "redis") as url:
        assert pinged(url)
        assert len(processes_of(folder)) == 2  # with its guard
    assert processes_of(folder) == {}


def test_redis_keeps_its_data_and_is_open_to_its_owner_only(folder: Path) -> None:
    with private_redis(folder) as url, sync_redis.Redis.from_url(url) as client:
        config = client.config_get("port", "appendonly", "unixsocket")
        assert (config["port"], config["appendonly"]) == ("0", "yes")
        assert Path(config["unixsocket"]).stat().st_mode & 0o777 == 0o600


def test_given_port_is_on_loopback_only(folder: Path, unused_tcp_port: int) -> None:
    with private_redis(folder, port=unused_tcp_port) as url, sync_redis.Redis.from_url(url) as client:
        assert url == f"redis://127.0.0.1:{unused_tcp_port}/0"
        assert client.config_get("bind")["bind"] == "127.0.0.1"


def test_what_others_may_see_of_the_data_is_nothing(folder: Path) -> None:
    data = folder / "data"
    before = os.umask(0o000)
    try:
        with (
            redis_for(data, None) as url,
            postgres_for(data, None) as database,
            sync_redis.Redis.from_url(url) as client,
        ):
            client.set("key", "secret")
            ask_postgres(database)
            open_to_others = {p for p in data.rglob("*") if not p.is_symlink() and p.stat().st_mode & 0o077}
    finally:
        os.umask(before)
    assert open_to_others == set()
    assert data.stat().st_mode & 0o066 == 0


def test_program_that_does_not_start_is_an_error_with_its_last_words(folder: Path) -> None:
    program = folder / "program"
    program.write_text("#!/bin/sh\necho 'no room on this disk'\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(EmbeddedError, match="does not start: no room on this disk"):  # noqa: SIM117
        with private_redis(folder / "redis", program=program):
            pass


def test_given_urls_are_taken_as_they_are(folder: Path) -> None:
    with redis_for(folder, "redis://a.test") as redis, postgres_for(folder, "postgres://b.test") as postgres:
        assert (redis, postgres) == ("redis://a.test", "postgres://b.test")
    assert list(folder.iterdir()) == []


def test_data_folder_that_cannot_be_written_is_told_in_one_line(folder: Path) -> None:
    (folder / "file").touch()
    for finder, variable in ((redis_for, "REDIS_URL"), (postgres_for, "DATABASE_URL")):
        with pytest.raises(EmbeddedError, match=f"EMBARQ_DATA_DIR.*{variable}") as told:  # noqa: SIM117
            with finder(folder / "file" / "data", None):
                pass
        assert "\n" not in str(told.value)


def test_two_terminals_share_both_servers_until_the_last_one_leaves(folder: Path) -> None:
    with user(folder, "redis", "postgres") as first, user(folder, "postgres", "redis") as second:
        assert (first.found["redis"], first.found["postgres"]) == (second.found["redis"], second.found["postgres"])
        first.leave()
        assert pinged(second.found["redis"])
        ask_postgres(second.found["postgres"])
        second.leave()
        assert processes_of(folder) == {}


def test_killed_starter_leaves_the_servers_to_others(folder: Path) -> None:
    with user(folder, "redis", "postgres") as first, user(folder, "redis", "postgres") as second:
        first.kill()
        assert pinged(second.found["redis"])
        ask_postgres(second.found["postgres"])
        second.leave()
        assert processes_of(folder) == {}


def test_nothing_is_left_when_all_users_are_killed_and_the_address_stays(folder: Path) -> None:
    addresses = set()
    for _ in range(2):
        with user(folder, "redis", "postgres") as first, user(folder, "redis", "postgres") as second:
            addresses.add((second.found["redis"], second.found["postgres"]))
            for each in (first, second):
                each.kill()
            gone(folder)
    assert len(addresses) == 1


def test_forked_child_of_a_killed_user_is_no_user(folder: Path) -> None:
    with user(folder / "data", "redis", "fork") as killed:
        killed.kill()
        child = killed.found["child"]
        try:
            wait_until(lambda: set(processes_of(folder)) == {child}, "the server stays")
        finally:
            os.kill(child, signal.SIGKILL)


def test_many_that_start_at_once_get_one_server(folder: Path) -> None:
    pids, wrong = set(), []

    def use() -> None:
        try:
            for _ in range(8):
                with private_redis(folder) as url, sync_redis.Redis.from_url(url) as client:
                    pids.add(client.info("server")["process_id"])
                    assert client.incr("uses")
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    with private_redis(folder) as url, sync_redis.Redis.from_url(url) as client:
        assert client.get("uses") == b"48"


def test_killed_redis_is_started_again_by_the_next_user(folder: Path) -> None:
    with user(folder, "redis") as first:
        with sync_redis.Redis.from_url(first.found["redis"]) as client:
            client.set("key", "kept")
            client.execute_command("WAITAOF", 1, 0, 5000)
        server = psutil.Process(int((folder / "redis" / "pid").read_text()))
        server.kill()
        server.wait(40)
        with private_redis(folder / "redis") as url, sync_redis.Redis.from_url(url) as client:
            assert client.get("key") == b"kept"


@pytest.mark.parametrize("kind", ["redis", "postgres"])
def test_next_start_works_after_everything_was_killed(folder: Path, kind: str) -> None:
    with user(folder, kind) as first:
        for pid in [*processes_of(folder), first.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with user(folder, kind) as second:
            assert second.found[kind] == first.found[kind]
            pinged(second.found[kind]) if kind == "redis" else ask_postgres(second.found[kind])
            second.leave()


def test_server_ends_with_a_killed_guard_and_the_next_start_waits_for_that(folder: Path) -> None:
    with user(folder, "redis", "postgres") as first:
        for pid, command in processes_of(folder).items():
            if "guard.py" in command:
                os.kill(pid, signal.SIGKILL)
        with user(folder, "redis", "postgres") as second:
            assert pinged(second.found["redis"])
            ask_postgres(second.found["postgres"])
            first.kill()
            second.leave()


@pytest.mark.parametrize("whose", ["own", "a stranger's"])
def test_number_that_stands_for_a_group_is_sent_no_signal(folder: Path, whose: str) -> None:
    """Somebody listens where the server should, and the file that names its process is damaged."""
    with private_redis(folder / "redis") as url:
        socket = Path(url.removeprefix("unix://"))
    with (
        socketserver.UnixStreamServer(str(socket), socketserver.BaseRequestHandler) as listener,
        subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger,
    ):
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        (folder / "redis" / "pid").write_text("0" if whose == "own" else str(-stranger.pid))
        ending = threading.Timer(2, socket.unlink)
        ending.start()
        with user(folder, "redis", prefix=["setsid"]) as found:  # in a group of its own
            assert not ending.is_alive()
            assert pinged(found.found["redis"])
            found.leave()
        listener.shutdown()
        assert stranger.poll() is None
        stranger.kill()


def test_stale_notes_of_postgres_that_name_a_living_process_harm_neither(folder: Path) -> None:
    data = folder / "postgres"
    with private_postgres(data):
        notes = (data / "postmaster.pid").read_text().splitlines()
        lock = (data / ".s.PGSQL.5432.lock").read_text().splitlines()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        # As after a power cut: by now the numbers are those of others.
        (data / "postmaster.pid").write_text("\n".join([str(stranger.pid), *notes[1:]]) + "\n")
        (data / ".s.PGSQL.5432.lock").write_text("\n".join([str(stranger.pid), *lock[1:]]) + "\n")
        with private_postgres(data) as url:
            ask_postgres(url)
        assert stranger.poll() is None
        stranger.kill()
    (data / "postmaster.pid").touch()
    with private_postgres(data) as url:
        ask_postgres(url)


def test_next_postgres_waits_for_parts_of_a_killed_one(folder: Path) -> None:
    with user(folder, "postgres"):
        postmaster = psutil.Process(int((folder / "postgres" / "postmaster.pid").read_text().split()[0]))
        parts = []
        for part in postmaster.children():
            with suppress(psutil.NoSuchProcess):  # one that had little to do has ended by itself
                part.suspend()  # they do not notice, and hold its memory
                parts.append(part)
        assert parts
        postmaster.kill()
        postmaster.wait(40)
        ending = threading.Timer(2, lambda: [part.kill() for part in parts])
        ending.start()
        with private_postgres(folder / "postgres") as url:
            assert not ending.is_alive()
            ask_postgres(url)


def test_data_of_postgres_that_were_half_made_are_made_anew(folder: Path) -> None:
    (folder / "postgres.new" / "base").mkdir(parents=True)
    (folder / "postgres.new" / "PG_VERSION").write_text("18\n")
    (folder / "postgres").mkdir()
    with private_postgres(folder / "postgres") as url:
        ask_postgres(url)
    assert not (folder / "postgres.new").exists()


@pytest.mark.parametrize("name", ["d" * 120, "a b,c#d%e'é", "plain"])
def test_any_path_will_do_and_the_address_stays(folder: Path, name: str) -> None:
    data, addresses = folder / name / "data", set()
    for _ in range(2):
        with redis_for(data, None) as redis, postgres_for(data, None) as database:
            assert pinged(redis)
            ask_postgres(database)
            addresses.add((redis, database))
            places = [Path(redis.removeprefix("unix://")).parent, Path(database.partition("host=")[2])]
            assert [place.stat().st_mode & 0o777 for place in places] == [0o700, 0o700]
    assert len(addresses) == 1
    for place in places:
        if not place.is_relative_to(folder):
            place.rmdir()  # the next start made it again


async def test_postgres_answers(database_url: str) -> None:
    await _ask(database_url)
