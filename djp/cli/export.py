"""`djp runs export`: a row about every run of a time, as CSV or JSON."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from djp.cli.budgets import span_of
from djp.cli.exits import Exit
from djp.cli.metrics import COLUMNS, csv_lines, metrics_row
from djp.cli.session import connected
from djp.cli.terminal import say
from djp.mesh.errors import FailedPrecondition, InvalidInput
from djp.v1 import common_pb2, run_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from djp.client import DjpClient

_PAGE = 500


async def export_runs(gateway: str | None, output: Path | None, *, since: str, until: str, as_json: bool) -> int:
    """Write the rows. Raises InvalidInput for a time that is none, FailedPrecondition for a file that cannot be."""
    times = _times(since, until)
    async with connected(gateway) as client:
        rows = [await metrics_row(run, client) async for run in runs_of(client, times)]
    if as_json:
        print(json.dumps({"runs": rows}, indent=2))
        return Exit.OK
    text = csv_lines([COLUMNS, *(list(row.values()) for row in rows)])
    if output is None:
        sys.stdout.write(text.decode())
        return Exit.OK
    whole = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        whole.write_bytes(text)
        whole.replace(output)
    except OSError as error:
        whole.unlink(missing_ok=True)
        raise FailedPrecondition(f"--output: {output} cannot be written: {error.strerror}") from error
    say(f"{len(rows)} run{'' if len(rows) == 1 else 's'} in {output}" + ("" if rows else "; none fits the time"))
    return Exit.OK


async def runs_of(client: DjpClient, times: common_pb2.TimeRange | None) -> AsyncIterator[run_pb2.Run]:
    """The runs that were started in that time, the newest first."""
    request = run_pb2.ListRunsRequest(page_size=_PAGE, created=times)
    while True:
        page = await client.list_runs(request)
        for run in page.runs:
            yield run
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def time_since(since: str) -> common_pb2.TimeRange:
    """From a span ago until now. Raises InvalidInput."""
    times = common_pb2.TimeRange()
    times.since.FromDatetime(datetime.now(UTC) - span_of(since))
    return times


def _times(since: str, until: str) -> common_pb2.TimeRange | None:
    if not since and not until:
        return None
    times = time_since(since) if since[-1:] in ("h", "d", "w") else common_pb2.TimeRange()
    if since and not times.HasField("since"):
        times.since.FromDatetime(_day(since, "--since"))
    if until:
        times.until.FromDatetime(_day(until, "--until") + timedelta(days=1))
    if (
        times.HasField("since")
        and times.HasField("until")
        and times.since.ToNanoseconds() >= times.until.ToNanoseconds()
    ):
        raise InvalidInput(f"--until: {until} is before {since}; take a later day", field="--until")
    return times


def _day(text: str, flag: str) -> datetime:
    try:
        day = date.fromisoformat(text)
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    except ValueError:
        told = f"{flag}: {text[:40]!r} is no day; write it as 2026-10-01" + ("" if flag == "--until" else ", or 7d")
        raise InvalidInput(told, field=flag) from None
