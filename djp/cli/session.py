"""How a command runs: a client of the gateway or of a mesh of its own, Ctrl-C, and errors that become exit codes."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, NoReturn

from djp.cli.exits import Exit, exit_of
from djp.cli.flags import flag_of
from djp.cli.terminal import err, fail
from djp.mesh.errors import DjpError, FailedPrecondition, Internal, InvalidInput, Unavailable, Violation
from djp.mesh.identity import Identity, identity_scope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from djp.client import DjpClient

_log = logging.getLogger(__name__)


class CommandError(DjpError):
    """An error that has its exit code already."""

    def __init__(self, error: DjpError, code: Exit) -> None:
        super().__init__(error.message, reason=error.reason, violations=error.violations)
        self.exit_code = code


@asynccontextmanager
async def connected(gateway: str | None) -> AsyncIterator[DjpClient]:
    """A client of the gateway at that address; without one, of a mesh in this process that lives as long as the block.

    Raises CommandError when the data folder is in use or cannot be written.
    """
    from djp.client import connect

    if gateway:
        key = os.environ.get("DJP_API_KEY", "")
        async with connect(gateway, api_key=key, retry_waits_s=()) as client:  # a person is told at once
            try:
                yield client
            except Unavailable as error:
                raise Unavailable(
                    f"the gateway {gateway} does not answer ({error.message}); start one with `djp serve all`, or "
                    "leave --gateway and DJP_GATEWAY away to work without"
                ) from error
        return

    from djp.standalone import standalone_mesh

    async with AsyncExitStack() as stack:
        try:
            address = await stack.enter_async_context(standalone_mesh())
        except FailedPrecondition as error:
            raise CommandError(error, Exit.UNAVAILABLE) from error
        yield await stack.enter_async_context(connect(address))


@asynccontextmanager
async def connected_as_admin(gateway: str | None) -> AsyncIterator[DjpClient]:
    """As `connected`, for who hands out keys: a mesh in this process believes it, a port wants an admin's key."""
    async with connected(gateway) as client:
        with identity_scope(Identity(role="admin")):
            yield client


@asynccontextmanager
async def connected_as_operator(gateway: str | None) -> AsyncIterator[DjpClient]:
    """As `connected`, for who looks after everybody's money: a mesh in this process believes it, a port does not."""
    async with connected(gateway) as client:
        with identity_scope(Identity(role="operator")):
            yield client


def execute(
    command: Callable[[], Coroutine[object, object, int]], *, as_json: bool = False, verbose: bool = False
) -> NoReturn:
    """Run a command to its end and leave with its exit code.

    Errors are lines on standard error, and with `as_json` an object on standard output, never a traceback. Ctrl-C and
    SIGTERM unwind the command; a second one ends the process at once, which loses nothing: what a run still holds is
    given back at the next start.
    """
    from pydantic import ValidationError

    from djp.mesh.settings import settings_problems

    try:
        _set_up_logs(verbose)
        code = asyncio.run(_interruptible(command))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has seen enough
        _forget_output(1, 2)
        code = 128 + signal.SIGPIPE
    except DjpError as error:
        code = _tell(error, as_json)
    except ValidationError as error:
        problems = [Violation("", problem) for problem in settings_problems(error)]
        code = _tell(InvalidInput("; ".join(p.description for p in problems), violations=problems), as_json)
    except OSError as error:
        code = _tell_of_the_system(error, as_json)
    except UnicodeEncodeError:  # an argument that cannot be sent
        code = _tell(InvalidInput("the command line has bytes that are no UTF-8 text; write it in UTF-8"), as_json)
    except Exception as error:
        _log.exception("internal error")
        told = f"internal error ({type(error).__name__}); set DJP_LOG_LEVEL=ERROR to see where, and report it"
        code = _tell(Internal(told), as_json, Exit.PROBLEM)
    sys.exit(code)


async def _interruptible(command: Callable[[], Coroutine[object, object, int]]) -> int:
    loop, received = asyncio.get_running_loop(), list[int]()
    task = loop.create_task(command())

    def stop(number: int) -> None:
        if received:
            if err().is_terminal:
                err().show_cursor()  # which the progress has hidden
            os._exit(128 + number)
        received.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if received:
            return 128 + received[0]
        raise


def _set_up_logs(verbose: bool) -> None:
    """The services' logs are for operators: a command shows them only when asked."""
    from djp.mesh.logs import setup_logging
    from djp.mesh.settings import MeshSettings

    setup_logging(MeshSettings().log_level or ("INFO" if verbose else "CRITICAL"))


def _tell(error: DjpError, as_json: bool, code: Exit | None = None) -> int:
    code = code or (error.exit_code if isinstance(error, CommandError) else exit_of(error))
    for line in _lines(error):
        fail(line)
    if as_json:
        fields = [{"field": flag_of(v.field), "description": v.description} for v in error.violations]
        told = {"reason": error.reason, "message": error.message, "exit_code": int(code), "fields": fields}
        try:
            print(json.dumps({"error": told}), flush=True)
        except OSError:  # full or closed; the lines above have said it
            _forget_output(1)
    return int(code)


def _tell_of_the_system(error: OSError, as_json: bool) -> int:
    """A file or a stream that failed. Only a file's error has a name: without one it was our own output."""
    full = "; free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    why = error.strerror or error
    if error.filename:
        return _tell(Internal(f"cannot read or write {error.filename}: {why}{full}"), as_json, Exit.FAILED)
    _forget_output(1)
    kept = "; what was done is kept, see `djp runs list`"
    return _tell(Internal(f"standard output cannot be written: {why}{full}{kept}"), False, Exit.PROBLEM)


def _lines(error: DjpError) -> list[str]:
    """One line a problem, each with the flag that it is about."""
    if not error.violations:
        return [error.message]
    lines = []
    for violation in error.violations:
        flag, told = flag_of(violation.field), violation.description.removeprefix(f"{violation.field}: ")
        lines.append(told if not flag or flag in told else f"{flag}: {told}")
    return lines


def _forget_output(*streams: int) -> None:
    """Keep the interpreter from complaining about what it cannot write when it flushes its streams at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in streams:
        os.dup2(nowhere, number)
