"""What goes on, what stands at one place and its newest, found without reading all there ever was."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


_OPEN = sa.text(
    "(state NOT IN ('CANCELLED', 'FAILED', 'INCONCLUSIVE', 'NOT_NEEDED', 'NOT_RECOVERED', 'PASSED', 'ROLLED_BACK', "
    "'SMOKE_FAILED', 'SUPERSEDED'))"
)


def upgrade() -> None:
    op.drop_index("ix_watches_due", "watches")
    op.create_index("ix_watches_open", "watches", ["next_look_at", "id"], sqlite_where=_OPEN, postgresql_where=_OPEN)
    op.create_index("ix_actions_began", "actions", ["kind", sa.text("coalesce(started_at, created_at)")])
    op.drop_index("ix_watches_service", "watches")
    op.create_index("ix_watches_service", "watches", ["service", "environment", "created_at", "id"])
    op.create_index("ix_watches_place", "watches", ["service", "environment", "state", "updated_at"])


def downgrade() -> None:
    raise NotImplementedError("a ledger is never taken back; restore the backup made before the upgrade")
