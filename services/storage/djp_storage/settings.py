"""What can be set of the storage service."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from djp.mesh.settings import djp_home
from djp.s3 import S3Account, checked_endpoint
from djp_storage.model import Tier
from djp_storage.retention import Days


def _embedded_database() -> str:
    return f"sqlite+aiosqlite:///{djp_home() / 'storage.db'}"


def _default_data_dir() -> Path:
    return djp_home() / "artifacts"


class StorageSettings(BaseSettings):
    """Read from the environment: a field `x` from `DJP_STORAGE_X`, the retention by the operations guide's names."""

    model_config = SettingsConfigDict(
        env_prefix="DJP_STORAGE_", env_ignore_empty=True, extra="ignore", populate_by_name=True
    )

    database_url: str = Field(default_factory=_embedded_database, description="Where the catalogue is kept.")
    data_dir: Path = Field(default_factory=_default_data_dir, description="Where the objects are; must be writable.")
    buckets: str = Field(
        default="",
        description="Keep the objects in S3 instead: the bucket of each tier, as in hot=a,warm=b,cold=c,trash=d.",
    )
    s3_endpoint: str = Field(
        default="http://localhost:9000", description="Of MinIO or another S3: http(s)://host:port."
    )
    s3_access_key: SecretStr = Field(default=SecretStr(""), description="Of the buckets.")
    s3_secret_key: SecretStr = Field(default=SecretStr(""), description="Of the buckets.")
    s3_credentials_file: Path | None = Field(
        default=None, description="Both keys in the format of AWS, instead; read again when it changes."
    )
    s3_ca: Path | None = Field(default=None, description="PEM of the authority that signed the certificate of S3.")
    compress: bool = Field(default=False, description="Keep objects of the warm and the cold tier as zstd.")
    max_artifact_mib: int = Field(default=1024, ge=1, description="Of one artifact, in MiB.")
    idle_s: float = Field(default=60.0, gt=0, description="A put that sends nothing for so long is given up.")
    lease_s: float = Field(
        default=15.0, gt=0, le=3600, description="Silence after which a process is taken for dead by the others."
    )
    request_retention_days: int = Field(
        default=30, ge=1, le=36_500, description="Days that a repeated request still gets the first answer."
    )

    hot_days: float = Field(
        default=7, ge=0, le=36_500, validation_alias="HOT_RETENTION_DAYS", description="In the hot tier."
    )
    warm_days: float = Field(
        default=30, ge=0, le=36_500, validation_alias="WARM_RETENTION_DAYS", description="In the warm tier."
    )
    cold_days: float = Field(
        default=90, ge=0, le=36_500, validation_alias="COLD_RETENTION_DAYS", description="In the cold tier."
    )
    trash_days: float = Field(
        default=30, ge=0, le=36_500, validation_alias="PURGE_GRACE_DAYS", description="In the trash, then erased."
    )
    kept_days: float = Field(
        default=0,
        ge=0,
        le=36_500,
        validation_alias="ARTIFACT_RETENTION_DAYS",
        description="From its creation until an artifact is purged, whatever its tier; 0: as the tiers say.",
    )
    retention_file: Path | None = Field(
        default=None, validation_alias="DJP_RETENTION", description="Days of single tenants; YAML."
    )
    purge_share: float = Field(
        default=0.5, ge=0, le=1, description="Of a tenant's artifacts, that one lifecycle run purges unasked."
    )
    hot_threshold_gib: float = Field(default=100, gt=0, description="An event tells when the hot tier has more.")
    warm_threshold_gib: float = Field(default=500, gt=0, description="An event tells when the warm tier has more.")
    cold_threshold_gib: float = Field(default=2000, gt=0, description="An event tells when the cold tier has more.")

    @field_validator("buckets")
    @classmethod
    def _buckets_are_named(cls, buckets: str) -> str:
        if buckets:
            _buckets(buckets)
        return buckets

    @field_validator("s3_endpoint")
    @classmethod
    def _endpoint_is_an_address(cls, endpoint: str) -> str:
        return checked_endpoint(endpoint)

    @property
    def tier_buckets(self) -> dict[Tier, str]:
        """The bucket of each tier; empty where objects are files."""
        return _buckets(self.buckets) if self.buckets else {}

    @property
    def account(self) -> S3Account:
        """How S3 is reached."""
        return S3Account(
            self.s3_endpoint,
            self.s3_access_key.get_secret_value(),
            self.s3_secret_key.get_secret_value(),
            self.s3_credentials_file,
            self.s3_ca,
        )

    @property
    def days(self) -> Days:
        """Of all tenants that have none of their own."""
        return Days(self.hot_days, self.warm_days, self.cold_days, self.trash_days, self.kept_days)

    @property
    def thresholds(self) -> dict[Tier, int]:
        """In bytes."""
        told = {
            Tier.HOT: self.hot_threshold_gib,
            Tier.WARM: self.warm_threshold_gib,
            Tier.COLD: self.cold_threshold_gib,
        }
        return {tier: int(gib * 2**30) for tier, gib in told.items()}

    @property
    def event_log(self) -> Path | None:
        """Where events are copied to when embedded, that is when the catalogue is a file: logs/ beside it."""
        scheme, _, path = self.database_url.partition(":///")
        return Path(path).parent / "logs" / "lifecycle_events.jsonl" if scheme.startswith("sqlite") else None


def _buckets(text: str) -> dict[Tier, str]:
    """Raises ValueError."""
    told = dict(part.strip().partition("=")[::2] for part in text.split(","))
    if set(told) != set(Tier):
        raise ValueError("name the bucket of every tier, as in hot=a,warm=b,cold=c,trash=d")
    for bucket in told.values():
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
            raise ValueError(f"{bucket[:70]!r} is no name of a bucket: 3 to 63 of a-z, 0-9, '.' and '-'")
    if len(set(told.values())) < len(told):
        raise ValueError("two tiers have the same bucket; give each its own")
    return {Tier(tier): bucket for tier, bucket in told.items()}
