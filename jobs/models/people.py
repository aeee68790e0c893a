"""Users and what belongs to their accounts."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from jobs.models.table import Created, Key, Table, UserKey


class User(Table):
    """A person with an account."""

    __tablename__ = "users"

    id: Mapped[Key]
    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    phone: Mapped[str | None]
    is_active: Mapped[bool] = mapped_column(default=True, server_default="true")
    verified_at: Mapped[datetime | None]
    created_at: Mapped[Created]


class Profile(Table):
    """What a person shows of themselves."""

    __tablename__ = "profiles"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    display_name: Mapped[str]
    locale: Mapped[str] = mapped_column(default="en", server_default="en")
    created_at: Mapped[Created]


class UserStats(Table):
    """Numbers about a user, updated now and then."""

    __tablename__ = "user_stats"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    enrolments: Mapped[int]
    completed: Mapped[int]
    orders: Mapped[int]
    credits: Mapped[int]
    updated_at: Mapped[datetime]


class Token(Table):
    """A token that was sent to a user, by its digest."""

    __tablename__ = "tokens"

    id: Mapped[Key]
    user_id: Mapped[UserKey]
    kind: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None]


class LoginSession(Table):
    """A login."""

    __tablename__ = "sessions"
    __table_args__ = (Index("sessions_last_seen", "last_seen_at"),)

    id: Mapped[Key]
    user_id: Mapped[UserKey]
    created_at: Mapped[Created]
    last_seen_at: Mapped[datetime]
