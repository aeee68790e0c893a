"""What was sent to people."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from jobs.models.table import Created, Key, Table, UserKey


class Notification(Table):
    """A note in a user's inbox. `key` makes it once."""

    __tablename__ = "notifications"

    id: Mapped[Key]
    user_id: Mapped[UserKey]
    title: Mapped[str]
    message: Mapped[str]
    key: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[Created]
    read_at: Mapped[datetime | None]


class Message(Table):
    """A text message that the provider took."""

    __tablename__ = "messages"

    id: Mapped[Key]
    number: Mapped[str]
    message: Mapped[str]
    key: Mapped[str] = mapped_column(unique=True)
    sent_at: Mapped[Created]


class EmailSent(Table):
    """An e-mail that the mail server took. `key` makes it once."""

    __tablename__ = "emails_sent"

    id: Mapped[Key]
    recipient: Mapped[str] = mapped_column(index=True)
    subject: Mapped[str]
    key: Mapped[str] = mapped_column(unique=True)
    sent_at: Mapped[Created]
