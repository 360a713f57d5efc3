"""`djp dlq`: runs that were denied or failed, to look at, to replay and to forget."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from djp.cli.documents import document, run_document
from djp.cli.exits import Exit
from djp.cli.session import connected
from djp.cli.show import print_run, state_name
from djp.cli.tables import Column, print_table
from djp.cli.terminal import one_line, out, say
from djp.mesh.errors import InvalidInput
from djp.mesh.identity import Identity, identity_scope
from djp.run_states import TERMINAL_STATES
from djp.v1 import common_pb2, dead_letter_pb2, run_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from djp.client import DjpClient


def letters_of(reason: str, ids: Sequence[str] = (), *, replayed: bool = False) -> dead_letter_pb2.DeadLetterFilter:
    """The filter that the flags make; `reason` as in `budget_exceeded`, empty for any.

    Raises InvalidInput for a reason that there is not.
    """
    name = f"ERROR_REASON_{reason.upper().replace('-', '_')}"
    if reason and name not in common_pb2.ErrorReason.keys():  # noqa: SIM118  an enum wrapper, not a dict
        raise InvalidInput(
            f"there is no reason {reason!r}; `djp dlq list` shows those there are, such as budget_exceeded",
            field="reason",
        )
    return dead_letter_pb2.DeadLetterFilter(
        reason=common_pb2.ErrorReason.Value(name) if reason else common_pb2.ERROR_REASON_UNSPECIFIED,
        dead_letter_ids=ids,
        include_replayed=replayed,
    )


async def list_letters(
    gateway: str | None, *, tenant: str, reason: str, replayed: bool, limit: int, as_json: bool
) -> int:
    """Print the latest dead letters."""
    wanted = letters_of(reason, replayed=replayed)
    async with _as_tenant(gateway, tenant) as client:
        page = await client.list_dead_letters(wanted, page_size=limit)
    if as_json:
        print(json.dumps({"dead_letters": [document(one) for one in page.dead_letters]}, indent=2))
        return Exit.OK
    if not page.dead_letters:
        say(
            "There is no dead letter that fits; without --reason all are listed."
            if reason
            else "There is no dead letter; with --replayed those are listed that were replayed, too."
        )
        return Exit.OK
    letters = page.dead_letters
    print_table(
        Column("run", [one_line(one.run_id)[:8] for one in letters]),
        Column("died (UTC)", [one.created_at.ToDatetime().strftime("%Y-%m-%d %H:%M:%S") for one in letters], rank=2),
        Column("reason", [_reason(one.error) for one in letters], align="left"),
        Column("replayed as", [one_line(one.replayed_as)[:8] or "-" for one in letters], rank=1, align="left"),
    )
    if page.next_page_token:
        out().print(f"There are more; --limit {min(limit * 5, 1000)} shows them.", style="dim")
    return Exit.OK


async def show_letter(gateway: str | None, wanted: str, *, tenant: str, as_json: bool) -> int:
    """Print one dead letter with its run."""
    async with _as_tenant(gateway, tenant) as client:
        run = await client.get_run(wanted)
        found = await client.get_dead_letter(run.run_id)
    if as_json:
        told = {"dead_letter": document(found.dead_letter), "run": run_document(found.run)}
        print(json.dumps(told, indent=2))
        return Exit.OK
    print_run(found.run, gateway=gateway)
    if found.dead_letter.replayed_as:
        say(f"Replayed as {one_line(found.dead_letter.replayed_as)}.")
    return Exit.OK


async def replay_letters(
    gateway: str | None, ids: Sequence[str], *, tenant: str, reason: str, share: float | None, as_json: bool
) -> int:
    """Queue dead letters again; where the mesh lives in this process, also see the runs to their ends."""
    async with _as_tenant(gateway, tenant) as client:
        wanted = letters_of(reason, [(await client.get_run(one)).run_id for one in ids])
        answer = await client.replay_dead_letters(wanted, window_share=share)
        runs = [] if gateway else [await _ended(client, run_id) for run_id in answer.run_ids]
    if as_json:
        print(json.dumps({**document(answer), "runs": [run_document(run) for run in runs]}, indent=2))
        return Exit.OK
    say(f"{answer.queued} queued, {answer.already_replayed} replayed before.")
    states = [state_name(run.state) for run in runs]
    for state in sorted(set(states)):
        say(f"  {state}: {states.count(state)}")
    return Exit.OK


async def purge_letters(gateway: str | None, ids: Sequence[str], *, tenant: str, reason: str, as_json: bool) -> int:
    """Forget dead letters; their runs stay."""
    async with _as_tenant(gateway, tenant) as client:
        wanted = letters_of(reason, [(await client.get_run(one)).run_id for one in ids], replayed=True)
        purged = await client.purge_dead_letters(wanted)
    if as_json:
        print(json.dumps({"purged": purged}))
    else:
        say(f"{purged} purged; the runs stay in `djp runs list`.")
    return Exit.OK


def _reason(error: run_pb2.RunError) -> str:
    return common_pb2.ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_").lower()


async def _ended(client: DjpClient, run_id: str) -> run_pb2.Run:
    """The run when it has ended, or is parked until its budget has room."""
    async for event in client.watch(run_id):
        if event.state.state == run_pb2.RUN_STATE_QUEUED or event.state.state in TERMINAL_STATES:
            break
    return await client.get_run(run_id)


@asynccontextmanager
async def _as_tenant(gateway: str | None, tenant: str) -> AsyncIterator[DjpClient]:
    """A client for that tenant's dead letters: a mesh in this process believes it, a port does not."""
    async with connected(gateway) as client:
        if not tenant:
            yield client
            return
        with identity_scope(Identity(tenant=tenant)):
            yield client
