"""What can be set of the autoscaler: three tunings, and a variable for each of their values."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import cast

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from djp.scaling.rule import Rule, Tuning

TUNINGS: dict[Tuning, Rule] = {
    Tuning.COST: Rule(1, 12, target_queue_depth=100, target_p95_ms=5000, up_step=2, down_step=2, interval_ms=3000),
    Tuning.BALANCED: Rule(2, 12, target_queue_depth=50, target_p95_ms=2000, up_step=2, down_step=1, interval_ms=2000),
    Tuning.LATENCY: Rule(5, 30, target_queue_depth=10, target_p95_ms=500, up_step=5, down_step=1, interval_ms=1000),
}
"""What holds where no variable says otherwise."""


class ScalingSettings(BaseSettings):
    """Read from the environment under the guide's names; what is not set is as the tuning has it."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", populate_by_name=True)

    tuning: Tuning = Field(
        default=Tuning.BALANCED, validation_alias="DJP_SCALE_TUNING", description="What the rest is."
    )
    min_workers: int | None = Field(default=None, ge=1, le=10_000, validation_alias="MIN_WORKERS")
    max_workers: int | None = Field(default=None, ge=1, le=10_000, validation_alias="MAX_WORKERS")
    target_queue_depth: int | None = Field(
        default=None, ge=1, validation_alias="TARGET_QUEUE_DEPTH", description="Runs that may wait."
    )
    target_p95_ms: int | None = Field(
        default=None, ge=1, validation_alias="TARGET_P95_LATENCY_MS", description="Of a run's wait for a worker."
    )
    up_step: int | None = Field(default=None, ge=1, validation_alias="SCALE_UP_STEP", description="Workers added.")
    down_step: int | None = Field(default=None, ge=1, validation_alias="SCALE_DOWN_STEP", description="Workers gone.")
    interval_ms: int | None = Field(
        default=None,
        ge=100,
        le=3_600_000,
        validation_alias="SCALE_DECISION_INTERVAL_MS",
        description="Between two decisions, and at least between two changes.",
    )

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> ScalingSettings:
        rule = self.rule()
        if rule.min_workers > rule.max_workers:
            raise ValueError(
                f"MIN_WORKERS ({rule.min_workers}) is above MAX_WORKERS ({rule.max_workers}); lower the one or raise "
                "the other"
            )
        return self

    def rule(self) -> Rule:
        """The rule in force."""
        base = TUNINGS[self.tuning]
        given = {one.name: getattr(self, one.name) for one in fields(Rule)}
        rule = Rule(**{name: getattr(base, name) if value is None else value for name, value in given.items()})
        if self.min_workers is None and rule.min_workers > rule.max_workers:
            return replace(rule, min_workers=rule.max_workers)  # who only says how many there may be means that
        return rule

    def origins(self) -> dict[str, str]:
        """Where each value of the rule comes from, by its variable: `environment`, or the tuning's name."""
        return {
            cast("str", type(self).model_fields[one.name].validation_alias): (
                f"tuning {self.tuning}" if getattr(self, one.name) is None else "environment"
            )
            for one in fields(Rule)
        }
