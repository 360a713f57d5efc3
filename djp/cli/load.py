"""`djp load`: runs on a real gateway, at the rate of one of the autoscaler's loads, and a CSV of how each went."""

from __future__ import annotations

import asyncio
import csv
import json
import math
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from djp.cli.bars import Doing, doing
from djp.cli.exits import Exit
from djp.cli.metrics import harmless
from djp.cli.session import connected
from djp.cli.show import state_name
from djp.cli.tables import Column, print_table
from djp.cli.terminal import say
from djp.mesh.errors import DjpError, InvalidInput, Violation
from djp.run_states import TERMINAL_STATES
from djp.scaling.autoscaler import p95
from djp.scaling.loads import Load, arrivals
from djp.v1 import run_pb2

if TYPE_CHECKING:
    from pathlib import Path

    from djp.client import DjpClient

COLUMNS = ("time_s", "started_s", "ended_s", "in_flight", "wait_ms", "latency_ms", "state", "run_id", "error")
MAX_IN_FLIGHT = 1000
"""Runs that are watched at once; further ones are started late, which their `started_s` tells."""
MAX_RUNS = 1_000_000
JUROR = "offline/rubric"
_CANCEL_S = 10.0  # for the runs in flight, when the load is stopped


@dataclass(frozen=True)
class LoadFlags:
    """The command line; `rate` in runs a second, `seconds` for the whole load."""

    profile: Load
    rate: float
    seconds: float
    seed: int
    task: str
    debater: str
    csv: Path | None
    gateway: str | None
    as_json: bool


@dataclass
class Tally:
    """What came of the runs so far."""

    states: dict[str, int] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    waits_ms: list[float] = field(default_factory=list)
    started: int = 0
    in_flight: int = 0
    most_in_flight: int = 0


async def drive(flags: LoadFlags) -> int:
    """Start the load's runs when they are due, wait for their ends, and print what came of them.

    Ctrl-C starts no further run and cancels those in flight; they have rows, too. PROBLEM when a run failed or was
    denied. Raises InvalidInput for bad flags, Unavailable when there is no gateway, OSError when the CSV fails.
    """
    _check(flags)
    tally = Tally()
    stopped: asyncio.CancelledError | None = None
    with doing(f"{flags.profile} load", silent=flags.as_json) as shown:
        async with connected(flags.gateway) as client:
            await client.list_presets()  # no gateway, no load, and an earlier file stays
            try:
                with flags.csv.open("w", newline="") if flags.csv else nullcontext() as file:
                    await _Driver(client, flags, file, tally, shown).run()
            except asyncio.CancelledError as error:
                stopped = error
    _tell(flags, tally, stopped=stopped is not None)
    if stopped:
        raise stopped
    return Exit.OK if set(tally.states) <= {"published", "advisory", "no result"} else Exit.PROBLEM


def _check(flags: LoadFlags) -> None:
    problems = []
    if not 0 < flags.seconds <= 86_400:
        problems.append(Violation("seconds", "give seconds, above 0 and up to 86400 (a day)"))
    if not 0 < flags.rate < math.inf:
        problems.append(Violation("rate", "give runs a second, above 0"))
    elif not problems and flags.rate * flags.seconds > MAX_RUNS:
        problems.append(Violation("rate", f"that would be more than {MAX_RUNS:,} runs; lower it, or --seconds"))
    if not flags.task.strip():
        problems.append(Violation("task", "is empty; give the runs something to do"))
    if problems:
        raise InvalidInput("; ".join(f"{one.field}: {one.description}" for one in problems), violations=problems)


@dataclass(frozen=True)
class _Ended:
    """A run of the load; `due` and `began` in seconds since the load's beginning, `in_flight` with it when it began."""

    due: float
    began: float
    in_flight: int
    run: run_pb2.Run
    state: str
    error: str


class _Driver:
    """Starts runs, watches them, and writes their rows."""

    def __init__(self, client: DjpClient, flags: LoadFlags, file: TextIO | None, tally: Tally, shown: Doing) -> None:
        self._client = client
        self._flags = flags
        self._file = file
        self._writer = csv.writer(file, lineterminator="\n") if file else None
        self._tally = tally
        self._shown = shown
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._room = asyncio.Semaphore(MAX_IN_FLIGHT)

    async def run(self) -> None:
        self._write(COLUMNS)
        flags = self._flags
        try:
            async with asyncio.TaskGroup() as group:
                for due in arrivals(flags.profile, rate=flags.rate, seconds=flags.seconds, seed=flags.seed):
                    await asyncio.sleep(max(0.0, due - self._now()))
                    await self._room.acquire()
                    group.create_task(self._one(due))
        except ExceptionGroup as failed:  # of many, the first says enough
            raise failed.exceptions[0] from failed

    async def _one(self, due: float) -> None:
        tally, began = self._tally, self._now()
        tally.started += 1
        tally.in_flight += 1
        tally.most_in_flight = max(tally.most_in_flight, tally.in_flight)
        in_flight, run, state, error = tally.in_flight, run_pb2.Run(), "refused", ""
        starting = self._loop.create_task(self._client.start_run(self._request()))
        try:
            run = await asyncio.shield(starting)
            state = "lost"
            async with aclosing(self._client.watch(run.run_id)) as events:
                async for event in events:
                    if event.state.state in TERMINAL_STATES and event.state.HasField("run"):
                        run = event.state.run
            state, error = state_name(run.state), run.error.message
        except DjpError as failed:
            error = failed.message
        except asyncio.CancelledError:
            state = "stopped"
            run = await self._cancelled(starting)
            raise
        finally:
            tally.in_flight -= 1
            self._room.release()
            self._keep(_Ended(due, began, in_flight, run, state, error))

    def _request(self) -> run_pb2.RunRequest:
        request = run_pb2.RunRequest(task=self._flags.task, workflow="load", seed=self._flags.seed)
        request.debaters.add(debater_id="d1", model=self._flags.debater)
        request.jurors.add(juror_id="j1", model=JUROR)
        return request

    async def _cancelled(self, starting: asyncio.Task[run_pb2.Run]) -> run_pb2.Run:
        """The run that was started, or is just being started, cancelled if that can be had soon."""
        run = run_pb2.Run()
        try:
            async with asyncio.timeout(_CANCEL_S):
                run = await starting
                return await self._client.cancel_run(run.run_id, reason="the load was stopped")
        except (DjpError, TimeoutError):  # it never began, or ends by itself
            return run

    def _keep(self, ended: _Ended) -> None:
        tally, run, now = self._tally, ended.run, self._now()
        tally.states[ended.state] = tally.states.get(ended.state, 0) + 1
        wait_ms = (run.started_at.ToNanoseconds() - run.created_at.ToNanoseconds()) / 1e6
        wait, latency_ms = f"{wait_ms:.0f}" if run.HasField("started_at") else "", (now - ended.began) * 1000
        if run.state in TERMINAL_STATES and ended.state != "stopped":
            tally.latencies_ms.append(latency_ms)
            if wait:
                tally.waits_ms.append(wait_ms)
        times = (f"{ended.due:.3f}", f"{ended.began:.3f}", f"{now:.3f}", str(ended.in_flight))
        self._write((*times, wait, f"{latency_ms:.0f}", ended.state, run.run_id, harmless(ended.error)))
        self._shown.tell(f"{now:.0f} s, {tally.started:,} runs started, {tally.in_flight:,} in flight")

    def _write(self, row: tuple[str, ...]) -> None:
        if self._file and self._writer:
            self._writer.writerow(row)
            self._file.flush()

    def _now(self) -> float:
        return self._loop.time() - self._began


def _tell(flags: LoadFlags, tally: Tally, *, stopped: bool) -> None:
    figures = {
        "runs": tally.started,
        "most_in_flight": tally.most_in_flight,
        "p95_wait_ms": round(p95(tally.waits_ms)),
        "p95_latency_ms": round(p95(tally.latencies_ms)),
    }
    if flags.as_json:
        told = {"profile": flags.profile, **figures, "states": tally.states, "stopped": stopped}
        print(json.dumps(told, indent=2), flush=True)
        return
    lines = {name.replace("_", " "): f"{value:,}" for name, value in figures.items()}
    lines |= {state: f"{count:,}" for state, count in sorted(tally.states.items())}
    print_table(Column(f"{flags.profile} load", list(lines)), Column("", list(lines.values())))
    if stopped:
        say("Stopped: no further run was started, and those in flight are cancelled.", "dim")
