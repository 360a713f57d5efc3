"""`djp batch`: a run for every row of a CSV file, under one cost cap; the same command goes on where it stopped."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
from contextlib import ExitStack, aclosing
from typing import TYPE_CHECKING, Any

from djp.cli.bars import counted
from djp.cli.batch_rows import read_rows, refuse
from djp.cli.batches import pause_at_the_end
from djp.cli.exits import Exit
from djp.cli.session import connected
from djp.cli.show import state_name, why
from djp.cli.terminal import command_name, err, fail, one_line, say
from djp.mesh.errors import AlreadyExists, InvalidInput
from djp.money import format_usd, parse_usd
from djp.run_states import TERMINAL_STATES
from djp.v1 import batch_pb2, run_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from djp.cli.batch_rows import BatchFlags
    from djp.client import DjpClient

_BEFORE_RUNNING = (
    batch_pb2.BATCH_STATE_COLLECTING,
    batch_pb2.BATCH_STATE_CHECKING,
    batch_pb2.BATCH_STATE_REFUSED,
)
_FETCHED_AT_ONCE = 8  # runs that have ended
COLUMNS = ("row", "state", "run_id", "cost_usd", "tokens", "model", "citations", "file", "reason")


class Progress:
    """What is known of a batch: how it stands, and a line of the summary for every row that has ended."""

    def __init__(self, rows: int) -> None:
        self.batch = batch_pb2.Batch(rows=rows)
        self.lines: dict[int, list[Any]] = {}
        self.bad: list[tuple[int, str]] = []

    def cells(self, number: int) -> list[Any]:
        """A row's line of the summary."""
        if number in self.lines:
            return self.lines[number]
        capped = self.batch.state == batch_pb2.BATCH_STATE_CAPPED
        why_not = "not started: the cost cap would be passed" if capped else ""
        return [number, "not started" if capped else "not finished", *[""] * 6, why_not]


async def batch(flags: BatchFlags) -> int:
    """Check every row, run them, and write a file for each and a summary.

    Raises InvalidInput: the file cannot be used, or rows are bad, one line each; nothing was started.
    """
    cap = parse_usd(flags.max_cost, field="max_cost") if flags.max_cost is not None else None
    rows, digest = read_rows(flags)
    batch_id = flags.batch_id or digest
    progress = Progress(len(rows))
    _make_folder(flags.output)
    async with connected(flags.gateway) as client:
        try:
            await _start(client, flags, batch_id, rows, cap)
            await _follow(client, flags, batch_id, progress)
        except asyncio.CancelledError:
            await pause_at_the_end(client, batch_id)
            _write_summary(flags.output, progress)
            so_far = f"{len(progress.lines)} of {len(rows)} rows have ended, for "
            so_far += format_usd(progress.batch.cost_nano_usd)
            err().print(f"interrupted: {so_far}; the same command goes on with the others", soft_wrap=True)
            raise
        except ExceptionGroup as group:  # of rows that failed together, the first says why
            raise group.exceptions[0] from group
    _write_summary(flags.output, progress)
    return _told(flags, progress)


async def _start(
    client: DjpClient, flags: BatchFlags, batch_id: str, rows: Sequence[run_pb2.RunRequest], cap: int | None
) -> None:
    if flags.grounded_corpus is not None:
        corpus = (await client.create_corpus(flags.grounded_corpus)).name
        for row in rows:
            row.corpus = corpus
    try:
        await client.batches.start(rows, batch_id=batch_id, max_cost_nano_usd=cap, concurrency=flags.concurrency)
    except AlreadyExists as error:
        raise InvalidInput(error.message, field="batch_id") from error


async def _follow(client: DjpClient, flags: BatchFlags, batch_id: str, progress: Progress) -> None:
    """Hear of every row until the batch rests. Raises InvalidInput: rows are bad."""
    rows, turn, silent = progress.batch.rows, asyncio.Semaphore(_FETCHED_AT_ONCE), flags.as_json
    running = False
    with ExitStack() as bars:
        tick = bars.enter_context(counted("checking", rows, silent=silent))
        async with aclosing(client.batches.watch(batch_id)) as answers, asyncio.TaskGroup() as tasks:
            async for answer in answers:
                if answer.batch.state == batch_pb2.BATCH_STATE_CHECKING:
                    for _ in range(answer.batch.checked - progress.batch.checked):
                        tick("")
                progress.batch = answer.batch
                row = answer.row
                if row.error and not row.run_id:
                    progress.bad.append((row.row, row.error))
                if not running and answer.batch.state not in _BEFORE_RUNNING:
                    running = True
                    bars.close()
                    tick = bars.enter_context(counted("running", rows, silent=silent))
                if row.state in TERMINAL_STATES:
                    await turn.acquire()
                    task = tasks.create_task(_fetch(client, flags.output, row, progress))
                    task.add_done_callback(lambda _: turn.release())
                    tick(f"{format_usd(progress.batch.cost_nano_usd)} so far")
    refuse(sorted(progress.bad), rows)


async def _fetch(client: DjpClient, folder: Path, row: batch_pb2.BatchRow, progress: Progress) -> None:
    """Write the text of a row that has ended, and its line of the summary."""
    from djp.cli.output import write_output

    run = await client.get_run(row.run_id)
    name = f"{row.row:05d}.md" if run.result.text else ""
    if name and (problem := write_output(folder / name, run)):
        raise InvalidInput(problem, field="output")
    result = run.result
    cost = format_usd(result.total_nano_usd, 9).removeprefix("$")
    progress.lines[row.row] = [
        row.row,
        state_name(run.state),
        run.run_id,
        cost,
        result.total_tokens,
        result.model,
        len(result.citations),
        name,
        one_line(why(run)),
    ]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "no permission to write")
    except OSError as error:
        raise InvalidInput(f"the folder {folder} cannot be used: {error.strerror}", field="output") from error


def _write_summary(folder: Path, progress: Progress) -> None:
    made = io.StringIO(newline="")
    writer = csv.writer(made)
    writer.writerow(COLUMNS)
    for number in range(1, progress.batch.rows + 1):
        writer.writerow(progress.cells(number))
    whole = folder / f".summary.{os.getpid()}"
    try:
        whole.write_text(made.getvalue(), encoding="utf-8", newline="")
        whole.replace(folder / "summary.csv")
    except OSError as error:
        whole.unlink(missing_ok=True)
        fail(f"--output: summary.csv could not be written to {folder}: {error.strerror}")


def _told(flags: BatchFlags, progress: Progress) -> int:
    batch, states = progress.batch, dict[str, int]()
    capped = batch.state == batch_pb2.BATCH_STATE_CAPPED
    lines = [progress.cells(number) for number in range(1, batch.rows + 1)]
    for line in lines:
        states[line[1]] = states.get(line[1], 0) + 1
    if flags.as_json:
        told = {
            "batch_id": batch.batch_id,
            "states": states,
            "cost_nano_usd": batch.cost_nano_usd,
            "capped": capped,
            "rows": [dict(zip(COLUMNS, line, strict=True)) for line in lines],
        }
        print(json.dumps(told, indent=2))
    else:
        parts = ", ".join(f"{count} {name}" for name, count in sorted(states.items()))
        say(f"{batch.rows} rows: {parts}; {format_usd(batch.cost_nano_usd)} in all")
        say(f"Texts and summary.csv are in {flags.output}; batch {batch.batch_id}")
        if capped:
            say(
                f"The cap of {format_usd(batch.max_cost_nano_usd)} has no room for the next row; the same command with "
                "a higher --max-cost goes on",
                "yellow",
            )
        if batch.failed:
            say(f"Look at a run with: {command_name()} runs show RUN")
    if capped:
        return Exit.DENIED
    if set(states) - {"published", "advisory", "no result"}:
        return Exit.FAILED
    return Exit.OK if set(states) == {"published"} else Exit.ADVISORY
