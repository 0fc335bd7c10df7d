"""The first schema: deploys, watches, samples, verdicts, actions, audit, outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY = (
    "CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END",
    "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END",
)

APPEND_ONLY_POSTGRES = (
    (
        "CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit is append-only'; END $$"
    ),
    (
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()"
    ),
)


def _text(name: str, *, null: bool = False) -> "sa.Column[str]":
    return sa.Column(name, sa.Text(), nullable=null)


def _double(name: str, *, null: bool = False) -> "sa.Column[float]":
    return sa.Column(name, sa.Double(), nullable=null)


def _integer(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.Integer(), nullable=False, autoincrement=False)


def _serial() -> "sa.Column[int]":
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("id", number, nullable=False, autoincrement=True)


def _audit() -> None:
    op.create_table(
        "audit",
        _serial(),
        _double("at"),
        _text("watch_id", null=True),
        _text("actor"),
        _text("event"),
        _text("before"),
        _text("after"),
        _text("why"),
        _text("details"),
        _text("prev_hash"),
        _text("hash"),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sa.UniqueConstraint("hash", name="uq_audit_hash"),
        sa.UniqueConstraint("prev_hash", name="uq_audit_prev_hash"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_watch_id", "audit", ["watch_id", "id"])


def _deploys() -> None:
    op.create_table(
        "deploys",
        _text("id"),
        _text("service"),
        _text("environment"),
        _text("version"),
        _double("deployed_at"),
        _text("body_digest"),
        _text("body"),
        sa.PrimaryKeyConstraint("id", name="pk_deploys"),
    )


def _fences() -> None:
    op.create_table(
        "fences",
        _text("service"),
        _text("environment"),
        _integer("fence"),
        sa.PrimaryKeyConstraint("service", "environment", name="pk_fences"),
    )


def _flags() -> None:
    op.create_table(
        "flags",
        _text("name"),
        _text("value"),
        _text("actor"),
        _double("at"),
        sa.PrimaryKeyConstraint("name", name="pk_flags"),
    )


def _plans() -> None:
    op.create_table(
        "plans",
        _text("digest"),
        _text("body"),
        sa.PrimaryKeyConstraint("digest", name="pk_plans"),
    )


def _webhook_ids() -> None:
    op.create_table(
        "webhook_ids",
        _text("id"),
        _double("expires_at"),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_ids"),
    )
    op.create_index("ix_webhook_ids_expires_at", "webhook_ids", ["expires_at"])


def _watches() -> None:
    op.create_table(
        "watches",
        _text("id"),
        _text("deploy_id"),
        _text("plan_digest"),
        _text("service"),
        _text("environment"),
        _text("mode"),
        _text("state"),
        _double("created_at"),
        _double("updated_at"),
        _integer("looks"),
        _double("next_look_at"),
        _text("sentence"),
        _text("verdict", null=True),
        _text("reason", null=True),
        _text("metric", null=True),
        _text("hold", null=True),
        _double("hold_until", null=True),
        _integer("verified_looks"),
        _integer("generation"),
        _integer("epoch"),
        _text("lease_owner", null=True),
        _double("lease_until"),
        _double("degraded_at", null=True),
        _double("recovered_at", null=True),
        _double("exposed_requests"),
        _double("affected_requests"),
        _double("total_requests"),
        sa.PrimaryKeyConstraint("id", name="pk_watches"),
        sa.ForeignKeyConstraint(["deploy_id"], ["deploys.id"], name="fk_watches_deploy_id"),
        sa.ForeignKeyConstraint(["plan_digest"], ["plans.digest"], name="fk_watches_plan_digest"),
    )
    op.create_index("ix_watches_created_at", "watches", ["created_at"])
    op.create_index("ix_watches_due", "watches", ["state", "next_look_at"])
    op.create_index("ix_watches_service", "watches", ["service", "environment", "created_at"])


def _actions() -> None:
    op.create_table(
        "actions",
        _text("id"),
        _text("watch_id"),
        _text("kind"),
        _text("state"),
        _text("hook"),
        _text("service"),
        _text("environment"),
        _text("from_version"),
        _text("to_version"),
        _double("created_at"),
        _integer("attempt"),
        _integer("fence"),
        _integer("epoch"),
        _double("next_at"),
        _double("deadline_at", null=True),
        _double("started_at", null=True),
        _double("finished_at", null=True),
        _text("detail"),
        _text("params"),
        sa.PrimaryKeyConstraint("id", name="pk_actions"),
        sa.ForeignKeyConstraint(["watch_id"], ["watches.id"], name="fk_actions_watch_id"),
    )
    op.create_index("ix_actions_state", "actions", ["state"])
    op.create_index("ix_actions_target", "actions", ["service", "environment", "kind"])
    op.create_index("ix_actions_watch_id", "actions", ["watch_id"])


def _looks() -> None:
    op.create_table(
        "looks",
        _text("watch_id"),
        _integer("interval"),
        _text("facts"),
        _text("queries"),
        sa.PrimaryKeyConstraint("watch_id", "interval", name="pk_looks"),
        sa.ForeignKeyConstraint(["watch_id"], ["watches.id"], name="fk_looks_watch_id"),
    )


def _outbox() -> None:
    op.create_table(
        "outbox",
        _serial(),
        _text("watch_id"),
        _text("key"),
        _text("sink"),
        _text("kind"),
        _text("severity"),
        _text("sentence"),
        _text("facts"),
        _text("state"),
        _integer("attempts"),
        _double("created_at"),
        _double("next_at"),
        _double("tried_at", null=True),
        _text("error"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.ForeignKeyConstraint(["watch_id"], ["watches.id"], name="fk_outbox_watch_id"),
        sa.UniqueConstraint("watch_id", "key", "sink", name="uq_outbox_message"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_pending", "outbox", ["state", "watch_id", "sink", "id"])


def _threads() -> None:
    op.create_table(
        "threads",
        _text("watch_id"),
        _text("sink"),
        _text("memory"),
        sa.PrimaryKeyConstraint("watch_id", "sink", name="pk_threads"),
        sa.ForeignKeyConstraint(["watch_id"], ["watches.id"], name="fk_threads_watch_id"),
    )


def _verdicts() -> None:
    op.create_table(
        "verdicts",
        _serial(),
        _text("watch_id"),
        _double("at"),
        _integer("look"),
        _text("kind"),
        _text("reason", null=True),
        _text("metric", null=True),
        _double("log_evidence", null=True),
        _double("log_threshold", null=True),
        _text("sentence"),
        _text("payload"),
        sa.PrimaryKeyConstraint("id", name="pk_verdicts"),
        sa.ForeignKeyConstraint(["watch_id"], ["watches.id"], name="fk_verdicts_watch_id"),
    )
    op.create_index("ix_verdicts_watch_id", "verdicts", ["watch_id", "id"])


def _samples() -> None:
    op.create_table(
        "samples",
        _text("watch_id"),
        _integer("interval"),
        _text("metric"),
        _text("cells"),
        sa.PrimaryKeyConstraint("watch_id", "interval", "metric", name="pk_samples"),
        sa.ForeignKeyConstraint(
            ["watch_id", "interval"], ["looks.watch_id", "looks.interval"], name="fk_samples_watch_id"
        ),
    )


def upgrade() -> None:
    _audit()
    _deploys()
    _fences()
    _flags()
    _plans()
    _webhook_ids()
    _watches()
    _actions()
    _looks()
    _outbox()
    _threads()
    _verdicts()
    _samples()
    for statement in APPEND_ONLY if op.get_bind().dialect.name == "sqlite" else APPEND_ONLY_POSTGRES:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("a ledger is never taken back; restore the backup made before the upgrade")
