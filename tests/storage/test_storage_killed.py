"""The service, MinIO and Postgres are killed while clients work; benchmarks/storage_kills.py does it 200 times."""

from __future__ import annotations

from tests.storage.storage_kills import trial


async def test_no_kill_loses_or_doubles_an_artifact() -> None:
    known, faults = await trial(8, kills=6, clients=3, pause_s=1.0)
    assert faults == []
    assert len(known.hashes) >= 6
