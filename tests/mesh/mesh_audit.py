"""What must be true of a mesh when all its runs have ended: asked of its public RPCs, and of its databases in sets."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from djp.client import connect
from djp.mesh.identity import Identity, identity_scope
from djp.run_states import TERMINAL_STATES
from djp.v1 import run_pb2
from tests.mesh.mesh_kills import TENANTS

if TYPE_CHECKING:
    from djp.client import DjpClient
    from tests.mesh.mesh_kills import Known, Loss
    from tests.mesh.mesh_processes import Mesh

_WITH_RESULT = (run_pb2.RUN_STATE_PUBLISHED, run_pb2.RUN_STATE_ADVISORY, run_pb2.RUN_STATE_NO_RESULT)
_AT_ONCE = 8

_EVENTS = """
    SELECT runs.run_id, count(sequence), coalesce(max(sequence), 0), runs.last_sequence
    FROM runs LEFT JOIN run_events ON run_events.run_id = runs.run_id
    GROUP BY runs.run_id
    HAVING count(sequence) <> runs.last_sequence OR coalesce(max(sequence), 0) <> runs.last_sequence
"""
_CHARGED = """
    SELECT run_id, sum(charged_nano), sum((SELECT coalesce(sum(cost_nano), 0) FROM calls
      WHERE calls.reservation_id = reservations.reservation_id)) FROM reservations GROUP BY run_id
"""
_ENTRIES = """
    SELECT reservation_id FROM reservations JOIN entries USING (reservation_id)
    GROUP BY reservation_id, charged_nano
    HAVING sum(entries.reserved_nano) <> 0 OR sum(entries.spent_nano) <> charged_nano
"""
_WINDOWS = """
    SELECT scope, period, reserved_nano, reserved_tokens, spent_nano FROM windows
    WHERE reserved_nano <> 0 OR reserved_tokens <> 0
       OR period = 'day' AND scope = 'global' AND spent_nano <> (SELECT sum(charged_nano) FROM reservations)
"""
_PAID = """
    SELECT run_id, model, count(*) FILTER (WHERE NOT usage_unknown), count(*) FROM calls
    JOIN reservations USING (reservation_id) GROUP BY run_id, model
"""


class Audit:
    """Faults in words, and figures about what was found."""

    def __init__(self, mesh: Mesh, known: Known) -> None:
        self._mesh = mesh
        self._known = known
        self.faults: list[str] = []
        self.states: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self._running_at: dict[str, list[float]] = defaultdict(list)
        """By run, when somebody began to work on it, and when it ended."""

    async def check(self, most: int = 1_000_000) -> None:
        """Look at everything; at the events and the artifacts of so many runs one by one, and else in sets."""
        gateway = next(one for one in self._mesh.gateways if one.runs)
        async with connect(gateway.address) as client:
            runs = await self._listed(client)
            room = asyncio.Semaphore(_AT_ONCE)

            async def look(run: run_pb2.Run) -> None:
                async with room:
                    await self._run(client, run)

            await asyncio.gather(*map(look, list(runs.values())[:most]))
        await asyncio.to_thread(self._ledger, runs)
        await asyncio.to_thread(self._store, runs)

    async def _listed(self, client: DjpClient) -> dict[str, run_pb2.Run]:
        """All runs of all tenants: those that were accepted, and no others."""
        runs = {}
        for tenant in TENANTS:
            request = run_pb2.ListRunsRequest(page_size=200)
            with identity_scope(Identity(tenant=tenant)):
                while True:
                    page = await client.list_runs(request)
                    runs |= {run.run_id: run for run in page.runs}
                    if not (token := page.next_page_token):
                        break
                    request.page_token = token
        found = {run_id: run.tenant for run_id, run in runs.items()}
        for run_id in found.items() ^ self._known.accepted.items():
            self.faults.append(f"{run_id}: accepted or listed, not both")
        return runs

    async def _run(self, client: DjpClient, run: run_pb2.Run) -> None:
        """One run's events and its artifact."""
        with identity_scope(Identity(tenant=run.tenant)):
            events = [event async for event in client.watch(run.run_id)]
        if [event.sequence for event in events] != list(range(1, len(events) + 1)):
            self.faults.append(f"{run.run_id}: events have gaps")
        ends = [event.state.state for event in events if event.state.state in TERMINAL_STATES]
        if ends != [run.state] or events[-1].state.state != run.state:
            self.faults.append(f"{run.run_id}: ended as {ends}, is {run.state}")
        self._running_at[run.run_id] = [
            event.at.ToNanoseconds() / 1e9
            for event in events
            if event.HasField("state") and event.state.state in (run_pb2.RUN_STATE_RUNNING, *TERMINAL_STATES)
        ]
        self.states[run_pb2.RunState.Name(run.state)] += 1
        if run.state == run_pb2.RUN_STATE_CANCELLED and run.run_id not in self._known.cancelled:
            self.faults.append(f"{run.run_id}: cancelled by nobody")
        if run.state in _WITH_RESULT:
            await self._artifact(client, run)
        elif run.state != run_pb2.RUN_STATE_CANCELLED:
            self.reasons[f"{run.error.stage} {run.error.reason} {run.error.message}"] += 1

    async def _artifact(self, client: DjpClient, run: run_pb2.Run) -> None:
        content = b""
        with identity_scope(Identity(tenant=run.tenant)):
            async for part in client.storage.get(run.result.artifact_workflow, run.result.artifact_name):
                if isinstance(part, bytes):
                    content += part
        if hashlib.sha256(content).hexdigest() != run.result.artifact_sha256:
            self.faults.append(f"{run.run_id}: the artifact has another hash")
            return
        artifact = json.loads(content)
        cost = artifact["provenance"]["total_cost_nano_usd"]
        if cost != run.result.total_nano_usd:
            self.faults.append(f"{run.run_id}: cost {run.result.total_nano_usd}, and {cost} in the artifact")
        if artifact["publish"]["text"] != run.result.text:
            self.faults.append(f"{run.run_id}: another text in the artifact")

    def _ledger(self, runs: dict[str, run_pb2.Run]) -> None:
        """Money: run by run to the nano-dollar, nothing held, nothing paid twice."""
        rows = self._mesh.rows
        for run_id, count, last, said in rows("gateway", _EVENTS):
            self.faults.append(f"{run_id}: {count} events up to {last}, should be {said}")
        for table in ("run_checkpoints", "runs WHERE NOT terminal"):
            if left := rows("gateway", f"SELECT count(*) FROM {table}")[0][0]:
                self.faults.append(f"{left} rows left in {table}")
        for run_id, state in rows("governance", "SELECT run_id, state FROM reservations WHERE closed_us IS NULL"):
            self.faults.append(f"{run_id}: a reservation is {state}")
        charged = {run_id: (int(total), int(calls)) for run_id, total, calls in rows("governance", _CHARGED)}
        for run in runs.values():
            total, calls = charged.get(run.run_id, (0, 0))
            if not total == calls == run.result.total_nano_usd:
                self.faults.append(
                    f"{run.run_id}: charged {total}, calls {calls}, cost of the run {run.result.total_nano_usd} "
                    f"({run_pb2.RunState.Name(run.state)})"
                )
        self.faults += [f"{run_id}: in the ledger only" for run_id in charged.keys() - runs.keys()]
        self.faults += [f"{row[0]}: its entries do not add up" for row in rows("governance", _ENTRIES)]
        self.faults += [f"window {tuple(row)}" for row in rows("governance", _WINDOWS)]
        paid: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
        self.calls = self.unknown = 0
        for run_id, model, known, all_ in rows("governance", _PAID):
            self.calls += known
            self.unknown += all_ - known
            if run_id in runs and runs[run_id].state in _WITH_RESULT:
                paid[TENANTS[runs[run_id].tenant], model][known] += 1
        for (_, model), counts in paid.items():
            if len(counts) > 1:
                self.faults.append(f"calls of {model} that runs have paid for: {dict(counts)}; should be one number")

    def _store(self, runs: dict[str, run_pb2.Run]) -> None:
        """Artifacts: of every run with a result one, and no others."""
        kept = {row[0]: row[1] for row in self._mesh.rows("storage", "SELECT artifact, sha256 FROM artifacts")}
        should = {
            run.result.artifact_name: run.result.artifact_sha256 for run in runs.values() if run.state in _WITH_RESULT
        }
        self.faults += [f"artifact {name} is lost" for name in should.keys() - kept.keys()]
        self.faults += [
            f"artifact {name} has another hash" for name in should.keys() & kept.keys() if should[name] != kept[name]
        ]
        for name in kept.keys() - should.keys():
            run = runs[name.removesuffix(".json")]
            self.faults.append(f"artifact {name} of a run that is {run_pb2.RunState.Name(run.state)}")

    def recoveries(self, losses: list[Loss]) -> list[float]:
        """By run of a gateway that was killed, seconds until somebody worked on it again, or it had ended."""
        found = []
        for loss in losses:
            for run_id in loss.run_ids:
                if after := [at - loss.at for at in self._running_at.get(run_id, ()) if at > loss.at]:
                    found.append(min(after))
        return found
