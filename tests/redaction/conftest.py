"""The redactor with the built-in rules, and the service on a real socket."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from djp.mesh.channel import open_channel
from djp.mesh.server import MeshServer
from djp.v1 import redaction_pb2_grpc
from djp_redaction.redactor import Redactor
from djp_redaction.rule_file import load_rules
from djp_redaction.server import open_service
from djp_redaction.settings import RedactionSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from djp_redaction.model import RuleSet


@pytest.fixture(scope="session")
def rule_set() -> RuleSet:
    return load_rules(RedactionSettings().rules)


@pytest.fixture(scope="session")
def redactor(rule_set: RuleSet) -> Redactor:
    return Redactor(rule_set)


@pytest.fixture
def socket_address() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="djp-"))
    yield f"unix:{folder}/redaction.sock"
    shutil.rmtree(folder)


@pytest.fixture
async def stub(socket_address: str) -> AsyncIterator[redaction_pb2_grpc.RedactionServiceAsyncStub]:
    async with (
        open_service(RedactionSettings()) as service,
        MeshServer(service, socket_address),
        open_channel(socket_address) as channel,
    ):
        yield redaction_pb2_grpc.RedactionServiceStub(channel)
