"""`djp runs replay`: an earlier run once more, the same or with another task, preset or trace name."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from djp.cli.documents import document
from djp.cli.exits import Exit
from djp.cli.given import read_task
from djp.cli.progress import progress
from djp.cli.run import follow, give_up, show_ended
from djp.cli.runs import find_run
from djp.cli.session import connected
from djp.cli.show import EXIT_OF_STATE
from djp.cli.terminal import one_line, say

if TYPE_CHECKING:
    from djp.v1 import run_pb2


@dataclass(frozen=True)
class ReplayFlags:
    """What the command line said. `run` is an id, its beginning, `latest`, or the file of a run's artifact."""

    run: str
    task: str | None = None
    preset: str = ""
    trace_name: str = ""
    dry_run: bool = False
    quiet: bool = False
    as_json: bool = False
    gateway: str | None = None


async def replay(flags: ReplayFlags) -> int:
    """Start the replay and follow it to its end, or only say what it would be."""
    task = "" if flags.task is None else read_task(flags.task)
    told, started = "interrupted: no run was started", ""
    try:
        with progress(silent=flags.quiet or flags.as_json or flags.dry_run) as shown:
            shown.doing("connecting" if flags.gateway else "starting the mesh")
            async with connected(flags.gateway) as client:
                earlier = await find_run(client, run_of(flags.run))
                shown.doing("comparing the configuration with that of the run")
                answer = await client.replay_run(
                    earlier.run_id,
                    task=task,
                    preset=flags.preset,
                    trace_name=flags.trace_name,
                    dry_run=flags.dry_run,
                )
                if not flags.dry_run:
                    started = answer.run.run_id
                    try:
                        answer.run.CopyFrom(await follow(client, answer.run, shown))
                    except asyncio.CancelledError:
                        shown.doing("cancelling the run")
                        told = await give_up(client, started, flags.gateway)
                        raise
                shown.doing("closing")
    except asyncio.CancelledError:
        print(told, file=sys.stderr)
        raise
    if flags.as_json:
        print(json.dumps({"run": None, **document(answer)}, indent=2))
    elif flags.dry_run:
        _show_plan(earlier, answer)
    else:
        show_ended(answer.run, gateway=flags.gateway, quiet=flags.quiet)
    return Exit.OK if flags.dry_run else EXIT_OF_STATE.get(answer.run.state, Exit.FAILED)


def run_of(wanted: str) -> str:
    """The run that is meant: an artifact's file has its run's id as its name."""
    return PurePath(wanted).stem if wanted.endswith(".json") else wanted


def _show_plan(earlier: run_pb2.Run, answer: run_pb2.ReplayRunResponse) -> None:
    """In the operations guide's form."""
    print(f"Replaying run from: {one_line(earlier.result.artifact_name or earlier.run_id)}")
    print(f"Command: {answer.command}")
    for left_out in answer.not_in_command:
        say(f"Not in the command: {one_line(left_out)}")
    for difference in answer.differences:
        say(f"Since then: {one_line(difference)}", "yellow")
    print("(Dry run - command not executed)")
