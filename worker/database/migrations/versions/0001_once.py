"""Effects that happen once."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = ("embarq",)


def upgrade() -> None:
    op.create_table(
        "embarq_once",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("job_id", sa.Text),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )


def downgrade() -> None:
    op.drop_table("embarq_once")
