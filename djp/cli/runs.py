"""`djp runs`: list and show runs, cancel, approve and reject them."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from djp.cli.documents import run_document
from djp.cli.exits import Exit
from djp.cli.output import check_output, write_output
from djp.cli.session import connected
from djp.cli.show import EXIT_OF_STATE, print_run, state_name
from djp.cli.terminal import fail, one_line, out
from djp.mesh.errors import InvalidInput, NotFound
from djp.money import format_usd
from djp.run_states import TERMINAL_STATES
from djp.v1 import run_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from djp.client import DjpClient

_STYLES = {
    Exit.OK: "green",
    Exit.ADVISORY: "yellow",
    Exit.PENDING: "yellow",
    Exit.NO_RESULT: "red",
    Exit.DENIED: "red",
}
_NARROW = 72


async def list_runs(gateway: str | None, *, limit: int, states: Sequence[str], preset: str, as_json: bool) -> int:
    """Print the newest runs that fit the filters; `states` as in `no-result`."""
    request = run_pb2.ListRunsRequest(
        page_size=limit,
        preset=preset,
        states=[run_pb2.RunState.Value("RUN_STATE_" + state.replace("-", "_").upper()) for state in states],
    )
    async with connected(gateway) as client:
        page = await client.list_runs(request)
    if as_json:
        print(json.dumps({"runs": [run_document(run) for run in page.runs]}, indent=2))
        return Exit.OK
    if not page.runs:
        if states or preset:
            out().print("No run fits; without --state and --preset all are listed.")
        else:
            out().print('There are no runs yet. Start one: djp run --task "…"', soft_wrap=True)
        return Exit.OK
    _print_table(page.runs)
    if told := _redactions(page.runs):
        out().print(told, style="dim")
    if page.next_page_token:
        out().print(f"There are more; --limit {min(limit * 5, 1000)} shows them.", style="dim")
    return Exit.OK


def _print_table(runs: Sequence[run_pb2.Run]) -> None:
    narrow = out().width < _NARROW
    headings = ["run", "state", *([] if narrow else ["started (UTC)", "cost", "preset"])]
    rows = []
    for run in runs:
        row = [one_line(run.run_id)[:8], state_name(run.state)]
        if not narrow:
            started = run.created_at.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")
            row += [started, format_usd(run.result.total_nano_usd), one_line(run.spec.preset, 20) or "-"]
        rows.append(row)
    taken = sum(2 + max(cell_len(row[column]) for row in [headings, *rows]) for column in range(len(headings)))
    room = max(10, out().width - taken)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in headings:
        table.add_column(heading, justify="right" if heading == "cost" else "left", no_wrap=True)
    table.add_column("task", no_wrap=True, max_width=room, overflow="ellipsis")
    for run, row in zip(runs, rows, strict=True):
        cells = [
            Text(cell, style=_style(run) if heading == "state" else "")
            for heading, cell in zip(headings, row, strict=True)
        ]
        table.add_row(*cells, Text(one_line(run.spec.task, 300)))
    out().print(table)


def _redactions(runs: Sequence[run_pb2.Run]) -> str:
    """How many of these runs had something to redact in their text, and how much; empty where none had."""
    events = [count for run in runs if (count := sum(run.result.redaction_counts.values()))]
    if not events:
        return ""
    share = round(100 * len(events) / len(runs))
    return f"Redacted runs: {len(events)} of {len(runs)} ({share} %); redaction events: {sum(events):,}"


async def show_run(
    gateway: str | None, wanted: str, *, restore_values: bool = False, output: Path | None = None, as_json: bool
) -> int:
    """Print one run in full, or with the values that it hid from its models, and write its text to `output`."""
    if output is not None:
        check_output(output)
    events: list[run_pb2.RunEvent] = []
    async with connected(gateway) as client:
        run = await find_run(client, wanted)
        if restore_values:
            run = await client.get_run(run.run_id, restore_values=True)
        if run.state in TERMINAL_STATES and not as_json:  # the events of others have no end yet
            async with aclosing(client.watch(run.run_id)) as told:
                events = [event async for event in told]
    if output is not None and not run.result.text:
        raise InvalidInput(
            f"the run {run.run_id[:8]} has no text to write; it is {state_name(run.state)}", field="output"
        )
    unwritten = write_output(output, run) if output is not None else ""
    if as_json:
        print(json.dumps({"run": run_document(run)}, indent=2))
    else:
        out().print("Task", style="bold")
        out().print(one_line(run.spec.task, 500))
        out().print()
        print_run(run, gateway=gateway, events=events, restored=restore_values)
    if unwritten:
        fail(unwritten)
    return Exit.PROBLEM if unwritten else Exit.OK


async def cancel_run(gateway: str | None, wanted: str, *, reason: str, as_json: bool) -> int:
    """Stop a run, and tell how it ended."""
    async with connected(gateway) as client:
        run = await client.cancel_run((await find_run(client, wanted)).run_id, reason=reason)
    if as_json:
        print(json.dumps({"run": run_document(run)}, indent=2))
    elif run.state == run_pb2.RUN_STATE_CANCELLED:
        cost = format_usd(run.result.total_nano_usd)
        out().print(f"Run {one_line(run.run_id)[:8]} is cancelled; it cost {cost}, the rest is given back.")
    elif run.state in TERMINAL_STATES:
        out().print(f"Run {one_line(run.run_id)[:8]} had ended already: {state_name(run.state)}.")
    else:
        out().print(f"Run {one_line(run.run_id)[:8]} is being cancelled.")
    return Exit.OK


async def decide_run(gateway: str | None, wanted: str, *, approve: bool, reason: str, as_json: bool) -> int:
    """Approve or reject a run that waits for it, follow it to its end, and show it."""
    async with connected(gateway) as client:
        run_id = (await find_run(client, wanted)).run_id
        decide = client.approve_run if approve else client.reject_run
        run = await decide(run_id, reason=reason)
        if run.state not in TERMINAL_STATES:  # its artifact cannot be stored at once
            async with aclosing(client.watch(run_id, after_sequence=run.last_sequence)) as events:
                async for _ in events:
                    pass
            run = await client.get_run(run_id)
    if as_json:
        print(json.dumps({"run": run_document(run)}, indent=2))
    else:
        print_run(run, gateway=gateway)
    if not approve and run.state == run_pb2.RUN_STATE_REJECTED:
        return Exit.OK
    return EXIT_OF_STATE.get(run.state, Exit.FAILED)


async def find_run(client: DjpClient, wanted: str) -> run_pb2.Run:
    """The run of that id or beginning of one, or the newest for `latest`. Raises NotFound."""
    if wanted != "latest":
        return await client.get_run(wanted)
    page = await client.list_runs(run_pb2.ListRunsRequest(page_size=1))
    if not page.runs:
        raise NotFound('there is no run yet; start one with: djp run --task "…"')
    return await client.get_run(page.runs[0].run_id)


def _style(run: run_pb2.Run) -> str:
    if run.state in EXIT_OF_STATE:
        return _STYLES[EXIT_OF_STATE[run.state]]
    return "red" if run.HasField("error") else "default"
