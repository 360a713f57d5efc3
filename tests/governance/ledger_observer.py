"""Watches that no budget window of a ledger on Postgres passes its limit: from outside all the time, and from within.

From outside: a process with a database connection of its own that reads windows and limits in one snapshot, over and
over. From within: a trigger through which each version of a window's row has to pass.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

# A window's use next to its limit, both of one instant.
LOOK = sa.text("""
    SELECT w.scope, w.reserved_nano + w.spent_nano AS used, w.reserved_tokens + w.spent_tokens AS used_tokens,
        CASE w.period WHEN 'day' THEN b.daily_nano ELSE b.monthly_nano END AS cap,
        CASE w.period WHEN 'day' THEN b.daily_tokens ELSE b.monthly_tokens END AS cap_tokens
    FROM windows w JOIN budgets b USING (scope) WHERE w.scope = ANY(:scopes)""")


# Each version of a window's row passes here before it can be committed.
WITNESS = """
CREATE TABLE overdrawn (scope text, period text, used numeric, cap numeric);
CREATE SEQUENCE versions;
CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM nextval('versions');
    INSERT INTO overdrawn SELECT scope, NEW.period, used, cap FROM budgets CROSS JOIN LATERAL (VALUES
        (NEW.reserved_nano + NEW.spent_nano, CASE NEW.period WHEN 'day' THEN daily_nano ELSE monthly_nano END),
        (NEW.reserved_tokens + NEW.spent_tokens, CASE NEW.period WHEN 'day' THEN daily_tokens ELSE monthly_tokens END)
    ) AS one (used, cap) WHERE scope = NEW.scope AND used > cap;
    RETURN NULL;
END $$;
CREATE TRIGGER witness AFTER INSERT OR UPDATE ON windows FOR EACH ROW EXECUTE FUNCTION witness()"""


@dataclass
class Seen:
    """What the observer saw: how often it looked, at how many windows, the largest share of a cap in use, excesses."""

    looks: int = 0
    windows: int = 0
    share: float = 0.0
    overdrawn: list[str] = field(default_factory=list)


def observe(pipe: Connection, url: str) -> None:
    """Look at the scopes that the pipe names, all the time; answer each new naming with what was seen before it."""
    scopes: list[str] = []
    seen = Seen()
    with sa.create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
        while True:
            if not scopes or pipe.poll():
                try:
                    scopes = pipe.recv()
                except EOFError:
                    return
                pipe.send(seen)
                seen = Seen()
                continue
            _look(connection, scopes, seen)
            time.sleep(0.02)  # the others need the processor too


def _look(connection: sa.Connection, scopes: Sequence[str], seen: Seen) -> None:
    seen.looks += 1
    for row in connection.execute(LOOK, {"scopes": list(scopes)}):
        seen.windows += 1
        for used, cap in ((row.used, row.cap), (row.used_tokens, row.cap_tokens)):
            if cap is not None:
                seen.share = max(seen.share, used / cap)
                if used > cap:
                    seen.overdrawn.append(f"{row.scope}: {used} of {cap}")
