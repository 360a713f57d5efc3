"""The exit codes of the `djp` command, the one place where they are chosen and explained."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from djp.mesh.errors import DjpError


class Exit(IntEnum):
    """How a command ended. 2 is what Typer itself uses for a wrong command line; 130 is the shell's for Ctrl-C."""

    OK = 0
    PROBLEM = 1
    BAD_INPUT = 2
    ADVISORY = 3
    NO_RESULT = 4
    DENIED = 5
    FAILED = 6
    UNAVAILABLE = 7
    PENDING = 8
    INTERRUPTED = 130


MEANINGS = {
    Exit.OK: "published (or: done)",
    Exit.PROBLEM: "a check found a problem, the output could not be written, or a fault of djp itself",
    Exit.BAD_INPUT: "bad input: a flag, a file, a name, or a model that cannot be called; nothing was started",
    Exit.ADVISORY: "the text is advice only: the policy or the jury does not let it be published",
    Exit.NO_RESULT: "every draft was disqualified, there is no text",
    Exit.DENIED: "a budget refused the run, nothing was called",
    Exit.FAILED: "the run failed, or was cancelled or rejected; what it had not spent is given back",
    Exit.UNAVAILABLE: "no gateway answers, or no mesh can start here: the data folder is in use or damaged",
    Exit.PENDING: "the text waits for approval, see `djp runs approve` and `djp runs reject`",
    Exit.INTERRUPTED: "stopped by Ctrl-C",
}


_NOTHING_STARTED = ("CORPUS_EMPTY", "UNPRICED_MODEL", "PROVIDER_NOT_CONFIGURED")
"""Reasons of a failed precondition that the command line, or what is configured, is to be mended for."""


def exit_of(error: DjpError) -> Exit:
    """The exit code of a command that ended with this error."""
    if error.reason in ("BUDGET_EXCEEDED", "RUN_BUDGET_EXCEEDED"):
        return Exit.DENIED
    if error.reason in _NOTHING_STARTED:
        return Exit.BAD_INPUT
    return {
        "INVALID_ARGUMENT": Exit.BAD_INPUT,
        "NOT_FOUND": Exit.BAD_INPUT,
        "UNAUTHENTICATED": Exit.BAD_INPUT,
        "UNAVAILABLE": Exit.UNAVAILABLE,
        "DEADLINE_EXCEEDED": Exit.UNAVAILABLE,
    }.get(error.code, Exit.FAILED)
