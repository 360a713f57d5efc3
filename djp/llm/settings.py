"""What can be set of the models: the same for debate and judge, which both call them."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  pydantic reads it at run time

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class LlmSettings(BaseSettings):
    """Read from the environment, under the guide's names where it has one."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", populate_by_name=True)

    prices: Path | None = Field(
        default=None, validation_alias="DJP_PRICES", description="Price file; without it the one that is shipped."
    )
    providers: Path | None = Field(
        default=None,
        validation_alias="DJP_PROVIDERS",
        description="Provider file; without it providers.yaml in DJP_HOME, or the one that is shipped.",
    )
    max_retries: int = Field(
        default=3, ge=0, le=10, validation_alias="MAX_RETRIES", description="Attempts at a call after the first."
    )
    retry_backoff_factor: float = Field(
        default=2.0,
        ge=1,
        le=10,
        validation_alias="RETRY_BACKOFF_FACTOR",
        description="How many times longer each wait between attempts is; the first is a second.",
    )
