"""The comparison of catalogue and objects on the wire."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from djp.mesh.errors import PermissionDenied
from djp.mesh.identity import current_identity
from djp.v1 import storage_pb2, storage_pb2_grpc
from djp_storage.mending import mending
from djp_storage.reconcile import Reconciliation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc

    from djp_storage.parts import Parts
    from djp_storage.reconcile import Compared, Difference


class ReconcileRpcs(storage_pb2_grpc.StorageServiceServicer):
    """For operators: it looks at every tenant's artifacts."""

    _parts: Parts

    async def Reconcile(
        self,
        request: storage_pb2.ReconcileRequest,
        context: grpc.aio.ServicerContext[storage_pb2.ReconcileRequest, storage_pb2.ReconcileResponse],
    ) -> AsyncIterator[storage_pb2.ReconcileResponse]:
        """Each difference, and now and then only how far it has come.

        The request_id is not kept: what was mended is no difference the next time.
        """
        if not current_identity().operates:
            raise PermissionDenied("only an operator may reconcile: it looks at every tenant's artifacts")
        parts = self._parts
        reconciliation = Reconciliation(
            parts.catalogue,
            parts.inventory,
            parts.store,
            mending(parts),
            parts.artifacts.by,
            mend=request.mend,
            verify=request.verify,
            forget_lost=request.forget_lost,
        )
        async with aclosing(reconciliation.run()) as differences:
            async for found in differences:
                yield _response(found, reconciliation.compared)


def _response(found: Difference | None, compared: Compared) -> storage_pb2.ReconcileResponse:
    so_far = storage_pb2.ReconcileSummary(
        objects=compared.objects,
        artifacts=compared.artifacts,
        differences=compared.differences,
        mended=compared.mended,
    )
    if found is None:
        return storage_pb2.ReconcileResponse(so_far=so_far)
    return storage_pb2.ReconcileResponse(
        location=found.location, difference=found.what, mended=found.mended, error=found.error, so_far=so_far
    )
