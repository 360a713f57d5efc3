"""Runs of four tenants on a mesh whose processes are killed: who asks, who kills, and what recovery takes.

Used by test_mesh_kills.py and benchmarks/mesh_kills.py. Two tenants ask the offline debaters, two ask models of a model
server that is not killed. Some runs are cancelled, some wait for approval. A call that breaks is made again, at any
gateway, with the same request_id. What must be true afterwards is in mesh_audit.py.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml
from sqlalchemy.exc import DBAPIError

from djp.client import connect
from djp.mesh.errors import DjpError
from djp.mesh.identity import Identity, identity_scope
from djp.v1 import debate_pb2, judge_pb2, run_pb2
from tests.llm.model_server import Behaviour, ModelServer

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from djp.client import DjpClient
    from tests.llm.model_server import Call
    from tests.mesh.mesh_processes import Mesh

TENANTS = {"ada": "offline", "alan": "local", "edsger": "local", "grace": "offline"}
"""By name, whose models they ask."""
CORPUS = "docs"
CITED = "The ledger reserves the most that a run can cost before a model is called"
DOCUMENTS = {
    "budgets.md": f"# Budgets\n\n{CITED}. What is not spent is given back when the run is settled.\n",
    "jury.md": "# The Jury\n\nJurors see the drafts without names, in two orders, and score each of them.\n",
    "storage.md": "# Storage\n\nAn artifact is acknowledged when its bytes and its entry in the catalogue are safe.\n",
}
_DEBATERS, _JURORS, _ROUNDS = 3, 2, 2
_LEAD = 20
"""So many more runs than kills have earned are asked for, that there is always something to kill."""
_AWAY_S, _LONG_AWAY_S = (0.0, 1.5), (12.0, 20.0)
"""How long what was killed stays away; the longer time lets other gateways take over."""
_PASSING = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN"}
"""UNKNOWN is what a client hears whose server dies between two frames."""

AMPLE = {
    f"{name}_BUDGET_{period}": "100000"
    for name, period in (
        ("GLOBAL", "DAILY"),
        ("GLOBAL", "MONTHLY"),
        ("TENANT", "DAILY_DEFAULT"),
        ("TENANT", "MONTHLY_DEFAULT"),
    )
}
"""Settings of budgets that refuse nobody."""

_IN_WORK = "SELECT run_id FROM runs WHERE executor = :name AND NOT terminal AND NOT waiting AND due_us IS NULL"
_LEFT = "SELECT count(*) FROM runs WHERE NOT terminal"


@dataclass
class Loss:
    """A gateway that was killed with runs in work."""

    gateway: str
    at: float
    """By time.time(), which is also the clock of the runs' events."""
    run_ids: list[str]
    stays_away: bool


@dataclass
class Known:
    """What clients were told, and what was killed."""

    accepted: dict[str, str] = field(default_factory=dict)
    """Tenant by run."""
    cancelled: set[str] = field(default_factory=set)
    kills: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    losses: list[Loss] = field(default_factory=list)


@dataclass
class Pace:
    """How long a model thinks before it answers, in seconds."""

    least_s: float = 0.02
    most_s: float = 0.5


def answers(rolled: random.Random, pace: Pace) -> ModelServer:
    """A model server whose debaters cite and whose jurors score."""

    def script(call: Call) -> Behaviour:
        delay_s = rolled.uniform(pace.least_s, pace.most_s)
        if call.model.startswith("d"):
            draft = {"answer": f"{CITED} [Budgets]. So says {call.model}.", "evidence": []}
            text = json.dumps({**draft, "confidence": 0.5, "safety_flags": []})
        else:
            assert call.schema
            marks = {"reason": "fine", "task_fit": 3, "support": 3, "clarity": 1}
            text = json.dumps({one: {**marks, "support": 4 - n} for n, one in enumerate(call.schema["properties"])})
        return Behaviour(text, delay_s=delay_s, gap_s=delay_s / 10, max_pieces=5)

    return ModelServer(script)


def providers_file(server: ModelServer, path: Path) -> str:
    """A file that names the server's models; its path."""
    names = [*(f"d{n}" for n in range(1, _DEBATERS + 1)), *(f"j{n}" for n in range(1, _JURORS + 1))]
    models = {name: {"price": {"input": 1, "output": 2}, "family": f"family-{name}"} for name in names}
    path.write_text(
        yaml.safe_dump({"providers": {"local": {"api": "openai", "base_url": server.openai_url, "models": models}}})
    )
    return str(path)


class Trial:
    """Clients and their killer; `progress` is told a line now and then."""

    def __init__(self, mesh: Mesh, rolled: random.Random, progress: Callable[[str], None] = lambda _: None) -> None:
        self._mesh = mesh
        self._rolled = rolled
        self._progress = progress
        self.known = Known()
        self.lost_for_good = 0
        self._killed = 0

    async def until_answered(
        self, tenant: str, call: Callable[[DjpClient], Awaitable[Any]], gateway: str | None = None, role: str = "tenant"
    ) -> Any:
        """The answer, for that tenant; the first try goes to that gateway, every other one to any."""
        while True:
            address, gateway = gateway or self._rolled.choice(self._mesh.gateways).address, None
            try:
                async with connect(address, retry_waits_s=()) as client:
                    with identity_scope(Identity(tenant=tenant, role=role)):
                        return await call(client)
            except DjpError as error:
                self.known.errors[error.code] += 1
                if error.code not in _PASSING:
                    raise
            await asyncio.sleep(0.1)

    async def make_corpora(self, folder: Path) -> None:
        """What all runs are grounded in."""
        _write_documents(folder)
        for tenant in TENANTS:
            await self.until_answered(tenant, lambda client: client.create_corpus(folder, name=CORPUS))

    async def ask(self, runs: int, kills: int, pause_s: float) -> None:
        """Ask for so many runs while so many processes are killed, and wait until all have ended."""
        ended = asyncio.Event()
        approving = asyncio.create_task(self._approve(ended))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._kill(kills, pause_s))
            for number in range(runs):
                while number > _LEAD + runs * self._killed / max(kills, 1) and self._killed < kills:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                group.create_task(self._start())
                await asyncio.sleep(0)
        self._progress(f"{runs} runs accepted, {self._killed} kills; waiting until all have ended")
        await self.all_ended()
        ended.set()
        await approving

    async def all_ended(self) -> None:
        """Wait until no run is left."""
        while left := (await self.rows(_LEFT))[0][0]:
            self._progress(f"{left} runs left")
            await asyncio.sleep(0.5)

    async def rows(self, query: str, **values: Any) -> list[Any]:
        """What a query finds in the gateways' database, as soon as it answers."""
        while True:
            with suppress(DBAPIError):
                return await asyncio.to_thread(self._mesh.rows, "gateway", query, **values)
            await asyncio.sleep(0.2)

    async def start(
        self,
        tenant: str,
        request: run_pb2.RunRequest | None = None,
        *,
        request_id: str | None = None,
        gateway: str | None = None,
    ) -> run_pb2.Run:
        """A run that was accepted."""
        wanted, request_id = request or request_of(tenant), request_id or str(uuid.uuid4())
        run: run_pb2.Run = await self.until_answered(
            tenant, lambda client: client.start_run(wanted, request_id=request_id), gateway
        )
        self.known.accepted[run.run_id] = tenant
        return run

    async def same_request(self, clients: int, *, killing: bool) -> int:
        """Let so many clients start a run with one request_id at once, at all gateways; how many runs that made."""
        tenant, request_id = self._rolled.choice(sorted(TENANTS)), str(uuid.uuid4())
        addresses = [one.address for one in self._mesh.gateways]
        starts = [
            asyncio.ensure_future(self.start(tenant, request_id=request_id, gateway=addresses[n % len(addresses)]))
            for n in range(clients)
        ]
        if killing:
            await asyncio.sleep(self._rolled.uniform(0, 0.3))
            self.known.kills["gateway"] += 1
            await self.lose(self._rolled.choice(self._mesh.gateways).name, 0.0, stays_away=False)
        return len({run.run_id for run in await asyncio.gather(*starts)})

    async def lose_for_good(self, runs: int, away_s: float) -> None:
        """Kill a gateway that works on runs, and keep it away until others have ended them."""
        tenants = [name for name, whose in TENANTS.items() if whose == "local"]
        await asyncio.gather(*(self.start(tenants[n % len(tenants)]) for n in range(runs)))
        while True:
            name = self._rolled.choice(self._mesh.gateways).name
            if self._mesh.served[name].runs and await self.rows(_IN_WORK, name=name):
                break
            await asyncio.sleep(0.05)
        self.known.kills["gateway"] += 1
        self.lost_for_good += 1
        await self.lose(name, away_s, stays_away=True)
        await self.all_ended()

    async def _start(self) -> None:
        tenant = self._rolled.choice(sorted(TENANTS))
        fate = self._rolled.random()
        run = await self.start(tenant, request_of(tenant, require_approval=fate < 0.1))
        if fate > 0.95:
            await asyncio.sleep(self._rolled.uniform(0, 3))
            request_id = str(uuid.uuid4())
            self.known.cancelled.add(run.run_id)
            await self.until_answered(tenant, lambda client: client.cancel_run(run.run_id, request_id=request_id))

    async def _approve(self, ended: asyncio.Event) -> None:
        """Approve what waits for it, until all runs have ended."""
        pending = run_pb2.ListRunsRequest(states=[run_pb2.RUN_STATE_PENDING_APPROVAL], page_size=100)
        decided: set[str] = set()
        while not ended.is_set():
            for tenant in TENANTS:
                listed = await self.until_answered(tenant, lambda client: client.list_runs(pending))
                for run in listed.runs:
                    if run.run_id in decided or run.run_id in self.known.cancelled:
                        continue
                    request_id = str(uuid.uuid4())
                    with suppress(DjpError):  # it was cancelled in this moment
                        await self.until_answered(
                            tenant,
                            lambda client, run=run, request_id=request_id: client.approve_run(
                                run.run_id, request_id=request_id
                            ),
                        )
                    decided.add(run.run_id)
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await ended.wait()

    async def _kill(self, times: int, pause_s: float) -> None:
        """Kill one after the other at random moments, each when the one before is back or stays away for longer."""
        victims = [*self._mesh.served, "minio", "postgres"]
        for _ in range(times):
            await asyncio.sleep(self._rolled.uniform(0, pause_s))
            name = self._rolled.choice(victims)
            is_gateway = name in {one.name for one in self._mesh.gateways}
            long = is_gateway and self._rolled.random() < 0.33
            away_s = self._rolled.uniform(*(_LONG_AWAY_S if long else _AWAY_S))
            if is_gateway:
                await self.lose(name, away_s, stays_away=long)
            else:
                await self._mesh.kill(name, away_s)
            if name in self._mesh.served and not long:
                await self._mesh.answers(name)
            self.known.kills[name.rstrip("0123456789") if not is_gateway else "gateway"] += 1
            self._killed += 1
            self._progress(f"{self._killed} kills, {len(self.known.accepted)} runs accepted")

    async def lose(self, name: str, away_s: float, *, stays_away: bool) -> None:
        """Kill a gateway, and keep in mind which runs it had in work."""
        if self._mesh.served[name].runs:
            run_ids = [row[0] for row in await self.rows(_IN_WORK, name=name)]
            self.known.losses.append(Loss(name, time.time(), run_ids, stays_away))
        await self._mesh.kill(name, away_s)


def _write_documents(folder: Path) -> None:
    folder.mkdir()
    for name, text in DOCUMENTS.items():
        (folder / name).write_text(text)


def request_of(tenant: str, *, require_approval: bool = False) -> run_pb2.RunRequest:
    """What that tenant asks."""
    request = run_pb2.RunRequest(
        task="How does the ledger keep a budget?",
        corpus=CORPUS,
        grounded_required=1,
        rounds=_ROUNDS,
        require_approval=require_approval,
    )
    if TENANTS.get(tenant) == "local":
        request.debaters.extend(
            debate_pb2.Debater(debater_id=f"d{n}", model=f"local/d{n}") for n in range(1, _DEBATERS + 1)
        )
        request.jurors.extend(judge_pb2.Juror(juror_id=f"j{n}", model=f"local/j{n}") for n in range(1, _JURORS + 1))
    return request
