"""Tables of amounts: money aligned at its point, and columns that give way on a narrow terminal."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from djp.cli.terminal import one_line, out
from djp.money import format_usd

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_GAP = 2  # between columns
_LEAST_NAME = 24  # terminal columns that long names get before amounts give way to them
_CENT = 10**7  # nano-dollars


@dataclass(frozen=True)
class Column:
    """A column of a table. Where they do not fit, those of the highest `rank` are left out first, those of 0 never."""

    heading: str
    cells: Sequence[str]
    rank: int = 0
    align: Literal["left", "right"] = "right"

    def padded(self) -> list[str]:
        """The heading and the cells; Rich itself, when it aligns to the right, drops the blanks behind a number."""
        texts = [self.heading, *self.cells]
        return [one.rjust(max(map(len, texts))) for one in texts] if self.align == "right" else texts


def print_table(names: Column, *columns: Column, bold: Collection[int] = (), red: Collection[int] = ()) -> None:
    """A line for each cell of the columns; `names` comes first and is cut where it does not fit.

    `bold` and `red` are numbers of lines. Cells may be hostile: each is made one harmless line, its indentation kept.
    """
    shown, named = list(columns), min(_LEAST_NAME, _width([names]) - _GAP)
    while named + _width(shown) > out().width and (last := max(column.rank for column in shown)):
        shown = [column for column in shown if column.rank != last]
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    table.add_column(names.heading, no_wrap=True, overflow="ellipsis", max_width=max(8, out().width - _width(shown)))
    lines: list[Sequence[str]] = [names.cells]
    for column in shown:
        texts = column.padded()
        table.add_column(texts[0], no_wrap=True, overflow="ellipsis")
        lines.append(texts[1:])
    for number, cells in enumerate(zip(*lines, strict=True)):
        style = " ".join(word for word, lines in (("bold", bold), ("red", red)) if number in lines)
        table.add_row(*(Text(_harmless(cell), style=style) for cell in cells))
    out().print(table)


def usd(amounts: Sequence[int]) -> list[str]:
    """Nano-dollars as one column: whole cents where all are, else four places and more where an amount needs them."""
    places = 2 if all(amount % _CENT == 0 for amount in amounts) else 4
    return aligned([re.sub(r"(?<=\d)(?=(\d{3})+\.)", ",", format_usd(amount, places)) for amount in amounts])


def aligned(cells: Sequence[str]) -> list[str]:
    """The numbers with blanks behind them, so that they stand with their points above each other; words as they are."""
    tails = [len(cell) - len(cell.partition(".")[0]) for cell in cells]
    return [
        cell + " " * (max(tails, default=0) - tail) if cell[-1:].isdigit() else cell
        for cell, tail in zip(cells, tails, strict=True)
    ]


def _harmless(cell: str) -> str:
    indentation = len(cell) - len(cell.lstrip(" "))
    trailing = len(cell) - len(cell.rstrip(" "))
    return " " * indentation + one_line(cell) + " " * trailing


def _width(columns: Sequence[Column]) -> int:
    return sum(_GAP + max(map(cell_len, (column.heading, *column.cells))) for column in columns)
