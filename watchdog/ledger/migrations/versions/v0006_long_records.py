"""What goes on, what stands at one place and its newest, found without reading all there ever was; and what
is the same for all looks of a watch, or holds all of them, is there once, not with each look."""

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
    op.create_table(
        "query_texts",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_query_texts"),
    )
    op.create_table(
        "evidence_paths",
        sa.Column("watch_id", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("watch_id", name="pk_evidence_paths"),
        sa.ForeignKeyConstraint(["watch_id"], ["watches.id"], name="fk_evidence_paths_watch_id"),
    )
    op.create_index("ix_actions_began", "actions", ["kind", sa.text("coalesce(started_at, created_at)")])
    op.drop_index("ix_watches_service", "watches")
    op.create_index("ix_watches_service", "watches", ["service", "environment", "created_at", "id"])
    op.create_index("ix_watches_place", "watches", ["service", "environment", "state", "updated_at"])


def downgrade() -> None:
    raise NotImplementedError("a ledger is never taken back; restore the backup made before the upgrade")
