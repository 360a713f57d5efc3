"""`djp trace RUN`: the spans of a run as a waterfall, from the folder where an embedded mesh keeps them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from djp.cli.exits import Exit
from djp.cli.terminal import one_line, out
from djp.mesh.errors import InvalidInput, NotFound
from djp.mesh.run_spans import read_spans
from djp.mesh.settings import djp_home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NARROW = 72
_MAX_DEPTH = 12
"""Deeper spans are not indented further, or a wild trace would leave no room for names."""
_NAME_WIDTH = 44
_FIGURES_WIDTH = 38
"""Columns of service, start and length, with the gaps between them."""


async def show_trace(wanted: str, *, as_json: bool) -> int:
    """Draw the run's spans: who worked, when it began, how long it took.

    Raises:
        NotFound: no spans of such a run are kept here.
        InvalidInput: several runs begin so.
    """
    folder = djp_home() / "traces"
    run_id = _find(folder, wanted)
    spans = read_spans(folder, run_id)
    if not spans:
        raise NotFound(f"the trace of run {run_id} is empty; look at the run itself: djp runs show {run_id[:8]}")
    if as_json:
        print(json.dumps({"run_id": run_id, "spans": spans}, indent=2))
        return Exit.OK
    _draw(run_id, spans)
    return Exit.OK


def _find(folder: Path, wanted: str) -> str:
    """The id of the only kept run that begins so, or of the last one for `latest`."""
    if folder.exists() and not os.access(folder, os.R_OK | os.X_OK):
        raise NotFound(f"{folder} cannot be read; mend its permissions")
    kept = {path.stem: path for path in folder.glob("*.jsonl")}
    if wanted == "latest":
        if not kept:
            raise NotFound(f"no trace is kept in {folder} yet; run something here first: djp run")
        return max(kept, key=lambda run_id: kept[run_id].stat().st_mtime_ns)
    fitting = sorted(run_id for run_id in kept if run_id.startswith(wanted))
    if wanted in kept:
        return wanted
    if len(fitting) > 1:
        raise InvalidInput(f"{len(fitting)} runs begin with {wanted!r}; give more of the id", field="run")
    if not fitting:
        raise NotFound(
            f"no trace of run {one_line(wanted, 60)} is kept in {folder}; traces are kept for the newest 200 runs of a "
            "mesh that ran here"
        )
    return fitting[0]


def _draw(run_id: str, spans: list[dict[str, Any]]) -> None:
    begin = min(span["start_ns"] for span in spans)
    whole = max(span["end_ns"] for span in spans) - begin
    services = {span["service"] for span in spans}
    head = Text(f"Run {run_id}", style="bold")
    head.append(f"  {_ms(whole)}, {len(spans)} spans, {len(services)} services", style="not bold dim")
    out().print(head)
    out().print()
    narrow = out().width < _NARROW
    nested = list(_nested(spans))
    names = max(2 * min(depth, _MAX_DEPTH) + len(_name(span)) for span, depth in nested)
    bar_width = max(10, min(60, out().width - min(names, _NAME_WIDTH) - _FIGURES_WIDTH))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("span", no_wrap=True, overflow="ellipsis", max_width=_NAME_WIDTH)
    if not narrow:
        table.add_column("service", no_wrap=True)
        table.add_column("at", justify="right", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    if not narrow:
        table.add_column("", no_wrap=True, width=bar_width)
    for span, depth in nested:
        failed = span["status"] == "ERROR"
        name = Text("  " * min(depth, _MAX_DEPTH) + ("✗ " if failed else "") + _name(span))
        if failed and (reason := span["attributes"].get("djp.error_reason")):
            name.append(f" {one_line(str(reason))}")
        start, length = span["start_ns"] - begin, span["end_ns"] - span["start_ns"]
        took = Text(_ms(length))
        bar = Text(_bar(start, length, whole, bar_width))
        cells = [name, took] if narrow else [name, Text(one_line(str(span["service"]))), Text(_ms(start)), took, bar]
        table.add_row(*cells, style="red" if failed else "")
    out().print(table)


def _nested(spans: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], int]]:
    """Every span below its parent, in order of start, with its depth. A span whose parent is missing is a root."""
    known = {span["span_id"] for span in spans}
    children: dict[str, list[dict[str, Any]]] = {}
    for span in spans:
        parent = span["parent_id"] if span["parent_id"] in known else ""
        children.setdefault(parent, []).append(span)
    open_ = [(span, 0) for span in reversed(children.pop("", []))]
    while open_:
        span, depth = open_.pop()
        yield span, depth
        open_ += [(child, depth + 1) for child in reversed(children.pop(span["span_id"], []))]


def _name(span: dict[str, Any]) -> str:
    """`debate` for a stage, `Debate` for a method's call: the package says nothing here. A model keeps its name."""
    name = str(span["name"])
    return one_line(name if " " in name else name.rpartition("/")[2] or name, 60)


def _bar(start: int, length: int, whole: int, width: int) -> str:
    if whole <= 0:
        return ""
    left = min(start * width // whole, width - 1)
    return " " * left + "━" * max(1, min(round(length * width / whole), width - left))


def _ms(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.1f} ms" if nanoseconds < 1e9 else f"{nanoseconds / 1e9:.2f} s"
