"""What all tables have in common. Times are aware, money is whole cents."""

from datetime import datetime
from typing import Annotated, Any

from sqlalchemy import DateTime, ForeignKey, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column

from worker.database import metadata as shared

Key = Annotated[int, mapped_column(primary_key=True)]
Created = Annotated[datetime, mapped_column(server_default=func.now())]
UserKey = Annotated[int, mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)]
FileKey = Annotated[int | None, mapped_column(ForeignKey("files.id", ondelete="SET NULL"))]


class Table(DeclarativeBase):
    """Base of all tables."""

    metadata = shared
    type_annotation_map = {datetime: DateTime(timezone=True), str: Text, dict[str, Any]: JSONB}  # noqa: RUF012
