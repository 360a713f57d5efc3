"""The sidebar: which runs a page is about."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import streamlit as st

from djp.v1 import run_pb2
from djp_dashboards.figures import provider_of
from djp_dashboards.page import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from djp.sync_client import SyncDjpClient

_PAGE = 500
MOST_RUNS = 2000
"""Of a time; of more, the newest."""
_DAYS = 7


def filtered_runs(client: SyncDjpClient) -> list[run_pb2.Run]:
    """The runs that the sidebar asks for, the newest first; options are what the runs of the time have."""
    with st.sidebar:
        runs = _runs_between(client, *_days(), grounded=st.checkbox("Grounded Only"))
        if len(runs) == MOST_RUNS:
            st.caption(f"These are the newest {MOST_RUNS:,}; choose fewer days to see older ones.")
        for label, value_of in _FILTERS.items():
            options = sorted({value_of(run) for run in runs} - {""})
            wanted = st.multiselect(label, options, key=f"only {label}")
            runs = [run for run in runs if not wanted or value_of(run) in wanted]
    return runs


_FILTERS: dict[str, Callable[[run_pb2.Run], str]] = {
    "Status": lambda run: name_of(run_pb2.RunState, run.state),
    "Preset": lambda run: run.spec.preset,
    "Provider": provider_of,
}


def _days() -> tuple[date, date]:
    today = datetime.now(UTC).date()
    chosen = st.date_input("Days (UTC)", (today - timedelta(days=_DAYS - 1), today), max_value=today)
    days: Sequence[date] = chosen if isinstance(chosen, tuple) else (chosen,)
    return (days[0], days[-1]) if days else (today, today)  # one or none while somebody chooses


def _runs_between(client: SyncDjpClient, first: date, last: date, *, grounded: bool) -> list[run_pb2.Run]:
    request = run_pb2.ListRunsRequest(page_size=_PAGE, grounded=grounded or None)
    request.created.since.FromDatetime(datetime(first.year, first.month, first.day, tzinfo=UTC))
    request.created.until.FromDatetime(datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1))
    runs: list[run_pb2.Run] = []
    while len(runs) < MOST_RUNS:
        page = client.list_runs(request)
        runs += page.runs
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    return runs[:MOST_RUNS]
