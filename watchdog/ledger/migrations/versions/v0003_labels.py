"""Labels: what analysts say of verdicts; and the orders in which people leaf through a long list."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "labels",
        sa.Column("watch_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("watch_id", name="pk_labels"),
        sa.ForeignKeyConstraint(["watch_id"], ["watches.id"], name="fk_labels_watch_id"),
    )
    op.drop_index("ix_watches_created_at", "watches")  # the next one serves it too
    op.create_index("ix_watches_newest", "watches", ["created_at", "id"])
    op.create_index("ix_watches_newest_of_service", "watches", ["service", "created_at", "id"])
    op.create_index("ix_watches_newest_in_environment", "watches", ["environment", "created_at", "id"])
    op.create_index("ix_watches_newest_in_state", "watches", ["state", "created_at", "id"])


def downgrade() -> None:
    raise NotImplementedError("a ledger is never taken back; restore the backup made before the upgrade")
