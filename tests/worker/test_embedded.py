import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis as sync_redis

from worker.database import make_engine, ping
from worker.embedded import EmbeddedError, postgres_for, private_redis, redis_for


def test_data_is_kept_between_runs(tmp_path: Path) -> None:
    for expected in (None, b"kept"):
        with private_redis(tmp_path) as url, sync_redis.Redis.from_url(url) as client:
            assert client.get("key") == expected
            client.set("key", "kept")


def test_second_user_shares_the_server_and_leaves_it_running(tmp_path: Path) -> None:
    with private_redis(tmp_path) as url, sync_redis.Redis.from_url(url) as client:
        with private_redis(tmp_path) as second:
            assert second == url
        assert client.ping()


def test_server_ends_with_its_starter_and_listens_on_loopback_only(tmp_path: Path) -> None:
    with private_redis(tmp_path) as url, sync_redis.Redis.from_url(url) as client:
        assert client.config_get("bind")["bind"] == "127.0.0.1"
        assert client.config_get("appendonly")["appendonly"] == "yes"
        port = urlsplit(url).port or 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_stale_record_of_a_killed_server_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text('{"port": 1, "pid": 1}')
    with private_redis(tmp_path) as url, sync_redis.Redis.from_url(url) as client:
        assert client.ping()


def test_program_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match="does not start"), private_redis(tmp_path, program=Path("/bin/false")):
        pass


def test_given_urls_are_taken_as_they_are(tmp_path: Path) -> None:
    with redis_for(tmp_path, "redis://a.test") as redis, postgres_for(tmp_path, "postgres://b.test") as postgres:
        assert (redis, postgres) == ("redis://a.test", "postgres://b.test")
    assert list(tmp_path.iterdir()) == []


async def test_postgres_answers(database_url: str) -> None:
    engine = make_engine(database_url)
    await ping(engine)
    await engine.dispose()
