"""Bars of bytes on their way, on a terminal."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from djp.cli.terminal import err

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def transfer_bar(what: str, *, then: str = "", silent: bool) -> Iterator[Callable[[int, int], None]]:
    """Takes the bytes that went and those there are (0: nobody knows). `then` is what goes on when all went."""
    if silent or not err().is_terminal:
        yield lambda _done, _whole: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err(), transient=True) as progress:
        task = progress.add_task(what, total=None)

        def went(done: int, whole: int) -> None:
            ended = whole and done >= whole
            progress.update(task, completed=done, total=whole or None, description=(then if ended else "") or what)

        yield went


@contextmanager
def doing(what: str, *, silent: bool) -> Iterator[Callable[[str], None]]:
    """A line on a terminal that says what goes on; takes how far it has come."""
    if silent or not err().is_terminal:
        yield lambda _so_far: None
        return
    with err().status(f"{what} …") as status:
        yield lambda so_far: status.update(f"{what}: {so_far}")
