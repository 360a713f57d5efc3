"""What every page stands on: a client of the gateway, errors as boxes, and texts of others shown as they are.

Labels, boxes and captions of Streamlit are Markdown, so nothing that comes from the gateway goes into one. It goes into
tables, text fields and `text`, which show every character as it is.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import streamlit as st

from djp.cli.terminal import clean, one_line
from djp.mesh.errors import DjpError, Unavailable
from djp.mesh.identity import Identity, identity_scope
from djp.money import NANO_PER_USD
from djp.sync_client import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from google.protobuf.timestamp_pb2 import Timestamp

    from djp.sync_client import SyncDjpClient

DEFAULT_GATEWAY = "localhost:7100"
"""Where `djp up` and `djp serve all` listen."""

USD = st.column_config.NumberColumn(format="$%.6f")
TIME = st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss", timezone="UTC")
LONG = st.column_config.TextColumn(width="medium")
SHARE = st.column_config.ProgressColumn(format="percent", min_value=0.0, max_value=1.0)


def show(title: str, draw: Callable[[SyncDjpClient], None]) -> None:
    """Draw a page with a client of the gateway; what the gateway refuses, and that it is away, is a box on it.

    The gateway is that of `DJP_GATEWAY`, and the key that of `DJP_API_KEY`. A mesh that believes its callers, because
    only its owner can open its socket, is asked as an operator; a port believes the key alone.
    """
    st.title(title)
    gateway = os.environ.get("DJP_GATEWAY") or DEFAULT_GATEWAY
    try:
        with (
            connect(gateway, api_key=os.environ.get("DJP_API_KEY", ""), retry_waits_s=()) as client,
            identity_scope(Identity(role="operator")),
        ):
            draw(client)
    except Unavailable as error:
        st.error("The gateway, or a service behind it, does not answer.", icon=":material/cloud_off:")
        text(f"{gateway}: {error.message}")
        st.markdown("Start one with `djp up`, or name another in `DJP_GATEWAY` and start the dashboard again.")
        st.button("Try again")
    except DjpError as error:
        tell(error)


def tell(error: DjpError) -> None:
    """A box with what was refused, and why."""
    st.error("The gateway refused this.", icon=":material/block:")
    for line in [one.description for one in error.violations] or [error.message]:
        text(line)


def text(body: str) -> None:
    """A text of others, in one piece, with its control characters visible."""
    st.code(clean(body), language=None, wrap_lines=True)


def table(
    rows: Iterable[Mapping[str, Any]], *, nothing: str, columns: Mapping[str, Any] | None = None, whole: bool = False
) -> None:
    """Rows with the same keys; texts on one line each. Without a row the sentence `nothing` stands there.

    It scrolls after ten rows, but not if `whole`.
    """
    shown = [{name: one_line(cell) if isinstance(cell, str) else cell for name, cell in row.items()} for row in rows]
    if shown:
        st.dataframe(shown, hide_index=True, column_config=columns, height="content" if whole else "auto")
    else:
        st.caption(nothing)


def chosen(label: str, among: Sequence[str], told: Mapping[str, str], *, key: str) -> str | None:
    """One of those ids, by what is told of each; None when there is none to choose."""
    if not among:
        return None
    return st.selectbox(label, among, format_func=lambda one: one_line(told.get(one, one), 120), key=key)


def done(message: str) -> None:
    """Say that something was done, after drawing the page anew with it."""
    st.session_state["done"] = message
    st.rerun()


def say_what_was_done() -> None:
    """What `done` was given, once."""
    if message := st.session_state.pop("done", ""):
        st.success(message, icon=":material/check:")


def doing(act: Callable[[], object], message: str) -> None:
    """Do what a button is for, and say so; a refusal is told below it."""
    try:
        act()
    except Unavailable:
        raise
    except DjpError as error:
        tell(error)
    else:
        done(message)


def usd(nano_usd: int) -> float:
    """Dollars to be shown in a table or a chart, and never to be counted with."""
    return nano_usd / NANO_PER_USD


def at(moment: Timestamp) -> datetime | None:
    """A time for a table, in UTC; None where it is not set."""
    from datetime import UTC

    return moment.ToDatetime(UTC) if moment.ByteSize() else None


def name_of(enum: Any, value: int) -> str:
    """A value of an enum of the contract as people write it, for example "pending approval"."""
    prefix = "".join(f"_{letter}" if letter.isupper() else letter for letter in enum.DESCRIPTOR.name).upper()[1:]
    return str(enum.Name(value)).removeprefix(f"{prefix}_").replace("_", " ").lower()
