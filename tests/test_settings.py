import pytest

from settings import Settings, load_settings
from worker.settings import SettingsError


def test_heroku_names_are_read_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "rediss://:secret@example.test:6380")
    monkeypatch.setenv("DATABASE_URL", "postgres://u:p@example.test/db")
    monkeypatch.setenv("PORT", "5000")
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    settings = load_settings()
    assert settings.redis_url == "rediss://:secret@example.test:6380"
    assert settings.database_url == "postgres://u:p@example.test/db"
    assert (settings.port, settings.web_concurrency) == (5000, 3)


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBARQ_QUEUES", "urgent, default")
    assert load_settings().queues == ("urgent", "default")


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("PORT", "70000", "less than or equal to 65535"),
        ("EMBARQ_LEASE", "soon", "valid number"),
        ("EMBARQ_ENV", "staging", "'development' or 'production'"),
        ("REDIS_URL", "http://example.test", "pattern"),
        ("EMBARQ_CONCURRENCY", "0", "greater than or equal to 1"),
        ("EMBARQ_LEASES_LOST_LIMIT", "2", "greater than or equal to 3"),
    ],
)
def test_wrong_value_names_the_variable_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert variable in str(caught.value)
    assert value in str(caught.value)
    assert allowed in str(caught.value)


def test_settings_do_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]  # that is what is tested


def test_certificates_are_not_verified_on_heroku(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().redis_tls_verify
    monkeypatch.setenv("DYNO", "web.1")
    assert not load_settings().redis_tls_verify
