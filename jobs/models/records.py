"""Numbers, archives and files."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from jobs.models.table import Created, FileKey, Key, Table


class Analytics(Table):
    """Numbers of an hour or a day."""

    __tablename__ = "analytics"
    __table_args__ = (UniqueConstraint("period", "begins_at"),)

    id: Mapped[Key]
    period: Mapped[str]
    begins_at: Mapped[datetime]
    numbers: Mapped[dict[str, Any]]


class Archive(Table):
    """A month's rows of a table that were written to a file."""

    __tablename__ = "archives"
    __table_args__ = (UniqueConstraint("month", "source"),)

    id: Mapped[Key]
    month: Mapped[date]
    source: Mapped[str]
    rows: Mapped[int]
    file_id: Mapped[FileKey]
    created_at: Mapped[Created]


class StoredFile(Table):
    """A file in the store. `place` is its name there; `expires_at` None keeps it."""

    __tablename__ = "files"

    id: Mapped[Key]
    place: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    content_type: Mapped[str]
    size: Mapped[int]
    created_at: Mapped[Created]
    expires_at: Mapped[datetime | None] = mapped_column(index=True)


class FilePart(Table):
    """Bytes of a file that is kept in the database: the parts of a file by their numbers, from 0."""

    __tablename__ = "file_parts"

    file_id: Mapped[int] = mapped_column(ForeignKey("files.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[bytes]
