"""Opens the redaction service: its rules, compiled, and its servicer."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from djp.mesh.errors import FailedPrecondition
from djp.mesh.server import Service
from djp.mesh.settings import MeshSettings
from djp.v1 import redaction_pb2, redaction_pb2_grpc
from djp_redaction.metrics import FindingMetrics
from djp_redaction.rule_file import load_rules, load_tenants
from djp_redaction.servicer import RedactionServicer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from djp_redaction.custom import Redactors
    from djp_redaction.settings import RedactionSettings


@asynccontextmanager
async def open_service(settings: RedactionSettings) -> AsyncIterator[Service]:
    """The service with the rules of `settings`. Raises FailedPrecondition if they cannot be used."""
    redactors = await asyncio.to_thread(_redactors, settings)
    secret = settings.pseudonym_key.get_secret_value() if settings.pseudonym_key else None
    mesh = MeshSettings()
    types = (rule.type for rule in redactors.of("").rule_set.rules)  # of the deployment, whoever asks
    metrics = FindingMetrics(types) if mesh.metrics_port is not None else None
    servicer = RedactionServicer(redactors, secret, mesh.max_message_bytes, metrics)
    descriptor = redaction_pb2.DESCRIPTOR.services_by_name["RedactionService"]
    yield Service("redaction", [(descriptor, servicer, redaction_pb2_grpc.add_RedactionServiceServicer_to_server)])


def _redactors(settings: RedactionSettings) -> Redactors:
    # With these come the engines, which only a server needs.
    from djp_redaction.custom import Redactors
    from djp_redaction.patterns import RuleRefused

    base = load_rules(settings.rules)
    try:
        return Redactors(base, load_tenants(settings.tenant_rules, base) if settings.tenant_rules else {})
    except RuleRefused as error:
        raise FailedPrecondition(f"{settings.rules}: {error}") from error
