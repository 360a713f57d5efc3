"""Alembic's entry: the gateway's migrations."""

from djp import migration_env

migration_env.run()
