"""A mail server for development: it accepts every e-mail and keeps it where a person can look at it."""

import asyncio
import email
import email.policy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import structlog
from aiosmtpd.smtp import SMTP
from anyio import to_thread

from api.stand_ins import MessageBox
from worker.system.private import private_folder, private_opener

logger = structlog.stdlib.get_logger("embarq.api")

LARGEST = 20 * 2**20


class MailCatcher:
    """Called by aiosmtpd with each e-mail. The e-mail itself goes into a file, its readable parts into the box."""

    def __init__(self, box: MessageBox, folder: Path) -> None:
        self._box = box
        self._folder = folder

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # aiosmtpd's name
        """Keep an e-mail."""
        await to_thread.run_sync(self._keep, bytes(envelope.content), list(envelope.rcpt_tos))
        return "250 kept"

    def _keep(self, content: bytes, recipients: list[str]) -> None:
        message = email.message_from_bytes(content, _class=EmailMessage, policy=email.policy.default)
        received = datetime.now(UTC)
        private_folder(self._folder)
        name = f"{received:%Y%m%dT%H%M%S%f}.eml"
        with open(self._folder / name, "wb", opener=private_opener) as file:
            file.write(content)
        body = message.get_body(("plain",))
        self._box.add(
            {
                "received_at": received.isoformat(),
                "key": message["Message-ID"],
                "to": recipients,
                "subject": str(message["Subject"]),
                "text": "" if body is None else body.get_content(),
                "attachments": [part.get_filename() for part in message.iter_attachments()],
                "file": name,
            }
        )


@asynccontextmanager
async def catching_mail(catcher: MailCatcher, port: int) -> AsyncIterator[None]:
    """Accept mail on a port of this machine; if that is taken, log it and continue without."""
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(
            lambda: SMTP(catcher, loop=loop, data_size_limit=LARGEST, enable_SMTPUTF8=True),
            "127.0.0.1",
            port,
            reuse_port=True,
        )
    except OSError as error:
        logger.warning("mail catcher cannot listen", port=port, reason=str(error))
        yield
        return
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()
