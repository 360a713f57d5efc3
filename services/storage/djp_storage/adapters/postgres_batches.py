"""What many callers want of a catalogue on Postgres, in one statement: if it is as plain as it mostly is.

A put is plain when its request and its key are new; a move, when the artifact is where it was; both, when the batch of
the new object is a worker's. Anything else among them, and nothing is done: each is then done by itself, which finds
out what is the matter.
"""
# ruff: noqa: S608  the statements are made of this module's words

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Table, text

from djp.database import to_us
from djp_storage.adapters.rows import (
    artifact_json,
    artifact_row,
    key_columns,
    object_columns,
    place_columns,
    to_artifact,
)
from djp_storage.adapters.tables import artifacts, events, requests, strays
from djp_storage.model import BATCH_DIGITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_storage.model import Artifact, ArtifactKey, By, ObjectName, RequestKey

Look = tuple["ArtifactKey", "RequestKey | None"]


class Put(NamedTuple):
    """What Catalogue.add is asked for."""

    artifact: Artifact
    request: RequestKey
    by: By


class Move(NamedTuple):
    """What Catalogue.move is asked for."""

    was: Artifact
    now: Artifact
    action: str
    by: By
    request: RequestKey | None


Change = Put | Move


class NotPlain(Exception):  # noqa: N818  no fault
    """Something among them is not as it mostly is: nothing was done."""


_KEY = ("tenant", "workflow", "artifact")
_TABLES = (artifacts, requests, events, strays)
_NUMBERS = {"n", *(one.name for table in _TABLES for one in table.columns if one.type.python_type is int)}


def _names(table: Table, *without: str) -> tuple[str, ...]:
    return tuple(column.name for column in table.columns if column.name not in without)


def _given(*names: str) -> str:
    """The rows of the parameter `given`, which is JSON."""
    columns = ", ".join(f"{name} {'bigint' if name in _NUMBERS else 'text'}" for name in dict.fromkeys(names))
    return f"given AS MATERIALIZED (SELECT rows.* FROM jsonb_to_recordset(CAST(:given AS jsonb)) AS rows({columns}))"


def _hasty(given: str) -> str:
    """From its first row on no lock is waited for long: what one must wait for is not to keep the others."""
    return given.replace("FROM ", "FROM set_config('lock_timeout', '500', true), ", 1)  # ms, in this transaction


def _insert(table: Table, names: Sequence[str], rest: str = "", **values: str) -> str:
    """Of what is given, or of other values."""
    chosen = ", ".join(values.get(name, name) for name in names)
    return f"INSERT INTO {table.name} ({', '.join(names)}) SELECT {chosen} FROM given {rest} RETURNING 1"


_ARTIFACT, _REQUEST, _STRAY = map(_names, (artifacts, requests, strays))
_EVENT = _names(events, "sequence")
_SAME_KEY = " AND ".join(f"one.{name} = given.{name}" for name in _KEY)
_SAME_OBJECT = f"{_SAME_KEY} AND one.object_id = given.object_id AND one.tier = given.tier"
_IF_NEW = "ON CONFLICT DO NOTHING"

_FORGET = text(f"WITH {_given(*_STRAY)} DELETE FROM strays one USING given WHERE {_SAME_OBJECT}")

_ASKED = _insert(requests, _REQUEST, f"WHERE request_id <> '' ORDER BY tenant, request_id {_IF_NEW}")
_ENTERED = _insert(artifacts, _ARTIFACT, f"ORDER BY {', '.join(_KEY)} {_IF_NEW}")
_HELD = f"""SELECT 1 FROM given JOIN strays one ON one.tenant = given.tenant AND one.workflow = given.workflow
    AND one.artifact = '' AND one.tier = given.tier AND one.object_id = left(given.object_id, {BATCH_DIGITS})
    AND one.worker <> '' FOR SHARE OF one"""
_TOLD = _insert(events, _EVENT)
_PUT = text(f"""WITH {_hasty(_given(*_ARTIFACT, *_REQUEST, *_EVENT))},
    asked AS ({_ASKED}), entered AS ({_ENTERED}), held AS ({_HELD}), told AS ({_TOLD})
    SELECT (SELECT count(*) FROM asked), (SELECT count(*) FROM entered), (SELECT count(*) FROM held)""")
_BURIED = text(f"WITH {_given(*_KEY)} SELECT 1 FROM given JOIN tombstones one ON {_SAME_KEY} LIMIT 1")

_PLACE = ("tier", "tier_since_us", "object_id", "encoding", "came_from")
_MOVED = f"""UPDATE artifacts one SET {", ".join(f"{name} = given.{name}" for name in _PLACE)} FROM given
    WHERE {_SAME_KEY} AND one.object_id = given.was_object AND one.tier = given.was_tier RETURNING 1"""
_LEFT = _insert(strays, _STRAY, object_id="was_object", tier="was_tier", worker="''", since_us="at_us")
_MOVE = text(f"""WITH {_hasty(_given(*_KEY, *_PLACE, *_REQUEST, *_EVENT, "was_object", "was_tier"))},
    asked AS ({_ASKED}), moved AS ({_MOVED}), held AS ({_HELD}), left_over AS ({_LEFT}), told AS ({_TOLD})
    SELECT (SELECT count(*) FROM asked), (SELECT count(*) FROM moved), (SELECT count(*) FROM held)""")

_LOOK = text(f"""WITH {_given("n", *_KEY, "request_id")}
    SELECT given.n, asked.request_id IS NOT NULL AS answered, one.* FROM given
    LEFT JOIN artifacts one ON {_SAME_KEY}
    LEFT JOIN requests asked ON asked.tenant = given.tenant AND asked.request_id = given.request_id""")


async def change_all(connection: AsyncConnection, changes: Sequence[Change]) -> Sequence[Artifact]:
    """Do them all; of each, the artifact. Raises NotPlain."""
    if puts := [one for one in changes if isinstance(one, Put)]:
        await _put_all(connection, puts)
    if moves := [one for one in changes if isinstance(one, Move)]:
        await _move_all(connection, moves)
    return [one.artifact if isinstance(one, Put) else one.now for one in changes]


async def forget_all(connection: AsyncConnection, names: Sequence[ObjectName]) -> None:
    """Let objects be no strays any more."""
    await connection.execute(_FORGET, {"given": json.dumps([object_columns(name) for name in names])})


async def _put_all(connection: AsyncConnection, puts: Sequence[Put]) -> None:
    rows = [
        {
            **artifact_row(artifact),
            **_request_columns(request, by, ""),
            **_event_columns("put", by, "", artifact.tier.value),
        }
        for artifact, request, by in puts
    ]
    given = {"given": json.dumps(rows)}
    if tuple((await connection.execute(_PUT, given)).one()) != (len(puts), len(puts), len(puts)):
        raise NotPlain
    if await connection.execute(_BURIED, given):  # after, so that an erasure of this moment is seen
        raise NotPlain


async def _move_all(connection: AsyncConnection, moves: Sequence[Move]) -> None:
    """None of them to the trash."""
    rows = [
        {
            **key_columns(was.key),
            **place_columns(now),
            **_request_columns(request, by, artifact_json(now)),
            **_event_columns(action, by, was.tier.value, now.tier.value),
            "was_object": was.object_id,
            "was_tier": was.tier.value,
        }
        for was, now, action, by, request in moves
    ]
    done = tuple((await connection.execute(_MOVE, {"given": json.dumps(rows)})).one())
    if done != (sum(1 for one in moves if one.request), len(moves), len(moves)):
        raise NotPlain


async def look_all(connection: AsyncConnection, looks: Sequence[Look]) -> Sequence[Artifact | None]:
    """The artifacts that are there; None also for one whose request was answered before."""
    rows = [
        {"n": n, **key_columns(key), "request_id": request.request_id if request else ""}
        for n, (key, request) in enumerate(looks)
    ]
    found: list[Artifact | None] = [None] * len(looks)
    for row in await connection.execute(_LOOK, {"given": json.dumps(rows)}):
        if row.tier is not None and not row.answered:
            found[row.n] = to_artifact(row)
    return found


def _request_columns(request: RequestKey | None, by: By, answer: str) -> dict[str, Any]:
    return {
        "request_id": request.request_id if request else "",
        "body_sha256": request.sha256 if request else "",
        "answer": answer,
        "at_us": to_us(by.at),
    }


def _event_columns(action: str, by: By, from_tier: str, to_tier: str) -> dict[str, str]:
    return {"actor": by.actor, "action": action, "from_tier": from_tier, "to_tier": to_tier, "reason": by.reason}
