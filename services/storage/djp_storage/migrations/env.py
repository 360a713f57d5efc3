"""Alembic's entry: storage's migrations."""

from djp import migration_env

migration_env.run()
