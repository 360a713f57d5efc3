"""What can be set of the judge service."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  pydantic reads it at run time

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class JudgeSettings(BaseSettings):
    """Read from the environment: a field `x` from `DJP_JUDGE_X`, unless it says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix="DJP_JUDGE_", env_ignore_empty=True, extra="ignore", populate_by_name=True
    )

    prices: Path | None = Field(
        default=None, validation_alias="DJP_PRICES", description="Price file; the packaged config/prices.yaml if unset."
    )
