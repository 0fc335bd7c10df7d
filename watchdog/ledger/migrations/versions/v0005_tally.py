"""Counting how deploys ended, day by day, along an index instead of by sorting all of them."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NEAR = "CAST(created_at / 86400 AS INTEGER)"
_DAY = f"(CASE WHEN {_NEAR} > created_at / 86400 THEN {_NEAR} - 1 ELSE {_NEAR} END)"


def upgrade() -> None:
    op.create_index(
        "ix_watches_tally", "watches", ["service", "mode", "state", "verdict", "plan_digest", sa.text(_DAY)]
    )


def downgrade() -> None:
    raise NotImplementedError("a ledger is never taken back; restore the backup made before the upgrade")
