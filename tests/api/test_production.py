"""What the service refuses to start without in production, each in a line that says why and what to set."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from api.app import create_app
from settings import Files, Settings, load_settings
from tests.serving import without_a_socket
from tests.support import ROOT
from worker.settings import Settings as EngineSettings
from worker.settings import SettingsMissing

KEY = "0123456789abcdef"
NEEDED = {
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "DATABASE_URL": "postgres://u:p@127.0.0.1:1/db",
    "EMBARQ_API_KEY": KEY,
    "EMBARQ_SECRET": "s" * 32,
    "EMBARQ_SMTP_URL": "smtp://mail.test",
    "EMBARQ_MAIL_FROM": "Platform <platform@mail.test>",
    "EMBARQ_SMS_URL": "https://sms.test",
    "EMBARQ_PAYMENT_URL": "https://payment.test",
    "EMBARQ_CRM_URL": "https://crm.test",
    "EMBARQ_WAREHOUSE_URL": "https://warehouse.test",
}


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Everything that production needs."""
    for name, value in {**NEEDED, "EMBARQ_ENV": "production", "EMBARQ_DATA_DIR": str(tmp_path / "data")}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def embarq(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "embarq", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_service_with_all_that_it_needs_is_made(production: pytest.MonkeyPatch) -> None:
    create_app()


@pytest.mark.parametrize("missing", NEEDED)
def test_each_variable_that_is_missing_is_told_alone(production: pytest.MonkeyPatch, missing: str) -> None:
    production.delenv(missing)
    with pytest.raises(SettingsMissing) as caught:
        create_app()
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{missing} is not set: ")
    assert "set " in line.partition(": ")[2]
    for value in NEEDED.values():
        assert value not in line


@pytest.mark.parametrize("command", ["api", "worker"])
def test_commands_end_with_all_that_is_missing(production: pytest.MonkeyPatch, command: str) -> None:
    production.delenv("EMBARQ_SMS_URL")
    production.delenv("EMBARQ_SECRET")
    ended = embarq(command)
    assert ended.returncode == 2
    missing = ["EMBARQ_SECRET", "EMBARQ_SMS_URL"]
    assert [line.partition(" is not set")[0] for line in ended.stderr.splitlines()] == [f"embarq: {n}" for n in missing]


def test_migrate_starts_no_private_postgres(production: pytest.MonkeyPatch, tmp_path: Path) -> None:
    production.delenv("DATABASE_URL")
    ended = embarq("migrate")
    assert ended.returncode == 2
    assert ended.stderr.startswith("embarq: DATABASE_URL is not set: ")
    assert not (tmp_path / "data").exists()


def test_dev_is_refused(production: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ended = embarq("dev")
    assert ended.returncode == 1
    assert "production" in ended.stderr
    assert not (tmp_path / "data").exists()


def test_dyno_means_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNO", "web.1")
    assert not load_settings().development
    monkeypatch.setenv("EMBARQ_ENV", "development")
    assert load_settings().development


def test_engine_alone_needs_redis_and_a_key() -> None:
    settings = EngineSettings(env="production")
    assert [line.partition(" ")[0] for line in settings.problems()] == ["REDIS_URL"]
    assert [line.partition(" ")[0] for line in settings.api_problems()] == ["EMBARQ_API_KEY"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "somewhere"])
def test_other_machines_are_served_with_a_key_or_where_that_is_meant(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("EMBARQ_HOST", host)
    (line,) = load_settings().api_problems()
    assert line.startswith("EMBARQ_API_KEY is not set, and other machines reach " + host)
    monkeypatch.setenv("EMBARQ_ENV", "development")
    assert load_settings().api_problems() == []
    monkeypatch.delenv("EMBARQ_ENV")
    monkeypatch.setenv("EMBARQ_API_KEY", KEY)
    assert load_settings().api_problems() == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "localhost"])
def test_this_machine_is_served_without_a_key(host: str) -> None:
    assert Settings(host=host).api_problems() == []


def test_address_of_the_command_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", NEEDED["REDIS_URL"])
    ended = embarq("api", "--host", "0.0.0.0")
    assert ended.returncode == 2
    assert "other machines reach 0.0.0.0" in ended.stderr


def test_files_lie_in_the_database_unless_a_folder_is_asked_for(production: pytest.MonkeyPatch) -> None:
    assert load_settings().files_in is Files.POSTGRES
    production.setenv("EMBARQ_FILES", "folder")
    assert load_settings().files_in is Files.FOLDER
    assert load_settings().problems() == []
    production.delenv("EMBARQ_FILES")
    production.setenv("EMBARQ_ENV", "development")
    assert load_settings().files_in is Files.FOLDER


@pytest.mark.parametrize(
    ("peer", "status"), [("127.0.0.1", 200), ("::1", 200), ("10.0.0.7", 404), ("::ffff:10.0.0.7", 404)]
)
async def test_stand_ins_are_served_to_this_machine_only(
    settings_for: Callable[..., Settings], redis_url: str, peer: str, status: int
) -> None:
    app = create_app(settings_for(REDIS_URL=redis_url, host="0.0.0.0", api_key=SecretStr(KEY)))
    async with without_a_socket(app, raises=True, peer=peer) as http:
        assert (await http.get("/stand-ins/mail")).status_code == status
