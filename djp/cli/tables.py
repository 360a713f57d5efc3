"""Tables of amounts: money aligned at its point, and columns that give way on a narrow terminal."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from djp.cli.terminal import one_line, out
from djp.money import format_usd

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence, Set

_GAP = "  "
_LEAST_NAME = 24
"""Terminal columns that long names get before amounts give way to them."""
_CENT = 10**7  # nano-dollars


@dataclass(frozen=True)
class Column:
    """A column of a table. Where they do not fit, those of the highest `rank` are left out first, those of 0 never."""

    heading: str
    cells: Sequence[str]
    rank: int = 0
    align: Literal["left", "right"] = "right"

    @property
    def width(self) -> int:
        """The columns of the terminal that it needs."""
        return max(map(cell_len, (self.heading, *self.cells)))

    def shown(self) -> list[str]:
        """The heading and the cells, padded."""
        width = self.width
        return [one.rjust(width) if self.align == "right" else one.ljust(width) for one in (self.heading, *self.cells)]


def print_table(names: Column, *columns: Column, bold: Set[int] = frozenset(), red: Set[int] = frozenset()) -> None:
    """A line for each cell of the columns; `names` comes first, may be hostile, and is cut where it does not fit.

    `bold` and `red` are numbers of lines.
    """
    told = [_harmless(cell) for cell in (names.heading, *names.cells)]
    longest = max(map(cell_len, told))
    kept = list(columns)
    while min(longest, _LEAST_NAME) + _width(kept) > out().width and (last := max(column.rank for column in kept)):
        kept = [column for column in kept if column.rank != last]
    room = min(longest, max(8, out().width - _width(kept)))
    cells = [[_cut(name, room) for name in told], *(column.shown() for column in kept)]
    for number, line in enumerate(zip(*cells, strict=True), start=-1):
        style = "dim" if number < 0 else " ".join(["bold"] * (number in bold) + ["red"] * (number in red))
        out().print(Text(_GAP.join(line).rstrip(), style=style), no_wrap=True, overflow="ellipsis")


def usd(amounts: Sequence[int]) -> list[str]:
    """Nano-dollars as one column: whole cents where all are, else four places and more where an amount needs them."""
    places = 2 if all(amount % _CENT == 0 for amount in amounts) else 4
    return aligned([re.sub(r"(?<=\d)(?=(\d{3})+\.)", ",", format_usd(amount, places)) for amount in amounts])


def aligned(cells: Sequence[str]) -> list[str]:
    """The numbers with blanks behind them, so that they stand with their points above each other; words as they are."""
    tails = [len(cell) - len(cell.partition(".")[0]) for cell in cells]
    longest = max(tails, default=0)
    return [
        cell + " " * (longest - tail) if cell[-1:].isdigit() else cell for cell, tail in zip(cells, tails, strict=True)
    ]


def _width(columns: Iterable[Column]) -> int:
    return sum(len(_GAP) + column.width for column in columns)


def _harmless(name: str) -> str:
    """On one line, with its indentation."""
    return name[: len(name) - len(name.lstrip(" "))] + one_line(name)


def _cut(name: str, room: int) -> str:
    return set_cell_size(name if cell_len(name) <= room else set_cell_size(name, room - 1) + "…", room)
