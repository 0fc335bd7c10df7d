"""The tables. Neutral between SQLite and PostgreSQL: nouns are JSON text, what is asked for has a column of its own."""

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnClause,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    event,
    literal_column,
    text,
)
from sqlalchemy.schema import DDL

from watchdog.model import FINAL

HEAD = "0006"  # the newest migration; a test holds it equal to alembic's head
KNOWN = frozenset({"0001", "0002", "0003", "0004", "0005", "0006"})  # every revision this code can migrate from

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)


def _serial() -> "Column[int]":
    # SQLite numbers rows by INTEGER alone, which has 64 bits there
    return Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True)


def _text(name: str) -> "Column[str]":
    return Column(name, Text, nullable=False)


def _number(name: str) -> "Column[float]":
    return Column(name, Double, nullable=False)


def _count(name: str) -> "Column[int]":
    return Column(name, Integer, nullable=False)


deploys = Table(
    "deploys",
    metadata,
    Column("id", Text, primary_key=True),
    _text("service"),
    _text("environment"),
    _text("version"),
    _number("deployed_at"),
    _text("body_digest"),
    _text("body"),  # the whole Deploy
)

plans = Table(  # frozen settings, shared by all watches that have the same
    "plans",
    metadata,
    Column("digest", Text, primary_key=True),  # SHA-256 of body
    _text("body"),
)

# The Unix day that a watch began on. One text for the index and for who counts by it, or the index is not used; rounded
# down by hand, for SQLite's CAST cuts off and PostgreSQL's rounds to the nearest.
_NEAR = "CAST(created_at / 86400 AS INTEGER)"
DAY_OF_WATCH: "ColumnClause[int]" = literal_column(
    f"(CASE WHEN {_NEAR} > created_at / 86400 THEN {_NEAR} - 1 ELSE {_NEAR} END)", Integer
)

# Whether a watch goes on, and so whether anybody looks at it: one text for the index and for who asks, for the same
# reason. An unknown state counts as open: it is for whoever reads the row to say that it is damaged.
IS_OPEN = text(f"(state NOT IN ({', '.join(repr(state.value) for state in sorted(FINAL))}))")

watches = Table(
    "watches",
    metadata,
    Column("id", Text, primary_key=True),
    Column("deploy_id", Text, ForeignKey("deploys.id"), nullable=False),
    Column("plan_digest", Text, ForeignKey("plans.digest"), nullable=False),
    _text("service"),
    _text("environment"),
    _text("mode"),
    _text("state"),
    _number("created_at"),
    _number("updated_at"),
    _count("looks"),
    _number("next_look_at"),
    _text("sentence"),
    Column("verdict", Text),
    Column("reason", Text),
    Column("metric", Text),
    Column("hold", Text),
    Column("hold_until", Double),
    _count("verified_looks"),
    _count("generation"),
    _count("epoch"),
    Column("lease_owner", Text),
    _number("lease_until"),
    Column("degraded_at", Double),
    Column("recovered_at", Double),
    _number("exposed_requests"),
    _number("affected_requests"),
    _number("total_requests"),
    Column("step", Integer, nullable=False, server_default="0"),
    Column("step_at", Double),
    Column("switched_at", Double),
    Column("train", Text),
    # Those that go on, in the order in which they are looked at: asked for every second, among all there ever were.
    Index("ix_watches_open", "next_look_at", "id", sqlite_where=IS_OPEN, postgresql_where=IS_OPEN),
    # One place, where a service may have been deployed ten thousand times: its newest, and what stands there.
    Index("ix_watches_service", "service", "environment", "created_at", "id"),
    Index("ix_watches_place", "service", "environment", "state", "updated_at"),
    # The lists that people leaf through: every filter has an order of its own to walk along.
    Index("ix_watches_newest", "created_at", "id"),
    Index("ix_watches_newest_of_service", "service", "created_at", "id"),
    Index("ix_watches_newest_in_environment", "environment", "created_at", "id"),
    Index("ix_watches_newest_in_state", "state", "created_at", "id"),
    Index("ix_watches_train", "train", "environment"),
    # What is counted of all services together, in its order: no sorting of every deploy there ever was.
    Index("ix_watches_tally", "service", "mode", "state", "verdict", "plan_digest", DAY_OF_WATCH),
)

labels = Table(  # what analysts say of verdicts; one row a watch, its history is in the audit
    "labels",
    metadata,
    Column("watch_id", Text, ForeignKey("watches.id"), primary_key=True),
    _text("kind"),
    _text("note"),
    _text("actor"),
    _number("at"),
)

query_texts = Table(  # what was asked of the source, the same for most looks of a watch
    "query_texts",
    metadata,
    Column("digest", Text, primary_key=True),  # SHA-256 of body
    _text("body"),
)

looks = Table(
    "looks",
    metadata,
    Column("watch_id", Text, ForeignKey("watches.id"), primary_key=True),
    Column("interval", Integer, primary_key=True, autoincrement=False),
    _text("facts"),
    _text("queries"),  # a digest of query_texts; until schema 0005 the text itself
)

samples = Table(  # the primary key is UNIQUE(watch, metric, interval): a closed interval never changes
    "samples",
    metadata,
    Column("watch_id", Text, primary_key=True),
    Column("interval", Integer, primary_key=True, autoincrement=False),
    Column("metric", Text, primary_key=True),
    _text("cells"),
    ForeignKeyConstraint(["watch_id", "interval"], ["looks.watch_id", "looks.interval"]),
)

verdicts = Table(
    "verdicts",
    metadata,
    _serial(),
    Column("watch_id", Text, ForeignKey("watches.id"), nullable=False),
    _number("at"),
    _count("look"),
    _text("kind"),
    Column("reason", Text),
    Column("metric", Text),
    Column("log_evidence", Double),  # NULL is NaN
    Column("log_threshold", Double),
    _text("sentence"),
    _text("payload"),  # the whole Verdict but the paths of its evidence, which are as long as the watch
    Index("ix_verdicts_watch_id", "watch_id", "id"),
)

evidence_paths = Table(  # of the newest verdict of a watch, by metric
    "evidence_paths",
    metadata,
    Column("watch_id", Text, ForeignKey("watches.id"), primary_key=True),
    _text("body"),
)

BEGAN: "ColumnClause[float]" = literal_column("coalesce(started_at, created_at)", Double)  # one text, as above

actions = Table(
    "actions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("watch_id", Text, ForeignKey("watches.id"), nullable=False),
    _text("kind"),
    _text("state"),
    _text("hook"),
    _text("service"),
    _text("environment"),
    _text("from_version"),
    _text("to_version"),
    _number("created_at"),
    _count("attempt"),
    _count("fence"),
    _count("epoch"),
    _number("next_at"),
    Column("deadline_at", Double),
    Column("started_at", Double),
    Column("finished_at", Double),
    _text("detail"),
    _text("params"),
    Index("ix_actions_watch_id", "watch_id"),
    Index("ix_actions_state", "state"),
    Index("ix_actions_target", "service", "environment", "kind"),
    Index("ix_actions_began", "kind", BEGAN),
)

fences = Table(  # one rising number per place that actions change; the row's lock serialises claims
    "fences",
    metadata,
    Column("service", Text, primary_key=True),
    Column("environment", Text, primary_key=True),
    _count("fence"),
)

audit = Table(
    "audit",
    metadata,
    _serial(),
    _number("at"),
    Column("watch_id", Text),
    _text("actor"),
    _text("event"),
    _text("before"),
    _text("after"),
    _text("why"),
    _text("details"),
    _text("prev_hash"),
    _text("hash"),
    UniqueConstraint("hash", name="uq_audit_hash"),
    UniqueConstraint("prev_hash", name="uq_audit_prev_hash"),  # a chain, not a tree
    Index("ix_audit_watch_id", "watch_id", "id"),
    sqlite_autoincrement=True,
)

outbox = Table(
    "outbox",
    metadata,
    _serial(),
    Column("watch_id", Text, ForeignKey("watches.id"), nullable=False),
    _text("key"),
    _text("sink"),
    _text("kind"),
    _text("severity"),
    _text("sentence"),
    _text("facts"),
    _text("state"),  # pending, delivered, dead
    _count("attempts"),
    _number("created_at"),
    _number("next_at"),
    Column("tried_at", Double),
    _text("error"),
    UniqueConstraint("watch_id", "key", "sink", name="uq_outbox_message"),
    Index("ix_outbox_pending", "state", "watch_id", "sink", "id"),
    sqlite_autoincrement=True,
)

threads = Table(  # what a sink remembers about a deploy, e.g. the parent message in Slack
    "threads",
    metadata,
    Column("watch_id", Text, ForeignKey("watches.id"), primary_key=True),
    Column("sink", Text, primary_key=True),
    _text("memory"),
)

webhook_ids = Table(
    "webhook_ids",
    metadata,
    Column("id", Text, primary_key=True),
    _number("expires_at"),
    Index("ix_webhook_ids_expires_at", "expires_at"),
)

flags = Table(
    "flags",
    metadata,
    Column("name", Text, primary_key=True),
    _text("value"),
    _text("actor"),
    _number("at"),
)

APPEND_ONLY = tuple(
    f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit "
    "BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"
    for verb in ("UPDATE", "DELETE")
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
for _statement in APPEND_ONLY_POSTGRES:
    event.listen(audit, "after_create", DDL(_statement).execute_if(dialect="postgresql"))  # type: ignore[no-untyped-call]
for _statement in APPEND_ONLY:
    event.listen(audit, "after_create", DDL(_statement).execute_if(dialect="sqlite"))  # type: ignore[no-untyped-call]
