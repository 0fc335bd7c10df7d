"""Steps: which share of the traffic a watch stands at, and since when; when our own switch took effect."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("watches", sa.Column("step", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("watches", sa.Column("step_at", sa.Double(), nullable=True))
    op.add_column("watches", sa.Column("switched_at", sa.Double(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("a ledger is never taken back; restore the backup made before the upgrade")
