"""Denied runs as dead letters of a mesh whose gateways are killed: replayed by `djp dlq replay`, each exactly once.

Used by test_mesh_kills.py and benchmarks/dead_letters.py. One tenant has no budget and asks for many runs; another one
asks for a run now and then, which tells whether it waits for the mass of the first.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from djp.v1 import governance_pb2, run_pb2
from tests.mesh.mesh_kills import Trial

if TYPE_CHECKING:
    from djp.client import DjpClient

DJP = Path(sys.executable).with_name("djp")
TENANT, OTHER = "ada", "grace"
_REQUEST = run_pb2.RunRequest(task="How is a budget kept?", preset="quick")
_AT_ONCE = 32
_EACH_S = 2.0
"""The other tenant asks so often."""

_DENIED = "SELECT count(*) FROM runs WHERE tenant = :tenant AND died_us IS NOT NULL AND state = :state"
_WAITING = "SELECT count(*) FROM runs WHERE tenant = :tenant AND waiting"
_IN_WORK = "SELECT count(*) FROM runs WHERE NOT terminal AND due_us IS NULL"
_PARKED = "SELECT count(*) FROM runs WHERE NOT terminal AND due_us IS NOT NULL"
_USED = "SELECT coalesce(sum(cost_nano_usd), 0) FROM runs WHERE tenant = :tenant AND share_us IS NOT NULL"
_NOT_ONCE = """
    SELECT dead.run_id, count(again.run_id) FROM runs AS dead
    LEFT JOIN runs AS again ON again.run_id = dead.replayed_as AND again.terminal
    WHERE dead.died_us IS NOT NULL GROUP BY dead.run_id HAVING count(again.run_id) <> 1
"""
_NOT_REPLAYED = "SELECT count(*) FROM runs WHERE died_us IS NOT NULL AND replayed_as IS NULL"
_ENDED_AS = "SELECT count(*) FROM runs WHERE tenant = :tenant AND state IN (:published, :advisory)"


class DeadLetterTrial(Trial):
    """First many runs are denied, then all are replayed; gateways are killed all the while."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.calm_s: list[float] = []
        self.crowded_s: list[float] = []
        """How long the other tenant's runs waited from accepted to begun, while nobody and while the mass waited."""
        self.deepest = 0
        self._denied = self._cost = self._bound = 0
        self.faults: list[str] = []

    async def limit(self, nano_usd: int) -> None:
        """What the first tenant may spend in a day and in a month."""
        budget, request_id = governance_pb2.Budget(daily_nano_usd=nano_usd, monthly_nano_usd=nano_usd), uuid.uuid4()

        async def set_it(client: DjpClient) -> None:
            await client.set_budget(f"tenant:{TENANT}", budget, "a trial", request_id=str(request_id))

        await self.until_answered(TENANT, set_it, role="operator")

    async def ask_now_and_then(self, waited_s: list[float], times: int, each_s: float) -> None:
        """Runs of the other tenant, one after the other, or until cancelled."""
        for _ in range(times):
            run = await self.start(OTHER, _REQUEST)
            while not run.HasField("finished_at"):
                await asyncio.sleep(0.1)
                run = await self.until_answered(OTHER, lambda client, run=run: client.get_run(run.run_id))
            self._cost, self._bound = run.result.total_nano_usd, run.projection.total.cost_nano_usd
            waited_s.append((run.started_at.ToNanoseconds() - run.created_at.ToNanoseconds()) / 1e9)
            await asyncio.sleep(each_s)

    async def be_denied(self, runs: int) -> None:
        """Ask for so many runs that have no budget, and wait until each is a dead letter."""
        room = asyncio.Semaphore(_AT_ONCE)

        async def ask() -> None:
            async with room:
                await self.start(TENANT, _REQUEST)
                self._progress(f"{len(self.known.accepted)} runs accepted")

        self._denied = runs
        await self.limit(1)
        others = asyncio.create_task(self.ask_now_and_then(self.crowded_s, 1_000_000, _EACH_S))
        asking = asyncio.gather(*(ask() for _ in range(runs)))
        waiting = 0
        while waiting or not asking.done():
            waiting = await self._count(_WAITING, tenant=TENANT)
            self.deepest = max(self.deepest, waiting)
            self._progress(f"{len(self.known.accepted)} runs accepted, at most {self.deepest} waited")
            await asyncio.sleep(0.5)
        await asking
        others.cancel()
        await asyncio.gather(others, return_exceptions=True)
        await self.all_ended()
        denied = await self._count(_DENIED, tenant=TENANT, state=run_pb2.RUN_STATE_DENIED)
        if denied != runs:
            self.faults.append(f"{denied} dead letters of {runs} runs without a budget")

    async def replay(self) -> int:
        """Replay all by the command, some in a window that has not room for all; how many were parked for the next.

        A replay at which too many gateways died is a dead letter, too, and replayed.
        """
        limit_nano_usd = 2 * self._bound + self._denied * self._cost
        await self.limit(limit_nano_usd)
        await self._replay_all()
        await self._until_none_works()
        used, parked = await self._count(_USED, tenant=TENANT), await self._count(_PARKED)
        if used > limit_nano_usd // 2:
            self.faults.append(f"replays used {used} of a window of {limit_nano_usd}")
        await self.limit(limit_nano_usd * 100)
        await asyncio.to_thread(self._reset_windows)
        await self.all_ended()
        while await self._count(_NOT_REPLAYED):
            await self._replay_all()
            await self.all_ended()
        return parked

    async def _replay_all(self) -> None:
        while True:
            gateway = self._rolled.choice(self._mesh.gateways).address
            command = await asyncio.create_subprocess_exec(
                *(DJP, "dlq", "replay", "--all", "--tenant", TENANT, "--gateway", gateway, "--json"),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            said, _ = await command.communicate()
            if command.returncode == 0:
                break
            self.known.errors["djp dlq replay"] += 1
        self.known.accepted |= dict.fromkeys(json.loads(said)["run_ids"], TENANT)

    async def check(self) -> None:
        """Every dead letter was replayed by one run, and as many runs have a text as were denied."""
        self.faults += [f"{row[0]}: replayed {row[1]} times" for row in await self.rows(_NOT_ONCE)]
        published, advisory = run_pb2.RUN_STATE_PUBLISHED, run_pb2.RUN_STATE_ADVISORY
        good = await self._count(_ENDED_AS, tenant=TENANT, published=published, advisory=advisory)
        if good != self._denied:
            self.faults.append(f"{good} runs have a text, and {self._denied} were denied")

    async def kill_gateways(self, pause_s: float) -> None:
        """One after the other, each when the one before is back, until cancelled."""
        while True:
            await asyncio.sleep(self._rolled.uniform(0.2, pause_s))
            name = self._rolled.choice(self._mesh.gateways).name
            await self.lose(name, 0.0, stays_away=False)
            self.known.kills["gateway"] += 1
            await self._mesh.answers(name)

    async def _until_none_works(self) -> None:
        while left := await self._count(_IN_WORK):
            self._progress(f"{left} replays left that are not parked")
            await asyncio.sleep(0.5)

    def _reset_windows(self) -> None:
        """What waits for a new window need not wait until midnight."""
        engine = sa.create_engine(self._mesh.urls["gateway"])
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE runs SET due_us = 0 WHERE NOT terminal AND due_us IS NOT NULL"))
        engine.dispose()

    async def _count(self, query: str, **values: Any) -> int:
        return int((await self.rows(query, **values))[0][0])
