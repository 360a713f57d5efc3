"""Dead letters: runs that were denied or failed, and their replay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from djp.v1 import common_pb2, dead_letter_pb2
from djp_dashboards.page import LONG, TIME, at, doing, name_of, say_what_was_done, show, table

if TYPE_CHECKING:
    from djp.sync_client import SyncDjpClient

_SHOWN = 500


def draw(client: SyncDjpClient) -> None:
    say_what_was_done()
    everything = st.checkbox("Also those that were replayed")
    wanted = dead_letter_pb2.DeadLetterFilter(include_replayed=everything)
    letters = client.list_dead_letters(wanted, page_size=_SHOWN).dead_letters
    table(
        (
            {
                "since": at(one.created_at),
                "run": one.run_id[:8],
                "tenant": one.tenant,
                "reason": name_of(common_pb2.ErrorReason, one.error.reason),
                "message": one.error.message,
                "replayed as": one.replayed_as[:8],
            }
            for one in letters
        ),
        columns={"since": TIME, "message": LONG},
        nothing="No run waits to be replayed.",
    )
    waiting = [one.dead_letter_id for one in letters if not one.replayed_as]
    if not waiting:
        return
    chosen = st.multiselect("Replay", waiting, format_func=lambda one: one[:8], placeholder="Runs to replay")
    if st.button("Replay them", type="primary", disabled=not chosen):
        these = dead_letter_pb2.DeadLetterFilter(dead_letter_ids=chosen)
        doing(lambda: client.replay_dead_letters(these), f"Queued again: {len(chosen)}")
    st.caption("Each is replayed once. Together replays take at most half of what a day and a month allow.")


show("Dead letters", draw)
