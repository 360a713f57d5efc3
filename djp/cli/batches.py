"""`djp batches`: list and show batches; pause them, go on with them, cancel them."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from djp.batch_states import RESTING_STATES
from djp.cli.bars import counted
from djp.cli.documents import document
from djp.cli.exits import Exit
from djp.cli.session import connected
from djp.cli.show import state_name
from djp.cli.tables import Column, print_table, usd
from djp.cli.terminal import one_line, out, say
from djp.mesh.errors import DjpError, NotFound
from djp.money import format_usd, parse_usd
from djp.run_states import TERMINAL_STATES
from djp.v1 import batch_pb2, run_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from djp.client import DjpClient

PAUSE_S = 5.0
"""How long a command that is stopped waits for the gateway to hear of it."""
_WITH_TEXT = (run_pb2.RUN_STATE_PUBLISHED, run_pb2.RUN_STATE_ADVISORY)


async def list_batches(gateway: str | None, *, limit: int, as_json: bool) -> int:
    """Print the newest batches."""
    async with connected(gateway) as client:
        batches = await client.batches.list()
    shown = batches[:limit]
    if as_json:
        print(json.dumps({"batches": [document(one) for one in shown]}, indent=2))
        return Exit.OK
    if not shown:
        say("There is no batch yet. Start one: djp batch --input FILE.csv --output DIR")
        return Exit.OK
    print_table(
        Column("batch", [one.batch_id for one in shown]),
        Column("state", [_state(one) for one in shown], align="left"),
        Column("ended", [f"{_ended(one)} of {one.rows}" for one in shown]),
        Column("without a text", [str(one.failed) for one in shown], rank=1),
        Column("cost", usd([one.cost_nano_usd for one in shown]), rank=2),
        Column("started (UTC)", [one.created_at.ToDatetime().strftime("%Y-%m-%d %H:%M:%S") for one in shown], rank=3),
    )
    if len(batches) > limit:
        out().print(f"There are {len(batches) - limit} more; --limit shows them.", style="dim")
    return Exit.OK


async def show_batch(gateway: str | None, wanted: str, *, limit: int, as_json: bool) -> int:
    """Print how a batch stands, and of its rows those that a person may want to look at."""
    async with connected(gateway) as client:
        batch = await _find(client, wanted)
        rows = [row async for row in client.batches.rows(batch.batch_id)]
    if as_json:
        print(json.dumps({"batch": document(batch), "rows": [_row_document(row) for row in rows]}, indent=2))
        return Exit.OK
    _tell(batch)
    _print_rows([row for row in rows if row.error or (row.run_id and row.state not in _WITH_TEXT)], limit)
    return Exit.OK


async def stop_batch(gateway: str | None, wanted: str, how: Literal["pause", "cancel"], *, as_json: bool) -> int:
    """Let a batch take no further row, for now or for good, and tell how it stands."""
    async with connected(gateway) as client:
        batch_id = (await _find(client, wanted)).batch_id
        batch = await (client.batches.pause if how == "pause" else client.batches.cancel)(batch_id)
    _told(batch, as_json)
    return Exit.OK


async def resume_batch(
    gateway: str | None, wanted: str, *, max_cost: str | None, concurrency: int, as_json: bool
) -> int:
    """Go on with a batch and tell how it stands; where the mesh lives in this process, when it rests again."""
    cap = parse_usd(max_cost, field="max_cost") if max_cost is not None else None
    async with connected(gateway) as client:
        batch_id = (await _find(client, wanted)).batch_id
        batch = await client.batches.resume(batch_id, max_cost_nano_usd=cap, concurrency=concurrency)
        if not gateway:
            try:
                batch = await _followed(client, batch, silent=as_json)
            except asyncio.CancelledError:
                await pause_at_the_end(client, batch_id)
                raise
    _told(batch, as_json)
    if gateway:
        return Exit.OK
    if batch.state == batch_pb2.BATCH_STATE_CAPPED:
        return Exit.DENIED
    if batch.failed or batch.refused:
        return Exit.FAILED
    return Exit.OK if batch.published == batch.rows else Exit.ADVISORY


async def pause_at_the_end(client: DjpClient, batch_id: str) -> None:
    """Pause a batch whose command was stopped, if the gateway still answers."""
    with suppress(DjpError, TimeoutError):
        async with asyncio.timeout(PAUSE_S):
            await client.batches.pause(batch_id)


async def _find(client: DjpClient, wanted: str) -> batch_pb2.Batch:
    """The batch of that name, or the newest for `latest`. Raises NotFound."""
    if wanted != "latest":
        return await client.batches.get(wanted)
    batches = await client.batches.list()
    if not batches:
        raise NotFound("there is no batch yet; start one with: djp batch --input FILE.csv --output DIR")
    return batches[0]


async def _followed(client: DjpClient, batch: batch_pb2.Batch, *, silent: bool) -> batch_pb2.Batch:
    """The batch when it rests and no row is under way."""
    with counted("running", batch.rows, silent=silent) as tick:
        async with aclosing(client.batches.watch(batch.batch_id)) as answers:
            async for answer in answers:
                batch = answer.batch
                if answer.row.state in TERMINAL_STATES:
                    tick(f"{format_usd(batch.cost_nano_usd)} so far")
    return batch


def _told(batch: batch_pb2.Batch, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"batch": document(batch)}, indent=2))
    else:
        _tell(batch)


def _tell(batch: batch_pb2.Batch) -> None:
    """How a batch stands, and what goes on with it."""
    say(f"Batch {one_line(batch.batch_id)} is {_state(batch)}: {_ended(batch)} of {batch.rows} rows have ended")
    counts = {
        "published": batch.published,
        "advisory": batch.advisory,
        "without a text": batch.failed,
        "bad": batch.refused,
        "under way": batch.running,
        "not started": batch.queued,
    }
    if told := ", ".join(f"{count} {name}" for name, count in counts.items() if count):
        say(f"Rows: {told}")
    cap = f" of at most {format_usd(batch.max_cost_nano_usd)}" if batch.max_cost_nano_usd else ""
    held = f"; rows under way can cost {format_usd(batch.held_nano_usd)} more" if batch.held_nano_usd else ""
    say(f"Cost: {format_usd(batch.cost_nano_usd)}{cap}{held}")
    name = one_line(batch.batch_id)
    match batch.state:
        case batch_pb2.BATCH_STATE_PAUSED:
            say(f"What to do: `djp batches resume {name}` goes on")
        case batch_pb2.BATCH_STATE_CAPPED:
            say(f"What to do: `djp batches resume {name} --max-cost DOLLARS` goes on, under a higher cap")
        case batch_pb2.BATCH_STATE_CANCELLED | batch_pb2.BATCH_STATE_REFUSED:
            say(f"What to do: `djp batch --batch-id {name}` with its rows takes it up again")


def _print_rows(rows: Sequence[batch_pb2.BatchRow], limit: int) -> None:
    if not rows:
        return
    shown = rows[:limit]
    out().print()
    print_table(
        Column("row", [str(row.row) for row in shown]),
        Column("run", [one_line(row.run_id)[:8] or "-" for row in shown], align="left"),
        Column("state", [state_name(row.state) if row.run_id else "bad" for row in shown], align="left"),
        Column("why", [one_line(row.error, 200) or "-" for row in shown], rank=1, align="left"),
    )
    if len(rows) > limit:
        out().print(f"There are {len(rows) - limit} more; --limit shows them.", style="dim")


def _row_document(row: batch_pb2.BatchRow) -> dict[str, object]:
    """A row without what it asks for, which its file or its run tells."""
    told = document(row)
    told.pop("run", None)
    return told


def _state(batch: batch_pb2.Batch) -> str:
    name = batch_pb2.BatchState.Name(batch.state).removeprefix("BATCH_STATE_").lower()
    return f"{name}, rows under way" if batch.state in RESTING_STATES and batch.running else name


def _ended(batch: batch_pb2.Batch) -> int:
    return batch.published + batch.advisory + batch.failed
