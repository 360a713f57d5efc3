"""What each role may call: every public RPC stands in the table, and is tried in every role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from djp.mesh.channel import open_channel
from djp.mesh.errors import PermissionDenied
from djp.mesh.identity import ROLES, Identity
from djp.mesh.rpc_errors import error_from_rpc
from djp.rest_check import public_services
from djp_gateway.access import LEAST_ROLE, authorize
from djp_gateway.forward import is_public
from tests.gateway.test_gateway_keys import made, port

if TYPE_CHECKING:
    from google.protobuf.descriptor import MethodDescriptor

METHODS = {
    f"/{service.full_name}/{method.name}": method
    for service in public_services()
    for method in service.methods
    if is_public(method)
}
MAY = {
    "reader": {"reader"},
    "tenant": {"reader", "tenant"},
    "operator": {"reader", "tenant", "operator"},
    "admin": {"reader", "tenant", "operator", "admin"},
}
"""Of which least roles each may call the RPCs."""
NEVER_FOR = {  # spelled out here once more, for a table that says the wrong thing fits itself
    "reader": "StartRun ApproveRun RejectRun CancelRun PurgeArtifact PurgeDeadLetters SetBudget CreateKey ListKeys",
    "tenant": "SetBudget DeleteBudget Reconcile CreateKey ListKeys RevokeKey",
    "operator": "CreateKey ListKeys RevokeKey",
    "admin": "",
}


def test_every_public_rpc_has_its_role() -> None:
    assert set(LEAST_ROLE) == set(METHODS), "a new RPC needs a place in djp_gateway/access.py"
    assert set(MAY) == set(ROLES)
    for role, names in NEVER_FOR.items():
        may_not = {method.rpartition("/")[2] for method, least in LEAST_ROLE.items() if least not in MAY[role]}
        assert set(names.split()) <= may_not


def test_what_is_not_in_the_table_is_for_admins() -> None:
    with pytest.raises(PermissionDenied, match="admin"):
        authorize("/djp.v1.RunService/Surprise", Identity(role="operator"))
    authorize("/djp.v1.RunService/Surprise", Identity(role="admin"))


async def refused(channel: grpc.aio.Channel, path: str, method: MethodDescriptor) -> bool:
    """Whether the caller may not; whatever else is said to an empty request lets it be a caller who may."""
    kind = "_".join("stream" if many else "unary" for many in (method.client_streaming, method.server_streaming))
    call = getattr(channel, kind)(path)(iter([b""]) if method.client_streaming else b"", timeout=30)
    try:
        await (call.read() if method.server_streaming else call)
    except grpc.aio.AioRpcError as error:
        told = error_from_rpc(error)
        assert told.code not in ("UNAUTHENTICATED", "DEADLINE_EXCEEDED"), path
        if told.code == "PERMISSION_DENIED":
            assert method.name in told.message
            return True
    finally:
        call.cancel()
    return False


async def test_every_rpc_in_every_role(mesh: Any, gateway: Any) -> None:
    served = {descriptor.full_name for descriptor, *_ in gateway.service.servicers}
    methods = {path: method for path, method in METHODS.items() if method.containing_service.full_name in served}
    async with port(mesh) as address:
        for role, least in MAY.items():
            key = await made(gateway, role)
            headers = {"authorization": f"Bearer {key.secret}"}
            async with open_channel(address, headers=headers) as channel:
                may_not = {path for path, method in methods.items() if await refused(channel, path, method)}
            assert may_not == {path for path in methods if LEAST_ROLE[path] not in least}, role


async def test_a_reader_acts_for_no_other_tenant_and_starts_nothing_at_a_socket(mesh: Any, gateway: Any) -> None:
    reader = await made(gateway, "reader")
    async with port(mesh) as address:
        headers = {"authorization": f"Bearer {reader.secret}", "djp-tenant": "grace"}
        async with open_channel(address, headers=headers) as channel:
            listed = await channel.unary_unary("/djp.v1.KeyService/ListAuditEvents")(b"", timeout=30).code()
            assert listed == grpc.StatusCode.PERMISSION_DENIED
            assert not await refused(channel, "/djp.v1.RunService/ListRuns", METHODS["/djp.v1.RunService/ListRuns"])
    async with open_channel(gateway.server.address, headers={"djp-role": "reader"}) as channel:
        assert await refused(channel, "/djp.v1.RunService/StartRun", METHODS["/djp.v1.RunService/StartRun"])
