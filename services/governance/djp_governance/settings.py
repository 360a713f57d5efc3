"""What can be set of the governance service."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from djp.mesh.errors import InvalidInput
from djp.mesh.settings import djp_home
from djp.money import parse_usd
from djp_governance.anomalies import AnomalyRules
from djp_governance.limits import Budget, Limits, RunRule
from djp_governance.model import RunLimits

if TYPE_CHECKING:
    from collections.abc import Mapping

_RUN_VARIABLE = re.compile(r"BUDGET_([A-Z0-9_]+)_(USD|TOKENS)")


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
        description="Of all tenants together, per day.",
    )
    global_monthly: Decimal = Field(
        default=Decimal("500.0"),
        ge=0,
        validation_alias="GLOBAL_BUDGET_MONTHLY",
        description="Of all tenants together, per month.",
    )
    tenant_daily: Decimal = Field(
        default=Decimal("5.0"),
        ge=0,
        validation_alias="TENANT_BUDGET_DAILY_DEFAULT",
        description="Of one tenant, per day.",
    )
    tenant_monthly: Decimal = Field(
        default=Decimal("100.0"),
        ge=0,
        validation_alias="TENANT_BUDGET_MONTHLY_DEFAULT",
        description="Of one tenant, per month.",
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

    zone: str = Field(
        default="UTC", validation_alias="DJP_BUDGET_ZONE", description="IANA time zone of budget days and months."
    )
    budgets_file: Path | None = Field(
        default=None, validation_alias="DJP_BUDGETS", description="Limits by tenant and workflow; YAML."
    )
    lease_s: float = Field(
        default=120,
        ge=0,
        le=86_400,
        validation_alias="DJP_RESERVATION_LEASE_S",
        description="How long a reservation is kept after an Extend; 0: leases never end.",
    )
    retention_days: int = Field(
        default=400, ge=0, le=36_500, description="Days that closed reservations are kept in full; 0: for ever."
    )
    request_retention_days: int = Field(
        default=30, ge=1, le=36_500, description="Days that a repeated request still gets the first answer."
    )

    anomaly_sigma: float = Field(
        default=3.0,
        ge=0,
        le=1000,
        validation_alias="ANOMALY_SIGMA",
        description="Standard deviations above its usual spending from which a tenant's day is an anomaly.",
    )
    anomaly_min_dollars: Decimal = Field(
        default=Decimal("3.0"),
        ge=0,
        validation_alias="ANOMALY_MIN_DOLLARS",
        description="Dollars that a day must be above the usual ones, too.",
    )
    anomaly_min_events: int = Field(
        default=10,
        ge=1,
        le=10**9,
        validation_alias="ANOMALY_MIN_EVENTS",
        description="Model calls without which there is nothing to compare with.",
    )

    def anomaly_rules(self) -> AnomalyRules:
        """When a day stands out. Raises InvalidInput that names the variable."""
        least = parse_usd(self.anomaly_min_dollars, field="ANOMALY_MIN_DOLLARS")
        return AnomalyRules(self.anomaly_sigma, least, self.anomaly_min_events)

    def limits(self) -> Limits:
        """The limits of the environment in nano-dollars. Raises InvalidInput that names the variable."""

        def budget(daily: Decimal, monthly: Decimal, names: tuple[str, str], *fields: str) -> Budget:
            return Budget(
                daily=parse_usd(daily, field=names[0]),
                monthly=parse_usd(monthly, field=names[1]),
                origin="default" if self.model_fields_set.isdisjoint(fields) else "environment",
            )

        return Limits(
            everybody=budget(
                self.global_daily,
                self.global_monthly,
                ("GLOBAL_BUDGET_DAILY", "GLOBAL_BUDGET_MONTHLY"),
                "global_daily",
                "global_monthly",
            ),
            tenant=budget(
                self.tenant_daily,
                self.tenant_monthly,
                ("TENANT_BUDGET_DAILY_DEFAULT", "TENANT_BUDGET_MONTHLY_DEFAULT"),
                "tenant_daily",
                "tenant_monthly",
            ),
            runs=run_rules(os.environ),
            soft_threshold=self.soft_threshold,
            hard_threshold=self.hard_threshold,
        )

    @property
    def event_log(self) -> Path | None:
        """Where events are copied to when embedded, that is when the ledger is a file: logs/ beside it."""
        scheme, _, path = self.database_url.partition(":///")
        return Path(path).parent / "logs" / "governance_events.jsonl" if scheme.startswith("sqlite") else None


def run_rules(environment: Mapping[str, str]) -> dict[str, RunRule]:
    """The limits of every run of a workflow: BUDGET_WEEKLY_REPORT_USD and BUDGET_WEEKLY_REPORT_TOKENS.

    Raises InvalidInput that names the variable.
    """
    rules: dict[str, RunRule] = {}
    for variable, value in sorted(environment.items()):
        found = _RUN_VARIABLE.fullmatch(variable)
        if not found or not value:
            continue
        workflow, unit = found.groups()
        before = rules.get(workflow, RunRule(RunLimits(), workflow)).limits
        if unit == "USD":
            limits = replace(before, nano_usd=parse_usd(value, field=variable))
        elif value.isascii() and value.isdigit() and len(value) < 19:
            limits = replace(before, tokens=int(value))
        else:
            raise InvalidInput(f"{variable}: {value[:40]!r} is no number of tokens; write digits only", field=variable)
        rules[workflow] = RunRule(limits, workflow)
    return rules
