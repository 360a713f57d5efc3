"""What can be set of the redaction service."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  pydantic reads it at run time

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from djp.catalogue_files import data_dir


def _packaged_rules() -> Path:
    return data_dir() / "config" / "redaction_rules.json"


class RedactionSettings(BaseSettings):
    """Read from the environment: a field `x` from `DJP_REDACTION_X`."""

    model_config = SettingsConfigDict(env_prefix="DJP_REDACTION_", env_ignore_empty=True, extra="ignore")

    rules: Path = Field(default_factory=_packaged_rules, description="The rules in force, a JSON file.")
    tenant_rules: Path | None = Field(
        default=None, description="A folder with files TENANT.json: rules of that tenant beside those in force."
    )
    pseudonym_key: SecretStr | None = Field(
        default=None, min_length=32, description="The secret that makes pseudonyms; the same in all replicas."
    )
