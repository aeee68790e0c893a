"""This service's typed settings: the engine's and the learning platform's, read once at the roots."""

from collections.abc import Mapping
from email.utils import parseaddr
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from worker import settings as engine
from worker.core.variables import url_with_host


def _is_sender(value: str) -> str:
    if not value.isprintable() or not all(parseaddr(value)[1].partition("@")):
        raise ValueError("must be one address in one line, such as Learning platform <learning@example.com>")
    return value


def _is_no_blank(value: str) -> str:
    if len(value.strip()) < SHORTEST_SECRET:
        raise ValueError(f"must have {SHORTEST_SECRET} characters or more, beside spaces at its ends")
    return value


SHORTEST_SECRET = 16

HttpUrl = Annotated[str, url_with_host("https", "http")]
SmtpUrl = Annotated[str, url_with_host("smtp", "smtps")]
Sender = Annotated[str, AfterValidator(_is_sender)]
Secret = Annotated[str, AfterValidator(_is_no_blank)]


INSTEAD = "its stand-in is for development only"


class Files(StrEnum):
    """Where files are kept: in the database, which every process reaches, or in a folder of one machine."""

    POSTGRES = "postgres"
    FOLDER = "folder"


class Settings(engine.Settings):
    """The platform's settings beside the engine's: addresses of outside services, mail, files, sample data."""

    sms_url: HttpUrl | None = Field(None, repr=False)
    payment_url: HttpUrl | None = Field(None, repr=False)
    crm_url: HttpUrl | None = Field(None, repr=False)
    warehouse_url: HttpUrl | None = Field(None, repr=False)
    smtp_url: SmtpUrl | None = Field(None, repr=False)
    mail_port: int = Field(8025, ge=1, le=65535)
    mail_from: Sender = "Learning platform <learning@example.com>"
    seed: bool = False
    secret: Secret | None = Field(None, repr=False)
    files: Files | None = None

    def problems(self) -> list[str]:
        """The engine's, and those without which the platform would send nothing, charge nobody, or lose files."""
        needed = {
            "DATABASE_URL": (self.database_url, "the platform's tables and files are in Postgres; set its address"),
            "EMBARQ_SECRET": (self.secret, "all processes sign links to files with it; set 16 characters or more"),
            "EMBARQ_SMTP_URL": (self.smtp_url, f"{INSTEAD}; set the mail server's address"),
            "EMBARQ_MAIL_FROM": ("mail_from" in self.model_fields_set or None, "set the sender of all e-mails"),
            "EMBARQ_SMS_URL": (self.sms_url, f"{INSTEAD}; set the address of the SMS provider"),
            "EMBARQ_PAYMENT_URL": (self.payment_url, f"{INSTEAD}; set the address of the payment provider"),
            "EMBARQ_CRM_URL": (self.crm_url, f"{INSTEAD}; set the address of the customers' system"),
            "EMBARQ_WAREHOUSE_URL": (self.warehouse_url, f"{INSTEAD}; set the address of the warehouse"),
        }
        own = [f"{name} is not set: {why}" for name, (value, why) in needed.items() if value is None]
        return super().problems() + ([] if self.development else own)

    @property
    def files_in(self) -> Files:
        """Where files are kept: `EMBARQ_FILES`, or what suits the environment."""
        return self.files or (Files.FOLDER if self.development else Files.POSTGRES)

    def contradictions(self) -> list[str]:
        """The engine's, and a mail catcher on the API's own port."""
        found = super().contradictions()
        if self.development and self.smtp_url is None and self.mail_port == self.port:
            found.append(f"EMBARQ_MAIL_PORT={self.mail_port} must not be the API's own PORT: give it another one")
        return found

    @property
    def further_ports(self) -> Mapping[str, int]:
        """The mail catcher's, where there is one."""
        return {} if self.smtp_url else {"mail_port": self.mail_port}

    @property
    def sms_endpoint(self) -> str:
        """The SMS provider's URL: `EMBARQ_SMS_URL`, or the stand-in that the API serves in development."""
        return self.service_url("sms")

    @property
    def smtp_endpoint(self) -> str:
        """The mail server's URL: `EMBARQ_SMTP_URL`, or the catcher that the API runs in development."""
        return self.smtp_url or f"smtp://127.0.0.1:{self.mail_port}"

    def service_url(self, name: Literal["sms", "payment", "crm", "warehouse"]) -> str:
        """The URL of an outside service, or of the stand-in that the API serves in development."""
        own = {"sms": self.sms_url, "payment": self.payment_url, "crm": self.crm_url, "warehouse": self.warehouse_url}
        return own[name] or f"http://127.0.0.1:{self.port}/stand-ins/{name}"


def load_settings() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: a value is not allowed; the message has a line per variable.
    """
    return Settings.load()
