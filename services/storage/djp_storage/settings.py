"""What can be set of the storage service."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  pydantic reads it at run time

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from djp.mesh.settings import djp_home


def _embedded_database() -> str:
    return f"sqlite+aiosqlite:///{djp_home() / 'storage.db'}"


def _default_data_dir() -> Path:
    return djp_home() / "artifacts"


class StorageSettings(BaseSettings):
    """Read from the environment: a field `x` from `DJP_STORAGE_X`."""

    model_config = SettingsConfigDict(env_prefix="DJP_STORAGE_", env_ignore_empty=True, extra="ignore")

    database_url: str = Field(default_factory=_embedded_database, description="Where the catalogue is kept.")
    data_dir: Path = Field(default_factory=_default_data_dir, description="Where the objects are; must be writable.")
    max_artifact_mib: int = Field(default=1024, ge=1, description="Of one artifact, in MiB.")
    idle_s: float = Field(default=60.0, gt=0, description="A put that sends nothing for so long is given up.")
