"""What can be set of the governance service."""

from __future__ import annotations

from decimal import Decimal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from djp.mesh.settings import djp_home
from djp.money import parse_usd
from djp_governance.model import Limits


def _embedded_database() -> str:
    return f"sqlite+aiosqlite:///{djp_home() / 'governance.db'}"


class GovernanceSettings(BaseSettings):
    """Read from the environment: a field `x` from `DJP_GOVERNANCE_X`, the limits by the operations guide's own names.

    Amounts are in dollars.
    """

    model_config = SettingsConfigDict(
        env_prefix="DJP_GOVERNANCE_", env_ignore_empty=True, extra="ignore", populate_by_name=True
    )

    database_url: str = Field(default_factory=_embedded_database, description="Where the ledger is kept.")
    global_daily: Decimal = Field(
        default=Decimal("25.0"),
        ge=0,
        validation_alias="GLOBAL_BUDGET_DAILY",
        description="Of all tenants together, per UTC day.",
    )
    global_monthly: Decimal = Field(
        default=Decimal("500.0"),
        ge=0,
        validation_alias="GLOBAL_BUDGET_MONTHLY",
        description="Of all tenants together, per UTC month.",
    )
    tenant_daily: Decimal = Field(
        default=Decimal("5.0"),
        ge=0,
        validation_alias="TENANT_BUDGET_DAILY_DEFAULT",
        description="Of one tenant, per UTC day.",
    )
    tenant_monthly: Decimal = Field(
        default=Decimal("100.0"),
        ge=0,
        validation_alias="TENANT_BUDGET_MONTHLY_DEFAULT",
        description="Of one tenant, per UTC month.",
    )
    soft_threshold: Decimal = Field(
        default=Decimal("0.8"),
        ge=0,
        le=1,
        validation_alias="BUDGET_SOFT_THRESHOLD",
        description="From this share of a window on, reservations are answered as throttled.",
    )
    hard_threshold: Decimal = Field(
        default=Decimal("1.0"),
        gt=0,
        le=1,
        validation_alias="BUDGET_HARD_THRESHOLD",
        description="The share of a budget that may be used at all.",
    )

    def limits(self) -> Limits:
        """The limits in nano-dollars; the hard threshold is the share of a budget that may be used."""

        def nano(dollars: Decimal, name: str) -> int:
            return int(parse_usd(dollars, field=name) * self.hard_threshold)

        return Limits(
            global_daily=nano(self.global_daily, "GLOBAL_BUDGET_DAILY"),
            global_monthly=nano(self.global_monthly, "GLOBAL_BUDGET_MONTHLY"),
            tenant_daily=nano(self.tenant_daily, "TENANT_BUDGET_DAILY_DEFAULT"),
            tenant_monthly=nano(self.tenant_monthly, "TENANT_BUDGET_MONTHLY_DEFAULT"),
            soft_threshold=self.soft_threshold,
            global_origin=self._origin("global_daily", "global_monthly"),
            tenant_origin=self._origin("tenant_daily", "tenant_monthly"),
        )

    def _origin(self, *fields: str) -> str:
        return "default" if self.model_fields_set.isdisjoint(fields) else "environment"
