"""Gateways on one Postgres are killed while they work: every accepted run ends once, and ledger and artifacts agree."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from djp.client import connect
from djp.mesh.channel import open_channel
from djp.mesh.errors import Cancelled, Unavailable
from djp.mesh.identity import Identity, identity_scope
from djp.run_states import TERMINAL_STATES
from djp.v1 import governance_pb2, governance_pb2_grpc, run_pb2
from tests.governance.ledger_postgres import new_postgres
from tests.mesh.test_whole_mesh import LEAVES, Home, _wait_for_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from djp.client import DjpClient

TENANTS = ("ada", "grace")
RUNS = 16
KILLED_AFTER = (3, 6, 9, 12)
"""A gateway is killed when so many runs have been accepted; the last of them does not come back."""
TASK = "How does the ledger keep a budget?"


class Gateways:
    """Replicas on one database, and the means to kill them."""

    def __init__(self, home: Home, environment: dict[str, str]) -> None:
        self._home = home
        self._environment = environment
        self.processes: dict[str, Any] = {}

    def address(self, name: str) -> str:
        return f"unix:{self._home.folder}/{name}.sock"

    def serve(self, name: str) -> None:
        environment = {**self._environment, "DJP_EXECUTOR_ID": name, "DJP_EXECUTOR_SILENCE_S": "3"}
        process = self._home.start("serve", "gateway", "--listen", self.address(name), **environment)
        _wait_for_line(process, "listening on")
        self.processes[name] = process

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    async def start(self, chance: random.Random, tenant: str) -> str:
        """A run that one of them has accepted; who is refused a connection asks another one, with the same request."""
        request_id = str(uuid.uuid4())
        while True:
            try:
                async with connect(self.address(chance.choice(sorted(self.processes)))) as client:
                    with identity_scope(Identity(tenant=tenant)):
                        run = await client.start_run(run_pb2.RunRequest(task=TASK), request_id=request_id)
                        return run.run_id
            except (Unavailable, Cancelled):
                await asyncio.sleep(0.1)


@pytest.fixture
def home(short_folder: Path) -> Iterator[Home]:
    with ExitStack() as stack:
        yield Home(short_folder, stack)


async def test_gateways_that_are_killed_at_random_lose_nothing_and_pay_nothing_twice(home: Home) -> None:
    chance = random.Random(9)
    started = {name: home.serve(name) for name in LEAVES}
    addresses = {f"DJP_{name.upper()}_ADDRESS": address for name, (_, address) in started.items()}
    with new_postgres() as url:
        gateways = Gateways(home, {**addresses, "DJP_GATEWAY_DATABASE_URL": url})
        for name in ("g1", "g2", "g3"):
            gateways.serve(name)
        runs: dict[str, str] = {}
        for number in range(1, RUNS + 1):
            tenant = chance.choice(TENANTS)
            runs[await gateways.start(chance, tenant)] = tenant
            if number in KILLED_AFTER:
                name = chance.choice(sorted(gateways.processes))
                gateways.kill(name)
                if number != KILLED_AFTER[-1]:
                    gateways.serve(name)
        left = sorted(gateways.processes)
        assert len(left) == 2
        async with connect(gateways.address(left[0])) as client, open_channel(started["governance"][1]) as channel:
            ledger = governance_pb2_grpc.GovernanceServiceStub(channel)
            artifacts = home.folder / "home/artifacts"
            paid = {
                run_id: await _checked(client, ledger, artifacts, run_id, tenant) for run_id, tenant in runs.items()
            }
            budgets = (await ledger.ListBudgets(governance_pb2.ListBudgetsRequest())).budgets
            assert {window.reserved_nano_usd for budget in budgets for window in budget.windows} == {0}
            for tenant in TENANTS:
                with identity_scope(Identity(tenant=tenant)):
                    listed = (await client.list_runs(run_pb2.ListRunsRequest(page_size=1000))).runs
                assert {run.run_id for run in listed} == {run_id for run_id, one in runs.items() if one == tenant}
        # Offline, every run has the same calls: what is more than that was under way when its gateway died.
        assert len(set(paid.values())) == 1
        for name in left:
            gateways.processes[name].terminate()
            assert gateways.processes[name].wait(timeout=60) == 0


async def _checked(client: DjpClient, ledger: Any, artifacts: Path, run_id: str, tenant: str) -> int:
    """How many calls of known usage the run paid, when it has ended, and all that tells of it agrees."""
    with identity_scope(Identity(tenant=tenant)):
        events = [event async for event in client.watch(run_id)]
        run = await client.get_run(run_id)
        request = governance_pb2.ListReservationsRequest(run_id=run_id)
        reservations = (await ledger.ListReservations(request)).reservations
        totals = [
            total
            for one in reservations
            for total in (
                await ledger.GetReservation(governance_pb2.GetReservationRequest(reservation_id=one.reservation_id))
            ).totals
        ]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.state.state in TERMINAL_STATES for event in events if event.HasField("state")].count(True) == 1
    assert run.state in (run_pb2.RUN_STATE_PUBLISHED, run_pb2.RUN_STATE_ADVISORY), run.error
    assert {one.state for one in reservations} == {governance_pb2.RESERVATION_STATE_SETTLED}
    artifact = json.loads((artifacts / run.result.artifact_location).read_text())
    charged = sum(one.charged_nano_usd for one in reservations)
    assert charged == run.result.total_nano_usd == artifact["provenance"]["total_cost_nano_usd"]
    assert artifact["publish"]["text"] == run.result.text
    return sum(total.calls - total.usage_unknown_calls for total in totals)
