"""What storage's RPCs share, and whose things a caller may name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from djp.mesh.errors import InvalidInput, NotFound
from djp.mesh.identity import Identity, current_identity

if TYPE_CHECKING:
    from djp_storage.artifacts import Artifacts
    from djp_storage.lifecycle import Lifecycle
    from djp_storage.moves import Moves
    from djp_storage.ports import Catalogue, EventStore, Inventory, ObjectStore
    from djp_storage.retention import Retention
    from djp_storage.upkeep import Upkeep
    from djp_storage.worker import Worker


@dataclass(frozen=True)
class Parts:
    """The service without its wire."""

    artifacts: Artifacts
    catalogue: Catalogue
    inventory: Inventory
    store: ObjectStore
    events: EventStore
    worker: Worker
    moves: Moves
    lifecycle: Lifecycle
    retention: Retention
    upkeep: Upkeep


def visible_tenant(asked: str) -> str | None:
    """Whose things a caller is shown who asks for a tenant's, or names none; None: everybody's, to an operator.

    Raises NotFound for another tenant's, whether there is such a tenant or not, and InvalidInput for what is no name.
    """
    who = current_identity()
    if who.operates:
        if not asked:
            return None
        try:
            return Identity(asked).tenant
        except InvalidInput as error:
            raise InvalidInput(f"tenant: {error.message}", field="tenant") from None
    if asked not in ("", who.tenant):
        raise NotFound(f"tenant: there is no tenant {asked[:63]!r} that this caller may see", field="tenant")
    return who.tenant
