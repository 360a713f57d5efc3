"""A whole mesh of processes on Postgres and MinIO is killed at random; benchmarks/ does the same for longer."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from tests.mesh.mesh_audit import Audit
from tests.mesh.mesh_dead_letters import DeadLetterTrial
from tests.mesh.mesh_kills import AMPLE, Pace, Trial, answers, providers_file
from tests.mesh.mesh_processes import running_mesh

if TYPE_CHECKING:
    from pathlib import Path

RUNS, KILLS, CLIENTS, LETTERS = 12, 4, 50, 8


async def test_no_kill_loses_a_run_or_a_nano_dollar(tmp_path: Path) -> None:
    async with answers(random.Random(1), Pace()) as server:
        providers = providers_file(server, tmp_path / "providers.yaml")
        async with running_mesh(DJP_PROVIDERS=providers, **AMPLE) as mesh:
            trial = Trial(mesh, random.Random(2))
            await trial.make_corpora(tmp_path / "docs")
            await trial.ask(RUNS, KILLS, 3.0)
            assert await trial.same_request(CLIENTS, killing=True) == 1
            await trial.all_ended()
            audit = Audit(mesh, trial.known)
            await audit.check()
            assert not audit.faults


async def test_denied_runs_are_replayed_once_while_gateways_are_killed() -> None:
    async with running_mesh(**AMPLE) as mesh:
        trial = DeadLetterTrial(mesh, random.Random(3))
        await trial.ask_now_and_then([], 1, 0.0)
        killing = asyncio.create_task(trial.kill_gateways(8.0))
        await trial.be_denied(LETTERS)
        await trial.replay()
        killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)
        audit = Audit(mesh, trial.known)
        await audit.check()
        await trial.check()
        assert not [*trial.faults, *audit.faults]
