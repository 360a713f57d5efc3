"""Batches: how far each is, what it has cost, its rows, and its pausing, resuming and cancelling."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import streamlit as st

from djp.v1 import batch_pb2, run_pb2
from djp_dashboards.page import SHARE, TIME, USD, at, chosen, doing, name_of, say_what_was_done, show, table, usd

if TYPE_CHECKING:
    from djp.sync_client import SyncDjpClient

_ROWS = 1000
_AT_WORK = {
    batch_pb2.BATCH_STATE_COLLECTING,
    batch_pb2.BATCH_STATE_CHECKING,
    batch_pb2.BATCH_STATE_RUNNING,
}
_MAY_GO_ON = {batch_pb2.BATCH_STATE_PAUSED, batch_pb2.BATCH_STATE_CAPPED}


def draw(client: SyncDjpClient) -> None:
    say_what_was_done()
    batches = client.batches.list()
    table(
        map(_row, batches),
        columns={"created": TIME, "done": SHARE, "cost": USD, "cap": USD},
        nothing="There is no batch; `djp batch` starts one.",
    )
    told = {one.batch_id: f"{one.batch_id}  {name_of(batch_pb2.BatchState, one.state)}" for one in batches}
    if batch_id := chosen("Batch", list(told), told, key="batch"):
        _draw_batch(client, next(one for one in batches if one.batch_id == batch_id))


def _row(batch: batch_pb2.Batch) -> dict[str, Any]:
    done = batch.published + batch.advisory + batch.failed
    return {
        "created": at(batch.created_at),
        "batch": batch.batch_id,
        "state": name_of(batch_pb2.BatchState, batch.state),
        "done": done / batch.rows if batch.rows else 0.0,
        "rows": batch.rows,
        "queued": batch.queued,
        "running": batch.running,
        "published": batch.published,
        "advisory": batch.advisory,
        "failed": batch.failed,
        "refused": batch.refused,
        "cost": usd(batch.cost_nano_usd),
        "cap": usd(batch.max_cost_nano_usd) if batch.max_cost_nano_usd else None,
    }


def _draw_batch(client: SyncDjpClient, batch: batch_pb2.Batch) -> None:
    name, state = batch.batch_id, batch.state
    with st.container(horizontal=True):
        pause = st.button("Pause", disabled=state not in _AT_WORK)
        resume = st.button("Resume", disabled=state not in _MAY_GO_ON)
        cancel = st.button("Cancel", disabled=state not in _AT_WORK | _MAY_GO_ON)
    if pause:
        doing(lambda: client.batches.pause(name), "The batch takes no further rows for now.")
    if resume:
        doing(lambda: client.batches.resume(name), "The batch goes on.")
    if cancel:
        doing(lambda: client.batches.cancel(name), "The batch takes no further rows.")
    rows = list(islice(client.batches.rows(name), _ROWS))
    table(
        (
            {
                "row": one.row,
                "run": one.run_id[:8],
                "status": name_of(run_pb2.RunState, one.state) if one.run_id else "",
                "cost": usd(one.cost_nano_usd),
                "at most": usd(one.bound_nano_usd),
                "error": one.error,
            }
            for one in rows
        ),
        columns={"cost": USD, "at most": USD},
        nothing="It has no row yet.",
    )
    if batch.rows > len(rows):
        st.caption(f"The first {_ROWS:,} rows.")


show("Batches", draw)
