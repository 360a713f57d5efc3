"""`djp run`: one task through debate, judge and publish, watched to its end."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING

from djp.cli.documents import corpus_document
from djp.cli.exits import Exit
from djp.cli.flags import RunFlags, run_request
from djp.cli.output import write_output
from djp.cli.progress import Progress, progress
from djp.cli.session import connected
from djp.cli.terminal import command_name, err, fail, one_line, out
from djp.mesh.errors import DjpError, FailedPrecondition, InvalidInput, ResourceExhausted
from djp.run_states import TERMINAL_STATES
from djp.v1 import run_pb2

if TYPE_CHECKING:
    from djp.client import Corpus, DjpClient

_SKIPPED_SHOWN = 3
_GIVEN_BACK = "what it had not spent is given back"


async def run(flags: RunFlags) -> int:
    """Check the flags, start the run (or project it), watch it, and show how it ended.

    Raises DjpError: bad input before anything was started, a refusal, or a gateway that is gone.
    """
    request = run_request(flags)
    started: list[str] = []
    unwritten: OSError | None = None
    lost: DjpError | None = None
    told = "interrupted: no run was started"
    try:
        with progress(silent=flags.quiet or flags.as_json, lines=flags.stream and flags.as_json) as shown:
            shown.doing("connecting" if flags.gateway else "starting the mesh")
            async with connected(flags.gateway) as client:
                corpus = await _send_corpus(client, flags, shown)
                if corpus:
                    request.corpus = corpus.name
                if flags.dry_run:
                    await _use_example(client, request, flags, shown)
                    shown.doing("adding up what the run can cost at most")
                    projected = await client.project_run(request)
                else:
                    try:
                        ended = await _watch(client, request, shown, started, deltas=flags.stream)
                    except asyncio.CancelledError:
                        if started:
                            shown.doing("cancelling the run")
                            told = await give_up(client, started[0], flags.gateway)
                        raise
                    if flags.metrics is not None:
                        from djp.cli.metrics import append_metrics

                        try:
                            await append_metrics(flags.metrics, ended, client)
                        except OSError as error:  # told below: the text comes first
                            unwritten = error
                    if flags.restore_values and ended.result.text:
                        try:
                            ended = await client.get_run(ended.run_id, restore_values=True)
                        except (FailedPrecondition, ResourceExhausted) as error:  # the text has its placeholders still
                            lost = error
                shown.doing("closing")
    except asyncio.CancelledError:
        print(told, file=sys.stderr)
        raise
    if flags.dry_run:
        from djp.cli.dry_run import show_projection

        return show_projection(projected, corpus=corpus_document(corpus) if corpus else None, as_json=flags.as_json)
    problem = write_output(flags.output, ended) if flags.output is not None and ended.result.text else ""
    _show(ended, corpus, flags)
    if problem:
        fail(problem)
        return Exit.PROBLEM
    if lost:
        fail(f"--restore-values: {lost.message}")
        return Exit.PROBLEM
    if unwritten:
        fail(f"--metrics: the row about the run could not be added to {flags.metrics}: {unwritten.strerror}")
        return Exit.PROBLEM
    from djp.cli.show import EXIT_OF_STATE

    return EXIT_OF_STATE.get(ended.state, Exit.FAILED)


async def _use_example(client: DjpClient, request: run_pb2.RunRequest, flags: RunFlags, shown: Progress) -> None:
    """What a template's run can cost can be told before there are inputs."""
    if flags.template is not None and flags.inputs is None:
        request.inputs.CopyFrom((await client.get_template(flags.template)).example)
        shown.note("no --inputs: counted with the template's example")


async def _send_corpus(client: DjpClient, flags: RunFlags, shown: Progress) -> Corpus | None:
    if flags.grounded_corpus is None:
        return None
    shown.doing("sending the corpus")
    began = time.monotonic()
    try:
        corpus = await client.create_corpus(flags.grounded_corpus)
    except DjpError as error:
        if error.reason != "CORPUS_EMPTY":
            raise
        told = error.message.partition(": ")[2] or error.message  # before it stands the corpus's name, which we made up
        raise InvalidInput(f"folder {flags.grounded_corpus} has {told}", field="grounded_corpus") from error
    known = ", known already" if corpus.reused else ""
    shown.done("corpus", f"{_count(corpus.documents, 'document')}{known}", time.monotonic() - began)
    for skipped in corpus.skipped[:_SKIPPED_SHOWN]:
        shown.note(f"skipped {one_line(skipped.path, 200)}: {one_line(skipped.reason, 200)}")
    if len(corpus.skipped) > _SKIPPED_SHOWN:
        shown.note(f"and {len(corpus.skipped) - _SKIPPED_SHOWN} more skipped; --json lists them all")
    return corpus


async def _watch(
    client: DjpClient, request: run_pb2.RunRequest, shown: Progress, started: list[str], *, deltas: bool
) -> run_pb2.Run:
    """Start the run and follow it. Its id goes to `started` as soon as it is known."""
    run = await client.start_run(request, request_id=str(uuid.uuid4()))
    started.append(run.run_id)
    return await follow(client, run, shown, deltas=deltas)


async def follow(client: DjpClient, run: run_pb2.Run, shown: Progress, *, deltas: bool = False) -> run_pb2.Run:
    """The run when it has ended, or waits for approval."""
    with shown.watching():
        async with aclosing(client.watch(run.run_id, deltas=deltas)) as events:
            async for event in events:
                shown.show(event)
                if event.state.state in TERMINAL_STATES and event.state.HasField("run"):
                    return event.state.run
                if event.state.state == run_pb2.RUN_STATE_PENDING_APPROVAL:
                    break  # a person has to decide, and that may take days
    return await client.get_run(run.run_id)


async def give_up(client: DjpClient, run_id: str, gateway: str | None) -> str:
    """Stop the run that nobody waits for any more; what to tell of it."""
    at = f" --gateway {gateway}" if gateway else ""
    look = f"look at it with: {command_name()} runs show {run_id[:8]}{at}"
    try:
        run = await client.cancel_run(run_id, reason="interrupted at the command line")
    except DjpError as error:
        return f"interrupted: the run could not be cancelled ({error.message}); {look}"
    if run.state == run_pb2.RUN_STATE_CANCELLED:
        return f"interrupted: the run is cancelled; {_GIVEN_BACK}"
    if run.state in TERMINAL_STATES:
        return f"interrupted: the run had ended already; {look}"
    return f"interrupted: the run is being cancelled; {_GIVEN_BACK}"


def _show(run: run_pb2.Run, corpus: Corpus | None, flags: RunFlags) -> None:
    if flags.as_json:
        from djp.cli.documents import run_document

        whole = {"run": run_document(run), "corpus": corpus_document(corpus) if corpus else None}
        print(json.dumps(whole, indent=None if flags.stream else 2))
    else:
        show_ended(run, gateway=flags.gateway, quiet=flags.quiet, restored=flags.restore_values)


def show_ended(run: run_pb2.Run, *, gateway: str | None, quiet: bool, restored: bool = False) -> None:
    """Show a person the run that was followed to its end."""
    from djp.cli.show import print_run, print_text, remedy, state_name, why

    if quiet:
        if run.result.text:
            print_text(run.result)
        if reason := why(run):
            hint = f"; {remedy(run)}" if remedy(run) else ""
            err().print(f"{state_name(run.state)}: {reason}{hint}", soft_wrap=True)
        return
    if out().is_terminal:
        out().print()
    print_run(run, gateway=gateway, restored=restored)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
