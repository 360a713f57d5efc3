"""`djp runs list` and `djp runs show`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from djp.cli.documents import run_document
from djp.cli.exits import Exit
from djp.cli.session import connected
from djp.cli.show import EXIT_OF_STATE, print_run, state_name
from djp.cli.terminal import one_line, out
from djp.mesh.errors import NotFound
from djp.money import format_usd
from djp.v1 import run_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp.client import DjpClient

_STYLES = {Exit.OK: "green", Exit.ADVISORY: "yellow", Exit.NO_RESULT: "red", Exit.DENIED: "red"}
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
        filtered = " that fit" if states or preset else ""
        out().print(f'There are no runs{filtered} yet. Start one: djp run --task "…"', soft_wrap=True)
        return Exit.OK
    narrow = out().width < _NARROW
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("run", no_wrap=True)
    table.add_column("started", no_wrap=True)
    table.add_column("state", no_wrap=True)
    if not narrow:
        table.add_column("cost", justify="right", no_wrap=True)
        table.add_column("preset", no_wrap=True)
    table.add_column("task", no_wrap=True, overflow="ellipsis", ratio=1)
    for run in page.runs:
        started = run.created_at.ToDatetime().strftime("%m-%d %H:%M" if narrow else "%Y-%m-%d %H:%M:%S")
        row: list[str | Text] = [one_line(run.run_id)[:8], started, Text(state_name(run.state), style=_style(run))]
        if not narrow:
            row += [format_usd(run.result.total_nano_usd), one_line(run.spec.preset) or "-"]
        table.add_row(*row, Text(one_line(run.spec.task, 200)))
    out().print(table)
    if page.next_page_token:
        out().print(f"There are more; --limit {min(limit * 5, 1000)} shows them.", style="dim")
    return Exit.OK


async def show_run(gateway: str | None, wanted: str, *, as_json: bool) -> int:
    """Print one run in full."""
    async with connected(gateway) as client:
        run = await find_run(client, wanted)
    if as_json:
        print(json.dumps({"run": run_document(run)}, indent=2))
        return Exit.OK
    out().print("Task", style="bold")
    out().print(one_line(run.spec.task, 500))
    out().print()
    print_run(run, gateway=gateway)
    return Exit.OK


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
