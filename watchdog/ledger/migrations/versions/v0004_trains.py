"""Release trains: which deploys are judged together, and go back together."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("watches", sa.Column("train", sa.Text(), nullable=True))
    op.create_index("ix_watches_train", "watches", ["train", "environment"])


def downgrade() -> None:
    raise NotImplementedError("a ledger is never taken back; restore the backup made before the upgrade")
