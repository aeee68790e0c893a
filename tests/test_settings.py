import re
import traceback
from contextlib import nullcontext
from pathlib import Path

import pytest

from settings import Settings, load_settings
from worker.core.errors import EmbarqError
from worker.core.inline_mode import is_inline
from worker.core.variables import is_production, misspelt
from worker.settings import SettingsError
from worker.settings.env_file import read_env_file


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
        ("REDIS_URL", "http://", "must start with redis:// or rediss:// or unix://"),
        ("EMBARQ_ROUTES", "jobs.emails.*", "must be pairs separated by commas, such as jobs.emails.*=emails"),
        ("EMBARQ_QUEUES", "a b", "pattern"),
        ("EMBARQ_QUEUES", "a:0", "a weight must be a number above 0 and below 1,000,000, not '0'"),
        ("EMBARQ_SOFT_TIMEOUT", "1000", "must be at most EMBARQ_TIMEOUT=900"),
        ("EMBARQ_MAX_BODY", "100000000", "must be at most EMBARQ_BODIES_IN_FLIGHT=67108864"),
        ("EMBARQ_MAIL_PORT", "8000", "must not be the API's own PORT"),
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


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EMBARQ_SECRET", "hunter2"),
        ("EMBARQ_API_KEY", "hunter2"),
        ("EMBARQ_API_KEY", "hunter2         "),  # a header's value ends with no space
        ("EMBARQ_API_KEY", " " * 16),
        ("REDIS_URL", "http://:hunter2@example.test"),
        ("REDIS_URL", "redis://:hunt/er2@example.test"),
        ("REDIS_URL", "redis://:hunter2@example.test/staging"),
        ("REDIS_URL", "redis://:hunter2@example.test/-1"),
        ("REDIS_URL", "user:hunter2@example.test:6379"),
        ("DATABASE_URL", "mysql://user:hunter2@example.test/db"),
        ("DATABASE_URL", "postgres://user:hunt#er2@example.test/db"),
        ("EMBARQ_SMTP_URL", "imap://user:hunter2@example.test"),
        ("EMBARQ_SMS_URL", "ftp://example.test/?token=hunter2"),
    ],
)
def test_secret_is_in_no_message(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    everything = "".join(traceback.format_exception(caught.value))
    assert str(caught.value).startswith(variable)
    assert not re.search("hunt|er2", everything)


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("EMBARQ_SMS_URL", "http://", "must have a host"),
        ("EMBARQ_PAYMENT_URL", "https:///charges", "must have a host"),
        ("EMBARQ_CRM_URL", "https://exam ple.test", "and no spaces"),
        ("EMBARQ_WAREHOUSE_URL", "https://example.test\n", "and no spaces"),
        ("EMBARQ_SMTP_URL", "smtp://", "must have a host"),
        ("EMBARQ_SMTP_URL", "smtp://user:password@", "must have a host"),
        ("EMBARQ_MAIL_FROM", "x\nBcc: a@b.test", "one line"),
        ("EMBARQ_MAIL_FROM", "nobody", "one address"),
        ("EMBARQ_MAIL_FROM", "Nobody <@example.test>", "one address"),
        ("EMBARQ_SECRET", " " * 16, "16 characters or more"),
    ],
)
def test_what_nothing_could_go_out_by_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    (line,) = str(caught.value).splitlines()
    assert line.startswith(variable)
    assert allowed in line


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e300", "315360001"])
@pytest.mark.parametrize("field", [name for name, each in Settings.model_fields.items() if each.annotation is float])
def test_no_time_is_endless(monkeypatch: pytest.MonkeyPatch, field: str, value: str) -> None:
    variable = f"EMBARQ_{field.upper()}"
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"^{variable}='{value}': "):
        load_settings()


@pytest.mark.parametrize("field", [name for name, each in Settings.model_fields.items() if each.annotation is int])
def test_no_number_is_endless(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    variable = str(Settings.model_fields[field].validation_alias or f"EMBARQ_{field.upper()}")
    monkeypatch.setenv(variable, str(10**15))
    with pytest.raises(SettingsError, match=f"^{variable}='{10**15}': "):
        load_settings()


def test_every_time_is_looked_at_for_its_bounds() -> None:
    times = {name for name, each in Settings.model_fields.items() if each.annotation is float}
    assert {"lease", "timeout", "soft_timeout", "result_ttl", "outage_patience"} <= times


def test_secret_is_not_in_the_settings_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:hunter2@example.test")
    monkeypatch.setenv("DATABASE_URL", "postgres://u:hunter2@example.test/db")
    monkeypatch.setenv("EMBARQ_SMTP_URL", "smtp://u:hunter2@example.test")
    monkeypatch.setenv("EMBARQ_SECRET", "hunter2hunter2hunter2")
    assert "hunter2" not in repr(load_settings())


def test_soft_limit_that_nobody_set_is_no_contradiction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBARQ_TIMEOUT", "300")
    assert load_settings().timeout == 300


def test_several_wrong_values_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBARQ_LEASE", "soon")
    monkeypatch.setenv("PORT", "0")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert [line.partition("=")[0] for line in str(caught.value).splitlines()] == ["PORT", "EMBARQ_LEASE"]


def test_misspelt_variables_are_found_with_what_was_meant() -> None:
    environ = {
        "EMBARQ_CONCURENCY": "5",
        "EMBARQ_REDIS_URL": "redis://example.test",
        "EMBARQ_SECRETS": "x",
        "EMBARQ_QQ": "5",
        "EMBARQ_LEASE": "5",
        "embarq_poll": "1",
        "PORT": "1",
    }
    assert [str(each) for each in misspelt(Settings, environ)] == [
        "EMBARQ_CONCURENCY is not a setting; did you mean EMBARQ_CONCURRENCY?",
        "EMBARQ_QQ is not a setting",
        "EMBARQ_REDIS_URL is not a setting; did you mean REDIS_URL?",
        "EMBARQ_SECRETS is not a setting; did you mean EMBARQ_SECRET?",
    ]


def test_settings_do_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]  # that is what is tested


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"EMBARQ_ENV": ""}, False),
        ({"EMBARQ_ENV": "development"}, False),
        ({"EMBARQ_ENV": " Development "}, False),
        ({"EMBARQ_ENV": "production"}, True),
        ({"EMBARQ_ENV": "Production"}, True),
        ({"DYNO": "web.1"}, True),
        ({"DYNO": "web.1", "EMBARQ_ENV": ""}, True),
        ({"DYNO": "web.1", "EMBARQ_ENV": "development"}, False),
        ({"DYNO": "web.1", "EMBARQ_ENV": "production"}, True),
    ],
)
def test_all_go_by_one_rule_of_what_production_is(
    variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FROM_FILE", "")  # so that what the file sets is unset in the end
    for name in ("FROM_FILE", "DYNO", "EMBARQ_ENV"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".env").write_text("FROM_FILE=1")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_production(variables) is expected
    assert load_settings().development is not expected
    assert read_env_file(tmp_path) == (() if expected else ("FROM_FILE",))
    monkeypatch.setenv("EMBARQ_INLINE", "1")
    with pytest.raises(EmbarqError, match="must be off in production") if expected else nullcontext():
        assert is_inline()


def test_what_nobody_knows_is_not_taken_for_development() -> None:
    assert is_production({"EMBARQ_ENV": "staging"})


def test_certificates_are_not_verified_on_heroku(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().redis_tls_verify
    monkeypatch.setenv("DYNO", "web.1")
    assert not load_settings().redis_tls_verify
