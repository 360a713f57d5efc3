"""`djp models`: the models that a run may name, whether they can be used now, and what they cost."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from djp.cli.exits import Exit
from djp.cli.session import connected
from djp.cli.terminal import one_line, out, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp.v1 import debate_pb2

_NARROW = 72
_SHOWN_NAMES = 3
_PRICES = ("input", "cached_input", "output")


async def list_models(gateway: str | None, *, provider: str, as_json: bool) -> int:
    """Print the models of one provider, or of all, as the gateway's debate service has them configured."""
    async with connected(gateway) as client:
        models = await client.list_models(provider)
    if as_json:
        print(json.dumps({"models": [_document(model) for model in models]}, indent=2))
        return Exit.OK
    _print_table(models)
    _print_problems(models)
    return Exit.OK


def _document(model: debate_pb2.Model) -> dict[str, Any]:
    prices = {f"{part}_nano_usd_per_million": _nano_usd(model, part) for part in _PRICES}
    return {
        "model": model.model,
        "family": model.family,
        "offline": model.offline,
        "reachable": model.reachable,
        "problem": model.problem,
        **prices,
    }


def _nano_usd(model: debate_pb2.Model, part: str) -> int | None:
    field = f"{part}_nano_usd_per_million"
    return getattr(model, field) if model.HasField(field) else None  # type: ignore[arg-type]


def _print_table(models: Sequence[debate_pb2.Model]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    wide = out().width >= _NARROW
    table.add_column("model", no_wrap=True, overflow="ellipsis")
    for heading in ("family", "$/M in", "cached", "out") if wide else ():
        table.add_column(heading, justify="left" if heading == "family" else "right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for model in models:
        cells = [one_line(model.model)]
        if wide:
            cells += [one_line(model.family, 20), *(_usd(_nano_usd(model, part)) for part in _PRICES)]
        state, style = _state(model)
        table.add_row(*map(Text, cells), Text(state, style))
    out().print(table)


def _state(model: debate_pb2.Model) -> tuple[str, str]:
    if not model.problem:
        return ("offline" if model.offline else "ready"), "green"
    return ("no price" if model.reachable else "not usable"), "red"


def _usd(nano_usd: int | None) -> str:
    """Dollars without needless zeros."""
    return "-" if nano_usd is None else f"{(Decimal(nano_usd) / 10**9).normalize():f}"


def _print_problems(models: Sequence[debate_pb2.Model]) -> None:
    """Each problem once, with the models that have it."""
    having: dict[str, list[str]] = {}
    for model in models:
        if model.problem:
            having.setdefault(model.problem, []).append(one_line(model.model))
    for problem, names in having.items():
        more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
        out().print()
        say(f"! {', '.join(names[:_SHOWN_NAMES])}{more}", "yellow")
        say(f"  {one_line(problem)}")
