"""E-mails: templates, and a mailer that records what the mail server accepted."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from typing import Any
from urllib.parse import urlsplit

import aiosmtplib
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from jobs.models import EmailSent
from worker import EmbarqError, Permanent, ResourceUnavailable, RetryPolicy

TIMEOUT = 20.0
CLOSING = 421  # "service not available, closing transmission channel" (RFC 5321, 4.2.2)


class MailUnavailable(EmbarqError):
    """The mail server did not answer, or said that it cannot serve now."""


class MailServerAway(MailUnavailable, ResourceUnavailable):
    """The mail server does not answer."""


class MailRefused(Permanent):
    """The mail server will not take this e-mail."""


WHILE_AWAY = RetryPolicy(on=(MailUnavailable,), delay=2.0, cap=300.0)

_templates = Environment(
    loader=PackageLoader("jobs", "templates"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with an e-mail."""

    name: str
    content_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Email:
    """An e-mail to send once under its key. `template`: of `templates/`, filled with `values`."""

    to: str
    subject: str
    template: str
    values: Mapping[str, Any]
    key: str
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class Mailer:
    """Sends through the SMTP server at a URL: `smtp://` or `smtps://`, with user and password if it needs them."""

    url: str
    sender: str

    async def send(self, session: AsyncSession, email: Email) -> bool:
        """Send an e-mail, once under its key; False when it is on record already.

        The record is committed with the caller's transaction, after the mail server has accepted the e-mail: a job that
        is killed between the two sends it again, under the same Message-ID.

        Raises:
            MailUnavailable: try again; `MailServerAway` if the server did not answer.
            MailRefused: the server refuses it for good.
        """
        if (await session.execute(select(EmailSent.id).where(EmailSent.key == email.key))).first():
            return False
        await self._hand_over(self._message(email))
        row = insert(EmailSent).values(recipient=email.to, subject=email.subject, key=email.key)
        await session.execute(row.on_conflict_do_nothing())
        return True

    def _message(self, email: Email) -> EmailMessage:
        message = EmailMessage()
        message["From"], message["To"] = self.sender, email.to
        message["Subject"] = " ".join(email.subject.split())
        message["Date"] = formatdate()
        domain = parseaddr(self.sender)[1].partition("@")[2]
        message["Message-ID"] = f"<{hashlib.sha256(email.key.encode()).hexdigest()[:32]}@{domain}>"
        text = _templates.get_template(f"{email.template}.txt").render(email.values)
        page = _templates.get_template("mail.html").render(title=email.subject, text=text)
        message.set_content(text)
        message.add_alternative(page, subtype="html")
        for each in email.attachments:
            kind, _, subtype = each.content_type.partition("/")
            message.add_attachment(each.data, maintype=kind, subtype=subtype, filename=each.name)
        return message

    async def _hand_over(self, message: EmailMessage) -> None:
        server = urlsplit(self.url)
        try:
            await aiosmtplib.send(
                message,
                hostname=server.hostname,
                port=server.port,
                username=server.username,
                password=server.password,
                use_tls=server.scheme == "smtps",
                timeout=TIMEOUT,
            )
        except aiosmtplib.SMTPResponseException as error:
            raise _answered(error) from error
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _answered(error.recipients[0]) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise MailServerAway(f"the mail server {server.hostname} is not available: {error}") from error


def _answered(error: aiosmtplib.SMTPResponseException) -> EmbarqError:
    """4xx means later, as with greylisting; 5xx means never (RFC 5321, 4.2.1)."""
    later = MailServerAway if error.code == CLOSING else MailUnavailable
    kind = later if 400 <= error.code < 500 else MailRefused
    return kind(f"{error.code} {error.message}")
