"""What governance's RPCs and its background work share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from djp.mesh.errors import NotFound
from djp.mesh.identity import current_identity
from djp_governance.limits import check_tenant

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo

    from djp_governance.adapters.budgets_file import BudgetsFile
    from djp_governance.anomalies import AnomalyRules
    from djp_governance.limits import Limits
    from djp_governance.ports import BudgetStore, EventStore, Ledger
    from djp_governance.reports import ReportStore


@dataclass(frozen=True)
class Parts:
    """The stores, the configuration and the clock; `lease_s` is the length of leases that ask for none, 0 for never."""

    ledger: Ledger
    budgets: BudgetStore
    events: EventStore
    reports: ReportStore
    file: BudgetsFile
    zone: tzinfo
    now: Callable[[], datetime]
    lease_s: float
    anomaly_rules: AnomalyRules

    @property
    def limits(self) -> Limits:
        """What the environment and the budgets file say at this moment."""
        return self.file.limits


def utc_now() -> datetime:
    """The clock of the world."""
    return datetime.now(UTC)


def is_operator() -> bool:
    """Whether the caller looks after the deployment, not only after one tenant."""
    return current_identity().operates


def visible_tenant(asked: str) -> str | None:
    """Whose things a caller is shown who asks for a tenant's, or names none; None: everybody's.

    Raises NotFound for another tenant's, whether there is such a tenant or not, and InvalidInput for what is no name.
    """
    own = current_identity().tenant
    if is_operator():
        return check_tenant(asked) if asked else None
    if asked not in ("", own):
        raise NotFound(f"tenant: there is no tenant {asked[:63]!r} that this caller may see", field="tenant")
    return own
