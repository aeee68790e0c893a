"""What became of jobs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0002"

NEWEST = (sa.text("finished_at DESC"), sa.text("id DESC"))


def upgrade() -> None:
    moment, record = sa.DateTime(timezone=True), postgresql.JSONB()
    op.create_table(
        "embarq_jobs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("enqueued_at", moment, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("job", "queue", "priority", "state")),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("max_tries", sa.Integer),
        sa.Column("args", record, nullable=False),
        sa.Column("result", record),
        sa.Column("error", record),
        sa.Column("tags", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column("worker", sa.Text),
        sa.Column("workflow_id", sa.Text),
        sa.Column("progress", record),
        sa.Column("started_at", moment),
        sa.Column("finished_at", moment, nullable=False),
        sa.Column("words", sa.Text, nullable=False),
    )
    op.create_index("embarq_jobs_finished", "embarq_jobs", [*NEWEST])
    for name in ("state", "job", "queue"):
        op.create_index(f"embarq_jobs_{name}", "embarq_jobs", [name, *NEWEST])
    op.create_index("embarq_jobs_tags", "embarq_jobs", ["tags"], postgresql_using="gin")
    op.create_index(
        "embarq_jobs_words", "embarq_jobs", [sa.text("to_tsvector('simple', words)")], postgresql_using="gin"
    )
    op.create_table(
        "embarq_tries",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("enqueued_at", moment, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("worker", sa.Text),
        sa.Column("started_at", moment),
        sa.Column("finished_at", moment),
        sa.Column("error", record),
    )


def downgrade() -> None:
    op.drop_table("embarq_tries")
    op.drop_table("embarq_jobs")
