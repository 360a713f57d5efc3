"""Putting artifacts in and getting them out again, over a real socket."""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from pathlib import Path
from typing import Any

import grpc
import pytest

from djp.mesh.identity import Identity, identity_scope
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import common_pb2, storage_pb2


async def refused(call: Any) -> Any:
    """The error that the service answers with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_from_rpc(caught.value)


async def test_a_put_artifact_comes_back_as_it_went_in(client: Any, home: Path) -> None:
    content = os.urandom(3_000_000)
    digest = hashlib.sha256(content).hexdigest()
    put = await client.put(
        content[:1_000_000],
        b"",
        content[1_000_000:],
        artifact="report.json",
        workflow="adhoc",
        sha256=digest,
        content_type="application/json",
        run_id="r1",
        tags={"preset": "lean", "naïve": "ж"},
    )
    info, got = await client.get("report.json", "adhoc")
    assert got == content
    assert info == put == await client.stat("report.json", "adhoc")
    assert (info.size, info.sha256, info.tenant, info.tier) == (3_000_000, digest, "acme", common_pb2.TIER_HOT)
    assert (info.content_type, info.run_id, dict(info.tags)) == (
        "application/json",
        "r1",
        {"preset": "lean", "naïve": "ж"},
    )
    assert info.location == str(home / "artifacts/hot/acme/adhoc/report.json")
    assert Path(info.location).read_bytes() == content
    assert info.created_at == info.modified_at == info.tier_since
    assert not info.HasField("due_at")
