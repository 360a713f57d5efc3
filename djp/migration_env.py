"""What every service's migrations/env.py does: run the migrations on the connection that open_engine gives."""

from __future__ import annotations

from alembic import context


def run() -> None:
    """Run the migrations of the current Alembic context."""
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, transactional_ddl=True, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
