"""Alembic's entry: governance's migrations."""

from djp import migration_env

migration_env.run()
