import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.mail_catcher import MailCatcher
from api.stand_ins import MessageBox
from tests.support import mode


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0o000)
    yield
    os.umask(before)


def test_file_that_was_open_is_closed_when_it_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "contacts.jsonl"
    path.write_text("{}\n")
    path.chmod(0o644)
    MessageBox(path).add({"key": "1"})
    assert mode(path) == 0o600
    assert len(path.read_text().splitlines()) == 2


async def test_mail_that_is_caught_is_for_its_owner_alone(tmp_path: Path) -> None:
    class Envelope:
        content = b"Message-ID: <1@test>\r\nSubject: Reset\r\n\r\nThe code is 123456.\r\n"
        rcpt_tos = ("ada@example.com",)

    folder = tmp_path / "stand-ins"
    await MailCatcher(MessageBox(folder / "mail.jsonl"), folder / "mail").handle_DATA(None, None, Envelope())
    kept = [path for path in folder.rglob("*") if path.is_file()]
    assert {mode(path) for path in kept} == {0o600}
    assert {mode(path) for path in (folder, folder / "mail")} == {0o700}
    assert len(kept) == 2
