"""Run by alembic: migrates on the connection, and in the transaction, that `watchdog.ledger.migrate` hands over."""

from alembic import context

from watchdog.ledger.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
    compare_type=True,
)
context.run_migrations()
