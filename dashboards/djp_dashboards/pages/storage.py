"""Artifacts in their tiers, the last run of the lifecycle, and what was done to artifacts lately."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from djp.v1 import common_pb2, storage_pb2
from djp_dashboards.page import TIME, at, name_of, show, table, text

if TYPE_CHECKING:
    from djp.sync_client import SyncDjpClient

_TIERS = ("hot", "warm", "cold", "trash")
_EVENTS = 200
_BYTES = st.column_config.NumberColumn(format="bytes")


def draw(client: SyncDjpClient) -> None:
    stats = client.storage.stats(by_workflow=True)
    for column, tier in zip(st.columns(len(_TIERS)), _TIERS, strict=True):
        there = [one for one in stats if name_of(common_pb2.Tier, one.tier) == tier]
        size = sum(one.bytes for one in there)
        column.metric(tier.capitalize(), f"{sum(one.count for one in there):,}", help="Artifacts in this tier")
        column.caption(f"{size / 2**20:,.2f} MiB")
    st.subheader("By tenant and workflow")
    table(
        (
            {
                "tier": name_of(common_pb2.Tier, one.tier),
                "tenant": one.tenant,
                "workflow": one.workflow,
                "artifacts": one.count,
                "bytes": one.bytes,
                "oldest": at(one.oldest),
            }
            for one in stats
        ),
        columns={"bytes": _BYTES, "oldest": TIME},
        nothing="Nothing is stored yet.",
    )
    st.subheader("Lifecycle")
    _draw_lifecycle(client.storage.lifecycle_status())
    st.subheader("Events")
    table(
        (
            {
                "at": at(one.at),
                "action": one.action,
                "workflow": one.key.workflow,
                "artifact": one.key.artifact,
                "by": one.actor,
                "reason": one.reason,
            }
            for one in client.storage.list_events(storage_pb2.ListStorageEventsRequest(page_size=_EVENTS)).events
        ),
        columns={"at": TIME},
        nothing="There is none.",
    )
    st.caption(f"The latest {_EVENTS} at most; `djp storage events` lists older ones.")


def _draw_lifecycle(status: storage_pb2.GetLifecycleStatusResponse) -> None:
    if status.healthy:
        st.success("All is well.", icon=":material/check:")
    else:
        st.warning("Something is to be looked into.", icon=":material/warning:")
        text(status.problem)
    if status.HasField("last"):
        last = status.last
        row = {
            "started": at(last.started_at),
            "finished": at(last.finished_at),
            "live": last.live,
            "to warm": last.to_warm,
            "to cold": last.to_cold,
            "to trash": last.to_trash,
            "erased": last.erased,
            "bytes moved": last.bytes_moved,
            "errors": last.errors,
        }
        table([row], columns={"started": TIME, "finished": TIME, "bytes moved": _BYTES}, nothing="")


show("Storage", draw)
