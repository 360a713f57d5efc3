"""What is written to the terminal: consoles without markup, and texts that cannot command the terminal."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

PIPE_WIDTH = 100
"""Columns of tables that go to a file or a pipe."""

# One visible character for each, so that offsets in a text stay true: control pictures for C0 and DEL, the replacement
# character for C1 and for the marks that reverse the direction of what follows them.
_VISIBLE = (
    {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
    | {0x7F: 0x2421}
    | dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD)
)


def clean(text: str) -> str:
    """The text with every control character but newline and tab made visible; as many characters as before."""
    return text.translate(_VISIBLE)


def one_line(text: str, limit: int = 0) -> str:
    """The text, clean, on one line; cut to `limit` characters with an ellipsis when that is above 0."""
    line = clean(" ".join(text.split()))
    return line if not limit or len(line) <= limit else line[: limit - 1].rstrip() + "…"


def forgiving_streams() -> None:
    """Let characters that the locale cannot show become question marks, and output to a closed stream go nowhere."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  open as long as the process lives
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


@cache
def out() -> Console:
    """Standard output: results."""
    return _console(stderr=False)


@cache
def err() -> Console:
    """Standard error: progress, warnings, errors."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    class Pipe(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # Rich would end the process here, past everything that is still to be closed

    console = Pipe(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console


def say(text: str | Text, style: str = "") -> None:
    """A line of the result: broken between words on a terminal, in one piece into a file or a pipe."""
    out().print(text, style=style, soft_wrap=not out().is_terminal)


def command_name() -> str:
    """How this command can be called again: `djp`, or its path where the shell would not find it by its name."""
    import shlex
    import shutil

    called, found = sys.argv[0], shutil.which("djp")
    if os.path.basename(called) != "djp" or (found and os.path.realpath(found) == os.path.realpath(called)):
        return "djp"
    return shlex.quote(called)


def is_tty() -> bool:
    """Whether a person reads standard output."""
    return sys.stdout.isatty()


def fail(message: str, hint: str = "") -> None:
    """One `error:` line on standard error, and the remedy below it when it is not in the message."""
    print(f"error: {one_line(message)}", file=sys.stderr)
    if hint:
        print(f"       {one_line(hint)}", file=sys.stderr)
