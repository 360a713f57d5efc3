"""One way to open a service's database: migrations applied, SQLite made safe for several processes, clear errors."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from sqlalchemy import event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from djp.mesh.errors import DjpError, FailedPrecondition, ResourceExhausted

if TYPE_CHECKING:
    from sqlalchemy import Connection

BUSY_TIMEOUT_S = 30
"""How long a SQLite writer waits for another process's transaction before it gives up."""


async def open_engine(url: str, migrations: Path) -> AsyncEngine:
    """An engine on a database whose tables are up to date.

    `url` is an async SQLAlchemy URL; `migrations` an Alembic folder (env.py, versions/). On SQLite a transaction takes
    the write lock when it begins, so that what it read is still true when it writes. Alembic is imported only when
    there is something to upgrade.

    Raises:
        FailedPrecondition: the database cannot be opened, or was made by a newer release.
        ResourceExhausted: the disk is full.
    """
    engine = create_async_engine(url)
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine)
    try:
        if await _version(engine) != _head(migrations):
            with _upgrade_lock(url):
                async with engine.connect() as connection:
                    await connection.run_sync(_upgrade, migrations)
                    await connection.commit()
    except DBAPIError as error:
        await engine.dispose()
        raise database_error(error, url) from error
    except OSError as error:
        await engine.dispose()
        raise FailedPrecondition(f"database {_shown(url)} cannot be opened: {error.strerror}") from error
    return engine


def database_error(error: DBAPIError, url: str) -> DjpError:
    """What a failed statement means to the user, with the remedy."""
    cause = str(error.orig)
    if "full" in cause:
        return ResourceExhausted(
            f"disk full: {_shown(url)} cannot grow; free some space and try again", reason="DISK_FULL"
        )
    if "readonly" in cause or "unable to open" in cause:
        return FailedPrecondition(f"database {_shown(url)} cannot be written ({cause}); mend the folder's permissions")
    return FailedPrecondition(f"database {_shown(url)} cannot be used: {cause}")


def _prepare_sqlite(engine: AsyncEngine) -> None:
    if path := engine.url.database:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy's documented way to take over BEGIN from the driver
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")  # an acknowledged charge survives a power cut
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get("djp_read_only", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


async def _version(engine: AsyncEngine) -> str:
    async with engine.connect() as connection:
        try:
            found: str | None = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar()
        except DBAPIError as error:
            missing = "no such table" in str(error.orig) or "does not exist" in str(error.orig)
            if not missing:
                raise
            return ""
    return found or ""


def _head(migrations: Path) -> str:
    """The newest migration: files in versions/ are named 0001_what.py and carry that number as their revision."""
    return max(path.name for path in (migrations / "versions").glob("[0-9]*.py")).partition("_")[0]


def _upgrade_lock(url: str) -> Any:
    """One upgrade at a time; Postgres takes care of itself with transactional DDL."""
    path = make_url(url).database
    return FileLock(f"{path}.upgrade.lock") if path and url.startswith("sqlite") else nullcontext()


def _upgrade(connection: Connection, migrations: Path) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise FailedPrecondition(f"the database was made by a newer release ({error}); upgrade djp") from error


def _shown(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)


def reading(engine: AsyncEngine) -> AsyncEngine:
    """The same engine for transactions that only read: on SQLite they take no lock and wait for no writer."""
    return engine.execution_options(djp_read_only=True)
