"""The engine's typed settings, read once from the environment; a service extends the class with its own."""

import ipaddress
import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from worker.broker.address import redis_url_problem
from worker.broker.queue_selection import Service
from worker.core.errors import EmbarqError, InvalidOptions
from worker.core.inline_mode import NOT_IN_PRODUCTION
from worker.core.options import YEAR, Kept, Lasting
from worker.core.variables import PREFIX, is_production, refusal, stated_environment, url_of, variable_of


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


TEBIBYTE = 1024**4
Patience = Annotated[float, Field(ge=0, le=YEAR)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), Field(min_length=1)]


def _bare(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


# Stripped, as HTTP strips a header's value (RFC 9110, 5.5); a key of spaces alone would match every request.
Key = Annotated[SecretStr, BeforeValidator(_bare), Field(min_length=16)]


def _pairs(value: object) -> object:
    """`jobs.emails.*=emails,jobs.reports.*=batch` as pairs."""
    if not isinstance(value, str):
        return value
    pairs = [tuple(part.strip() for part in pair.split("=", 1)) for pair in value.split(",") if pair.strip()]
    if not all(len(pair) == 2 for pair in pairs):
        raise ValueError("must be pairs separated by commas, such as jobs.emails.*=emails")
    return tuple(pairs)


Routes = Annotated[tuple[tuple[str, str], ...], NoDecode, BeforeValidator(_pairs)]


def _leads_to_redis(value: str) -> str:
    problem = redis_url_problem(value)
    if problem is not None:
        raise ValueError(problem)
    return value


RedisUrl = Annotated[str, AfterValidator(_leads_to_redis)]
PostgresUrl = Annotated[str, url_of("postgresql", "postgres", "postgresql+asyncpg", "postgres+asyncpg")]


class Environment(StrEnum):
    """Where the process runs: private servers, and stand-ins for outside services, exist in development only."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class LogFormat(StrEnum):
    """How log lines look: for people, or one JSON object a line."""

    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """The lowest level that is logged."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class SettingsError(EmbarqError):
    """A variable of the environment has a value that is not allowed; the message names it."""


class SettingsMissing(SettingsError):
    """Required settings are not set; the message has a line for each, and says why it is required."""


def _environment() -> Environment:
    return Environment.PRODUCTION if is_production(os.environ) else Environment.DEVELOPMENT


class Settings(BaseSettings):
    """The engine's settings with their defaults. Heroku's names stay as they are, others start with `EMBARQ_`.

    Times are seconds, sizes are bytes. What may hold a secret is left out of the settings' `repr`.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    redis_url: RedisUrl | None = Field(None, validation_alias="REDIS_URL", repr=False)
    database_url: PostgresUrl | None = Field(None, validation_alias="DATABASE_URL", repr=False)
    port: int = Field(8000, validation_alias="PORT", ge=1, le=65535)
    web_concurrency: int = Field(1, validation_alias="WEB_CONCURRENCY", ge=1, le=64)

    env: Annotated[Environment, BeforeValidator(stated_environment)] = Field(default_factory=_environment)
    host: str = "127.0.0.1"
    api_key: Key | None = None
    data_dir: Path = Path(".embarq")
    jobs: Names = ("jobs",)
    inline: bool = False  # read before there are settings by `worker.core.inline_mode`
    redis_tls_verify: bool = Field(default_factory=lambda: "DYNO" not in os.environ)

    concurrency: int = Field(100, ge=1, le=10_000)
    queues: Names = ("default",)
    routes: Routes = ()
    lease: float = Field(15.0, ge=0.5, le=3600)
    poll: float = Field(0.5, ge=0.05, le=60)
    grace: float = Field(25.0, ge=0, le=3600)
    cancel_grace: float = Field(5.0, ge=0.1, le=3600)
    leases_lost_limit: int = Field(3, ge=3, le=1000)  # a job is alone at its third loss, at the earliest
    processes: int = Field(1, ge=1, le=256)
    recycle_jobs: int | None = Field(None, ge=1, le=10**9)
    recycle_megabytes: int | None = Field(None, ge=16, le=1024 * 1024)
    unknown_job_deadline: Patience = 600.0

    max_tries: int = Field(5, ge=1, le=1000)
    soft_timeout: Lasting = 600.0
    timeout: Lasting = 900.0
    result_ttl: Kept = 3600.0

    event_bytes: int = Field(64 * 1024 * 1024, ge=64 * 1024, le=TEBIBYTE)
    history_days: float = Field(30.0, gt=0, le=3650)
    history_stream_bytes: int = Field(256 * 1024 * 1024, ge=1024 * 1024, le=TEBIBYTE)
    outage_patience: Patience = 600.0
    database_pool: int = Field(10, ge=1, le=1000)

    max_body: int = Field(1024 * 1024, ge=1024, le=TEBIBYTE)
    bodies_in_flight: int = Field(64 * 1024 * 1024, ge=1024 * 1024, le=TEBIBYTE)
    open_queues: bool = False
    loop_blocked: float = Field(1.0, ge=0.05, le=60)
    max_arguments: int = Field(16 * 1024 * 1024, ge=1024, le=60 * 1024 * 1024)
    max_result: int = Field(16 * 1024 * 1024, ge=1024, le=256 * 1024 * 1024)

    log_level: LogLevel = LogLevel.INFO
    log_format: LogFormat = LogFormat.CONSOLE

    @property
    def development(self) -> bool:
        """Whether private servers may be started, and stand-ins for outside services served."""
        return self.env is Environment.DEVELOPMENT

    @property
    def is_exposed(self) -> bool:
        """Whether the API would serve other machines without a key, and nobody has said that this is intended."""
        meant = self.development and "env" in self.model_fields_set
        return self.api_key is None and not meant and not is_loopback(self.host)

    def problems(self) -> list[str]:
        """What every process of the service requires, a line each: what is not set, why that matters, and what to set.
        A service adds its own."""
        return self.redis_problems()

    def redis_problems(self) -> list[str]:
        """What even a command that only reads Redis requires."""
        if self.development:
            return []
        if self.inline:
            return [NOT_IN_PRODUCTION]
        if self.redis_url is not None:
            return []
        return ["REDIS_URL is not set: a private Redis is for development only; set the URL that all processes share"]

    def api_problems(self) -> list[str]:
        """What the API requires, beside the `problems` of all."""
        if self.api_key is None and not self.development:
            return [f"EMBARQ_API_KEY is not set: in production the API must have a key; {SET_A_KEY}"]
        if self.is_exposed:
            reached = f"EMBARQ_API_KEY is not set, and other machines reach {self.host}"
            return [f"{reached}: {SET_A_KEY}, or set EMBARQ_ENV=development if all of them may do everything"]
        return []

    @property
    def further_ports(self) -> Mapping[str, int]:
        """Ports that the application listens on beside its own, in development, by the fields that set them."""
        return {}

    @classmethod
    def load(cls, **defaults: Any) -> Self:
        """Read the environment; `defaults` are for what it does not set.

        Raises:
            SettingsError: a value is not allowed; the message has a line per variable.
        """
        unset = {name: value for name, value in defaults.items() if not os.environ.get(variable_of(cls, name))}
        try:
            settings = cls(**unset)
        except ValidationError as error:
            lines = [refusal(cls, problem) for problem in error.errors()]
        else:
            lines = settings.contradictions()
            if not lines:
                return settings
        raise SettingsError("\n".join(dict.fromkeys(lines)))  # not from pydantic's error, which shows values

    def contradictions(self) -> list[str]:
        """What cannot work together, a line each, though each value alone is allowed."""
        found = []
        if "soft_timeout" in self.model_fields_set and self.soft_timeout > self.timeout:
            limits = f"EMBARQ_SOFT_TIMEOUT={self.soft_timeout:g}", f"EMBARQ_TIMEOUT={self.timeout:g}"
            found.append(f"{limits[0]} must be at most {limits[1]}, or it would never come")
        if self.max_body > self.bodies_in_flight:
            sizes = f"EMBARQ_MAX_BODY={self.max_body}", f"EMBARQ_BODIES_IN_FLIGHT={self.bodies_in_flight}"
            found.append(f"{sizes[0]} must be at most {sizes[1]}, or no such body would be accepted")
        try:
            Service.read(self.queues)
        except InvalidOptions as error:
            found.append(f"EMBARQ_QUEUES={','.join(self.queues)!r}: {error.problems[0].message}")
        return found


SET_A_KEY = "set one of 16 characters or more"


def refuse(problems: Sequence[str]) -> None:
    """Raise problems of settings, if there are any.

    Raises:
        SettingsMissing: there is one.
    """
    if problems:
        raise SettingsMissing("\n".join(problems))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address. A name other than `localhost` may be anything."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
