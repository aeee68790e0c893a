"""A row for each ended job, and one for each try. An id may be used again once its result has expired."""

from sqlalchemy import Column, DateTime, Index, Integer, Table, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from worker.database import metadata

jobs_table = Table(
    "embarq_jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("enqueued_at", DateTime(timezone=True), primary_key=True),
    Column("job", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("max_tries", Integer),
    Column("args", JSONB, nullable=False),
    Column("result", JSONB),
    Column("error", JSONB),
    Column("tags", ARRAY(Text), nullable=False),
    Column("worker", Text),
    Column("workflow_id", Text),
    Column("progress", JSONB),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True), nullable=False),
    Column("words", Text, nullable=False),
    Index("embarq_jobs_finished", text("finished_at DESC"), text("id DESC")),
    Index("embarq_jobs_state", "state", text("finished_at DESC"), text("id DESC")),
    Index("embarq_jobs_job", "job", text("finished_at DESC"), text("id DESC")),
    Index("embarq_jobs_queue", "queue", text("finished_at DESC"), text("id DESC")),
    Index("embarq_jobs_tags", "tags", postgresql_using="gin"),
    Index("embarq_jobs_words", func.to_tsvector(text("'simple'"), text("words")), postgresql_using="gin"),
)

tries_table = Table(
    "embarq_tries",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("enqueued_at", DateTime(timezone=True), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("outcome", Text, nullable=False),
    Column("worker", Text),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    Column("error", JSONB),
)
