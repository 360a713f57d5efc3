"""What shows on a terminal how far something is: bars of bytes on their way, and a line that says what goes on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from djp.cli.terminal import err, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.status import Status
    from rich.text import Text


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
def counted(what: str, many: int, *, silent: bool) -> Iterator[Callable[[str], None]]:
    """Takes a word about each of many as it is done; without a terminal every tenth part is a line."""
    if silent or not err().is_terminal:
        step, done = max(1, many // 10), 0

        def line(so_far: str) -> None:
            nonlocal done
            done += 1
            if not silent and (done % step == 0 or done == many):
                err().print(f"{what}: {done} of {many}{f', {so_far}' if so_far else ''}", soft_wrap=True)

        yield line
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=err(), transient=True) as progress:
        task = progress.add_task("", total=many)
        yield lambda so_far: progress.update(task, advance=1, description=so_far)


class Doing:
    """A line that says what goes on, and lines of the result above it. Both do well where there is no terminal."""

    def __init__(self, what: str, status: Status | None) -> None:
        self._what = what
        self._status = status

    def tell(self, so_far: str) -> None:
        """How far it has come."""
        if self._status:
            self._status.update(f"{self._what}: {so_far}")

    def say(self, text: str | Text, style: str = "") -> None:
        """A line of the result. The other one makes room for it: they go to different streams of one terminal."""
        if self._status:
            self._status.stop()
        say(text, style)
        if self._status:
            self._status.start()


@contextmanager
def doing(what: str, *, silent: bool) -> Iterator[Doing]:
    """Says what goes on for as long as the block lasts."""
    if silent or not err().is_terminal:
        yield Doing(what, None)
        return
    with err().status(f"{what} …") as status:
        yield Doing(what, status)
