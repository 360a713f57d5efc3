"""The redactor with the built-in rules, and the service on a real socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from djp.v1 import redaction_pb2_grpc
from djp_redaction.redactor import Redactor
from djp_redaction.rule_file import load_rules
from djp_redaction.server import open_service
from djp_redaction.settings import RedactionSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from djp_redaction.model import RuleSet


@pytest.fixture(scope="session")
def rule_set() -> RuleSet:
    return load_rules(RedactionSettings().rules)


@pytest.fixture(scope="session")
def redactor(rule_set: RuleSet) -> Redactor:
    return Redactor(rule_set)


@pytest.fixture
async def stub(serving: Any) -> AsyncIterator[redaction_pb2_grpc.RedactionServiceAsyncStub]:
    async with serving(open_service(RedactionSettings())) as channel:
        yield redaction_pb2_grpc.RedactionServiceStub(channel)
