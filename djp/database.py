"""One way to open a service's database: tables up to date, SQLite made safe for several processes, clear errors."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import aiosqlite
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from djp.mesh.errors import DiskFull, DjpError, FailedPrecondition, Unavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, MetaData
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.pool import PoolProxiedConnection

BUSY_TIMEOUT_S = 30
"""How long a SQLite writer waits for another process's transaction before it gives up."""

_SQLITE_CONNECTIONS = 4
"""Of one process to one SQLite file: one writes, the others read, and who finds none free waits in line. (SQLAlchemy's
own 5 and 10 more are opened and closed over and over by a busy service, each with a thread of its own.)"""

_POSTGRES_CONNECTIONS = 4
"""Of one engine. A service whose changes run in threads has two, so one process has at most eight connections to one
Postgres, which takes 100 unless told otherwise: ten replicas find room, and who finds none free waits in line."""

_LAST_WORDS_S = 5.0
"""How long the thread of a connection that was not given back may take to end."""


class DatabaseAwayError(Unavailable):
    """The database does not answer, or not in time. What was under way may have been done nevertheless."""


_AWAY = "the database does not answer; try again in a moment"
_FULL = "the disk is full; try again when there is room"
_BROKEN = "the database cannot be used until its owner has mended it"
"""What is told outside."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UPGRADE_LOCK = 0x646A70  # "djp": which advisory lock upgrades take on Postgres


async def open_engine(url: str, migrations: Path, metadata: MetaData | None = None) -> AsyncEngine:
    """An engine on a database whose tables are up to date.

    `url` is an async SQLAlchemy URL; `migrations` an Alembic folder (env.py, versions/). With `metadata`, the tables
    as of the newest migration, an empty database gets them without Alembic, whose import costs more than all the rest
    (tests/shared/test_database.py holds the two ways to the same schema). On SQLite a transaction takes the write lock
    when it begins, so that what it read is still true when it writes. Statements that fail later for an operator's
    reason (full disk, database away) raise the same clear errors.

    Raises:
        FailedPrecondition: the database cannot be opened, or was made by a newer release.
        DiskFull: there is no room.
        DatabaseAwayError: the database does not answer, or another process holds it for too long.
    """
    engine = _create(url)
    try:
        if engine.dialect.name == "sqlite":
            _prepare_sqlite(engine)
        async with reading(engine).connect() as connection:
            version = await connection.run_sync(_version)
        if version != _versions(migrations)[-1]:
            async with engine.begin() as connection:
                await connection.run_sync(_bring_up, migrations, metadata, url)
    except (DBAPIError, sqlite3.Error) as error:
        await engine.dispose()
        cause = error.orig if isinstance(error, DBAPIError) else error
        raise database_error(cause, url) or FailedPrecondition(
            f"database {shown(url)} cannot be used: {cause}"
        ) from error
    except OSError as error:
        await engine.dispose()
        raise FailedPrecondition(
            f"database {shown(url)} cannot be opened ({error.strerror}); name a folder that this user may write to"
        ) from error
    except BaseException:
        await engine.dispose()
        raise
    return engine


async def revision_of(url: str, migrations: Path) -> tuple[str, str]:
    """The revision of a database, empty where it has no tables yet, and the newest one. Changes nothing.

    Raises what `open_engine` raises.
    """
    newest, engine = _versions(migrations)[-1], _create(url)
    try:
        if engine.dialect.name == "sqlite" and not await asyncio.to_thread(Path(engine.url.database or "").is_file):
            return "", newest
        async with reading(engine).connect() as connection:
            return await connection.run_sync(_version), newest
    except DBAPIError as error:
        raise database_error(error.orig, url) or FailedPrecondition(
            f"database {shown(url)} cannot be used: {error.orig}"
        ) from error
    finally:
        await engine.dispose()


def to_us(moment: datetime) -> int:
    """A time as tables keep it: microseconds since 1970 in UTC."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def now_us() -> int:
    """Now, as tables keep it."""
    return time.time_ns() // 1000


def from_us(moment_us: int) -> datetime:
    """A time of a table, in UTC."""
    return _EPOCH + timedelta(microseconds=moment_us)


def reading(engine: AsyncEngine) -> AsyncEngine:
    """The same engine for transactions that only read: all that one of them reads is of one instant, and on SQLite they
    take no lock and wait for no writer."""
    options = {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}
    return engine.execution_options(djp_read_only=True, **options)


def database_error(error: BaseException | None, url: str) -> DjpError | None:
    """What a driver's error means to an operator, with the remedy; None where it is a fault of the program."""
    cause, name = " ".join(str(error).split()), shown(url)
    if "is full" in cause or "No space left" in cause:
        return DiskFull(f"disk full: {name} cannot grow; free some space and try again", outside=_FULL)
    if "disk I/O error" in cause:
        return DiskFull(
            f"{name} cannot be written (disk I/O error): the disk is full, over quota or broken; mend it, try again",
            outside=_FULL,
        )
    if "readonly" in cause or "unable to open" in cause:
        return FailedPrecondition(
            f"database {name} cannot be written ({cause}); mend the folder's permissions", outside=_BROKEN
        )
    if "not a database" in cause or "malformed" in cause:
        return FailedPrecondition(
            f"{name} is no database or is damaged ({cause}); move it away, or restore it from a backup",
            outside=_BROKEN,
        )
    if "is locked" in cause:
        return DatabaseAwayError(
            f"database {name} is held by another process for more than {BUSY_TIMEOUT_S} s; try again",
            outside=_AWAY,
        )
    if type(error).__module__.startswith("psycopg") and any(
        one.__name__ == "OperationalError" for one in type(error).mro()
    ):
        return DatabaseAwayError(
            f"database {name} does not answer ({cause}); see that it runs and that its URL is right, and try again",
            outside=_AWAY,
        )
    return None


class _Pool(AsyncAdaptedQueuePool):
    """A pool in which a wait that was too long has a clear error."""

    __module__ = AsyncAdaptedQueuePool.__module__  # it logs under this name, and its chatter is not ours

    def connect(self) -> PoolProxiedConnection:
        try:
            return super().connect()
        except PoolTimeoutError as error:
            raise DatabaseAwayError("the database has more to do than it can; try again in a moment") from error


def _create(url: str) -> AsyncEngine:
    try:
        sqlite = make_url(url).get_backend_name() == "sqlite"
        size = _SQLITE_CONNECTIONS if sqlite else _POSTGRES_CONNECTIONS
        options: dict[str, Any] = {"pool_size": size, "max_overflow": 0, "pool_pre_ping": not sqlite}
        threads = WeakSet[Thread]()
        if sqlite:
            options["connect_args"] = {"async_creator_fn": partial(_connect_sqlite, threads)}
        engine = create_async_engine(url, poolclass=_Pool, pool_timeout=BUSY_TIMEOUT_S, **options)
    except ArgumentError as error:
        raise FailedPrecondition(
            "the database URL cannot be read; write for example sqlite+aiosqlite:////data/name.db or "
            "postgresql+psycopg://user:password@host/name"
        ) from error
    except ImportError as error:
        raise FailedPrecondition(
            f"the database {shown(url)} needs a driver that is not installed ({error}); install it, as psycopg[binary]"
        ) from error
    _listen(engine.sync_engine, url)
    event.listen(engine.sync_engine, "engine_disposed", partial(_wait_for, threads))
    return engine


def plain_engine(engine: AsyncEngine) -> Engine:
    """The same database for code that waits in threads, with the same care and the same errors.

    It has one connection to a SQLite file, to write, and as many as the other engine to Postgres; those are handed out
    without asking whether they still live.
    """
    sqlite = engine.dialect.name == "sqlite"
    url = engine.url.set(drivername="sqlite") if sqlite else engine.url
    size = 1 if sqlite else _POSTGRES_CONNECTIONS
    # A thread that waits cannot be cancelled: so the driver gives up on a database that the network has lost.
    patience = {"connect_timeout": BUSY_TIMEOUT_S, "tcp_user_timeout": BUSY_TIMEOUT_S * 1000}
    arguments = {} if sqlite else patience
    plain = create_engine(url, pool_size=size, max_overflow=0, pool_timeout=BUSY_TIMEOUT_S, connect_args=arguments)
    if sqlite:
        event.listen(plain, "connect", _be_safe)
    return plain


def clear_error(engine: Engine, error: Exception, connection: PoolProxiedConnection | None) -> DjpError | None:
    """What a driver's error means to an operator, as `database_error`. Where a connection broke, all are made anew."""
    if connection and engine.dialect.is_disconnect(error, connection.dbapi_connection, None):  # type: ignore[arg-type]
        engine.pool._invalidate(connection, error)
        return DatabaseAwayError(f"database {shown(_url(engine))} does not answer; try again", outside=_AWAY)
    return database_error(error, _url(engine))


def _url(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def _listen(engine: Engine, url: str) -> None:
    """Make the engine's errors clear, and its transactions safe on SQLite."""

    @event.listens_for(engine, "handle_error")
    def on_error(context: ExceptionContext) -> None:
        if not isinstance(context.original_exception, Exception):
            return  # the work was cancelled, and the one who cancelled it must hear that it was
        if context.is_pre_ping:
            return  # a connection that broke while nobody used it: the pool makes another
        if context.is_disconnect:
            away = DatabaseAwayError(f"database {shown(url)} does not answer; try again", outside=_AWAY)
            raise away from context.original_exception
        if context.sqlalchemy_exception and (error := database_error(context.original_exception, url)):
            raise error from context.original_exception

    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _be_safe)

        @event.listens_for(engine, "begin")
        def on_begin(connection: Connection) -> None:
            reading = connection.get_execution_options().get("djp_read_only", False)
            connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _prepare_sqlite(engine: AsyncEngine) -> None:
    path = engine.url.database or ":memory:"
    if path != ":memory:":
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A connection that fails to open leaves aiosqlite's thread behind, which complains on standard error once the
        # event loop is gone. So the file is tried with the plain driver first.
        with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
            _keep_write_ahead_log(connection)


def _be_safe(connection: Any, _record: Any) -> None:
    """What is acknowledged is on the disk, and transactions begin and end where we say so."""
    connection.isolation_level = None  # SQLAlchemy's documented way to take over BEGIN from the driver
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
    cursor.execute("PRAGMA synchronous = FULL")  # an acknowledged charge survives a power cut
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


class _SqliteConnection(aiosqlite.Connection):
    """One that may be told to stop twice.

    SQLAlchemy does so with the connection of a call that is cancelled again while its connection closes. aiosqlite's
    thread ends at the first time, and whoever awaits the second waits for ever.
    """

    def stop(self) -> asyncio.Future[Any] | None:
        return super().stop() if self._running else None


def _connect_sqlite(threads: WeakSet[Thread], database: str, **options: Any) -> aiosqlite.Connection:
    connection = _SqliteConnection(partial(sqlite3.connect, database, **options), iter_chunk_size=64)
    connection._thread.daemon = True
    threads.add(connection._thread)
    return connection


def _wait_for(threads: WeakSet[Thread], _engine: Engine) -> None:
    """Connections that were only told to stop do so now: once the loop is closed they would complain of it."""
    for thread in list(threads):
        thread.join(_LAST_WORDS_S)


def _keep_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Stays with the file. Alone of all statements it does not wait for a writer: so the wait is here."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "is locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _version(connection: Connection) -> str:
    """The revision of the database; empty where there are no tables yet."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return ""
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or ""


def _versions(migrations: Path) -> list[str]:
    """The revisions, oldest first: a file in versions/ is named 0001_what.py and has that number as its revision."""
    return sorted(path.name.partition("_")[0] for path in (migrations / "versions").glob("[0-9]*.py"))


def _bring_up(connection: Connection, migrations: Path, metadata: MetaData | None, url: str) -> None:
    """Make or upgrade the tables, in a transaction that no other process's upgrade can enter."""
    if connection.dialect.name == "postgresql":  # on SQLite the transaction holds the write lock already
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
    version, versions = _version(connection), _versions(migrations)
    if version == versions[-1]:
        return  # another process was faster
    if version and version not in versions:
        raise FailedPrecondition(
            f"database {shown(url)} was made by a newer release (revision {version}); upgrade djp-workflow"
        )
    if metadata is not None and not version:
        metadata.create_all(connection)
        key = "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)"  # as Alembic names it
        connection.execute(text(f"CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, {key})"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:version)"), {"version": versions[-1]})
    else:
        _upgrade(connection, migrations)


def _upgrade(connection: Connection, migrations: Path) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def shown(url: str) -> str:
    """What people call a database: the file of SQLite, which is what its owner mends, else the URL, no password."""
    parts = make_url(url)
    is_file = parts.get_backend_name() == "sqlite" and parts.database
    return str(parts.database) if is_file else parts.render_as_string(hide_password=True)
