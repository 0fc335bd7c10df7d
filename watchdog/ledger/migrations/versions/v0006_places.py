"""What stands at one place, and its newest, found among all that ever stood there without reading those."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_watches_service", "watches")
    op.create_index("ix_watches_service", "watches", ["service", "environment", "created_at", "id"])
    op.create_index("ix_watches_place", "watches", ["service", "environment", "state", "updated_at"])


def downgrade() -> None:
    raise NotImplementedError("a ledger is never taken back; restore the backup made before the upgrade")
