"""Opens the redaction service: its rules, compiled, and its servicer."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from djp.mesh.errors import FailedPrecondition
from djp.mesh.server import Service
from djp.mesh.settings import MeshSettings
from djp.v1 import redaction_pb2, redaction_pb2_grpc
from djp_redaction.rule_file import load_rules
from djp_redaction.servicer import RedactionServicer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from djp_redaction.redactor import Redactor
    from djp_redaction.settings import RedactionSettings


@asynccontextmanager
async def open_service(settings: RedactionSettings) -> AsyncIterator[Service]:
    """The service with the rules of `settings.rules`. Raises FailedPrecondition if they cannot be used."""
    redactor = await asyncio.to_thread(_redactor, settings)
    servicer = RedactionServicer(redactor, MeshSettings().max_message_bytes)
    descriptor = redaction_pb2.DESCRIPTOR.services_by_name["RedactionService"]
    yield Service("redaction", [(descriptor, servicer, redaction_pb2_grpc.add_RedactionServiceServicer_to_server)])


def _redactor(settings: RedactionSettings) -> Redactor:
    # With these come the engines, which only a server needs.
    from djp_redaction.matcher import RuleRefused
    from djp_redaction.redactor import Redactor

    try:
        return Redactor(load_rules(settings.rules))
    except RuleRefused as error:
        raise FailedPrecondition(f"{settings.rules}: {error}") from error
