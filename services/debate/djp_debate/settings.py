"""What can be set of the debate service."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  pydantic reads it at run time

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class DebateSettings(BaseSettings):
    """Read from the environment: a field `x` from `DJP_DEBATE_X`, unless it says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix="DJP_DEBATE_", env_ignore_empty=True, extra="ignore", populate_by_name=True
    )

    prices: Path | None = Field(
        default=None, validation_alias="DJP_PRICES", description="Price file; without it the one that is shipped."
    )
